# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory is set aside before a body is read; requests for which there is none wait their turn."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
from collections import deque
from pathlib import Path

MIB = 2**20
LEAST = 32 * MIB


class Busy(Exception):
    """There is no room and no prospect of it; the client should ask again later."""


class Lease:
    """Memory set aside for one request."""

    def __init__(self, budget: Budget, amount: int) -> None:
        self._budget = budget
        self.amount = amount

    def shrink(self, amount: int) -> None:
        """Give back what turned out not to be needed."""
        less = max(0, self.amount - max(0, amount))
        self.amount -= less
        self._budget._give_back(less)

    def release(self) -> None:
        """Give everything back; more than once does no harm."""
        self.shrink(0)


class Budget:
    """An amount of memory that requests share, first come, first served."""

    def __init__(self, total: int, waiting_max: int = 128, patience: float = 20.0) -> None:
        self.total = total
        self.used = 0
        self.waiting_max = waiting_max
        self.patience = patience
        self._line: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._line)

    async def acquire(self, amount: int, first: bool = False) -> Lease:
        """Set memory aside, all of it if more is asked than there is; wait while others have it.

        Whoever is to be first does not stand in line, and is not turned away for its length.
        """
        amount = min(amount, self.total)
        if not self._line and self.used + amount <= self.total:
            self.used += amount
            return Lease(self, amount)
        if len(self._line) >= self.waiting_max and not first:
            raise Busy
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (amount, turn)
        if first:
            self._line.appendleft(place)
        else:
            self._line.append(place)
        try:
            await asyncio.wait((turn,), timeout=self.patience)
            if not turn.done():
                raise Busy
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._give_back(amount)  # its turn came while it gave up
            else:
                with contextlib.suppress(ValueError):
                    self._line.remove(place)
                self._admit()
            raise
        return Lease(self, amount)

    def resize(self, total: int) -> None:
        """Share another amount from now on."""
        self.total = total
        self._admit()

    def _give_back(self, amount: int) -> None:
        self.used -= amount
        self._admit()

    def _admit(self) -> None:
        while self._line:
            amount, turn = self._line[0]
            # What was asked before the total shrank goes when it is alone.
            if self.used and self.used + amount > self.total:
                return
            self._line.popleft()
            if not turn.done():
                self.used += amount
                turn.set_result(None)


class Lanes:
    """Small requests have a share of the memory to themselves, so that large ones delay none."""

    def __init__(self) -> None:
        self.small = Budget(LEAST // 8)
        self.large = Budget(LEAST - LEAST // 8)

    @property
    def total(self) -> int:
        """What requests may take together."""
        return self.small.total + self.large.total

    @property
    def used(self) -> int:
        """What is set aside now."""
        return self.small.used + self.large.used

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return self.small.waiting + self.large.waiting

    def resize(self, total: int) -> None:
        """Share another amount from now on."""
        self.small.resize(total // 8)
        self.large.resize(total - total // 8)


def trim() -> None:
    """Have glibc give back what was freed between what is in use."""
    ctypes.CDLL(None).malloc_trim(0)


def resident() -> int:
    """Bytes of memory that this process has now."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def share(memory_max: int, resting: int) -> int:
    """What requests may take of the memory at which the kernel ends the server.

    A quarter of what is left beside the resting server stays free: for the working memory of the
    model, for sockets, and for what the allocator does not give back at once.
    """
    return max(LEAST, (memory_max - resting) * 3 // 4)

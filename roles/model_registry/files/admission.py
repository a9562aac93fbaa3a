# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many requests may work with the database at once.

Some requests open a session while they hold another one. If as many of them begin as the pool has
connections, each waits for a connection that another one holds, until MLflow gives up on all. So
no more may begin than the pool can serve even if each of them opens all that it may. Requests that
only read have turns of their own, so that nobody who looks waits for those who write.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

# The most sessions that one request of MLflow has open at the same time. A batch that also sets the
# name of its run opens one in one in one in one; what only reads opens one in one.
WRITING, READING = 4, 2


class Turns(NamedTuple):
    """How many requests may begin at once."""

    writing: int
    reading: int  # 0: they take the turns of those who write


def turns(connections: int) -> Turns:
    """What a pool can serve: the last request always finds the connection that it needs."""
    reading = READING if connections > WRITING + READING else 0
    writing = (connections - 1 - reading * (READING - 1)) // (WRITING - 1)
    return Turns(max(writing, 1), reading)


class Admission:
    """Lets that many threads have sessions. Who has one already is not asked again."""

    def __init__(self, allowed: Turns) -> None:
        self._writing = threading.Semaphore(allowed.writing)
        self._reading = threading.Semaphore(allowed.reading) if allowed.reading else self._writing
        self._mine = threading.local()

    def wrap(self, make: Callable[..., Any]) -> Callable[..., Any]:
        """What opens sessions, after its turn has come."""

        @contextlib.contextmanager
        def session(read_only: bool = True) -> Iterator[Any]:
            with self._turn(read_only), make(read_only=read_only) as opened:
                yield opened

        return session

    @contextlib.contextmanager
    def _turn(self, read_only: bool) -> Iterator[None]:
        if getattr(self._mine, "inside", False):
            yield
            return
        with self._reading if read_only else self._writing:
            self._mine.inside = True
            try:
                yield
            finally:
                self._mine.inside = False

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords are not for guessing: an address that shows wrong ones has to wait.

Who has shown the right password from an address is never held up, whatever others behind the same
address do. Only passwords that have not been seen to be right cost one of the address's tries,
which come back one by one. No password is kept: a fingerprint of it is the name of an empty file,
which all workers see, and cannot be told without the server's own key.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

# As many addresses and right passwords are remembered; the oldest are forgotten first.
REMEMBERED = 10_000
# Seconds until an address has one more try.
PAUSE = 6.0
UNAUTHORIZED = 401

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class Tries:
    """The tries that each address has left, and who needs none."""

    def __init__(
        self, most: int, known: Path, key: bytes, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._known = known
        self._key = key
        self._clock = clock
        self._left: OrderedDict[bytes, tuple[float, float]] = OrderedDict()
        known.mkdir(mode=0o700, exist_ok=True)

    def fingerprint(self, address: bytes, password: bytes) -> str:
        return hmac.new(self._key, address + b"\0" + password, hashlib.sha256).hexdigest()

    def take(self, address: bytes, fingerprint: str) -> float:
        """Take one try. The answer is 0, or the seconds until there is one."""
        if (self._known / fingerprint).exists():
            return 0.0
        left = self._now(address)
        if left < 1:
            return (1 - left) * PAUSE
        self._put(address, left - 1)
        return 0.0

    def right(self, address: bytes, fingerprint: str) -> None:
        """The password was right: the try is given back, and no further one is needed."""
        if (self._known / fingerprint).exists():
            return
        self._put(address, self._now(address) + 1)
        (self._known / fingerprint).touch(mode=0o600)
        there = list(self._known.iterdir())
        if len(there) > REMEMBERED:
            for old in sorted(there, key=_written)[: len(there) // 2]:
                old.unlink(missing_ok=True)

    def wrong(self, fingerprint: str) -> None:
        """A password that was right once may have been changed."""
        (self._known / fingerprint).unlink(missing_ok=True)

    def _now(self, address: bytes) -> float:
        left, since = self._left.get(address, (float(self._most), self._clock()))
        return min(float(self._most), left + (self._clock() - since) / PAUSE)

    def _put(self, address: bytes, left: float) -> None:
        self._left[address] = (min(float(self._most), left), self._clock())
        self._left.move_to_end(address)
        while len(self._left) > REMEMBERED:
            self._left.popitem(last=False)


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # the other worker was quicker
        return 0.0


class Guard:
    """Stands before the application and counts the wrong passwords of each address."""

    def __init__(self, application: Application, tries: Tries) -> None:
        self._application = application
        self._tries = tries

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers") or ())
        password = headers.get(b"authorization", b"")
        if scope["type"] != "http" or not password:
            await self._application(scope, receive, send)
            return
        address = headers.get(b"x-real-ip", b"")
        fingerprint = self._tries.fingerprint(address, password)
        seconds = self._tries.take(address, fingerprint)
        if seconds:
            await refuse(send, seconds)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                if message["status"] == UNAUTHORIZED:
                    self._tries.wrong(fingerprint)
                else:
                    self._tries.right(address, fingerprint)
            await send(message)

        await self._application(scope, receive, counted)


async def refuse(send: Send, seconds: float) -> None:
    """Answer instead of the application."""
    wait = math.ceil(seconds)
    said = f"Too many wrong passwords from this address; try again in {wait} s.\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(said)).encode()),
        (b"retry-after", str(wait).encode()),
    ]
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    await send({"type": "http.response.body", "body": said})

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cap on what a device reads, in bytes a second."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Callable

from ..client import Answer, Transport

FILL = 0.92
BURST_SECONDS = 0.05
PIECE = 16 * 1024


class Bucket:
    """A bucket of tokens, one a byte, that holds what comes in a twentieth of a second.

    It is filled with 92 % of the cap. So in no second more than 97 % of it is read, also after a
    pause, and what TCP and TLS add on the link (about 3 %) is within the cap too. It is empty at
    the start: whatever is begun anew, also after a break, adds nothing to what went before.
    """

    def __init__(
        self,
        rate: int,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = rate * FILL
        self.most = max(int(rate * BURST_SECONDS), 1)
        self._tokens = 0.0
        self._clock = clock
        self._pause = pause
        self._since = clock()

    def take(self, wanted: int) -> int:
        """Wait until there are tokens; return how many bytes may be read, at most those wanted."""
        wanted = min(wanted, self.most, PIECE)
        while True:
            now = self._clock()
            self._tokens = min(self.most, self._tokens + (now - self._since) * self._rate)
            self._since = now
            if self._tokens >= wanted:
                self._tokens -= wanted
                return wanted
            self._pause((wanted - self._tokens) / self._rate)

    def give_back(self, unused: int) -> None:
        """Return tokens for bytes that did not come."""
        self._tokens = min(self.most, self._tokens + unused)


class RatedAnswer:
    """An answer that is read no faster than the bucket lets it."""

    def __init__(self, answer: Answer, bucket: Bucket) -> None:
        self._answer = answer
        self._bucket = bucket
        self.status = answer.status
        self.headers: Mapping[str, str] = answer.headers

    def read(self, size: int) -> bytes:
        allowed = self._bucket.take(size)
        data = self._answer.read(allowed)
        self._bucket.give_back(allowed - len(data))
        return data

    def close(self) -> None:
        self._answer.close()


class RatedTransport:
    """A transport whose answers share one bucket."""

    def __init__(self, transport: Transport, bucket: Bucket) -> None:
        self._transport = transport
        self._bucket = bucket

    def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> RatedAnswer:
        return RatedAnswer(self._transport(method, url, headers, body), self._bucket)


def rated(transport: Transport, rate: int) -> Transport:
    """Cap a transport, where there is a cap."""
    return RatedTransport(transport, Bucket(rate)) if rate else transport

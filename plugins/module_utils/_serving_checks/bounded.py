# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of the other side: bounded in size, and in time as a whole.

A timeout of a socket counts from one byte to the next; who sends a byte now and then never meets
it. So there is an end for all of an answer, too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable

from .errors import CheckError

PART_BYTES = 16 * 1024


def read_answer(
    answer: Any,
    who: str,
    limit: int,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> bytes:
    """Read all of an answer, or refuse one that is too large or takes too long."""
    end = clock() + seconds
    data = bytearray()
    try:
        while True:
            part = answer.read(PART_BYTES)
            if not part:
                return bytes(data)
            data += part
            if len(data) > limit:
                raise CheckError(f"{who} answers with more than {limit >> 20} MiB.")
            if clock() > end:
                raise CheckError(f"{who} takes longer than {seconds:g} seconds for an answer.")
    finally:
        answer.close()


class Watch:
    """Cuts off what takes too long. One thread watches all requests of a connection."""

    def __init__(self, cut: Callable[[], None], interval: float = 0.25) -> None:
        self._cut = cut
        self._interval = interval
        self._until: float | None = None
        self.expired = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(self._interval):
            until = self._until
            if until is not None and time.monotonic() > until:
                self.expired = True
                self._cut()

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Allow so many seconds for what is done meanwhile."""
        self._until = time.monotonic() + seconds
        try:
            yield
        finally:
            self._until = None

    def end(self) -> None:
        """Watch no longer."""
        self._ended.set()
        self._thread.join()

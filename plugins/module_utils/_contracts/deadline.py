# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One span of time for everything that a probe asks, however slowly it is answered."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

RESERVE = 0.2
"""Part of the span that is kept for taking away what was written."""


class Expired(BaseException):
    """The span is over. No library takes this for one of its own errors and tries again."""


class Deadline:
    """Ends what runs under ``limit`` when the span is over, and begins nothing after it."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._end = clock() + seconds

    def left(self, cleaning: bool = False) -> float:
        """Seconds that are left, for cleaning up or for anything else."""
        kept = 0.0 if cleaning else self.seconds * RESERVE
        return self._end - kept - self._clock()

    @contextlib.contextmanager
    def limit(self, cleaning: bool = False) -> Iterator[None]:
        """Run the block for as long as the span lasts.

        Raises:
            Expired: It was over before, or while the block ran.
        """
        left = self.left(cleaning)
        if left <= 0:
            raise Expired
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGALRM, _expire)
        signal.setitimer(signal.ITIMER_REAL, left)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def _expire(_number: int, _frame: Any) -> None:
    raise Expired

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many requests may work with the database at once.

Some requests open a session while they hold another one. If as many of them begin as the pool has
connections, each waits for a connection that another one holds, until MLflow gives up on all. So no
more may begin than the pool can serve even if each of them opens all that it may.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

# The most sessions that one request of MLflow has open at the same time: a batch that also sets
# the name of its run opens one in one in one in one.
SESSIONS = 4


def admitted(connections: int) -> int:
    """How many requests a pool can serve: the last one always finds what it needs."""
    return max((connections - 1) // (SESSIONS - 1), 1)


class Admission:
    """Lets that many threads have sessions. Who has one already is not asked again."""

    def __init__(self, threads: int) -> None:
        self._free = threading.Semaphore(threads)
        self._mine = threading.local()

    def wrap(self, make: Callable[..., Any]) -> Callable[..., Any]:
        """What opens sessions, after its turn has come."""

        @contextlib.contextmanager
        def session(*arguments: Any, **more: Any) -> Iterator[Any]:
            with self, make(*arguments, **more) as opened:
                yield opened

        return session

    def __enter__(self) -> None:
        depth = getattr(self._mine, "depth", 0)
        if depth == 0:
            self._free.acquire()
        self._mine.depth = depth + 1

    def __exit__(self, *_failure: object) -> None:
        self._mine.depth -= 1
        if self._mine.depth == 0:
            self._free.release()

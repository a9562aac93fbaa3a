# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A device or a server that sends too much, or too slowly, costs nobody else anything."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks import bounded
from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks.errors import CheckError

from tests.patience import PATIENCE


class Answer:
    """An answer without an end."""

    closed = False

    def read(self, size: int) -> bytes:
        return b"x" * size

    def close(self) -> None:
        self.closed = True


def test_an_endless_answer_is_refused() -> None:
    answer = Answer()
    with pytest.raises(CheckError, match="X answers with more than 1 MiB"):
        bounded.read_answer(answer, "X", 1 << 20, 60)
    assert answer.closed


def test_a_slow_answer_is_refused() -> None:
    now = iter(float(number) for number in range(100))
    with pytest.raises(CheckError, match="X takes longer than 5 seconds"):
        bounded.read_answer(Answer(), "X", 1 << 30, 5, lambda: next(now))


@pytest.fixture
def dripping() -> Iterator[socket.socket]:
    """A connection whose other end sends a byte now and then, for ever."""
    here, there = socket.socketpair()
    ended = threading.Event()

    def drip() -> None:
        while not ended.wait(0.05):
            try:
                there.send(b"x")
            except OSError:
                return

    thread = threading.Thread(target=drip)
    thread.start()
    yield here
    ended.set()
    thread.join()
    here.close()
    there.close()


def test_a_byte_now_and_then_does_not_hold_us(dripping: socket.socket) -> None:
    def cut() -> None:
        dripping.shutdown(socket.SHUT_RDWR)

    watch = bounded.Watch(cut, interval=0.02)
    started = time.monotonic()
    with watch.limit(0.3):
        while dripping.recv(1):
            pass
    assert watch.expired
    assert time.monotonic() - started < PATIENCE
    watch.end()


def test_what_is_in_time_is_left_alone() -> None:
    cuts: list[Any] = []
    watch = bounded.Watch(lambda: cuts.append(1), interval=0.01)
    with watch.limit(PATIENCE):
        time.sleep(0.05)
    time.sleep(0.05)
    watch.end()
    assert (cuts, watch.expired) == ([], False)

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A span ends what hangs, and leaves time for taking away what was written."""

from __future__ import annotations

import signal
import socket

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.deadline import (
    Deadline,
    Expired,
)


def test_what_hangs_is_ended() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(Expired), Deadline(0.1).limit():
        ours.recv(1)


def test_after_the_end_nothing_begins() -> None:
    now = [0.0]
    deadline = Deadline(30, lambda: now[0])
    now[0] = 25
    with pytest.raises(Expired), deadline.limit():
        raise AssertionError("began")
    with deadline.limit(cleaning=True):
        assert deadline.left(cleaning=True) == 5
    now[0] = 30
    with pytest.raises(Expired), deadline.limit(cleaning=True):
        raise AssertionError("began")


def test_what_ends_in_time_leaves_no_alarm() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with Deadline(60).limit():
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == before


def test_a_library_does_not_take_it_for_its_own_error() -> None:
    assert not issubclass(Expired, Exception)

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers of packages that answer too slowly end a question; a host that is busy does not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._host import apt as packages_apt
from ansible_collections.mlops.onprem.plugins.module_utils._host import packages_ask
from ansible_collections.mlops.onprem.plugins.module_utils._host.packages_ask import (
    SECONDS,
    Waiting,
    Wanted,
)
from ansible_collections.mlops.onprem.plugins.module_utils._host.system import Ran

URI = "'http://mirror.example/pool/{0}.deb' {0}.deb 10 SHA256:00\n"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which only the programs of a test move."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def asked(
    monkeypatch: pytest.MonkeyPatch, clock: list[float], tmp_path: Path
) -> Callable[..., Any]:
    """Ask whether a package can be fetched, with an apt and a server that take their time."""
    monkeypatch.setattr(packages_ask, "HELPER", "/bin/true")
    monkeypatch.setattr(packages_ask, "ARCHIVES", str(tmp_path))

    def ask(planning: float, fetching: float, waiting: Waiting) -> str:
        def apt(*_words: str, **_how: Any) -> Ran:
            clock[0] += planning
            return Ran(0, URI.format("nginx"), "")

        def run(_words: list[str], timeout: float, **_how: Any) -> Ran:
            clock[0] += min(fetching, timeout)
            return Ran(0, "", "") if fetching <= timeout else Ran(124, "", "it was ended")

        monkeypatch.setattr(packages_apt, "apt", apt)
        monkeypatch.setattr(packages_ask, "run", run)
        return packages_ask._unfetched(
            Wanted("gateway", ("nginx",)), os.environ, str(tmp_path), waiting
        )

    return ask


def test_what_apt_computes_on_a_busy_host_is_not_waiting(asked: Callable[..., Any]) -> None:
    waiting = Waiting(SECONDS)
    assert asked(10 * SECONDS, 1.0, waiting) == ""
    assert waiting.left == SECONDS - 1.0


def test_a_server_that_is_too_slow_is_given_up(asked: Callable[..., Any]) -> None:
    waiting = Waiting(SECONDS)
    assert "mirror.example" in asked(0.0, 10 * SECONDS, waiting)
    assert 0 < waiting.left < SECONDS


def test_nothing_is_asked_when_the_time_is_used_up(
    asked: Callable[..., Any], clock: list[float]
) -> None:
    before = clock[0]
    assert "no answer in time" in asked(0.0, 1.0, Waiting(0.0))
    assert clock[0] == before

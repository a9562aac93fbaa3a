# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The time that was given is used: a search that was not decided goes on."""

from __future__ import annotations

from ansible_collections.mlops.onprem.plugins.module_utils._capacity.question import build
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.staying import search_on
from ansible_collections.mlops.onprem.plugins.module_utils._planner.model import (
    FEASIBLE,
    UNDECIDED,
    Budget,
    Result,
)

from tests.unit.plugins.module_utils._capacity.test_question import place, specs

PROBLEM = build(
    (place(),), (), specs({"requests": {"cpu_cores": 2}, "replicas": 3}), lambda _spec: 1.0
)
NOT_DECIDED = Result(UNDECIDED, (), {"w0": 3}, 0)


def budget(steps: float) -> Budget:
    looks = iter(range(10**9))
    return Budget(steps, lambda: float(next(looks)))


def test_what_was_not_found_is_looked_for_again_while_there_is_time() -> None:
    result, kept = search_on(PROBLEM, (), (NOT_DECIDED, 0), 0, budget(2000.0))
    assert result.verdict == FEASIBLE
    assert len(result.placement) == 3
    assert kept == 0


def test_without_time_the_best_known_stands() -> None:
    assert search_on(PROBLEM, (), (NOT_DECIDED, 0), 0, budget(0.0)) == (NOT_DECIDED, 0)


def test_what_is_decided_is_not_looked_for_again() -> None:
    done = Result(FEASIBLE, (), {}, 0)
    told: list[str] = []
    known = Budget(100.0, lambda: 0.0, progress=lambda what, _done: told.append(what))
    assert search_on(PROBLEM, (), (done, 2), 0, known) == (done, 2)
    assert told == []

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages are told the same days until something really changes."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._assess.days import told_days

TODAY = datetime.date(2026, 1, 1)
UNTIL = "2029-01-01"


def horizon(memory: str | None, ends: str | None = None) -> dict[str, Any]:
    row = {"group": "gpu", "resource": "memory", "supply": 4711.0, "runs_out": memory}
    return {"until": UNTIL, "ends": ends, "resources": [row]}


def told(memory: str | None, ends: str | None = None) -> dict[str, Any]:
    row = {"group": "gpu", "resource": "memory", "runs_out": memory}
    return {"ends": ends, "resources": [row]}


def test_a_first_run_tells_what_it_found_and_no_measured_figure() -> None:
    found = told_days(horizon("2027-06-01", "2027-05-01"), None, TODAY)
    assert found == told("2027-06-01", "2027-05-01")


@pytest.mark.parametrize(
    ("before", "now", "says"),
    [
        ("2027-06-01", "2027-06-11", "2027-06-01"),
        ("2027-06-01", "2027-05-21", "2027-06-01"),
        ("2027-06-01", "2027-09-01", "2027-09-01"),
        ("2027-06-01", "2026-12-01", "2026-12-01"),
        ("2026-01-10", "2026-01-15", "2026-01-10"),
        ("2026-01-10", "2026-01-20", "2026-01-20"),
        ("2028-12-20", None, "2028-12-20"),
        (None, "2028-12-20", None),
        ("2027-06-01", None, None),
        (None, "2027-06-01", "2027-06-01"),
        (None, None, None),
    ],
)
def test_a_day_stays_while_the_new_one_is_near(
    before: str | None, now: str | None, says: str | None
) -> None:
    assert told_days(horizon(now, now), told(before, before), TODAY) == told(says, says)


def test_many_small_steps_do_not_hide_a_large_one() -> None:
    days = told("2027-06-01")
    start = datetime.date(2027, 6, 1)
    for step in range(1, 40):
        now = start + datetime.timedelta(days=5 * step)
        days = told_days(horizon(now.isoformat()), days, TODAY)
    said = datetime.date.fromisoformat(days["resources"][0]["runs_out"])
    assert abs((said - now).days) <= 0.05 * (now - TODAY).days


@pytest.mark.parametrize("earlier", [None, [], {}, {"ends": "soon", "resources": []}, {"ends": 1}])
def test_what_cannot_be_read_of_the_run_before_counts_for_nothing(earlier: object) -> None:
    assert told_days(horizon("2027-06-01"), earlier, TODAY) == told("2027-06-01")


def test_a_plan_that_is_none_has_no_days() -> None:
    assert told_days(None, told("2027-06-01"), TODAY) == {"ends": None, "resources": []}

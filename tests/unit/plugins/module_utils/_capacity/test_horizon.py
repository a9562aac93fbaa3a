# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The day on which something runs out."""

from __future__ import annotations

import datetime

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.cards import Card
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.horizon import (
    first_day,
    last_day,
    lasts,
    members,
    runouts,
)
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.places import Figures, Place
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.question import build
from ansible_collections.mlops.onprem.plugins.module_utils._demand.growth import Growth
from ansible_collections.mlops.onprem.plugins.module_utils._demand.workloads import Request, Spec
from ansible_collections.mlops.onprem.plugins.module_utils._planner.model import (
    FEASIBLE,
    INFEASIBLE,
    UNDECIDED,
    Assignment,
    GpuNeed,
)
from hypothesis import given
from hypothesis import strategies as st

TODAY = datetime.date(2026, 1, 1)
UNTIL = last_day(TODAY, 2)


def day(number: int) -> datetime.date:
    return TODAY + datetime.timedelta(days=number)


def host(name: str, mig: str = "", *groups: str) -> Place:
    cards = tuple(Card(index, "", "A100", 80_000, mig) for index in range(2))
    disks = {"disk /": Figures(1000)}
    return Place(name, Figures(10), Figures(1000), disks, {"/": "disk /"}, cards, frozenset(groups))


def test_the_horizon_is_years_of_365_and_a_quarter_days() -> None:
    assert last_day(TODAY, 4) == datetime.date(2030, 1, 1)


@given(st.integers(0, 731))
def test_the_first_day_is_found(number: int) -> None:
    assert first_day(TODAY, UNTIL, lambda at: at >= day(number)) == (
        day(number) if day(number) <= UNTIL else None
    )


@given(st.integers(1, 700), st.sampled_from([INFEASIBLE, UNDECIDED]))
def test_the_last_day_of_a_plan_and_the_first_without_one_are_neighbours(
    number: int, then: str
) -> None:
    fits, ends, proven = lasts(TODAY, UNTIL, lambda at: FEASIBLE if at < day(number) else then)
    assert (fits, ends, proven) == (day(number - 1), day(number), then == INFEASIBLE)


def test_a_plan_that_fits_to_the_end_has_no_last_day() -> None:
    assert lasts(TODAY, UNTIL, lambda _at: FEASIBLE) == (UNTIL, None, False)


def test_without_time_to_decide_the_days_stay_apart() -> None:
    verdicts = iter([INFEASIBLE, FEASIBLE, None])
    fits, ends, proven = lasts(TODAY, UNTIL, lambda _at: next(verdicts))
    assert (fits, ends, proven) == (day(365), UNTIL, True)


def test_the_sum_of_a_group_runs_out_on_the_day_that_its_formula_gives() -> None:
    spec = Spec("w", "serving", Request(4.0), growth=Growth(percent=50), groups=("gpu",))
    problem = build((host("h1", "", "gpu"), host("h2", "", "cpu")), (), (spec,))
    [row] = runouts(problem, [Assignment("w", 0, "h1")], (spec,), TODAY, last_day(TODAY, 3))
    assert (row.group, row.resource, row.supply, row.placed) == ("gpu", "CPU", 10, 4)
    # 4 x 1.5 ** years > 10 from years = ln 2.5 / ln 1.5 = 2.2599 on, which is day 825.4.
    assert row.runs_out == day(826)
    assert row.at_horizon == pytest.approx(4 * 1.5 ** (1096 / 365.25), abs=0.01)


@pytest.mark.parametrize(
    ("gpu", "mig", "part"),
    [
        (GpuNeed(count=1), "", 1.0),
        (GpuNeed(share=0.25), "", 0.25),
        (GpuNeed(memory_mib=20_000), "", 0.25),
        (GpuNeed(profile="3g.40gb"), "A100_SXM4_80GB", round(3 / 7, 2)),
    ],
)
def test_parts_of_a_gpu_are_counted_as_parts(gpu: GpuNeed, mig: str, part: float) -> None:
    spec = Spec("w", "serving", gpu=gpu, growth=Growth(percent=100))
    problem = build((host("h1", mig),), (), (spec,))
    [row] = runouts(problem, [Assignment("w", 0, "h1", (1,), 0)], (spec,), TODAY, UNTIL)
    assert (row.resource, row.supply, row.placed) == ("GPU A100", 2, part)


def test_a_gpu_of_work_whose_requests_grow_stays_one() -> None:
    growth = Growth(of="requests", percent=100)
    spec = Spec("w", "service", Request(1.0), gpu=GpuNeed(count=1), growth=growth)
    problem = build((host("h1"),), (), (spec,))
    rows = runouts(problem, [Assignment("w", 0, "h1", (0,))], (spec,), TODAY, UNTIL)
    assert {row.resource: (row.placed, row.at_horizon) for row in rows} == {
        "CPU": (1, 4.0),
        "GPU A100": (1, 1),
    }


def test_groups_are_those_that_workloads_name_each_set_of_hosts_once() -> None:
    hosts = (host("h1", "", "gpu", "fast"), host("h2", "", "cpu"), host("h3", "", "edge"))
    specs = (Spec("a", "serving", groups=("gpu", "fast")), Spec("b", "serving"))
    found = members(hosts, specs)
    assert {group: [place.name for place in here] for group, here in found.items()} == {
        "fast": ["h1"],
        "all": ["h1", "h2"],
    }

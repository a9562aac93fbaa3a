# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processors, memory and disk that suffice by their sum and cannot be packed: that is proved."""

from __future__ import annotations

import itertools
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._planner.model import (
    FEASIBLE,
    INFEASIBLE,
    Host,
    Instance,
    Pool,
    Workload,
)
from ansible_collections.mlops.onprem.plugins.module_utils._planner.solver import solve

from tests.unit.plugins.module_utils._planner.small import steps_budget

RESOURCES, UNITS = ("cpu", "memory", "disk"), ("cores", "GiB", "GiB")
LOOKS = itertools.count()


def packing(
    column: int, rooms: tuple[float, ...], *works: tuple[float, int], step: float = 1.0
) -> Instance:
    """Hosts with these rooms of one resource, and replicas by size and number."""

    def figures(amount: float, others: float) -> tuple[float, ...]:
        return tuple(amount * step if at == column else others for at in range(3))

    return Instance(
        RESOURCES,
        UNITS,
        tuple(Host(f"h{n}", figures(room, 900.0)) for n, room in enumerate(rooms)),
        tuple(Workload(f"w{n}", figures(size, 0.5), c) for n, (size, c) in enumerate(works)),
    )


@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize("step", [1.0, 0.1, 1024.0])
def test_what_cannot_be_packed_is_refused_with_a_bill(column: int, step: float) -> None:
    # Two of seven leave 2 of a host's 16, three of five leave 1.
    instance = packing(column, (16.0,) * 12, (7, 16), (5, 15), step=step)
    result = solve(instance, steps_budget(2000))
    assert result.sums_fit
    assert (result.verdict, result.at_least) == (INFEASIBLE, 2)
    (bill,) = (row.steps for row in result.certificates if row.cause == "fragmentation")
    assert f"of {RESOURCES[column]} each host has room for whole ones only" in bill[0]
    assert any(
        line.startswith("12 hosts like h0 hold at most 2 each (for example") for line in bill
    )
    assert bill[-1].endswith("2 is missing, so at least 2 must be left out")
    smaller = packing(column, (16.0,) * 12, (7, 14), (5, 15), step=step)
    assert solve(smaller, steps_budget(2000)).verdict == FEASIBLE


def test_hosts_of_several_sizes_are_each_worth_their_best_filling() -> None:
    instance = packing(0, (16.0, 10.0) * 8, (9, 16), (6, 9))
    result = solve(instance, steps_budget(2000))
    assert (result.verdict, result.at_least) == (INFEASIBLE, 1)


def test_a_storage_of_several_hosts_is_cut_up_by_none_of_them() -> None:
    apart = packing(2, (16.0,) * 4, (9, 5))
    assert solve(apart, steps_budget(2000)).verdict == INFEASIBLE
    shared = replace(
        apart, pools=(Pool("nas", "GiB", 64.0, tuple((f"h{n}", 2) for n in range(4))),)
    )
    hosts = tuple(replace(host, supply=(*host.supply[:2], 64.0)) for host in apart.hosts)
    assert solve(replace(shared, hosts=hosts), steps_budget(2000)).verdict == FEASIBLE


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_every_packing_is_decided_and_nothing_said_of_it_is_wrong(first: int) -> None:
    if find_spec("molecule") is None:
        pytest.skip("OR-Tools is only in the environment of all tests")
    exact_sites = import_module("tests.exact_sites")
    for seed in range(first, first + 10):
        site = exact_sites.packing_site(seed)
        said = exact_sites.check(seed, lambda: float(next(LOOKS)), 300.0, exact_sites.packing_site)
        assert said == []
        total = sum(work.replicas for work in site.workloads)
        fits = exact_sites.most_placed(site) == total
        verdict = solve(site, steps_budget(300)).verdict
        assert verdict == (FEASIBLE if fits else INFEASIBLE)

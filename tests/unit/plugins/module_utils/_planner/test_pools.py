# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A supply that several hosts draw from, against every placement tried one by one."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._planner.model import (
    FEASIBLE,
    INFEASIBLE,
    Assignment,
    Host,
    Instance,
    Offer,
    Pool,
    Workload,
)
from ansible_collections.mlops.onprem.plugins.module_utils._planner.purchase import purchase
from ansible_collections.mlops.onprem.plugins.module_utils._planner.solver import solve
from ansible_collections.mlops.onprem.plugins.module_utils._planner.survival import survive
from ansible_collections.mlops.onprem.plugins.module_utils._planner.verify import verify
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.plugins.module_utils._planner.small import steps_budget

HOSTS = 3
# Column 0 is the host's own, columns 1 and 2 may be drawn from the pool.
RESOURCES, UNITS = ("CPU", "disk a", "disk b"), ("cores", "MiB", "MiB")


@st.composite
def instances(draw: st.DrawFn) -> Instance:
    supply = draw(st.sampled_from([0.0, 1.0, 2.5, 4.0, 7.0]))
    hosts, columns = [], []
    for number in range(draw(st.integers(1, HOSTS))):
        column = draw(st.sampled_from([0, 1, 2]))
        figures = [draw(st.integers(0, 5).map(float)) for _each in RESOURCES]
        if column:
            figures[column] = supply
            columns.append((f"h{number}", column))
        hosts.append(Host(f"h{number}", tuple(figures)))
    works = tuple(
        Workload(
            f"w{number}",
            tuple(draw(st.sampled_from([0.0, 0.5, 1.0, 2.0])) for _each in RESOURCES),
            draw(st.integers(1, 2)),
            hosts=draw(st.sampled_from([None, frozenset({"h0", "h1"})])),
        )
        for number in range(draw(st.integers(1, 3)))
    )
    pools = (Pool("nas", "MiB", supply, tuple(columns)),) if columns else ()
    return Instance(RESOURCES, UNITS, tuple(hosts), works, pools)


def every_placement(instance: Instance) -> bool:
    """Whether any placement is right, by simple sums of this test's own."""
    replicas = [work for work in instance.workloads for _each in range(work.replicas)]
    for where in itertools.product(instance.hosts, repeat=len(replicas)):
        pairs = list(zip(replicas, where))
        if any(work.hosts is not None and host.name not in work.hosts for work, host in pairs):
            continue
        if any(
            sum(work.demand[at] for work, host in pairs if host is one) > one.supply[at]
            for one in instance.hosts
            for at in range(len(RESOURCES))
        ):
            continue
        if all(
            sum(work.demand[at] for work, host in pairs for name, at in pool.columns
                if host.name == name) <= pool.supply
            for pool in instance.pools
        ):  # fmt: skip
            return True
    return False


@given(instances())
@settings(deadline=None, max_examples=150)
def test_every_verdict_is_true(instance: Instance) -> None:
    found = solve(instance, steps_budget())
    if found.verdict == FEASIBLE:
        assert verify(instance, found.placement) == ()
        assert every_placement(instance)
    elif found.verdict == INFEASIBLE:
        assert not every_placement(instance)


def shared(supply: float, hosts: int, *works: Workload, own: float = 10.0) -> Instance:
    names = [f"h{number}" for number in range(hosts)]
    return Instance(
        ("CPU", "disk"),
        ("cores", "MiB"),
        tuple(Host(name, (own, supply)) for name in names),
        works,
        (Pool("nas", "MiB", supply, tuple((name, 1) for name in names)),),
    )


def test_verification_by_other_code_sees_what_is_drawn_twice() -> None:
    instance = shared(10.0, 2, Workload("w", (1.0, 6.0), 2))
    twice = [Assignment("w", 0, "h0"), Assignment("w", 1, "h1")]
    assert verify(instance, twice) == ("nas: 12 MiB used by all hosts, has 10",)
    assert verify(replace(instance, pools=()), twice) == ()


def test_the_certificate_names_the_pool_and_the_least_left_out() -> None:
    found = solve(shared(10.0, 4, Workload("w", (1.0, 3.0), 7)), steps_budget())
    assert (found.verdict, found.at_least) == (INFEASIBLE, 4)
    assert len(found.placement) == 3
    assert any(one.resource == "nas" for one in found.certificates)


def test_many_replicas_are_spread_over_hosts_that_draw_on_one_pool() -> None:
    found = solve(shared(100.0, 10, Workload("w", (1.0, 1.0), 100)), steps_budget())
    assert found.verdict == FEASIBLE


def test_the_linear_program_counts_a_pool_once() -> None:
    """Each kind of work is drawn by its own column, and some could go to a host of its own."""
    names = ("h0", "h1")
    instance = Instance(
        ("CPU", "disk a", "disk b"),
        ("cores", "MiB", "MiB"),
        (Host("h0", (50.0, 10.0, 99.0)), Host("h1", (50.0, 99.0, 10.0)),
         Host("h2", (50.0, 3.0, 3.0))),
        (Workload("w", (0.5, 1.0, 1.0), 41),),
        (Pool("nas", "MiB", 10.0, tuple(zip(names, (1, 2)))),),
    )  # fmt: skip
    found = solve(instance, steps_budget())
    assert (found.verdict, found.at_least) == (INFEASIBLE, 28)
    assert len(found.placement) == 13


def test_a_lost_host_leaves_its_part_of_the_pool_to_the_others() -> None:
    instance = shared(10.0, 2, Workload("w", (1.0, 10.0)))
    found = solve(instance, steps_budget())
    assert [row.stranded for row in survive(instance, found.placement, steps_budget())] == [{}, {}]


def test_data_of_a_pool_does_not_move_to_a_host_that_does_not_reach_it() -> None:
    instance = shared(10.0, 1, Workload("w", (1.0, 10.0)))
    away = replace(instance, hosts=(*instance.hosts, Host("h9", (10.0, 50.0))))
    placement = [Assignment("w", 0, "h0")]
    lost = survive(away, placement, steps_budget())
    assert [row.stranded for row in lost] == [{"w": 1}, {}]


def test_a_new_host_draws_on_the_pool_and_adds_nothing_to_it() -> None:
    instance = shared(10.0, 1, Workload("w", (4.0, 2.0), 5))
    pool = replace(instance.pools[0], offers=(("node", 1),))
    instance = replace(instance, pools=(pool,))
    offers = (Offer("node", (10.0, 10.0)),)
    assert purchase(instance, offers, steps_budget(4000)).counts == {"node": 2}
    more = replace(instance, workloads=(Workload("w", (4.0, 2.0), 6),))
    none = purchase(more, offers, steps_budget(4000))
    assert (none.counts, none.verdict) == (None, INFEASIBLE)


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        (Pool("nas", "MiB", 9.0, (("h0", 1),)), "pool nas has another supply than one of its"),
        (Pool("nas", "MiB", 10.0, (("h0", 7),)), "pool nas has a column that is none of the"),
        (Pool("nas", "MiB", 10.0, (("h0", 1), ("h0", 0))), "pool nas is drawn from twice by one"),
    ],
)
def test_a_senseless_pool_is_refused(pool: Pool, said: str) -> None:
    instance = replace(shared(10.0, 1, Workload("w", (1.0, 1.0))), pools=(pool,))
    with pytest.raises(ValueError, match=said):
        solve(instance, steps_budget())

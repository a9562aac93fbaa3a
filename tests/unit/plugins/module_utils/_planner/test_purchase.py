# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be bought suffices, and nothing below the bound would."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._planner.bounds.relaxation import LARGEST
from ansible_collections.mlops.onprem.plugins.module_utils._planner.model import (
    FEASIBLE,
    INFEASIBLE,
    Host,
    Instance,
    Offer,
    Workload,
)
from ansible_collections.mlops.onprem.plugins.module_utils._planner.purchase import purchase
from ansible_collections.mlops.onprem.plugins.module_utils._planner.verify import verify
from hypothesis import given, settings

from tests.unit.plugins.module_utils._planner.small import instances, most_placed, steps_budget

STEADY = settings(derandomize=True, deadline=None, max_examples=60)


def jobs(replicas: int, cores: float, have: int = 0) -> Instance:
    return Instance(
        ("cpu",),
        ("cores",),
        tuple(Host(f"h{n}", (8.0,)) for n in range(have)),
        (Workload("job", (cores,), replicas),),
    )


def extended(instance: Instance, offer: Offer, times: int) -> Instance:
    new = [Host(f"new{n}", offer.supply, offer.devices, offer.tags) for n in range(times)]
    return replace(instance, hosts=(*instance.hosts, *new))


def test_nothing_is_bought_where_all_fits() -> None:
    found = purchase(jobs(2, 8, have=2), (Offer("small", (8.0,)),), steps_budget())
    assert (found.counts, found.hosts, found.at_least) == ({}, 0, 0)


def test_the_fewest_hosts_are_bought_and_the_bound_is_below() -> None:
    found = purchase(jobs(5, 5, have=1), (Offer("small", (8.0,)),), steps_budget())
    assert (found.counts, found.hosts) == ({"small": 4}, 4)
    assert 3 <= found.at_least <= 4  # 17 cores are short, at 8 a host
    assert len(found.placement) == 5


def test_with_prices_the_cheapest_are_bought() -> None:
    offers = (Offer("small", (8.0,), price=100.0), Offer("large", (16.0,), price=150.0))
    found = purchase(jobs(4, 8), offers, steps_budget())
    assert (found.counts, found.price) == ({"large": 2}, 300.0)
    assert found.at_least == 300.0


# Works (cores, GiB, replicas), offers (cores, GiB, price), and what trying everything finds.
EXCHANGES = [
    ([(1, 8, 1), (2, 5, 1)], [(16, 32, 700), (24, 16, 400)], {"o1": 1}),
    ([(5, 2, 2)], [(12, 16, 1000), (8, 16, 300), (12, 32, 500)], {"o2": 1}),
    ([(3, 7, 1), (2, 4, 4)], [(12, 16, 1500), (8, 4, 500)], {"o0": 1, "o1": 2}),
    ([(2, 4, 1), (2, 8, 4)], [(12, 16, 700), (24, 32, 500), (24, 4, 300)], {"o1": 1, "o2": 1}),
    (
        [(3, 6, 2), (4, 1, 3), (4, 5, 4), (6, 4, 1)],
        [(16, 16, 400), (12, 8, 300)],
        {"o0": 2, "o1": 1},
    ),
]


@pytest.mark.parametrize(("works", "offers", "cheapest"), EXCHANGES)
def test_hosts_are_exchanged_for_cheaper_ones(
    works: list[tuple[float, float, int]],
    offers: list[tuple[float, float, float]],
    cheapest: dict[str, int],
) -> None:
    instance = Instance(
        ("cpu", "memory"),
        ("cores", "GiB"),
        (),
        tuple(
            Workload(f"w{n}", (cores, memory), replicas)
            for n, (cores, memory, replicas) in enumerate(works)
        ),
    )
    shapes = tuple(
        Offer(f"o{n}", (cores, memory), price=price)
        for n, (cores, memory, price) in enumerate(offers)
    )
    found = purchase(instance, shapes, steps_budget())
    assert found.counts == cheapest


@pytest.mark.parametrize("price", [62_000.0, 0.5])
def test_the_bound_is_never_below_the_price_of_one_host(price: float) -> None:
    # A ninth of a host is missing, but hosts are bought whole.
    found = purchase(jobs(9, 1, have=1), (Offer("large", (9.0,), price=price),), steps_budget())
    assert (found.counts, found.at_least) == ({"large": 1}, price)


def test_a_shape_that_fits_on_no_offer_cannot_be_bought_for() -> None:
    found = purchase(jobs(1, 20), (Offer("large", (16.0,)),), steps_budget())
    assert (found.verdict, found.counts, found.others) == (INFEASIBLE, None, None)
    assert found.steps == ("job would fit on no host that is known or offered",)


def test_where_some_fit_on_nothing_it_is_told_what_to_buy_for_the_others() -> None:
    both = replace(jobs(3, 8), workloads=(*jobs(3, 8).workloads, Workload("big", (20.0,))))
    found = purchase(both, (Offer("large", (16.0,)),), steps_budget())
    assert (found.verdict, found.counts) == (INFEASIBLE, None)
    assert found.steps == ("big would fit on no host that is known or offered",)
    assert found.others is not None
    assert (found.others.verdict, found.others.counts) == (FEASIBLE, {"large": 2})


def test_what_may_not_run_on_what_is_offered_and_has_too_little_room_is_proven() -> None:
    here = Workload("here", (5.0,), 2, hosts=frozenset({"h0"}))
    instance = replace(jobs(1, 1, have=1), workloads=(here,))
    found = purchase(instance, (Offer("large", (16.0,)),), steps_budget())
    assert (found.verdict, found.counts) == (INFEASIBLE, None)
    assert "what may not run on them has too little room" in found.steps[-1]


def test_a_plan_is_given_no_host_that_nothing_is_on() -> None:
    # Four may only run where they are now in the way of each other and of the others.
    here = Workload("here", (4.0,), 4, hosts=frozenset({"h0", "h1"}))
    instance = replace(jobs(6, 3, have=2), workloads=(*jobs(6, 3).workloads, here))
    found = purchase(instance, (Offer("small", (9.0,)),), steps_budget())
    assert (found.verdict, found.counts) == (FEASIBLE, {"small": 2})
    assert {one.host for one in found.placement} == {"h0", "h1", "small-1", "small-2"}


@pytest.mark.parametrize("largest", [LARGEST, 0])  # with and without the linear program
@pytest.mark.parametrize("offers", [(), (Offer("small", (8.0,), most=0),)])
def test_nothing_can_be_bought_where_nothing_is_to_be_had(
    offers: tuple[Offer, ...], largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[purchase.__module__], "LARGEST", largest)
    found = purchase(jobs(2, 8, have=1), offers, steps_budget())
    assert found.verdict != FEASIBLE
    assert found.counts is None


def test_work_without_replicas_stands_in_the_way_of_nothing() -> None:
    both = replace(jobs(2, 8), workloads=(*jobs(2, 8).workloads, Workload("big", (20.0,), 0)))
    found = purchase(both, (Offer("large", (16.0,)),), steps_budget())
    assert (found.verdict, found.counts) == (FEASIBLE, {"large": 1})


def test_room_is_bought_for_others_where_the_rest_is_not_allowed_on_what_is_offered() -> None:
    # "here" may run on the host that exists only, and the others fill it unless they move.
    instance = replace(
        jobs(2, 4, have=1),
        workloads=(
            Workload("job", (4.0,), 2, priority=1),
            Workload("here", (8.0,), 1, hosts=frozenset({"h0"})),
        ),
    )
    found = purchase(instance, (Offer("small", (8.0,)),), steps_budget())
    assert found.counts == {"small": 1}
    assert {one.host for one in found.placement if one.workload == "here"} == {"h0"}


def test_no_more_are_bought_than_are_to_be_had() -> None:
    found = purchase(jobs(3, 8), (Offer("small", (8.0,), most=2),), steps_budget())
    assert (found.verdict, found.counts) == (INFEASIBLE, None)
    assert found.steps


def test_a_senseless_price_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"offer small has a price of -1\.0"):
        purchase(jobs(1, 8), (Offer("small", (8.0,), price=-1.0),), steps_budget())


@STEADY
@given(instances(2, 2))
def test_purchases_hold_against_trying_everything(instance: Instance) -> None:
    offer = Offer("new", (4.0, 6.0))
    asked = sum(workload.replicas for workload in instance.workloads)
    found = purchase(instance, (offer,), steps_budget())
    fewest = next(
        (n for n in range(asked + 1) if most_placed(extended(instance, offer, n)) == asked), None
    )
    assert (found.verdict == FEASIBLE) == (found.counts is not None)
    if fewest is None:
        assert found.counts is None
        return
    assert found.at_least <= fewest
    assert found.counts is not None
    assert found.hosts >= fewest
    bought = {assignment.host for assignment in found.placement} - {h.name for h in instance.hosts}
    assert len(bought) <= found.hosts
    renamed = dict(zip(sorted(bought), (f"new{n}" for n in range(len(bought))), strict=True))
    placement = tuple(a._replace(host=renamed.get(a.host, a.host)) for a in found.placement)
    assert verify(extended(instance, offer, found.hosts), placement) == ()

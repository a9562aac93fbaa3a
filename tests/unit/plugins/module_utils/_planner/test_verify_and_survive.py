# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a placement, what a loss strands, and what a purchase mends."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._planner.model import (
    Assignment,
    Device,
    GpuNeed,
    Host,
    Instance,
    Offer,
    Pool,
    Workload,
)
from ansible_collections.mlops.onprem.plugins.module_utils._planner.purchase import purchase
from ansible_collections.mlops.onprem.plugins.module_utils._planner.survival import (
    solve_surviving,
    survive,
)
from ansible_collections.mlops.onprem.plugins.module_utils._planner.verify import verify

from tests.unit.plugins.module_utils._planner.small import steps_budget

T4, MIG = Device("T4", 16384.0), Device("A100", 40960.0, "A100_SXM4_40GB")
PLAN = Instance(
    ("cpu",),
    ("cores",),
    (Host("a", (4.0,), (T4, MIG), frozenset({"ssd"})), Host("b", (4.0,))),
    (
        Workload("web", (2.0,), 2, spread="web"),
        Workload("db", (1.0,), 1, tags=frozenset({"ssd"})),
        Workload("half", (0.0,), 1, GpuNeed(share=0.6)),
        Workload("slice", (0.0,), 1, GpuNeed(profile="3g.20gb")),
    ),
)
GOOD = (
    Assignment("web", 0, "a"),
    Assignment("web", 1, "b"),
    Assignment("db", 0, "a"),
    Assignment("half", 0, "a", (0,)),
    Assignment("slice", 0, "a", (1,), 4),
)


def test_a_sound_placement_has_nothing_wrong() -> None:
    assert verify(PLAN, GOOD) == ()


def test_a_device_has_one_owner() -> None:
    work = (
        Workload("chat", (0.0,), 1, GpuNeed(share=0.2, owner="serving")),
        Workload("notebook", (0.0,), 1, GpuNeed(share=0.2, owner="scheduler")),
        Workload("slice", (0.0,), 1, GpuNeed(profile="3g.20gb", owner="scheduler")),
        Workload("small", (0.0,), 1, GpuNeed(profile="1g.5gb", owner="serving")),
    )
    plan = replace(PLAN, workloads=work)
    placed = (
        Assignment("chat", 0, "a", (0,)),
        Assignment("notebook", 0, "a", (0,)),
        Assignment("slice", 0, "a", (1,), 4),
        Assignment("small", 0, "a", (1,), 0),
    )
    assert verify(plan, placed) == (
        "a: device 0 is shared by scheduler and serving",
        "a: device 1 is shared by scheduler and serving",
    )


@pytest.mark.parametrize(
    ("at", "instead", "sentence"),
    [
        (1, Assignment("web", 1, "a"), "2 replicas of web that must be kept apart"),
        (1, Assignment("web", 1, "a"), "a: 5 cores of cpu used, has 4"),
        (1, Assignment("web", 0, "b"), "web[0]: placed more than once"),
        (1, Assignment("web", 2, "b"), "web[2]: it has 2 replicas, counted from 0"),
        (1, Assignment("web", 1, "c"), "web[1]: no such host as c"),
        (1, Assignment("mail", 0, "b"), "mail: no such workload"),
        (2, Assignment("db", 0, "b"), "db[0]: b does not carry ssd"),
        (3, Assignment("half", 0, "a"), "half[0]: needs 1 devices, has []"),
        (3, Assignment("half", 0, "a", (2,)), "half[0]: a has no device 2"),
        (3, Assignment("half", 0, "a", (1,)), "half[0]: device 1 of a is cut up by MIG"),
        (4, Assignment("slice", 0, "a", (0,), 4), "a: device 0: it is not in MIG mode"),
        (4, Assignment("slice", 0, "a", (1,), 3), "3g.20gb cannot begin at memory slice 3"),
    ],
)
def test_what_is_wrong_is_named(at: int, instead: Assignment, sentence: str) -> None:
    placement = (*GOOD[:at], instead, *GOOD[at + 1 :])
    assert sentence in "\n".join(verify(PLAN, placement))


def test_what_is_missing_is_named() -> None:
    assert verify(PLAN, GOOD[1:]) == ("web: 1 of 2 replicas not placed",)


def test_a_lost_host_strands_what_fits_nowhere_else() -> None:
    losses = {loss.host: loss for loss in survive(PLAN, GOOD, steps_budget())}
    assert dict(losses["a"].stranded) == {"web": 1, "db": 1, "half": 1, "slice": 1}
    assert losses["a"].lost == 4
    assert dict(losses["b"].stranded) == {"web": 1}


def test_a_placement_that_survives_any_loss_is_found() -> None:
    hosts = tuple(Host(f"h{n}", (4.0,)) for n in range(3))
    plan = Instance(("cpu",), ("cores",), hosts, (Workload("w", (2.0,), 4),))
    result, losses = solve_surviving(plan, steps_budget())
    assert not verify(plan, result.placement)
    assert [dict(loss.stranded) for loss in losses] == [{}, {}, {}]


@pytest.mark.parametrize(("replicas", "bought"), [(2, 0), (3, 1), (5, 2)])
def test_the_fewest_hosts_are_bought(replicas: int, bought: int) -> None:
    plan = Instance(("cpu",), ("cores",), (Host("h", (4.0,)),), (Workload("w", (2.0,), replicas),))
    found = purchase(plan, (Offer("new", (4.0,)),), steps_budget())
    assert (found.hosts, found.at_least) == (bought, float(bought))
    assert len(found.placement) == replicas


def test_nothing_is_bought_where_no_offer_helps() -> None:
    plan = Instance(("cpu",), ("cores",), (), (Workload("w", (8.0,), 1),))
    found = purchase(plan, (Offer("small", (4.0,)),), steps_budget())
    assert found.counts is None
    assert found.steps == ("w would fit on no host that is known or offered",)
    too_few = purchase(plan, (Offer("large", (8.0,), most=0),), steps_budget())
    assert too_few.counts is None


def test_the_cheaper_offer_is_bought() -> None:
    plan = Instance(("cpu",), ("cores",), (), (Workload("w", (2.0,), 4),))
    offers = (Offer("large", (8.0,), price=10.0), Offer("small", (4.0,), price=3.0))
    found = purchase(plan, offers, steps_budget())
    assert (found.counts, found.price, found.at_least) == ({"small": 2}, 6.0, 6.0)


def data_sets(*allowed: tuple[str, frozenset[str]]) -> Instance:
    """Three equal hosts, and data sets that fill one each and may only lie on some."""
    return Instance(
        ("disk",),
        ("MiB",),
        tuple(
            Host(name, (10.0,), tags=frozenset(tag for tag, hosts in allowed if name in hosts))
            for name in ("h1", "h2", "h3")
        ),
        tuple(Workload(tag, (10.0,), 1, tags=frozenset({tag})) for tag, _hosts in allowed),
    )


@pytest.mark.parametrize(
    "allowed",
    [
        (("a", frozenset({"h1", "h2"})), ("b", frozenset({"h2", "h3"}))),
        (("a", frozenset({"h2", "h3"})), ("b", frozenset({"h1", "h2"}))),
        (("a", frozenset({"h1", "h3"})), ("b", frozenset({"h3", "h2"}))),
    ],
)
def test_what_stands_in_the_way_of_a_refuge_is_moved(
    allowed: tuple[tuple[str, frozenset[str]], ...],
) -> None:
    question = data_sets(*allowed)
    result, losses = solve_surviving(question, steps_budget(4000))
    assert verify(question, result.placement) == ()
    assert [loss.host for loss in losses if loss.stranded] == []


def test_a_loss_that_nothing_survives_is_proven_and_others_are_not() -> None:
    full = data_sets(("a", frozenset({"h1"})), ("b", frozenset({"h2", "h3"})))
    _result, losses = solve_surviving(full, steps_budget(4000))
    told = {loss.host: (bool(loss.stranded), loss.proven) for loss in losses}
    assert told["h1"] == (True, True)
    assert not told["h2"][0]
    assert not told["h3"][0]


def test_the_replica_with_least_choice_is_moved_first() -> None:
    """Of what is lost, `web` may go anywhere, `pinned` only where `web` would go otherwise."""
    question = Instance(
        ("cpu",),
        ("cores",),
        (
            Host("a", (4.0,), tags=frozenset({"x"})),
            Host("b", (2.0,), tags=frozenset({"x"})),
            Host("c", (3.0,)),
        ),
        (
            Workload("web", (2.0,), 1),
            Workload("pinned", (2.0,), 1, tags=frozenset({"x"})),
        ),
    )
    placement = (Assignment("web", 0, "a"), Assignment("pinned", 0, "a"))
    lost = next(row for row in survive(question, placement, steps_budget()) if row.host == "a")
    assert dict(lost.stranded) == {}


def test_a_site_with_shared_storage_can_be_asked_to_survive() -> None:
    nas = Pool("nas", "MiB", 100.0, (("a", 1), ("b", 1), ("c", 1)))
    question = Instance(
        ("cpu", "disk"),
        ("cores", "MiB"),
        tuple(Host(name, (4.0, 100.0)) for name in "abc"),
        (Workload("data", (3.0, 45.0), 2),),
        pools=(nas,),
    )
    result, losses = solve_surviving(question, steps_budget(4000))
    assert verify(question, result.placement) == ()
    assert [loss.host for loss in losses if loss.stranded] == []
    tight = replace(question, workloads=(Workload("data", (3.0, 30.0), 3),))
    _result, losses = solve_surviving(tight, steps_budget(4000))
    assert {loss.host for loss in losses if loss.stranded and loss.proven} == {"a", "b", "c"}

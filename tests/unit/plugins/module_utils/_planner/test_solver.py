# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No verdict is ever contradicted by trying everything."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._planner.model import (
    FEASIBLE,
    INFEASIBLE,
    UNDECIDED,
    Budget,
    Cancelled,
    Device,
    GpuNeed,
    Host,
    Instance,
    Workload,
)
from ansible_collections.mlops.onprem.plugins.module_utils._planner.solver import allocate, solve
from ansible_collections.mlops.onprem.plugins.module_utils._planner.verify import verify
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.plugins.module_utils._planner.small import (
    hosts,
    instances,
    most_placed,
    steps_budget,
)

STEADY = settings(derandomize=True, deadline=None, max_examples=150)


def question(
    hosts: list[tuple[float, ...]], work: list[tuple[tuple[float, ...], int]], gpus: int = 0
) -> Instance:
    width = len(hosts[0]) if hosts else len(work[0][0]) if work else 1
    names = tuple(f"r{n}" for n in range(width))
    devices = tuple(Device("T4", 16384.0) for _n in range(gpus))
    return Instance(
        names,
        names,
        tuple(Host(f"h{n}", supply, devices) for n, supply in enumerate(hosts)),
        tuple(Workload(f"w{n}", demand, times) for n, (demand, times) in enumerate(work)),
    )


@STEADY
@given(instances())
def test_verdicts_are_those_of_trying_everything(instance: Instance) -> None:
    result = solve(instance, steps_budget())
    total = sum(work.replicas for work in instance.workloads)
    most = most_placed(instance)
    assert result.verdict in (FEASIBLE, INFEASIBLE, UNDECIDED)
    if result.verdict == FEASIBLE:
        assert most == total
        assert not verify(instance, result.placement)
        assert not result.unplaced
        assert not result.certificates
    if result.verdict == INFEASIBLE:
        assert most < total
        assert result.certificates
    for certificate in result.certificates:
        assert 1 <= certificate.unplaceable <= total - most
        assert certificate.steps
    assert result.at_least <= total - most
    assert len(result.placement) + sum(result.unplaced.values()) == total
    assert result.bound >= 0


def owned(gpus: int, mig: bool = False) -> Instance:
    """Six parts of GPUs of two owners; by their size all of them fit on one device."""
    device = Device("A100", 40960.0, "A100_SXM4_40GB" if mig else "")
    need = GpuNeed(profile="1g.5gb") if mig else GpuNeed(share=0.1)
    work = tuple(
        Workload(f"w{n}", (0.0,), 3, replace(need, owner=owner))
        for n, owner in enumerate(("serving", "scheduler"))
    )
    return Instance(("cpu",), ("cores",), (Host("h", (1.0,), (device,) * gpus),), work)


@pytest.mark.parametrize("mig", [False, True])
def test_owners_share_no_device(mig: bool) -> None:
    result = solve(owned(2, mig), steps_budget())
    assert result.verdict == FEASIBLE
    assert verify(owned(2, mig), result.placement) == ()
    alone = solve(owned(1, mig), steps_budget())
    assert alone.verdict != FEASIBLE
    assert sum(alone.unplaced.values()) == 3


@STEADY
@given(instances())
def test_small_questions_with_a_placement_get_it(instance: Instance) -> None:
    total = sum(work.replicas for work in instance.workloads)
    if most_placed(instance) == total:
        assert solve(instance, steps_budget()).verdict == FEASIBLE


@STEADY
@given(instances(), hosts(1))
def test_one_more_host_never_makes_it_worse(instance: Instance, more: list[Host]) -> None:
    if solve(instance, steps_budget()).verdict != FEASIBLE:
        return
    added = tuple(replace(host, name="added") for host in more)
    larger = replace(instance, hosts=(*instance.hosts, *added))
    assert solve(larger, steps_budget()).verdict == FEASIBLE


@STEADY
@given(instances(), st.sampled_from([1024.0, 1 / 1024, 1000.0, 0.001, 3.0]))
def test_units_change_no_verdict(instance: Instance, factor: float) -> None:
    other = replace(
        instance,
        hosts=tuple(
            replace(host, supply=(host.supply[0] * factor, host.supply[1]))
            for host in instance.hosts
        ),
        workloads=tuple(
            replace(work, demand=(work.demand[0] * factor, work.demand[1]))
            for work in instance.workloads
        ),
    )
    one, two = solve(instance, steps_budget()), solve(other, steps_budget())
    assert (one.verdict, one.at_least) == (two.verdict, two.at_least)


@STEADY
@given(instances(4, 4), st.integers(0, 3))
def test_the_same_seed_gives_the_same_answer(instance: Instance, seed: int) -> None:
    one = solve(instance, steps_budget(), seed)
    two = solve(instance, steps_budget(), seed)
    assert replace(one, seconds=0.0) == replace(two, seconds=0.0)


@pytest.mark.parametrize(
    ("hosts", "work", "verdict"),
    [
        ([], [], FEASIBLE),
        ([], [((1.0,), 1)], INFEASIBLE),
        ([], [((0.0,), 1)], INFEASIBLE),
        ([(1.0,)], [], FEASIBLE),
        ([(0.0,)], [((0.0,), 3)], FEASIBLE),
        ([(0.0,)], [((1e-9,), 1)], INFEASIBLE),
        ([(1.0,)], [((0.1,), 10)], FEASIBLE),
        ([(1.0,)], [((0.1,), 11)], INFEASIBLE),
        ([(0.9 * 96,)], [((28.8,), 3)], FEASIBLE),
        ([(1.0,)], [((1 / 3,), 3)], FEASIBLE),
        ([(1e300,)], [((5e299,), 2)], FEASIBLE),
        ([(1e300,)], [((5e299,), 3)], INFEASIBLE),
        ([(1e-300,)], [((1e-300,), 1)], FEASIBLE),
        ([(1e12, 1e-12)], [((1e-12, 1e-12), 1)], FEASIBLE),
        ([(1.0,)], [((1e300,), 1)], INFEASIBLE),
        ([(3.0,), (3.0,)], [((2.0,), 3)], INFEASIBLE),
    ],
)
def test_edges(
    hosts: list[tuple[float, ...]], work: list[tuple[tuple[float, ...], int]], verdict: str
) -> None:
    assert solve(question(hosts, work), steps_budget()).verdict == verdict


@STEADY
@given(instances())
def test_whether_sums_alone_would_have_said_yes_is_told_right(instance: Instance) -> None:
    result = solve(instance, steps_budget())
    for at in range(len(instance.resources)):
        asked = sum(Fraction(repr(w.demand[at])) * w.replicas for w in instance.workloads)
        have = sum(Fraction(repr(host.supply[at])) for host in instance.hosts)
        if asked > have * (1 + Fraction(1, 10**8)):
            assert not result.sums_fit


@pytest.mark.parametrize(
    ("need", "gpu", "fit"),
    [
        (500.0, GpuNeed(), False),  # each far above every host, and all of them above the sum
        (1.5, GpuNeed(), True),  # above every host, below the sum
        (0.0, GpuNeed(count=1000), False),
        (0.0, GpuNeed(count=2), True),
        (0.0, GpuNeed(count=1, models=frozenset({"A100"})), True),
    ],
)
def test_a_replica_that_no_host_takes_counts_in_the_sums_as_written(
    need: float, gpu: GpuNeed, fit: bool
) -> None:
    hosts = question([(1.0,)] * 4, [], gpus=1)
    result = solve(replace(hosts, workloads=(Workload("w", (need,), 2, gpu),)), steps_budget())
    assert result.verdict == INFEASIBLE
    assert result.sums_fit == fit


def test_fragmentation_is_named_and_can_be_redone_by_hand() -> None:
    shares = Workload("web", (0.0,), 10, GpuNeed(share=0.6))
    instance = replace(question([(1.0,)] * 2, [], gpus=4), workloads=(shares,))
    result = solve(instance, steps_budget())
    assert result.verdict == INFEASIBLE
    assert result.sums_fit
    assert result.at_least == 2
    (certificate,) = (one for one in result.certificates if one.cause == "fragmentation")
    assert (certificate.demand, certificate.supply, certificate.short) == (10.0, 8.0, 2.0)
    assert "10 workloads of 0.6 GPU leave 0.4 of a GPU each; only 0 workloads fit" in "\n".join(
        certificate.steps
    )
    assert "needs at least 10 GPUs, there are 8: 2 missing" in certificate.steps


def test_a_mig_mix_that_fits_by_sum_only_is_refused_for_its_geometry() -> None:
    card = Device("A100", 40960.0, "A100_SXM4_40GB")
    work = (
        Workload("large", (0.0,), 2, GpuNeed(profile="3g.20gb")),
        Workload("small", (0.0,), 1, GpuNeed(profile="1g.5gb")),
    )
    instance = Instance(("cpu",), ("cores",), (Host("h", (1.0,), (card,)),), work)
    result = solve(instance, steps_budget())
    assert result.verdict == INFEASIBLE
    assert result.sums_fit
    certificate = result.certificates[0]
    assert (certificate.cause, certificate.unplaceable) == ("geometry", 1)
    assert "needs at least 2 GPUs, there are 1: 1 missing" in certificate.steps
    both = replace(instance, workloads=(work[0],))
    assert solve(both, steps_budget()).verdict == FEASIBLE


def test_higher_priority_is_left_out_last() -> None:
    instance = Instance(
        ("cpu",),
        ("cores",),
        (Host("h", (4.0,)),),
        (
            Workload("many", (1.0,), 4, priority=0),
            Workload("one", (3.0,), 1, priority=1),
        ),
    )
    result = solve(instance, steps_budget())
    assert dict(result.unplaced) == {"many": 3}


def test_replicas_are_kept_apart_and_too_few_hosts_are_named() -> None:
    work = Workload("db", (1.0,), 3, spread="db")
    two = Instance(("cpu",), ("cores",), (Host("a", (8.0,)), Host("b", (8.0,))), (work,))
    result = solve(two, steps_budget())
    assert result.verdict == INFEASIBLE
    assert ("spread", 1) in [(one.cause, one.unplaceable) for one in result.certificates]
    three = replace(two, hosts=(*two.hosts, Host("c", (8.0,))))
    placed = solve(three, steps_budget()).placement
    assert Counter(one.host for one in placed) == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (Workload("w", (math.nan,)), "workload w has a figure that is no amount"),
        (Workload("w", (-1.0,)), "workload w has a figure that is no amount"),
        (Workload("w", (math.inf,)), "workload w has a figure that is no amount"),
        (Workload("w", (1.0, 1.0)), "workload w has 2 figures, not 1"),
        (Workload("w", (1.0,), -1), "workload w has -1 replicas"),
        (Workload("w0", (1.0,)), "workload w0 is there twice"),
        (Workload("w", (1.0,), 1, GpuNeed(count=1, share=0.5)), "in more than one way"),
        (Workload("w", (1.0,), 1, GpuNeed(share=1.5)), "no sensible part of a GPU"),
        (Workload("w", (1.0,), 1, GpuNeed(memory_mib=math.nan)), "no sensible part of a GPU"),
    ],
)
def test_senseless_questions_are_refused(change: Workload, sentence: str) -> None:
    instance = question([(1.0,)], [((1.0,), 1)])
    with pytest.raises(ValueError, match=sentence):
        solve(replace(instance, workloads=(*instance.workloads, change)), steps_budget())


def test_the_caller_can_end_the_search() -> None:
    budget = Budget(10.0, lambda: 0.0, cancelled=lambda: True)
    with pytest.raises(Cancelled):
        solve(question([(1.0,)], [((0.5,), 2)]), budget)


@STEADY
@given(instances())
def test_what_is_allocated_is_never_more_than_the_bound(instance: Instance) -> None:
    result = allocate(instance, steps_budget(), resource="cpu")
    demand = {work.name: work.demand[0] for work in instance.workloads}
    used = sum(demand[one.workload] for one in result.placement)
    assert result.value == pytest.approx(used)
    assert used <= result.bound + 1e-6


def test_an_unknown_resource_is_refused() -> None:
    with pytest.raises(ValueError, match="disk is none of gpu, r0"):
        allocate(question([(1.0,)], []), steps_budget(), resource="disk")


def shares(*counts: tuple[float, int]) -> Instance:
    """One host with one GPU, and replicas that ask for parts of it."""
    return Instance(
        ("cpu",),
        ("cores",),
        (Host("a", (64.0,), (Device("X", 1024),)),),
        tuple(
            Workload(f"w{n}", (0.1,), count, GpuNeed(share=share))
            for n, (share, count) in enumerate(counts)
        ),
    )


@pytest.mark.parametrize(
    "counts",
    [
        # 1.0 - 0.7 is more than 0.3 as floats: one replica more seemed to be needed.
        ((0.7, 1), (0.3, 4), (0.1, 1)),
        ((0.7, 2), (0.3, 4)),
        ((0.9, 1), (0.1, 12)),
        ((0.6, 2), (0.2, 6), (0.1, 2)),
        ((0.8, 3), (0.4, 2), (0.2, 3)),
    ],
)
def test_no_float_makes_a_proof_claim_one_too_many(counts: tuple[tuple[float, int], ...]) -> None:
    result = solve(shares(*counts), steps_budget())
    fewest = fewest_left_out(counts)
    assert result.verdict == INFEASIBLE
    assert sum(result.unplaced.values()) == fewest
    assert 0 < result.at_least <= fewest
    assert all(row.unplaceable <= fewest for row in result.certificates)


def fewest_left_out(counts: tuple[tuple[float, int], ...]) -> int:
    """The fewest replicas left out of one GPU, in tenths, the smallest kept."""
    room, out = 10, 0
    for share, count in sorted(counts):
        kept = min(count, room // round(share * 10))
        room -= kept * round(share * 10)
        out += count - kept
    return out

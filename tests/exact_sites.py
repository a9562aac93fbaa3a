# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random sites, and the truth about them from a solver that shares no code with the planner.

The truth is a model for CP-SAT (OR-Tools) in whole numbers: every figure of a site has at most two
decimals. MIG instances have the starts and slices of NVIDIA's table for the A100 40GB, written down
here a second time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ansible_collections.mlops.onprem.plugins.module_utils._planner.model import (
    FEASIBLE,
    INFEASIBLE,
    Assignment,
    Budget,
    Device,
    GpuNeed,
    Host,
    Instance,
    Pool,
    Workload,
)
from ansible_collections.mlops.onprem.plugins.module_utils._planner.solver import solve
from ansible_collections.mlops.onprem.plugins.module_utils._planner.survival import (
    solve_surviving,
    survive,
)
from ortools.sat.python import cp_model

SCALE = 100
# NVIDIA Multi-Instance GPU user guide, A100 40GB: first memory slices, and how many are taken.
MIG = {
    "1g.5gb": ((0, 1, 2, 3, 4, 5, 6), 1, 1),
    "2g.10gb": ((0, 2, 4), 2, 2),
    "3g.20gb": ((0, 4), 4, 3),
    "4g.20gb": ((0,), 4, 4),
}
MIG_SLICES = 8
PLAIN = (Device("T4", 16384.0), Device("L40S", 49152.0))
CARD = Device("A100", 40960.0, "A100_SXM4_40GB")
NAS = 2  # the column that a network file system serves


def random_site(seed: int) -> Instance:
    """A site of two to five hosts that is about full."""
    rng = random.Random(seed)
    kind = rng.choice(("plain", "gpu", "mig", "pinned", "nas"))
    hosts = tuple(_host(rng, number, kind) for number in range(rng.randint(2, 5)))
    works = tuple(_work(rng, number, kind, len(hosts)) for number in range(rng.randint(2, 6)))
    pools: tuple[Pool, ...] = ()
    if kind == "nas":
        sharing = rng.sample(hosts, rng.randint(2, len(hosts)))
        room = float(rng.randint(6, 20))
        columns = tuple((host.name, NAS) for host in sharing)
        pools = (Pool("nas", "GiB", room, columns),)
        names = {host.name for host in sharing}
        hosts = tuple(
            replace(host, supply=(*host.supply[:NAS], room)) if host.name in names else host
            for host in hosts
        )
    resources, units = ("cpu", "memory", "disk"), ("cores", "GiB", "GiB")
    return Instance(resources, units, hosts, works, pools=pools)


def packing_site(seed: int) -> Instance:
    """A site of eight to eighteen hosts without GPUs, whose sums just suffice.

    One of processors, memory and disk is short; replicas are so large that few fit on a host. In
    every third site hosts have two sizes, in every fourth some work is for half of the hosts only.
    """
    rng = random.Random(seed)
    column = rng.randrange(3)
    rooms = rng.sample((16.0, 24.0, 32.0, 10.0), 2 if seed % 3 == 0 else 1)
    hosts = []
    for number in range(rng.randint(8, 18)):
        supply = [200.0, 2000.0, 2000.0]
        supply[column] = rooms[number % len(rooms)]
        tags = frozenset({"ssd"}) if number % 2 else frozenset()
        hosts.append(Host(f"h{number}", tuple(supply), (), tags))
    works = []
    for number in range(rng.randint(1, 3)):
        demand = [0.5, 0.5, 0.5]
        demand[column] = round(rng.uniform(0.26, 0.7) * max(rooms), 1)
        tags = frozenset({"ssd"}) if seed % 4 == 0 and number == 0 else frozenset()
        works.append(Workload(f"w{number}", tuple(demand), 0, tags=tags))
    room = sum(host.supply[column] for host in hosts)
    while True:
        at = rng.randrange(len(works))
        room -= works[at].demand[column]
        if room < 0:
            break
        works[at] = replace(works[at], replicas=works[at].replicas + 1)
    resources, units = ("cpu", "memory", "disk"), ("cores", "GiB", "GiB")
    return Instance(resources, units, tuple(hosts), tuple(works))


def _host(rng: random.Random, number: int, kind: str) -> Host:
    devices: list[Device] = []
    if kind == "gpu":
        devices = [rng.choice(PLAIN) for _each in range(rng.randint(0, 3))]
    elif kind == "mig":
        devices = [CARD for _each in range(rng.randint(0, 2))]
    tags = frozenset(tag for tag in ("ssd", "rack") if rng.random() < 0.5)
    supply = (
        rng.choice((2.0, 4.0, 3.75, 8.0)),
        float(rng.randint(4, 16)),
        float(rng.randint(4, 12)),
    )
    return Host(f"h{number}", supply, tuple(devices), tags)


def _work(rng: random.Random, number: int, kind: str, hosts: int) -> Workload:
    gpu = GpuNeed()
    if kind == "gpu" and rng.random() < 0.7:
        models = frozenset({rng.choice(PLAIN).model}) if rng.random() < 0.3 else frozenset()
        gpu = rng.choice(
            (
                GpuNeed(count=rng.randint(1, 2), models=models),
                GpuNeed(share=rng.choice((0.1, 0.3, 0.33, 0.5, 0.7)), models=models),
            )
        )
    elif kind == "mig" and rng.random() < 0.8:
        gpu = GpuNeed(profile=rng.choice(sorted(MIG)))
    demand = (
        rng.choice((0.1, 0.25, 0.5, 1.0, 1.5, 2.0)),
        float(rng.randint(0, 6)),
        float(rng.randint(0, 4)) if kind in ("plain", "nas") else 0.0,
    )
    pinned = kind == "pinned" and rng.random() < 0.6
    return Workload(
        f"w{number}",
        demand,
        rng.randint(1, 4),
        gpu,
        frozenset({rng.choice(("ssd", "rack"))}) if rng.random() < 0.25 else frozenset(),
        frozenset(f"h{n}" for n in rng.sample(range(hosts), min(2, hosts))) if pinned else None,
        rng.choice(("", "", "", "apart", f"w{number}")),
    )


def most_placed(
    instance: Instance, at_least: Mapping[tuple[str, str], int] | None = None
) -> int | None:
    """The most replicas that can be placed; None where not even ``at_least`` (work, host) can."""
    model = cp_model.CpModel()
    number = {
        (work.name, host.name): model.new_int_var(0, _most(work, host), f"{work.name} {host.name}")
        for work in instance.workloads
        for host in instance.hosts
    }
    for work in instance.workloads:
        model.add(sum(number[work.name, host.name] for host in instance.hosts) <= work.replicas)
    for place, count in (at_least or {}).items():
        model.add(number[place] >= count)
    _resources(model, instance, number)
    for host in instance.hosts:
        for spread in {work.spread for work in instance.workloads if work.spread}:
            apart = [number[w.name, host.name] for w in instance.workloads if w.spread == spread]
            model.add(sum(apart) <= 1)
        _devices(model, instance, host, number)
    model.maximize(sum(number.values()))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    status = solver.solve(model)
    if status == cp_model.INFEASIBLE:
        return None
    if status != cp_model.OPTIMAL:
        raise AssertionError(f"the truth was not found: {solver.status_name(status)}")
    return round(solver.objective_value)


def _most(work: Workload, host: Host) -> int:
    allowed = work.tags <= host.tags and (work.hosts is None or host.name in work.hosts)
    return work.replicas if allowed else 0


def _scaled(figure: float) -> int:
    whole = round(figure * SCALE)
    if abs(whole - figure * SCALE) > 1e-6:
        raise AssertionError(f"{figure} has more than two decimals")
    return whole


Numbers = Mapping[tuple[str, str], cp_model.IntVar]


def _resources(model: cp_model.CpModel, instance: Instance, number: Numbers) -> None:
    pooled = {place for pool in instance.pools for place in pool.columns}
    for host in instance.hosts:
        for column, supply in enumerate(host.supply):
            if (host.name, column) not in pooled:
                used = [
                    _scaled(work.demand[column]) * number[work.name, host.name]
                    for work in instance.workloads
                ]
                model.add(sum(used) <= _scaled(supply))
    names = {host.name for host in instance.hosts}
    for pool in instance.pools:
        drawn = [
            _scaled(work.demand[column]) * number[work.name, name]
            for name, column in pool.columns
            if name in names
            for work in instance.workloads
        ]
        model.add(sum(drawn) <= _scaled(pool.supply))


def _devices(model: cp_model.CpModel, instance: Instance, host: Host, number: Numbers) -> None:
    taken: list[list[cp_model.LinearExprT]] = [[] for _device in host.devices]
    slices: list[list[list[cp_model.LinearExprT]]] = [
        [[] for _slice in range(MIG_SLICES)] for _device in host.devices
    ]
    for work in instance.workloads:
        need, count = work.gpu, number[work.name, host.name]
        if not need.wanted:
            continue
        able = [
            at
            for at, device in enumerate(host.devices)
            if (not need.models or device.model in need.models)
            and bool(device.mig) == bool(need.profile)
        ]
        used: list[cp_model.LinearExprT] = []
        for at in able:
            if need.profile:
                starts, size, _compute = MIG[need.profile]
                for start in starts:
                    there = model.new_bool_var("")
                    used.append(there)
                    for slot in range(start, start + size):
                        slices[at][slot].append(there)
            else:
                times = model.new_int_var(0, 1 if need.count else SCALE, "")
                used.append(times)
                taken[at].append(times * (SCALE if need.count else _scaled(need.share)))
        model.add(sum(used) == count * (need.count or 1))
    for at in range(len(host.devices)):
        model.add(sum(taken[at]) <= SCALE)
        for held in slices[at]:
            model.add(sum(held) <= 1)


def check(
    seed: int,
    clock: Callable[[], float],
    seconds: float,
    site: Callable[[int], Instance] = random_site,
) -> list[str]:
    """Everything that the planner says wrongly about a random site; empty where all is true."""
    instance = site(seed)
    total = sum(work.replicas for work in instance.workloads)
    best = most_placed(instance)
    if best is None:
        raise AssertionError("nothing asked for cannot be impossible")
    result = solve(instance, Budget(seconds, clock))
    wrong = []
    if result.verdict == FEASIBLE and best < total:
        wrong.append(f"FEASIBLE, but at most {best} of {total} fit")
    if result.verdict == INFEASIBLE and best == total:
        wrong.append("INFEASIBLE, but all fit")
    claims = [result.at_least, *(row.unplaceable for row in result.certificates)]
    if max(claims) > total - best:
        wrong.append(f"at least {max(claims)} left out is claimed, {total - best} is the truth")
    if len(result.placement) > best:
        wrong.append(f"{len(result.placement)} placed, at most {best} can be")
    if result.verdict == FEASIBLE:
        wrong += _losses(instance, result.placement, seconds, clock)
    return [f"site {seed}: {said}" for said in wrong]


def _losses(
    instance: Instance, placement: Sequence[Assignment], seconds: float, clock: Callable[[], float]
) -> list[str]:
    wrong = []
    for loss in survive(instance, placement, Budget(seconds, clock)):
        if not loss.stranded and not _refuge(instance, placement, loss.host):
            wrong.append(f"{loss.host} may be lost, it is said, but what is on it fits nowhere")
    _plan, losses = solve_surviving(instance, Budget(seconds, clock))
    total = sum(work.replicas for work in instance.workloads)
    for loss in losses:
        if loss.proven and most_placed(_without(instance, loss.host)) == total:
            wrong.append(f"nothing survives the loss of {loss.host}, it is said, but all fit")
    return wrong


def _without(instance: Instance, host: str) -> Instance:
    return replace(instance, hosts=tuple(one for one in instance.hosts if one.name != host))


def _refuge(instance: Instance, placement: Sequence[Assignment], lost: str) -> bool:
    """Whether all replicas fit without a host while those elsewhere stay on their hosts."""
    stay: dict[tuple[str, str], int] = {}
    for one in placement:
        if one.host != lost:
            stay[one.workload, one.host] = stay.get((one.workload, one.host), 0) + 1
    total = sum(work.replicas for work in instance.workloads)
    return most_placed(_without(instance, lost), stay) == total

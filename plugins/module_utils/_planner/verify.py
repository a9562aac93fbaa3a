# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check a placement from nothing but the question: no code is shared with the search.

Every figure is taken as the decimal that it is written as; a host or device holds one part in 10^9
more than it says, since supplies are often results of floating-point arithmetic.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import lru_cache

from .mig.geometry import conflict, known
from .model import Assignment, Device, GpuNeed, Host, Instance, Workload

MORE = Fraction(10**9 + 1, 10**9)


@lru_cache(maxsize=100_000)
def _exact(figure: float) -> Fraction:
    return Fraction(str(float(figure)))


def _short(figure: Fraction) -> str:
    return f"{float(figure):.12g}"


def verify(instance: Instance, placement: Iterable[Assignment]) -> tuple[str, ...]:
    """Everything wrong with the placement, one sentence each; nothing if all replicas are placed.

    Checked one by one: that each replica is placed exactly once, the allowed hosts, tags and
    models, every resource of every host, every device and its one owner, the MIG layout, and
    replicas to keep apart.
    """
    hosts = {host.name: host for host in instance.hosts}
    workloads = {workload.name: workload for workload in instance.workloads}
    wrong: list[str] = []
    seen: set[tuple[str, int]] = set()
    by_host: dict[str, list[Assignment]] = defaultdict(list)
    for one in placement:
        workload = workloads.get(one.workload)
        if workload is None:
            wrong.append(f"{one.workload}: no such workload")
        elif one.host not in hosts:
            wrong.append(f"{_who(one)}: no such host as {one.host}")
        elif not 0 <= one.replica < workload.replicas:
            wrong.append(f"{_who(one)}: it has {workload.replicas} replicas, counted from 0")
        elif (one.workload, one.replica) in seen:
            wrong.append(f"{_who(one)}: placed more than once")
        else:
            seen.add((one.workload, one.replica))
            by_host[one.host].append(one)
    for workload in instance.workloads:
        missing = sum((workload.name, n) not in seen for n in range(workload.replicas))
        if missing:
            wrong.append(f"{workload.name}: {missing} of {workload.replicas} replicas not placed")
    wrong += _resources(
        instance,
        {name: [workloads[one.workload] for one in here] for name, here in by_host.items()},
    )
    wrong += _pools(
        instance,
        {name: [workloads[one.workload] for one in here] for name, here in by_host.items()},
    )
    for name, here in by_host.items():
        host = hosts[name]
        pairs = [(one, workloads[one.workload]) for one in here]
        for one, workload in pairs:
            wrong += _allowed(host, one, workload)
        wrong += _devices(host, pairs)
        wrong += _apart(host, [workload for _one, workload in pairs])
    return tuple(wrong)


def _who(one: Assignment) -> str:
    return f"{one.workload}[{one.replica}]"


def _allowed(host: Host, one: Assignment, workload: Workload) -> list[str]:
    wrong = []
    if workload.hosts is not None and host.name not in workload.hosts:
        wrong.append(f"{_who(one)}: may not run on {host.name}")
    if not workload.tags <= host.tags:
        for tag in sorted(workload.tags - host.tags):
            wrong.append(f"{_who(one)}: {host.name} does not carry {tag}")
    return wrong


def _resources(instance: Instance, by_host: Mapping[str, list[Workload]]) -> list[str]:
    wrong = []
    for at, (resource, unit) in enumerate(zip(instance.resources, instance.units)):
        # In units that make every figure of this resource a whole number.
        figures = {host.supply[at] for host in instance.hosts}
        figures |= {workload.demand[at] for workload in instance.workloads}
        exact = {figure: _exact(figure) for figure in figures}
        unit_ = math.lcm(*(figure.denominator for figure in exact.values()))
        amount = {figure: int(value * unit_) for figure, value in exact.items()}
        for host in instance.hosts:
            used = sum(amount[workload.demand[at]] for workload in by_host.get(host.name, ()))
            if used * 10**9 > amount[host.supply[at]] * (10**9 + 1):
                wrong.append(
                    f"{host.name}: {_short(Fraction(used, unit_))} {unit} of {resource} used, "
                    f"has {_short(exact[host.supply[at]])}"
                )
    return wrong


def _pools(instance: Instance, by_host: Mapping[str, list[Workload]]) -> list[str]:
    wrong = []
    for pool in instance.pools:
        used = sum(
            (
                _exact(workload.demand[at])
                for name, at in pool.columns
                for workload in by_host.get(name, ())
            ),
            Fraction(0),
        )
        if used > _exact(pool.supply) * MORE:
            wrong.append(
                f"{pool.name}: {_short(used)} {pool.unit} used by all hosts, "
                f"has {_short(_exact(pool.supply))}"
            )
    return wrong


def _devices(host: Host, pairs: list[tuple[Assignment, Workload]]) -> list[str]:
    if not host.devices and not any(w.gpu.wanted or one.devices for one, w in pairs):
        return []
    wrong: list[str] = []
    used: dict[int, Fraction] = defaultdict(Fraction)
    instances: dict[int, list[tuple[str, int]]] = defaultdict(list)
    owners: dict[int, set[str]] = defaultdict(set)
    for one, workload in pairs:
        need = workload.gpu
        count = need.count or int(need.wanted)
        if len(one.devices) != count or len(set(one.devices)) != count:
            wrong.append(f"{_who(one)}: needs {count} devices, has {list(one.devices)}")
            continue
        if not need.profile and one.slice != -1:
            wrong.append(f"{_who(one)}: has a MIG slice and asks for none")
        for index in one.devices:
            if not 0 <= index < len(host.devices):
                wrong.append(f"{_who(one)}: {host.name} has no device {index}")
                continue
            device = host.devices[index]
            if need.models and device.model not in need.models:
                wrong.append(f"{_who(one)}: may not use a {device.model}")
            owners[index].add(need.owner)
            if need.profile:
                instances[index].append((need.profile, one.slice))
                continue
            part, problem = _part(need, device)
            used[index] += part
            if problem:
                wrong.append(f"{_who(one)}: {problem.format(f'device {index} of {host.name}')}")
    return wrong + _full(host, used) + _cut_up(host, instances) + _owned(host, owners)


def _part(need: GpuNeed, device: Device) -> tuple[Fraction, str]:
    """The part of a device that a replica takes, or why it can take none."""
    if device.mig:
        return Fraction(0), "{} is cut up by MIG"
    if need.count:
        return Fraction(1), ""
    if need.share:
        return _exact(need.share), ""
    if device.memory_mib > 0:
        return _exact(need.memory_mib) / _exact(device.memory_mib), ""
    return Fraction(0), "memory of {} is not known"


def _full(host: Host, used: Mapping[int, Fraction]) -> list[str]:
    return [
        f"{host.name}: device {index} is used {_short(share)} times"
        for index, share in sorted(used.items())
        if share > MORE
    ]


def _owned(host: Host, owners: Mapping[int, set[str]]) -> list[str]:
    return [
        f"{host.name}: device {index} is shared by {' and '.join(sorted(names))}"
        for index, names in sorted(owners.items())
        if len(names) > 1
    ]


def _cut_up(host: Host, instances: Mapping[int, list[tuple[str, int]]]) -> list[str]:
    reasons = [
        (index, _layout(host.devices[index].mig, wanted))
        for index, wanted in sorted(instances.items())
    ]
    return [f"{host.name}: device {index}: {reason}" for index, reason in reasons if reason]


def _layout(card: str, wanted: list[tuple[str, int]]) -> str:
    if not card:
        return "it is not in MIG mode"
    if card not in known():
        return f"no MIG geometry is known for {card}"
    return conflict(card, wanted)


def _apart(host: Host, workloads: list[Workload]) -> list[str]:
    times = Counter(workload.spread for workload in workloads if workload.spread)
    return [
        f"{host.name}: {n} replicas of {spread} that must be kept apart"
        for spread, n in sorted(times.items())
        if n > 1
    ]

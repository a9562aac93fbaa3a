# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be said before anything is placed: sums, places, types of host, spread."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from ..arrays import Bools, Ints, np
from ..grouped import Problem
from ..model import Certificate
from ..whole_numbers import TOLERANCE
from .certificate import gpu_text, hosts_of, left_out, listed, names_of, number, plural
from .pools import fragmented, pools_of

TABLE = 4_000_000  # shapes x groups for which a table of "how many fit" is made
MOST_SETS = 64  # sets of allowed hosts that are summed one by one


@dataclass
class Places:
    """``most[s, g]``: how many replicas of a shape one empty host of the group takes.

    None where the table would be too large; then only tags, names and kinds of device count.
    ``nowhere`` are the shapes that fit on no host.
    """

    most: Ints | None
    eligible: Bools | None
    nowhere: list[int]


def places(problem: Problem) -> Places:
    """Where each shape may go, and the shapes that fit nowhere."""
    shapes, groups = len(problem.shapes), len(problem.groups)
    every = np.arange(shapes)
    if shapes * groups <= TABLE:
        most = np.zeros((shapes, groups), dtype=np.int64)
        for group in range(groups):
            most[:, group] = problem.most(every, group)
        eligible = most > 0
        return Places(most, eligible, np.flatnonzero(~eligible.any(axis=1)).tolist())
    # Most shapes fit on one of the largest hosts: only the others are looked for everywhere.
    supply = problem.group_supply().astype(np.float64)
    top = supply.max(axis=0, initial=1.0)
    order = np.argsort(-(supply / np.maximum(top, 1.0)).sum(axis=1))
    waiting = every
    for group in order.tolist():
        waiting = waiting[problem.most(waiting, group) == 0]
        if not len(waiting):
            break
    return Places(None, None, waiting.tolist())


def certificates(problem: Problem, where: Places) -> tuple[list[Certificate], bool]:
    """All certificates found by counting, and whether plain sums over all hosts suffice."""
    found: list[Certificate] = [_nowhere(problem, shape) for shape in where.nowhere]
    every = np.ones(len(problem.shapes), dtype=bool)
    rest = every.copy()
    rest[where.nowhere] = False
    all_groups = np.ones(len(problem.groups), dtype=bool)
    sums = list(_sums(problem, rest, all_groups, "sum"))
    # A demand that is far above every host is cut down in whole numbers, not as it was written.
    asked, have = problem.count @ problem.real_demand, problem.real_supply.sum(axis=0)
    fit = (
        not sums
        and not any(_sums(problem, every, all_groups, "sum"))
        and bool((asked <= have * (1 + float(TOLERANCE))).all())
    )
    found += sums
    found += fragmented(problem, rest, all_groups)
    for shapes, groups in _sets(problem, where, rest):
        found += _sums(problem, shapes, groups, "types")
        found += fragmented(problem, shapes, groups)
    found += _spread(problem, where)
    drawn = list(_drawn(problem, where))
    return found + drawn, fit and not drawn


def _sets(problem: Problem, where: Places, shapes: Bools) -> Iterator[tuple[Bools, Bools]]:
    """Sets of hosts that some shape is limited to, each with all shapes limited to it."""
    if where.eligible is not None:
        table = where.eligible
    elif len(problem.rules) <= MOST_SETS:
        table = problem.rules[problem.rule_of]
    else:
        return
    rows, of, times = np.unique(table[shapes], axis=0, return_inverse=True, return_counts=True)
    sums = rows.sum(axis=1)
    inside = np.flatnonzero(shapes)
    kinds = of.reshape(-1)
    for row in np.lexsort((sums, -times))[:MOST_SETS].tolist():
        if sums[row] < len(problem.groups):
            # Sets that lie within this one.
            within = ~(rows & ~rows[row]).any(axis=1)
            chosen = np.zeros(len(problem.shapes), dtype=bool)
            chosen[inside[within[kinds]]] = True
            yield chosen, rows[row]


def _nowhere(problem: Problem, shape: int) -> Certificate:
    instance, workload = problem.instance, problem.shapes[shape]
    names = names_of(problem, [shape])
    one = np.array([shape])
    groups = np.flatnonzero(problem.rules[problem.rule_of[shape]]).tolist()
    firsts = [problem.groups[group].hosts[0] for group in groups]
    count = sum(len(problem.groups[group].hosts) for group in groups)
    cause, resource, unit, demand, supply = "nowhere", "all together", "replicas", 1.0, 0.0
    allowed = f"{count:,} {plural(count, 'host')} {'is' if count == 1 else 'are'} allowed"
    steps = [f"{listed(names)}: {allowed} by tags and names"]
    lacking = [
        at
        for at in range(len(instance.resources))
        if firsts and problem.demand[shape, at] > problem.supply[firsts, at].max()
    ]
    fitting = [
        group for group in groups if problem.device_room(one, problem.groups[group].kinds)[0] > 0
    ]
    if not firsts:
        cause, resource, unit = "types", "hosts", "hosts"
        asked = sorted(workload.tags) + (
            [] if workload.hosts is None else [f"one of {listed(sorted(workload.hosts))}"]
        )
        steps.append(f"asked for: {', '.join(asked) or 'any host'}")
    elif lacking:
        at = lacking[0]
        resource, unit, demand = instance.resources[at], instance.units[at], workload.demand[at]
        supply = float(problem.real_supply[firsts, at].max())
        steps.append(
            f"one replica needs {number(demand)} {unit} of {resource}; the host with most of it"
            f" has {number(supply)} {unit}: {number(demand - supply)} {unit} short"
        )
    elif not fitting:
        resource, unit = "gpu", "GPUs"
        cause = "types" if workload.gpu.models else "nowhere"
        demand = float(workload.gpu.count or 1)
        usable = np.append(problem.usable[shape], False)
        supply = float(usable[problem.device_kind[firsts]].sum(axis=1).max(initial=0))
        steps.append(
            f"one replica needs {gpu_text(workload)};"
            f" the most suitable devices of one host are {number(supply)}"
        )
    else:
        steps.append("each host lacks something, though none lacks the same:")
        for group in groups[:10]:
            first = problem.groups[group].hosts[0]
            lacks = [
                f"{number(workload.demand[at])} {instance.units[at]} of {resource_} asked,"
                f" {number(instance.hosts[first].supply[at])} there"
                for at, resource_ in enumerate(instance.resources)
                if problem.demand[shape, at] > problem.supply[first, at]
            ] + ([] if group in fitting else [f"no {gpu_text(workload)}"])
            steps.append(f"{instance.hosts[first].name}: {'; '.join(lacks)}")
    return Certificate(
        cause, resource, unit, demand, supply, max(0.0, demand - supply),
        int(problem.count[shape]), names, tuple(steps),
    )  # fmt: skip


def _which(problem: Problem, hosts: list[int]) -> str:
    if len(hosts) == len(problem.instance.hosts):
        return "all hosts"
    names = [problem.instance.hosts[host].name for host in hosts]
    if len(names) == 1:
        return f"host {names[0]}"
    return f"the {len(hosts):,} hosts {listed(names, 3)}"


def _sums(problem: Problem, shapes: Bools, groups: Bools, cause: str) -> Iterator[Certificate]:
    """Where the shapes need more of a resource, or of devices, than the hosts have."""
    chosen, hosts = np.flatnonzero(shapes), hosts_of(problem, groups)
    counts = problem.count[chosen].tolist()
    what = _which(problem, hosts)
    for at, (resource, unit) in enumerate(zip(problem.instance.resources, problem.instance.units)):
        demands = problem.demand[chosen, at].tolist()
        demand = sum(one * count for one, count in zip(demands, counts))
        counted = problem.counted(hosts, at)
        supply = sum(problem.supply[counted, at].tolist())
        if demand <= supply:
            continue
        asked = float(problem.real_demand[chosen, at] @ problem.count[chosen])
        have = float(problem.real_supply[counted, at].sum())
        out = left_out(zip(demands, counts), demand - supply)
        needing = [shape for shape, one in zip(chosen.tolist(), demands) if one]
        yield Certificate(
            cause, resource, unit, asked, have, asked - have, out, names_of(problem, needing),
            (
                f"{sum(counts):,} {plural(sum(counts))} that may run on {what} ask for"
                f" {number(asked)} {unit} of {resource}",
                f"{what} together: {number(have)} {unit}, {number(asked - have)} {unit} short",
                *_counted_once(problem, hosts, at),
                f"at least {out} {plural(out)} must be left out, even if the largest are",
            ),
        )  # fmt: skip
    for pool in pools_of(problem, shapes, groups):
        demand_ = pool.needed_by_sum()
        if demand_ > pool.devices * (1 + Fraction(1, 10**9)):
            out = left_out(pool.sizes_and_counts(), demand_ - pool.devices)
            asked = float(demand_)
            yield Certificate(
                cause, pool.resource, pool.unit, asked, float(pool.devices),
                asked - pool.devices, out, names_of(problem, pool.shapes),
                (
                    f"{pool.replicas:,} {plural(pool.replicas)} ask for {number(asked)}"
                    f" {pool.unit}",
                    f"{what} together: {pool.devices} {pool.unit},"
                    f" {number(asked - pool.devices)} {pool.unit} short",
                    f"at least {out} {plural(out)} must be left out, even if the largest are",
                ),
            )  # fmt: skip


def _counted_once(problem: Problem, hosts: list[int], at: int) -> Iterator[str]:
    """The pools that a sum counts once, by name."""
    inside = set(hosts)
    for pool in problem.pools:
        members = [
            host
            for host, column in zip(pool.hosts.tolist(), pool.columns.tolist())
            if column == at and host in inside
        ]
        if len(members) > 1:
            names = listed([problem.instance.hosts[host].name for host in members], 3)
            yield f"{pool.name} is one storage, counted once for {names}"


def _drawn(problem: Problem, where: Places) -> Iterator[Certificate]:
    """Where more must be drawn from a pool than is in it, wherever each replica goes."""
    table = where.eligible if where.eligible is not None else problem.rules[problem.rule_of]
    for pool in problem.pools:
        column_of = dict(zip(pool.hosts.tolist(), pool.columns.tolist()))
        groups = [column_of.get(group.hosts[0]) for group in problem.groups]
        weights: list[tuple[int, int]] = []
        asked, shapes = 0.0, []
        for shape in range(len(problem.shapes)):
            if shape in where.nowhere:
                continue
            columns = {groups[group] for group in np.flatnonzero(table[shape]).tolist()}
            if None in columns or not columns:
                continue
            least = min((column for column in columns if column is not None),
                        key=lambda column: int(problem.demand[shape, column]))  # fmt: skip
            if problem.demand[shape, least]:
                count = int(problem.count[shape])
                weights.append((int(problem.demand[shape, least]), count))
                asked += float(problem.real_demand[shape, least]) * count
                shapes.append(shape)
        excess = sum(weight * count for weight, count in weights) - pool.supply
        if excess <= 0:
            continue
        out = left_out(weights, excess)
        yield Certificate(
            "sum", pool.name, pool.unit, asked, pool.real_supply, asked - pool.real_supply, out,
            names_of(problem, shapes),
            (
                f"{sum(count for _weight, count in weights)} replicas need {number(asked)}"
                f" {pool.unit} of {pool.name}, wherever they run",
                f"it is one storage, however many hosts reach it, and has"
                f" {number(pool.real_supply)}: {number(asked - pool.real_supply)} short",
                f"at least {out} {plural(out)} must be left out, even if the largest are",
            ),
        )  # fmt: skip


def _spread(problem: Problem, where: Places) -> Iterator[Certificate]:
    """Where more replicas must be kept apart than there are hosts for them."""
    table = where.eligible if where.eligible is not None else problem.rules[problem.rule_of]
    streams: dict[int, list[int]] = defaultdict(list)
    for number_, stream in enumerate(problem.streams):
        if stream.spread >= 0:
            streams[stream.spread].append(number_)
    for spread, numbers in streams.items():
        shapes = [problem.streams[n].shape for n in numbers]
        for limit in [None, *range(len(shapes))] if len(shapes) > 1 else [None]:
            groups = table[shapes].any(axis=0) if limit is None else table[shapes[limit]]
            inside = [n for n, s in zip(numbers, shapes) if not (table[s] & ~groups).any()]
            asked = sum(
                problem.streams[n].count
                for n in inside
                if problem.streams[n].shape not in where.nowhere
            )
            hosts = int(problem.sizes[groups].sum())
            if asked > hosts:
                members = [name for n in inside for name, _count in problem.streams[n].members]
                yield Certificate(
                    "spread", "hosts", "hosts", float(asked), float(hosts), float(asked - hosts),
                    asked - hosts, tuple(members),
                    (
                        f"{asked} replicas of {problem.spreads[spread]} must be kept apart;"
                        f" only {hosts} hosts are allowed and large enough:"
                        f" {asked - hosts} too few",
                    ),
                )  # fmt: skip
                break

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The question with equal hosts and equal workloads taken together, in whole numbers.

A *shape* is what all replicas that need the same have in common, a *stream* the replicas of one
shape that must be kept apart from the same others (or from none), and a *group* the hosts that are
equal in supply, devices and in the tags and names that any workload asks for.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from .arrays import Bools, Floats, Ints, np
from .mig import geometry
from .model import Device, GpuNeed, Instance, Workload
from .whole_numbers import read, whole_columns, whole_shares, with_tolerance

NEVER = 2**60  # larger than any device
ANY = 2**61  # the second figure of a device where it does not count


@dataclass
class Stream:
    """Replicas of one shape with one ``spread`` (its number, or -1)."""

    shape: int
    spread: int
    members: list[tuple[str, int]] = field(default_factory=list)
    count: int = 0


@dataclass
class Group:
    """Equal hosts: their places in ``Instance.hosts``, and the kinds of their devices."""

    hosts: list[int]
    kinds: tuple[int, ...]


@dataclass(frozen=True)
class Shared:
    """A pool in whole numbers, with its member hosts and the column of each."""

    name: str
    unit: str
    hosts: Ints
    columns: Ints
    supply: int
    real_supply: float


@dataclass
class Problem:
    """Tables by shape (rows) and by host or group.

    ``demand[s]`` and ``supply[h]`` are in the same whole numbers; ``real_demand`` and
    ``real_supply`` are as written. ``whole[s]`` is the number of whole devices. ``part[s, k]`` is
    the part of a device of kind k that the shape takes, of ``full[k]`` (for MIG: memory slices),
    and ``part2[s, k]`` the compute slices, of ``full2[k]``; NEVER where it may not use that kind.
    ``usable[s, k]`` says which kinds whole devices may be of. ``rules[rule_of[s], g]`` says whether
    tags and names allow the shape on the hosts of the group.
    """

    instance: Instance
    shapes: list[Workload]
    streams: list[Stream]
    streams_of: list[list[int]]
    groups: list[Group]
    group_of: Ints
    kinds: list[Device]
    demand: Ints
    supply: Ints
    real_demand: Floats
    real_supply: Floats
    count: Ints
    whole: Ints
    part: Ints
    part2: Ints
    usable: Bools
    full: Ints
    full2: Ints
    device_kind: Ints
    rule_of: Ints
    rules: Bools
    spreads: list[str]
    gpu: Bools
    pools: tuple[Shared, ...] = ()
    # For each host, the columns that are drawn from a pool, and the numbers of these pools.
    pooled: tuple[tuple[tuple[int, int], ...], ...] = ()

    def drawn(self, group: int) -> tuple[tuple[int, int], ...]:
        """Columns and pools of the hosts of a group."""
        return self.pooled[self.groups[group].hosts[0]]

    def counted(self, hosts: Iterable[int], column: int) -> list[int]:
        """The hosts whose supplies of a resource add up: of those that draw on one pool, one."""
        seen: set[int] = set()
        found = []
        for host in hosts:
            drawn = [pool for at, pool in self.pooled[host] if at == column] if self.pools else []
            if not seen.issuperset(drawn) or not drawn:
                found.append(host)
            seen.update(drawn)
        return found

    @cached_property
    def apart(self) -> Ints:
        """How many replicas of each shape one host may carry, spread alone considered."""
        return np.array(
            [
                sum(
                    1 if self.streams[number].spread >= 0 else self.streams[number].count
                    for number in numbers
                )
                for numbers in self.streams_of
            ],
            dtype=np.int64,
        )

    @property
    def sizes(self) -> Ints:
        """The number of hosts in each group."""
        return np.array([len(group.hosts) for group in self.groups], dtype=np.int64)

    def group_supply(self) -> Ints:
        """The supply of one host of each group."""
        return self.supply[[group.hosts[0] for group in self.groups]]

    def most(self, shapes: Ints, group: int) -> Ints:
        """How many replicas of each of the shapes, by itself, one empty host of the group takes."""
        fits = np.where(self.rules[self.rule_of[shapes], group], self.apart[shapes], 0)
        supply = self.supply[self.groups[group].hosts[0]]
        for column, have in enumerate(supply):
            demand = self.demand[shapes, column]
            room = np.where(demand > 0, have // np.maximum(demand, 1), NEVER)
            fits = np.minimum(fits, room)
        return np.minimum(fits, self.device_room(shapes, self.groups[group].kinds))

    def device_room(self, shapes: Ints, kinds: tuple[int, ...]) -> Ints:
        """How many replicas of each shape these devices take; many where none is needed."""
        whole = np.zeros(len(shapes), dtype=np.int64)
        parts = np.zeros(len(shapes), dtype=np.int64)
        for kind, times in Counter(kinds).items():
            whole += times * self.usable[shapes, kind]
            fits = self.full[kind] // np.maximum(self.part[shapes, kind], 1)
            fits2 = self.full2[kind] // np.maximum(self.part2[shapes, kind], 1)
            parts += times * np.minimum(fits, fits2)
        wanted = self.whole[shapes]
        room = np.where(wanted > 0, whole // np.maximum(wanted, 1), parts)
        return np.where(self.gpu[shapes], room, NEVER)


def check(instance: Instance) -> None:
    """Raise ValueError, in one sentence, where the question makes no sense."""
    width = len(instance.resources)
    if len(instance.units) != width:
        raise ValueError(f"{width} resources have {len(instance.units)} units")
    _check_rows(instance, width)
    _check_devices(instance)
    _check_pools(instance, width)
    for workload in instance.workloads:
        _check_workload(workload)


def _check_rows(instance: Instance, width: int) -> None:
    rows = [("host", host.name, host.supply) for host in instance.hosts]
    rows += [("workload", workload.name, workload.demand) for workload in instance.workloads]
    names: set[tuple[str, str]] = set()
    for kind, name, vector in rows:
        if (kind, name) in names:
            raise ValueError(f"{kind} {name} is there twice")
        names.add((kind, name))
        if len(vector) != width:
            raise ValueError(f"{kind} {name} has {len(vector)} figures, not {width}")
        if not all(0 <= figure < math.inf for figure in vector):
            raise ValueError(f"{kind} {name} has a figure that is no amount: {vector}")


def _check_pools(instance: Instance, width: int) -> None:
    supplies = {host.name: host.supply for host in instance.hosts}
    for pool in instance.pools:
        names = [name for name, _column in pool.columns]
        if len(set(names)) < len(names):
            raise ValueError(f"pool {pool.name} is drawn from twice by one host")
        if not all(0 <= column < width for _name, column in (*pool.columns, *pool.offers)):
            raise ValueError(f"pool {pool.name} has a column that is none of the resources")
        if any(supplies[n][c] != pool.supply for n, c in pool.columns if n in supplies):
            raise ValueError(f"pool {pool.name} has another supply than one of its hosts")


def _check_devices(instance: Instance) -> None:
    for host in instance.hosts:
        for device in host.devices:
            if not 0 <= device.memory_mib < math.inf:
                raise ValueError(f"host {host.name} has a device with {device.memory_mib} MiB")


def _check_workload(workload: Workload) -> None:
    need = workload.gpu
    if workload.replicas < 0:
        raise ValueError(f"workload {workload.name} has {workload.replicas} replicas")
    given = (need.count != 0, need.share != 0, need.memory_mib != 0, bool(need.profile))
    if sum(given) > 1:
        raise ValueError(f"workload {workload.name} asks for a GPU in more than one way")
    if need.count < 0 or not 0 <= need.share < 1 or not 0 <= need.memory_mib < math.inf:
        raise ValueError(f"workload {workload.name} asks for no sensible part of a GPU: {need}")


def _matrix(rows: list[tuple[float, ...]], width: int) -> Floats:
    return np.array(rows, dtype=np.float64).reshape(len(rows), width)


def group(instance: Instance, apart: frozenset[str] = frozenset()) -> Problem:
    """The question in tables; hosts named in ``apart`` make groups of their own.

    Raises ValueError where the question makes no sense.
    """
    check(instance)
    width = len(instance.resources)
    shapes, streams, spreads = _shapes(instance)
    kinds, group_list, group_of, device_kind = _groups(instance, apart)
    real_demand = _matrix([shape.demand for shape in shapes], width)
    real_supply = _matrix([host.supply for host in instance.hosts], width)
    supply, demand = _whole(instance, real_supply, real_demand)
    pools, pooled = _pools(instance, supply)
    streams_of: list[list[int]] = [[] for _shape in shapes]
    for number, stream in enumerate(streams):
        streams_of[stream.shape].append(number)
    count = np.array(
        [sum(streams[number].count for number in numbers) for numbers in streams_of],
        dtype=np.int64,
    )
    whole, part, part2, usable, full, full2 = _needs(shapes, kinds)
    rule_of, rules = _rules(instance, shapes, group_list)
    return Problem(
        instance, shapes, streams, streams_of, group_list, group_of, kinds, demand, supply,
        real_demand, real_supply, count, whole, part, part2, usable, full, full2, device_kind,
        rule_of, rules, spreads, np.array([shape.gpu.wanted for shape in shapes], dtype=bool),
        pools, pooled,
    )  # fmt: skip


def _whole(instance: Instance, supplies: Floats, demands: Floats) -> tuple[Ints, Ints]:
    """Both tables in whole numbers; columns of one pool are counted in the same unit."""
    have, want = whole_columns(supplies, demands)
    alike: list[set[int]] = []
    for pool in instance.pools:
        columns = {column for _name, column in pool.columns}
        near = [other for other in alike if other & columns]
        alike = [other for other in alike if not other & columns] + [columns.union(*near)]
    for some in alike:
        at = sorted(some)
        one, other = whole_columns(supplies[:, at].reshape(-1, 1), demands[:, at].reshape(-1, 1))
        have[:, at], want[:, at] = one.reshape(-1, len(at)), other.reshape(-1, len(at))
    return have, want


def _pools(
    instance: Instance, supply: Ints
) -> tuple[tuple[Shared, ...], tuple[tuple[tuple[int, int], ...], ...]]:
    at = {host.name: index for index, host in enumerate(instance.hosts)}
    pooled: list[list[tuple[int, int]]] = [[] for _host in instance.hosts]
    pools: list[Shared] = []
    for pool in instance.pools:
        members = [(at[name], column) for name, column in pool.columns if name in at]
        if not members:
            continue
        hosts, columns = (np.array(row, dtype=np.int64) for row in zip(*members))
        least = int(supply[hosts, columns].min())
        for host, column in members:
            pooled[host].append((column, len(pools)))
        pools.append(Shared(pool.name, pool.unit, hosts, columns, least, pool.supply))
    return tuple(pools), tuple(tuple(row) for row in pooled)


def _shapes(instance: Instance) -> tuple[list[Workload], list[Stream], list[str]]:
    shape_of: dict[object, int] = {}
    stream_of: dict[tuple[int, str], int] = {}
    spread_of: dict[str, int] = {}
    shapes: list[Workload] = []
    streams: list[Stream] = []
    for workload in instance.workloads:
        if not workload.replicas:
            continue
        key = (
            workload.demand, workload.gpu, workload.tags, workload.hosts, workload.priority
        )  # fmt: skip
        shape = shape_of.setdefault(key, len(shapes))
        if shape == len(shapes):
            shapes.append(workload)
        number = stream_of.setdefault((shape, workload.spread), len(streams))
        if number == len(streams):
            spread = -1
            if workload.spread:
                spread = spread_of.setdefault(workload.spread, len(spread_of))
            streams.append(Stream(shape, spread))
        streams[number].members.append((workload.name, workload.replicas))
        streams[number].count += workload.replicas
    return shapes, streams, list(spread_of)


def _groups(
    instance: Instance, apart: frozenset[str]
) -> tuple[list[Device], list[Group], Ints, Ints]:
    tags = frozenset().union(*(workload.tags for workload in instance.workloads))
    at = {host.name: index for index, host in enumerate(instance.hosts)}
    named: dict[int, list[int]] = defaultdict(list)
    chosen = {workload.hosts for workload in instance.workloads if workload.hosts is not None}
    for number, names in enumerate(sorted(chosen, key=sorted)):
        for name in names:
            if name in at:
                named[at[name]].append(number)
    kind_of: dict[Device, int] = {}
    found: dict[object, int] = {}
    drawn: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for number, pool in enumerate(instance.pools):
        for name, column in pool.columns:
            drawn[name].append((number, column))
    groups: list[Group] = []
    group_of = np.zeros(len(instance.hosts), dtype=np.int64)
    widest = max((len(host.devices) for host in instance.hosts), default=0)
    device_kind = np.full((len(instance.hosts), widest), -1, dtype=np.int64)
    for index, host in enumerate(instance.hosts):
        kinds = tuple(kind_of.setdefault(device, len(kind_of)) for device in host.devices)
        device_kind[index, : len(kinds)] = kinds
        key = (
            host.supply,
            kinds,
            host.tags & tags,
            tuple(named[index]),
            host.name in apart and host.name,
            tuple(drawn.get(host.name, ())),
        )
        number = found.setdefault(key, len(groups))
        if number == len(groups):
            groups.append(Group([], kinds))
        groups[number].hosts.append(index)
        group_of[index] = number
    return list(kind_of), groups, group_of, device_kind


def _needs(
    shapes: list[Workload], kinds: list[Device]
) -> tuple[Ints, Ints, Ints, Bools, Ints, Ints]:
    table = (len(shapes), len(kinds))
    whole = np.array([shape.gpu.count for shape in shapes], dtype=np.int64)
    usable = np.zeros(table, dtype=bool)
    part = np.full(table, NEVER, dtype=np.int64)
    part2 = np.zeros(table, dtype=np.int64)
    full = np.ones(len(kinds), dtype=np.int64)
    full2 = np.full(len(kinds), ANY, dtype=np.int64)
    wanting = [(number, shape.gpu) for number, shape in enumerate(shapes) if shape.gpu.wanted]
    for kind, device in enumerate(kinds):
        may = [(n, need) for n, need in wanting if not need.models or device.model in need.models]
        if device.mig:
            if device.mig not in geometry.known():
                continue
            card = geometry.card(device.mig)
            full[kind], full2[kind] = card.memory_slices, card.slices
            for number, need in may:
                profile = card.profiles.get(need.profile)
                if profile:
                    part[number, kind] = profile.memory_slices
                    part2[number, kind] = profile.slices
            continue
        shares: list[tuple[int, Fraction]] = []
        for number, need in may:
            usable[number, kind] = need.count > 0
            share = _share(need, device)
            if share is not None:
                shares.append((number, share))
        sizes, unit = whole_shares([share for _number, share in shares])
        full[kind] = with_tolerance(unit)
        for (number, _exact), size in zip(shares, sizes):
            part[number, kind] = size
    return whole, part, part2, usable, full, full2


def _share(need: GpuNeed, device: Device) -> Fraction | None:
    if need.share:
        return read(need.share)
    if need.memory_mib and device.memory_mib > 0:
        share = read(need.memory_mib) / read(device.memory_mib)
        return share if share <= 1 + Fraction(1, 10**9) else None
    return None


def _rules(instance: Instance, shapes: list[Workload], groups: list[Group]) -> tuple[Ints, Bools]:
    hosts = [instance.hosts[group.hosts[0]] for group in groups]
    found: dict[object, int] = {}
    rows: list[list[bool]] = []
    rule_of = np.zeros(len(shapes), dtype=np.int64)
    for number, shape in enumerate(shapes):
        rule = found.setdefault((shape.tags, shape.hosts), len(rows))
        if rule == len(rows):
            rows.append(
                [
                    shape.tags <= host.tags and (shape.hosts is None or host.name in shape.hosts)
                    for host in hosts
                ]
            )
        rule_of[number] = rule
    return rule_of, np.array(rows, dtype=bool).reshape(len(rows), len(groups))

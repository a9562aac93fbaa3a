# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is placed where, and what is free: the state that all searches change."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from ..arrays import Bools, Floats, Ints, np
from ..grouped import ANY, NEVER, Problem
from ..mig import geometry
from ..model import Assignment

Item = tuple[int, tuple[int, ...]]  # a stream, and the devices of one of its replicas


class Packing:
    """``free[h]`` is what is free on a host, ``dev[h, d]`` and ``dev2[h, d]`` on its devices."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        kinds = problem.device_kind
        # Column -1 of these tables stands for a device that is not there.
        shapes = len(problem.shapes)
        self.part = np.hstack([problem.part, np.full((shapes, 1), NEVER, dtype=np.int64)])
        self.part2 = np.hstack([problem.part2, np.zeros((shapes, 1), dtype=np.int64)])
        self.usable = np.hstack([problem.usable, np.zeros((shapes, 1), dtype=bool)])
        self.full = np.append(problem.full, -1)[kinds]
        self.dev = self.full.copy()
        self.dev2 = np.append(problem.full2, ANY)[kinds]
        # Who manages each device that is in use; looked at only where there is more than one owner.
        owners = sorted({shape.gpu.owner for shape in problem.shapes if shape.gpu.wanted})
        self.several_owners = len(owners) > 1
        self.owner_of = [
            owners.index(shape.gpu.owner) if shape.gpu.wanted else -1 for shape in problem.shapes
        ]
        self.owner = np.full_like(self.dev, -1)
        self.free = problem.supply.copy()
        self.items: list[list[Item]] = [[] for _host in problem.instance.hosts]
        self.left = [stream.count for stream in problem.streams]
        self.todo = problem.count.copy()
        self.kept_apart: defaultdict[int, Bools] = defaultdict(
            lambda: np.zeros(len(problem.instance.hosts), dtype=bool)
        )
        # MIG instances that stay where they are: only those of a placement that was read.
        self.pinned: dict[tuple[int, int], tuple[tuple[str, int], ...]] = {}
        self.named: dict[int, list[tuple[int, str]]] = {}
        self.mixed_streams = [
            len(numbers) > 1 or problem.streams[numbers[0]].spread >= 0
            for numbers in problem.streams_of
        ]

    def copy(self) -> Packing:
        """An independent copy."""
        other = Packing.__new__(Packing)
        other.__dict__.update(self.__dict__)
        other.dev, other.dev2, other.free = self.dev.copy(), self.dev2.copy(), self.free.copy()
        other.owner = self.owner.copy()
        other.items = [list(row) for row in self.items]
        other.left, other.todo = list(self.left), self.todo.copy()
        other.kept_apart = defaultdict(lambda: np.zeros(len(self.items), dtype=bool))
        other.kept_apart.update({key: row.copy() for key, row in self.kept_apart.items()})
        return other

    def allowed(self, shape: int) -> Bools:
        """The hosts on which tags and names allow the shape."""
        problem = self.problem
        found: Bools = problem.rules[problem.rule_of[shape]][problem.group_of]
        return found

    def room(self, shape: int, hosts: Ints) -> Ints:
        """How many replicas of the shape would fit on each of the hosts, tags and spread aside."""
        problem = self.problem
        room = np.full(len(hosts), problem.count[shape], dtype=np.int64)
        for column, demand in enumerate(problem.demand[shape].tolist()):
            if demand:
                room = np.minimum(room, self.free[hosts, column] // demand)
        if problem.gpu[shape]:
            kinds, dev = problem.device_kind[hosts], self.dev[hosts]
            wanted = int(problem.whole[shape])
            if wanted:
                idle = self.usable[shape][kinds] & (dev == self.full[hosts])
                room = np.minimum(room, idle.sum(axis=1) // wanted)
            else:
                fits = dev // self.part[shape][kinds]
                if problem.part2[shape].any():
                    slices = np.maximum(self.part2[shape][kinds], 1)
                    fits = np.minimum(fits, self.dev2[hosts] // slices)
                if self.several_owners:
                    fits = np.where(self.of_others(shape)[hosts], 0, fits)
                room = np.minimum(room, np.maximum(fits, 0).sum(axis=1))
        return np.maximum(room, 0)

    def devices_for(self, shape: int, host: int) -> tuple[int, ...] | None:
        """The devices that a replica would get: the fullest that suffices. None if none does."""
        problem = self.problem
        if not problem.gpu[shape]:
            return ()
        kinds, dev = problem.device_kind[host], self.dev[host]
        wanted = int(problem.whole[shape])
        if wanted:
            idle = np.flatnonzero(self.usable[shape][kinds] & (dev == self.full[host]))
            return tuple(idle[:wanted].tolist()) if len(idle) >= wanted else None
        part = self.part[shape][kinds]
        fits = (dev >= part) & (self.dev2[host] >= self.part2[shape][kinds])
        if self.several_owners:
            fits &= ~self.of_others(shape)[host]
        rest = np.where(fits, dev / np.maximum(self.full[host], 1), np.inf)
        for device in np.argsort(rest, kind="stable").tolist():
            if not fits[device]:
                return None
            if self.layout_allows(shape, host, device):
                return (device,)
        return None

    def of_others(self, shape: int) -> Bools:
        """Which devices are in use by another owner than the shape's, by host and device."""
        found: Bools = (self.owner >= 0) & (self.owner != self.owner_of[shape])
        return found

    def layout_allows(self, shape: int, host: int, device: int) -> bool:
        """Whether MIG's geometry lets the instance in beside those on the device."""
        profile = self.problem.shapes[shape].gpu.profile
        if not profile:
            return True
        counts = Counter(
            self.problem.shapes[self.problem.streams[stream].shape].gpu.profile
            for stream, devices in self.items[host]
            if device in devices
        )
        counts[profile] += 1
        card = self.problem.kinds[self.problem.device_kind[host, device]].mig
        pinned = self.pinned.get((host, device), ())
        counts.subtract(name for name, _start in pinned)
        return geometry.place(card, counts, pinned) is not None

    def stream_for(self, shape: int, host: int) -> int | None:
        """A stream of the shape that still has replicas and may use the host: the longest."""
        best, most = None, 0
        for number in self.problem.streams_of[shape]:
            spread = self.problem.streams[number].spread
            left = self.left[number]
            if left and (spread < 0 or not self.kept_apart[spread][host]):
                # Those to be kept apart come first: they are the harder ones.
                rank = left + (10**9 if spread >= 0 else 0)
                if rank > most:
                    best, most = number, rank
        return best

    def fits(self, shape: int, host: int) -> bool:
        """Whether resources and tags (not devices, not spread) let one replica in."""
        problem = self.problem
        return bool(
            problem.rules[problem.rule_of[shape], problem.group_of[host]]
            and (self.free[host] >= problem.demand[shape]).all()
        )

    def put(self, shape: int, host: int, stream: int | None = None) -> bool:
        """Place one replica of the shape (of that stream, if given) if it fits; say if it did."""
        if not self.fits(shape, host):
            return False
        if stream is None:
            stream = self.stream_for(shape, host)
            if stream is None:
                return False
        else:
            spread = self.problem.streams[stream].spread
            if spread >= 0 and self.kept_apart[spread][host]:
                return False
        devices = self.devices_for(shape, host)
        if devices is None:
            return False
        self.add(stream, host, devices)
        return True

    def put_plain(self, shape: int, host: int, times: int) -> None:
        """Place many replicas of a shape with one stream, no GPU and no spread; they must fit."""
        stream = self.problem.streams_of[shape][0]
        self._draw(host, self.problem.demand[shape] * times)
        self.items[host].extend([(stream, ())] * times)
        self.left[stream] -= times
        self.todo[shape] -= times

    def add(self, stream: int, host: int, devices: tuple[int, ...]) -> None:
        """Place a replica of the stream on these devices, which must be free."""
        self._change(stream, host, devices, 1)
        self.items[host].append((stream, devices))

    def take(self, host: int, item: Item) -> None:
        """Take a replica away again."""
        self.items[host].remove(item)
        self._change(item[0], host, item[1], -1)

    def clear(self, host: int) -> list[Item]:
        """Take everything away from the host."""
        items = self.items[host]
        self.items[host] = []
        for stream, devices in items:
            self._change(stream, host, devices, -1)
        return items

    def restore(self, host: int, items: Iterable[Item]) -> None:
        """Put back what `clear` took away."""
        for stream, devices in items:
            self.add(stream, host, devices)

    def _change(self, stream: int, host: int, devices: tuple[int, ...], sign: int) -> None:
        problem = self.problem
        one = problem.streams[stream]
        shape = one.shape
        self._draw(host, sign * problem.demand[shape])
        for device in devices:
            if problem.whole[shape]:
                self.dev[host, device] = 0 if sign > 0 else self.full[host, device]
            else:
                kind = problem.device_kind[host, device]
                self.dev[host, device] -= sign * problem.part[shape, kind]
                self.dev2[host, device] -= sign * problem.part2[shape, kind]
            idle = self.dev[host, device] == self.full[host, device]
            self.owner[host, device] = -1 if idle else self.owner_of[shape]
        self.left[stream] -= sign
        self.todo[shape] -= sign
        if one.spread >= 0:
            self.kept_apart[one.spread][host] = sign > 0

    def _draw(self, host: int, amounts: Ints) -> None:
        """Take amounts from a host; what is drawn from a pool is gone for all its members."""
        self.free[host] -= amounts
        for column, number in self.problem.pooled[host] if self.problem.pools else ():
            amount = int(amounts[column])
            if amount:
                pool = self.problem.pools[number]
                self.free[pool.hosts, pool.columns] -= amount
                self.free[host, column] += amount

    def read(self, placement: Iterable[Assignment], pin: bool = True) -> None:
        """Take over a placement; it must be sound, as `verify` says."""
        problem = self.problem
        hosts = {host.name: index for index, host in enumerate(problem.instance.hosts)}
        stream_of = {
            name: number
            for number, stream in enumerate(problem.streams)
            for name, _count in stream.members
        }
        for one in placement:
            stream, host = stream_of[one.workload], hosts[one.host]
            self.add(stream, host, tuple(one.devices))
            self.named.setdefault(host, []).append((stream, one.workload))
            if pin and one.slice >= 0:
                profile = problem.shapes[problem.streams[stream].shape].gpu.profile
                key = (host, one.devices[0])
                self.pinned[key] = (*self.pinned.get(key, ()), (profile, one.slice))

    def names_on(self, host: int) -> dict[int, list[str]]:
        """The workloads that a placement that was read had on the host, by stream."""
        found: dict[int, list[str]] = defaultdict(list)
        for stream, name in self.named.get(host, ()):
            found[stream].append(name)
        return found

    def worth(self, values: Floats) -> float:
        """The value of all that is placed, given the value of a replica of each shape."""
        return float(values @ (self.problem.count - self.todo))

    def unplaced(self) -> int:
        """The number of replicas not placed."""
        return int(self.todo.sum())

    def placement(self) -> tuple[tuple[Assignment, ...], dict[str, int]]:
        """The assignments, and how many replicas of each workload are left out."""
        problem = self.problem
        names = [
            ((name, replica) for name, count in stream.members for replica in range(count))
            for stream in problem.streams
        ]
        found: list[Assignment] = []
        for host, items in enumerate(self.items):
            name = problem.instance.hosts[host].name
            starts = self._starts(host)
            for stream, devices in items:
                workload, replica = next(names[stream])
                profile = problem.shapes[problem.streams[stream].shape].gpu.profile
                start = starts[devices[0], profile].pop() if profile else -1
                found.append(Assignment(workload, replica, name, devices, start))
        missing: Counter[str] = Counter()
        for rest in names:
            missing.update(name for name, _replica in rest)
        return tuple(found), dict(missing)

    def _starts(self, host: int) -> dict[tuple[int, str], list[int]]:
        problem = self.problem
        counts: dict[int, Counter[str]] = defaultdict(Counter)
        for stream, devices in self.items[host]:
            profile = problem.shapes[problem.streams[stream].shape].gpu.profile
            if profile:
                counts[devices[0]][profile] += 1
        found: dict[tuple[int, str], list[int]] = defaultdict(list)
        for device, wanted in counts.items():
            card = problem.kinds[problem.device_kind[host, device]].mig
            for name, start in geometry.place(card, wanted) or ():
                found[device, name].append(start)
        return found

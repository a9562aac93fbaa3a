# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""First placements: shapes in several orders, each replica where it leaves least behind."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..arrays import Bools, Floats, Ints, np
from ..grouped import NEVER, Problem
from ..model import Budget
from .state import Packing

LARGE = 20_000_000  # shapes x hosts above which not all hosts are looked at for each replica
OPEN = 24  # hosts that are looked at then
WINDOW = 128  # the same for replicas that need devices


def sizes(problem: Problem) -> Floats:
    """What one replica of each shape takes, as parts of all there is: resources, then GPUs."""
    total = problem.supply.sum(axis=0, dtype=np.float64)
    table = problem.demand / np.where(total > 0, total, 1.0)
    devices = max(1, int((problem.device_kind >= 0).sum()))
    return np.column_stack([table, gpu_sizes(problem) / devices])


def gpu_sizes(problem: Problem) -> Floats:
    """How many GPUs one replica of each shape takes; the least of all kinds that it may use."""
    if not problem.kinds:
        return problem.whole.astype(np.float64)
    compute = np.where(problem.part2 > 0, problem.part2 / problem.full2, 0.0)
    share = np.maximum(problem.part / problem.full, compute)
    least = share.min(axis=1)
    return np.where(problem.whole > 0, problem.whole, np.where(least <= 1.0, least, 0.0))


def orders(problem: Problem) -> list[Ints]:
    """Orders in which shapes are placed: higher priority first, then the harder ones."""
    table = sizes(problem)
    weight = (table * problem.count[:, None]).sum(axis=0)
    priority = -np.array([shape.priority for shape in problem.shapes], dtype=np.float64)
    hosts = problem.sizes
    narrow = (problem.rules @ hosts)[problem.rule_of] if len(hosts) else np.zeros(len(table))
    narrow = np.where(narrow < 0.5 * hosts.sum(), 0, 1)
    gpu = gpu_sizes(problem)
    largest = table.max(axis=1)
    weighted = table @ weight
    found = [
        np.lexsort((-weighted, -gpu, narrow, priority)),
        np.lexsort((-weighted, narrow, priority)),
        np.lexsort((-largest, narrow, priority)),
    ]
    return [order.astype(np.int64) for order in found]


@dataclass(eq=False)
class _Open:
    """A host that is being filled: what is free, and how much that counts."""

    host: int
    group: int
    free: list[int]
    score: float


def _fullest(opened: list[_Open], demand: list[int], groups: Bools | None) -> _Open | None:
    """The open host with least free that has room; ``groups`` says which may be used, if not all.

    Plain loops: it is asked for every replica, about lists of a few numbers.
    """
    best, least = None, math.inf
    for one in opened:
        if one.score < least and (groups is None or groups[one.group]):
            for have, want in zip(one.free, demand):
                if have < want:
                    break
            else:
                best, least = one, one.score
    return best


class BestFit:
    """Places shapes on the hosts on which least stays free, weighted by what is scarce."""

    def __init__(self, packing: Packing, budget: Budget) -> None:
        problem = packing.problem
        self.packing, self.budget = packing, budget
        total = problem.supply.sum(axis=0, dtype=np.float64)
        asked = (problem.demand * problem.count[:, None]).sum(axis=0, dtype=np.float64)
        top = problem.supply.max(axis=0, initial=1).astype(np.float64)
        self.weight = np.where(total > 0, asked / np.maximum(total, 1.0), 0.0) / np.maximum(top, 1)
        devices = (problem.device_kind >= 0).sum()
        wanted = float(gpu_sizes(problem) @ problem.count)
        widest = problem.device_kind.shape[1]
        self.gpu_weight = wanted / devices / widest if devices and wanted else 0.0
        scale = np.append(problem.full, 1).astype(np.float64)
        self.scale = 1.0 / scale[problem.device_kind]
        self.hosts_of: dict[tuple[int, bytes], Ints] = {}

    def score(self, hosts: Ints) -> Floats:
        """What is free on the hosts, weighted; the lower, the better to fill up."""
        found: Floats = self.packing.free[hosts] @ self.weight
        if self.gpu_weight:
            free = np.maximum(self.packing.dev[hosts], 0) * self.scale[hosts]
            found = found + self.gpu_weight * free.sum(axis=1)
        return found

    def hosts(self, shape: int) -> Ints:
        """The hosts that tags and names allow, and that have a device of a kind it may use."""
        problem = self.packing.problem
        kinds = problem.usable[shape] | (problem.part[shape] < NEVER)
        key = (int(problem.rule_of[shape]), kinds.tobytes() if problem.gpu[shape] else b"")
        if key not in self.hosts_of:
            able = self.packing.allowed(shape)
            if problem.gpu[shape]:
                there = np.append(kinds, False)[problem.device_kind]
                able = able & there.any(axis=1)
            self.hosts_of[key] = np.flatnonzero(able)
        return self.hosts_of[key]

    def place(self, shape: int, hosts: Ints, score: Callable[[Ints], Floats]) -> None:
        """Place as many replicas of the shape as these hosts take."""
        packing, problem = self.packing, self.packing.problem
        room = packing.room(shape, hosts)
        able = np.flatnonzero(room)
        if not len(able):
            return
        hosts, room = hosts[able], room[able]
        order = np.argsort(score(hosts), kind="stable")
        hosts, room = hosts[order], room[order]
        if packing.mixed_streams[shape]:
            self._place_apart(shape, hosts, room)
            return
        todo = int(packing.todo[shape])
        plain = not problem.gpu[shape]
        for host, fits in zip(hosts.tolist(), room.tolist()):
            times = min(fits, todo)
            if problem.pools:  # what was placed on another host may have taken the room
                times = min(times, int(packing.room(shape, np.array([host]))[0]))
            if plain:
                packing.put_plain(shape, host, times)
                todo -= times
            else:
                for _each in range(times):
                    if not packing.put(shape, host):
                        break
                    todo -= 1
            if not todo:
                return

    def _place_apart(self, shape: int, hosts: Ints, room: Ints) -> None:
        packing = self.packing
        while packing.todo[shape]:
            before = int(packing.todo[shape])
            for at, host in enumerate(hosts.tolist()):
                if room[at] > 0:
                    while room[at] > 0 and packing.put(shape, host):
                        room[at] -= 1
                    if not packing.todo[shape]:
                        return
            if int(packing.todo[shape]) == before:
                return

    def run(self, order: Ints) -> None:
        """Place all shapes in this order, as far as they fit and time allows."""
        problem, packing = self.packing.problem, self.packing
        large = len(problem.shapes) * len(problem.instance.hosts) > LARGE
        if large and not problem.pools:
            plain = [not problem.gpu[shape] and not packing.mixed_streams[shape] for shape in order]
            self._each(order[np.logical_not(plain)], windows=True)
            self._few_at_a_time(order[plain])
        self._each(order)

    def _each(self, order: Ints, windows: bool = False) -> None:
        starts: dict[int, int] = {}
        for number, shape in enumerate(order.tolist()):
            hosts = self.hosts(shape)
            # The same few hosts are looked at until they take no more.
            start = starts.get(id(hosts), 0)
            while windows and self.packing.todo[shape] and start < len(hosts):
                self.place(shape, hosts[start : start + WINDOW], self.score)
                if self.packing.todo[shape]:
                    start += WINDOW // 2
                starts[id(hosts)] = start
            if self.packing.todo[shape]:
                self.place(shape, hosts, self.score)
            if number % 64 == 0 and not self.budget.left:
                return

    def _few_at_a_time(self, order: Ints) -> None:
        """Place shapes that need no devices, looking only at the few hosts that are open.

        In a random order large and small mix, so that hosts are well filled when they are closed.
        """
        packing, problem = self.packing, self.packing.problem
        mixed = np.random.default_rng(0).permutation(order)
        demands = problem.demand[mixed].tolist()
        allowed = problem.rules[problem.rule_of[mixed]]
        every = bool(allowed.all())
        weight = self.weight.tolist()
        # Hosts without devices first.
        devices = (problem.device_kind >= 0).sum(axis=1)
        waiting = np.argsort(devices, kind="stable")[::-1].tolist()
        opened: list[_Open] = []
        for number, shape in enumerate(mixed.tolist()):
            demand, left = demands[number], int(packing.todo[shape])
            if number % 256 == 0 and not self.budget.left:
                return
            while left:
                best = _fullest(opened, demand, None if every else allowed[number])
                if best is None:
                    if not waiting:
                        break
                    self._open(waiting.pop(), opened, weight)
                    continue
                free = best.free
                times = min([left, *(h // w for h, w in zip(free, demand) if w)])
                packing.put_plain(shape, best.host, times)
                left -= times
                for at, want in enumerate(demand):
                    free[at] -= want * times
                    best.score -= want * times * weight[at]

    def _open(self, host: int, opened: list[_Open], weight: list[float]) -> None:
        """Open one more host, and close the fullest where there are too many."""
        if len(opened) >= OPEN:
            opened.remove(min(opened, key=lambda one: one.score))
        free = self.packing.free[host].tolist()
        group = int(self.packing.problem.group_of[host])
        opened.append(_Open(host, group, free, sum(h * w for h, w in zip(free, weight))))

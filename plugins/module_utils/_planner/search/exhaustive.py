# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Try every placement of a few replicas, as long as that takes few steps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from ..arrays import Floats, np
from ..grouped import Problem
from ..model import Budget
from .best_fit import orders
from .state import Packing

REPLICAS = 40
STEPS = 20_000  # replicas put somewhere, at most


class Exact:
    """The best packing of a small problem. ``complete`` says whether every way was looked at."""

    def __init__(self, problem: Problem, values: Floats, best: Packing) -> None:
        self.problem, self.values, self.best = problem, values, best
        self.worth = best.worth(values)
        self.total = float(values @ problem.count)
        self.packing = Packing(problem)
        self.steps = 0
        self.complete = True
        order = orders(problem)[0].tolist()
        self.queue = [
            (shape, stream)
            for shape in order
            for stream in problem.streams_of[shape]
            for _each in range(problem.streams[stream].count)
        ]
        self.rest = np.append(
            np.cumsum([values[shape] for shape, _stream in self.queue][::-1])[::-1], 0.0
        )

    def run(self, budget: Budget) -> Packing:
        """Search, unless there are too many replicas; give the best packing known."""
        if len(self.queue) > REPLICAS:
            self.complete = False
        else:
            self._place(0, -1, 0.0, budget)
        return self.best

    def _place(self, at: int, last: int, worth: float, budget: Budget) -> None:
        if worth > self.worth + 1e-9:
            self.best, self.worth = self.packing.copy(), worth
        if at == len(self.queue) or worth + self.rest[at] <= self.worth + 1e-9:
            return
        shape, stream = self.queue[at]
        # Equal replicas go to hosts in one order only.
        same = at > 0 and self.queue[at - 1] == self.queue[at]
        packing, problem = self.packing, self.problem
        seen: set[int] = set()
        for host in range(max(last, 0) if same else 0, len(packing.items)):
            group = int(problem.group_of[host])
            if not packing.items[host]:
                if group in seen:
                    continue
                seen.add(group)
            spread = problem.streams[stream].spread
            if not packing.fits(shape, host) or (spread >= 0 and packing.kept_apart[spread][host]):
                continue
            for devices in self._devices(shape, host):
                self.steps += 1
                if self.steps > STEPS or (self.steps % 256 == 0 and not budget.left):
                    self.complete = False
                    return
                packing.add(stream, host, devices)
                self._place(at + 1, host, worth + float(self.values[shape]), budget)
                packing.take(host, (stream, devices))
                if not self.complete or self.worth >= self.total - 1e-9:
                    return
        # One left out means that all equal ones after it may be left out as well.
        self._place(self._after_equal(at), -1, worth, budget)

    def _after_equal(self, at: int) -> int:
        after = at + 1
        while after < len(self.queue) and self.queue[after] == self.queue[at]:
            after += 1
        return after

    def _devices(self, shape: int, host: int) -> Iterator[tuple[int, ...]]:
        """The choices of devices that differ in kind or in what is free."""
        packing, problem = self.packing, self.problem
        if not problem.gpu[shape]:
            yield ()
            return
        kinds = problem.device_kind[host]
        dev, full = packing.dev[host], packing.full[host]
        wanted = int(problem.whole[shape])
        seen: set[object] = set()
        if wanted:
            idle = np.flatnonzero(packing.usable[shape][kinds] & (dev == full)).tolist()
            for chosen in combinations(idle, wanted):
                key = tuple(sorted(int(kinds[device]) for device in chosen))
                if key not in seen:
                    seen.add(key)
                    yield chosen
            return
        part, part2 = packing.part[shape][kinds], packing.part2[shape][kinds]
        able = (dev >= part) & (packing.dev2[host] >= part2)
        if packing.several_owners:
            able &= ~packing.of_others(shape)[host]
        for device in np.flatnonzero(able).tolist():
            key = (int(kinds[device]), int(dev[device]), int(packing.dev2[host, device]))
            if problem.shapes[shape].gpu.profile or key not in seen:
                seen.add(key)
                if packing.layout_allows(shape, host, device):
                    yield (device,)

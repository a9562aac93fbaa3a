# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mend a placement: empty some hosts and fill them anew, keep what is no worse.

For many equal replicas the hosts are filled by `column_generation`, for few or all different ones
a replica left out is put in place of others that find a place elsewhere.
"""

from __future__ import annotations

from collections import Counter

from ..arrays import Floats, Ints, np
from ..model import Budget
from .best_fit import BestFit, orders
from .column_generation import Column, Master, dive, realise
from .state import Item, Packing

FEW, MANY = 12, 60  # hosts emptied at a time, at first and at most
ROUNDS = 2000


class Repair:
    """Changes the packing in place; ``values`` say what one replica of each shape is worth."""

    def __init__(
        self, packing: Packing, most: Ints, values: Floats, bound: float,
        random: np.random.Generator,
    ) -> None:  # fmt: skip
        self.packing, self.most, self.values = packing, most, values
        self.bound, self.random = bound, random
        self.order = orders(packing.problem)[0]

    def run(self, budget: Budget, rounds: int = ROUNDS) -> None:
        """Mend until all is placed, the bound is reached, or time or rounds are over."""
        problem, packing = self.packing.problem, self.packing
        idle, width = 0, FEW
        for _round in range(rounds):
            worth = packing.worth(self.values)
            waiting = np.flatnonzero((packing.todo > 0) & (self.most.max(axis=1) > 0))
            if worth >= self.bound - 1e-6 or not len(waiting) or not budget.left:
                return
            hosts = self._choose(waiting, width)
            better = self._again(hosts, worth, budget)
            idle = 0 if better else idle + 1
            if idle and idle % 6 == 0:
                width = min(width + 8, MANY * (1 + idle // 60), len(problem.instance.hosts))

    def _choose(self, waiting: Ints, width: int) -> list[int]:
        """Hosts for one of the replicas left out, half of them with room, half at random."""
        packing = self.packing
        shape = int(self.random.choice(waiting))
        able = np.flatnonzero(packing.allowed(shape))
        able = able[self.most[shape, packing.problem.group_of[able]] > 0]
        # Any host may give what others need, so that the few right ones have room.
        every = np.arange(len(packing.items))
        width = min(width, len(every))
        number = int(self.random.integers((width + 1) // 2, width + 1))
        top = np.maximum(packing.problem.supply, 1)
        free = (packing.free / top).mean(axis=1)
        if packing.dev.shape[1]:
            free = free + (np.maximum(packing.dev, 0) / np.maximum(packing.full, 1)).sum(axis=1)
        weight = free[able] + 0.02
        first = self.random.choice(
            able, min(number, len(able)), replace=False, p=weight / weight.sum()
        )
        second = self.random.choice(every, min(number // 2, len(every)), replace=False)
        return sorted({*first.tolist(), *second.tolist()})

    def _again(self, hosts: list[int], worth: float, budget: Budget) -> bool:
        packing, problem = self.packing, self.packing.problem
        old: dict[int, list[Item]] = {host: packing.clear(host) for host in hosts}
        base = packing.worth(self.values)
        master = Master(problem, self.most, self.values)
        for host, items in old.items():
            counts = Counter(problem.streams[stream].shape for stream, _devices in items)
            if counts:
                column: Column = (int(problem.group_of[host]), tuple(sorted(counts.items())))
                master.columns[column] = None
        sizes = np.bincount(problem.group_of[hosts], minlength=len(problem.groups))
        chosen, _prices = dive(
            master, packing.todo, sizes, budget, rounds=20, enough=0.3,
            worthwhile=worth - base + 1e-6 if self.random.random() < 0.8 else 0.0,
        )  # fmt: skip
        if chosen:
            realise(packing, chosen, master.filler.order, hosts)
            self._fill_up(hosts, budget)
        now = packing.worth(self.values)
        if now < worth - 1e-9:
            for host in hosts:
                packing.clear(host)
            for host, items in old.items():
                packing.restore(host, items)
        return now > worth + 1e-9

    def _fill_up(self, hosts: list[int], budget: Budget) -> None:
        packing = self.packing
        best_fit = BestFit(packing, budget)
        inside = np.array(hosts, dtype=np.int64)
        for shape in self.order[packing.todo[self.order] > 0].tolist():
            able = inside[packing.allowed(shape)[inside]]
            best_fit.place(shape, able, best_fit.score)

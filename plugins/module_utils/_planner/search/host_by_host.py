# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Place host by host: each is filled as fully and evenly as the replicas at hand allow."""

from __future__ import annotations

from ..arrays import Floats, Ints, np
from ..model import Budget
from .best_fit import gpu_sizes, sizes
from .fill_host import Bin, Filler, empty_bin, evenly
from .state import Packing

POOL = 300  # shapes looked at for one host
WIDTH = 16


class Binwise:
    """Fills the hosts of a packing one after the other.

    The hardest shape comes first, then what leaves the host's resources in the proportion in which
    the replicas still to be placed need them.
    """

    def __init__(self, packing: Packing, random: np.random.Generator, effort: float = 1.0) -> None:
        problem = packing.problem
        self.packing, self.random = packing, random
        self.filler = Filler(problem)
        self.bins = [empty_bin(problem, group) for group in range(len(problem.groups))]
        self.pool, self.width = max(20, int(POOL * effort)), max(4, int(WIDTH * effort))
        table = sizes(problem)
        scarce = (table * problem.count[:, None]).sum(axis=0)
        self.value = table @ scarce + 1e-9
        self.gpu = gpu_sizes(problem)

    def run(self, hosts: Ints, left: Ints, budget: Budget) -> None:
        """Fill these hosts in this order, with at most ``left`` replicas of each shape."""
        problem, packing = self.packing.problem, self.packing
        left = np.minimum(left, packing.todo)
        able: dict[int, Ints] = {}
        for number, host in enumerate(hosts.tolist()):
            group = int(problem.group_of[host])
            if group not in able:
                order = self.filler.order
                able[group] = order[problem.most(order, group) > 0]
            shapes = able[group]
            shapes = shapes[left[shapes] > 0]
            if number % 32 == 0:
                able[group] = shapes
                if not budget.left:
                    return
            if len(shapes):
                self._fill(host, shapes, left)

    def _fill(self, host: int, shapes: Ints, left: Ints) -> None:
        packing, problem = self.packing, self.packing.problem
        asked = self._asked(shapes, left)
        for seed in shapes[:4].tolist():
            if packing.put(seed, host):
                left[seed] -= 1
                break
        kinds = problem.device_kind[host]
        there = kinds >= 0
        kinds = kinds[there]
        bin_ = Bin(
            packing.free[host],
            packing.dev[host][there],
            packing.dev2[host][there],
            packing.full[host][there],
            kinds,
        )
        rest = shapes[
            (left[shapes] > 0) & (problem.demand[shapes] <= packing.free[host]).all(axis=1)
        ]
        if len(rest) > self.pool:
            rest = rest[np.sort(self.random.choice(len(rest), self.pool, replace=False))]
        if not len(rest):
            return
        found = self.filler.fill(
            bin_, rest, self.value[rest], np.zeros(len(rest)), left[rest], self.width,
            even=evenly(self.bins[int(problem.group_of[host])], asked),
        )  # fmt: skip
        for _worth, filling in found:
            for shape, times in filling:
                for _each in range(times):
                    if not packing.put(shape, host):
                        break
                    left[shape] -= 1

    def _asked(self, shapes: Ints, left: Ints) -> Floats:
        """What an average replica takes of each resource, and of devices."""
        problem = self.packing.problem
        times = left[shapes].astype(np.float64)
        total: Floats = np.append(times @ problem.demand[shapes], times @ self.gpu[shapes])
        return np.asarray(total / times.sum(), dtype=np.float64)

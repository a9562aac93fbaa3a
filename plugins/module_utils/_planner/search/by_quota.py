# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill hosts by quotas: how many replicas of each shape the linear program sends to each group.

With many shapes column generation needs long until its columns serve all of them. The linear
program of `relaxation` knows at once which group of hosts each shape suits; within a group each
host takes an even slice of what is sent there. After a part of the hosts the program is solved
again for the rest, so that what did not work out is sent elsewhere.
"""

from __future__ import annotations

from dataclasses import replace

from ..arrays import Floats, Ints, np
from ..bounds.relaxation import relax
from ..model import Budget
from .best_fit import gpu_sizes, sizes
from .column_generation import Column, Master, take
from .fill_host import evenly

SHARE = 0.25  # of the hosts of each group that are filled between two solutions of the program


class Quotas:
    """Chooses fillings for all hosts with the help of the program. ``width`` is the beam's."""

    def __init__(self, master: Master, width: int) -> None:
        problem = master.problem
        self.master, self.width = master, width
        table = sizes(problem)
        # A replica counts as much as it takes, weighted by how scarce that is.
        self.weight: Floats = table @ (table * problem.count[:, None]).sum(axis=0) + 1e-9
        self.gpu = gpu_sizes(problem)

    def run(self, budget: Budget) -> list[Column]:
        """Fillings, one entry for each host, as far as time allows."""
        master = self.master
        count, hosts = master.problem.count.copy(), master.problem.sizes.copy()
        chosen: list[Column] = []
        while hosts.any() and count.any() and budget.left:
            rest = replace(master.problem, count=count)
            relaxed = relax(rest, master.most, master.values, budget, hosts)
            if relaxed is None:
                break
            before = len(chosen)
            for group in np.flatnonzero(hosts).tolist():
                quota = np.ceil(relaxed.place[:, group] - 1e-6).astype(np.int64)
                number = int(np.ceil(hosts[group] * SHARE))
                found = self._fill(group, number, np.minimum(quota, count), budget)
                for _group, filling in found:
                    take(filling, 1, count)
                hosts[group] -= len(found)
                chosen += found
            if len(chosen) == before:
                break
        return chosen

    def _fill(self, group: int, number: int, quota: Ints, budget: Budget) -> list[Column]:
        """Fillings for so many hosts of the group out of its quota."""
        master = self.master
        bin_, order = master.bins[group], master.filler.order
        chosen: list[Column] = []
        slice_: tuple[Floats, Floats] | None = None
        while len(chosen) < number and budget.left:
            left = np.minimum(quota, master.most[:, group])
            shapes = order[left[order] > 0]
            if not len(shapes):
                break
            if slice_ is None:
                slice_ = evenly(bin_, self._asked(shapes, quota))
            found = master.filler.fill(
                bin_, shapes, self.weight[shapes], np.zeros(len(shapes)), left[shapes], self.width,
                even=slice_,
            )  # fmt: skip
            if not found:
                break
            filling = found[0][1]
            chosen += [(group, filling)] * take(filling, number - len(chosen), quota)
        return chosen

    def _asked(self, shapes: Ints, quota: Ints) -> Floats:
        """What an average replica of the quota takes of each resource, and of devices."""
        times = quota[shapes].astype(np.float64)
        demand = self.master.problem.demand[shapes]
        total: Floats = np.append(times @ demand, times @ self.gpu[shapes])
        return np.asarray(total / times.sum(), dtype=np.float64)

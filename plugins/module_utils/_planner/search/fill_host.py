# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill one host as valuably as possible: a beam search over all ways at once.

A knapsack with several dimensions and devices inside. Replicas are added one at a time, in a fixed
order of shapes so that each combination is met once; of all partial fillings the best few are kept,
judged by their value and by what the rest of the host is worth at the prices of its resources.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import Floats, Ints, linprog, np
from ..grouped import Problem

Filling = tuple[tuple[int, int], ...]  # shapes and how many replicas of each, in order

# How much being full counts beside being evenly full, of hosts cut into as many parts as those
# before: 1 to 5 do about as well on hosts cut at random, below 0.3 and above 20 do worse.
FULL = 2.0


def hard_first(problem: Problem) -> Ints:
    """The order of shapes within a host: whole devices, large parts, then the other resources."""
    top = np.maximum(problem.supply.max(axis=0, initial=1), 1)
    largest = (problem.demand / top).max(axis=1, initial=0.0)
    full = np.maximum(problem.full, 1)
    share = np.where(problem.part < 2**59, problem.part / full, 0.0).max(axis=1, initial=0.0)
    return np.lexsort((-largest, -share, -problem.whole)).astype(np.int64)


@dataclass
class Bin:
    """One host to be filled: what is free, in resources and on devices, and their kinds."""

    free: Ints
    dev: Ints
    dev2: Ints
    full: Ints
    kinds: Ints


def empty_bin(problem: Problem, group: int) -> Bin:
    """An empty host of the group."""
    host = problem.groups[group].hosts[0]
    kinds = np.array(problem.groups[group].kinds, dtype=np.int64)
    full = problem.full[kinds]
    return Bin(problem.supply[host].copy(), full.copy(), problem.full2[kinds], full, kinds)


def evenly(bin_: Bin, asked: Floats) -> tuple[Floats, Floats]:
    """What is used of an empty bin, filled in the proportion of ``asked``, and what is not.

    ``asked`` is an amount of each resource, then of devices. The bin runs out of one thing first;
    what stays of the others is not missed. Amounts that nobody asks for are infinite, not missed.
    """
    room = np.append(bin_.free, (np.maximum(bin_.dev, 0) / bin_.full).sum()).astype(np.float64)
    some = (asked > 0) & (room > 0)
    scale = (room[some] / asked[some]).min(initial=np.inf)
    used = np.where(some, asked * scale, np.inf)
    return used, np.where(some, room - used, 0.0)


class Filler:
    """Fills bins with shapes of these numbers, in the order of `hard_first`."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.order = hard_first(problem)
        self.top = np.maximum(problem.supply.max(axis=0, initial=1), 1).astype(np.float64)

    def prices(self, bin_: Bin, shapes: Ints, values: Floats) -> tuple[float, Floats, Floats]:
        """What the bin is worth at most, the price of each resource and device, and the losses.

        The dual of the knapsack in which replicas may be cut. A loss is what the place of a replica
        is worth beyond the replica itself.
        """
        problem = self.problem
        table = problem.demand[shapes] / self.top
        devices = np.zeros(len(shapes))
        if len(bin_.kinds):
            share = np.where(
                problem.whole[shapes] > 0,
                problem.whole[shapes].astype(np.float64),
                (problem.part[np.ix_(shapes, np.unique(bin_.kinds))]
                 / problem.full[np.unique(bin_.kinds)]).min(axis=1),
            )  # fmt: skip
            devices = np.where(problem.gpu[shapes], np.minimum(share, 1e3), 0.0)
        table = np.column_stack([table, devices])
        room = np.append(
            bin_.free / self.top, (np.maximum(bin_.dev, 0) / np.maximum(bin_.full, 1)).sum()
        )
        found = linprog(room, A_ub=-table, b_ub=-values, bounds=(0, None), method="highs")
        if found.status != 0:
            return float("inf"), np.zeros(len(room)), np.zeros(len(shapes))
        return float(found.fun), found.x, np.maximum(table @ found.x - values, 0.0)

    def fill(
        self, bin_: Bin, shapes: Ints, values: Floats, losses: Floats, left: Ints, width: int,
        keep: int = 1, even: tuple[Floats, Floats] | None = None,
    ) -> list[tuple[float, Filling]]:  # fmt: skip
        """The ``keep`` best fillings found with a beam of this width, each with its value.

        ``shapes`` must be in the order of `hard_first`; ``left`` says how many there are of each.
        With ``even`` (see `evenly`) partial fillings are judged by how evenly they use up the host,
        not by losses.
        """
        problem = self.problem
        count = len(shapes)
        demand = problem.demand[shapes]
        whole = problem.whole[shapes]
        kinds = bin_.kinds
        part = problem.part[np.ix_(shapes, kinds)]
        part2 = problem.part2[np.ix_(shapes, kinds)]
        usable = problem.usable[np.ix_(shapes, kinds)]
        cut_up = problem.gpu[shapes] & (whole == 0)
        uniform = len(set(kinds.tolist())) <= 1 and not part2.any()
        needed = np.where(cut_up, part[:, 0], 0) if uniform and len(kinds) else None
        free, dev, dev2 = bin_.free[None], bin_.dev[None], bin_.dev2[None]
        counts = np.zeros((1, count), dtype=np.int16)
        value, loss, last = np.zeros(1), np.zeros(1), np.zeros(1, dtype=np.int64)
        index = np.arange(count)
        takes = np.where(whole > 0, whole, 0.0)
        if len(kinds):
            takes = np.where(cut_up, (part / bin_.full).min(axis=1), takes)
        best: list[tuple[float, Filling]] = []
        while True:
            fits = (index >= last[:, None]) & (counts < left)
            for column in range(demand.shape[1]):
                fits &= free[:, column, None] >= demand[:, column]
            if len(kinds):
                idle = dev == bin_.full
                if needed is not None:
                    fits &= dev.max(axis=1)[:, None] >= needed
                    fits &= (idle.sum(axis=1)[:, None] >= whole) | (whole == 0)
                else:
                    able = np.zeros(fits.shape, dtype=bool)
                    for device in range(len(kinds)):
                        able |= (dev[:, device, None] >= part[:, device]) & (
                            dev2[:, device, None] >= part2[:, device]
                        )
                    fits &= able | ~cut_up
                    fits &= (idle @ usable.T.astype(np.int64) >= whole) | (whole == 0)
            rows, cols = np.nonzero(fits)
            if not len(rows):
                break
            lost = loss[rows] + losses[cols]
            if even is not None:
                used, spare = even
                rest = (free[rows] - demand[cols] - spare[:-1]) / used[:-1]
                if len(kinds) and used[-1] < np.inf:
                    idle_ = (np.maximum(dev, 0) / bin_.full).sum(axis=1)[rows] - takes[cols]
                    rest = np.column_stack([rest, (idle_ - spare[-1]) / used[-1]])
                mean = rest.mean(axis=1, keepdims=True)
                lost = ((rest - mean) ** 2).sum(axis=1) + FULL * mean[:, 0] ** 2
            if len(rows) > width:
                chosen = np.argpartition(lost, width)[:width]
                rows, cols, lost = rows[chosen], cols[chosen], lost[chosen]
            free, dev, dev2 = free[rows] - demand[cols], dev[rows], dev2[rows]
            counts, value, loss, last = counts[rows], value[rows] + values[cols], lost, cols
            lines = np.arange(len(rows))
            counts[lines, cols] += 1
            if len(kinds):
                wants = whole[cols]
                many = np.flatnonzero(wants)
                if len(many):
                    idle = (dev[many] == bin_.full) & usable[cols[many]]
                    used = idle & (np.cumsum(idle, axis=1) <= wants[many, None])
                    dev[many] = np.where(used, 0, dev[many])
                few = np.flatnonzero(cut_up[cols])
                if len(few):
                    size, size2 = part[cols[few]], part2[cols[few]]
                    able = (dev[few] >= size) & (dev2[few] >= size2)
                    device = np.where(able, dev[few], 2**62).argmin(axis=1)
                    at = np.arange(len(few))
                    dev[few, device] -= size[at, device]
                    dev2[few, device] -= size2[at, device]
            for row in np.argsort(-value, kind="stable")[:keep].tolist():
                if len(best) < keep or value[row] > best[-1][0] + 1e-12:
                    inside = np.flatnonzero(counts[row])
                    filling = tuple((int(shapes[n]), int(counts[row, n])) for n in inside.tolist())
                    best = sorted([*best, (float(value[row]), filling)], key=lambda r: -r[0])
                    best = best[:keep]
        return best

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

from ..arrays import Bools, Floats, Ints, Shorts, linprog, np
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
        asked, beam = _Asked(self.problem, bin_, shapes), _empty_beam(bin_, len(shapes))
        index = np.arange(len(shapes))
        best: list[tuple[float, Filling]] = []
        while True:
            fits = (index >= beam.last[:, None]) & (beam.counts < left)
            asked.keep_fitting(beam, fits)
            rows, cols = np.nonzero(fits)
            if not len(rows):
                return best
            if even is None:
                lost = beam.loss[rows] + losses[cols]
            else:
                lost = asked.unevenness(beam, rows, cols, even)
            if len(rows) > width:
                chosen = np.argpartition(lost, width)[:width]
                rows, cols, lost = rows[chosen], cols[chosen], lost[chosen]
            beam = _Beam(
                beam.free[rows] - asked.demand[cols],
                beam.dev[rows],
                beam.dev2[rows],
                beam.counts[rows],
                beam.value[rows] + values[cols],
                lost,
                cols,
            )
            beam.counts[np.arange(len(rows)), cols] += 1
            asked.take_devices(beam)
            best = _best_of(best, beam, shapes, keep)


@dataclass
class _Beam:
    """Partial fillings, one a row: what is free, and how many replicas of each shape are inside.

    ``last`` is the shape that was added last; only it and those after it may follow.
    """

    free: Ints
    dev: Ints
    dev2: Ints
    counts: Shorts
    value: Floats
    loss: Floats
    last: Ints


def _empty_beam(bin_: Bin, count: int) -> _Beam:
    counts = np.zeros((1, count), dtype=np.int16)
    last = np.zeros(1, dtype=np.int64)
    return _Beam(
        bin_.free[None], bin_.dev[None], bin_.dev2[None], counts, np.zeros(1), np.zeros(1), last
    )


class _Asked:
    """What one replica of each shape asks of a bin: resources, and whole devices or part of one."""

    def __init__(self, problem: Problem, bin_: Bin, shapes: Ints) -> None:
        kinds = bin_.kinds
        self.devices, self.full = len(kinds), bin_.full
        self.demand = problem.demand[shapes]
        self.whole = problem.whole[shapes]
        self.part = problem.part[np.ix_(shapes, kinds)]
        self.part2 = problem.part2[np.ix_(shapes, kinds)]
        self.usable = problem.usable[np.ix_(shapes, kinds)]
        self.cut_up = problem.gpu[shapes] & (self.whole == 0)
        # Of devices that are alike, the one with most free tells whether a part fits.
        alike = len(set(kinds.tolist())) <= 1 and not self.part2.any()
        self.needed = np.where(self.cut_up, self.part[:, 0], 0) if alike and len(kinds) else None
        self.takes = np.where(self.whole > 0, self.whole, 0.0)
        if len(kinds):
            self.takes = np.where(self.cut_up, (self.part / bin_.full).min(axis=1), self.takes)

    def keep_fitting(self, beam: _Beam, fits: Bools) -> None:
        """Strike from ``fits`` what a partial filling, a row, has no room for: shapes, in columns.

        Changed in place, as it is the largest table of the search.
        """
        for column in range(self.demand.shape[1]):
            fits &= beam.free[:, column, None] >= self.demand[:, column]
        if not self.devices:
            return
        idle = beam.dev == self.full
        if self.needed is not None:
            fits &= beam.dev.max(axis=1)[:, None] >= self.needed
            fits &= (idle.sum(axis=1)[:, None] >= self.whole) | (self.whole == 0)
            return
        able = np.zeros(fits.shape, dtype=bool)
        for device in range(self.devices):
            able |= (beam.dev[:, device, None] >= self.part[:, device]) & (
                beam.dev2[:, device, None] >= self.part2[:, device]
            )
        fits &= able | ~self.cut_up
        fits &= (idle @ self.usable.T.astype(np.int64) >= self.whole) | (self.whole == 0)

    def unevenness(
        self, beam: _Beam, rows: Ints, cols: Ints, even: tuple[Floats, Floats]
    ) -> Floats:
        """How unevenly the fillings ``rows`` use up the host, each with one more of ``cols``."""
        used, spare = even
        rest = (beam.free[rows] - self.demand[cols] - spare[:-1]) / used[:-1]
        if self.devices and used[-1] < np.inf:
            idle = (np.maximum(beam.dev, 0) / self.full).sum(axis=1)[rows] - self.takes[cols]
            rest = np.column_stack([rest, (idle - spare[-1]) / used[-1]])
        mean = rest.mean(axis=1, keepdims=True)
        rest -= mean
        rest *= rest
        found: Floats = rest.sum(axis=1) + FULL * mean[:, 0] ** 2
        return found

    def take_devices(self, beam: _Beam) -> None:
        """Take what the replica that was added last asks of the devices."""
        if self.devices:
            self._take_whole(beam)
            self._take_part(beam)

    def _take_whole(self, beam: _Beam) -> None:
        """Take the first idle devices that may be used."""
        cols, wants = beam.last, self.whole[beam.last]
        many = np.flatnonzero(wants)
        if len(many):
            idle = (beam.dev[many] == self.full) & self.usable[cols[many]]
            used = idle & (np.cumsum(idle, axis=1) <= wants[many, None])
            beam.dev[many] = np.where(used, 0, beam.dev[many])

    def _take_part(self, beam: _Beam) -> None:
        """Take a part of the fullest device that has room."""
        cols = beam.last
        few = np.flatnonzero(self.cut_up[cols])
        if len(few):
            size, size2 = self.part[cols[few]], self.part2[cols[few]]
            able = (beam.dev[few] >= size) & (beam.dev2[few] >= size2)
            device = np.where(able, beam.dev[few], 2**62).argmin(axis=1)
            at = np.arange(len(few))
            beam.dev[few, device] -= size[at, device]
            beam.dev2[few, device] -= size2[at, device]


def _best_of(
    best: list[tuple[float, Filling]], beam: _Beam, shapes: Ints, keep: int
) -> list[tuple[float, Filling]]:
    """The ``keep`` most valuable fillings of those before and those of the beam."""
    for row in np.argsort(-beam.value, kind="stable")[:keep].tolist():
        if len(best) < keep or beam.value[row] > best[-1][0] + 1e-12:
            inside = np.flatnonzero(beam.counts[row])
            filling = tuple((int(shapes[n]), int(beam.counts[row, n])) for n in inside.tolist())
            best = sorted([*best, (float(beam.value[row]), filling)], key=lambda r: -r[0])[:keep]
    return best

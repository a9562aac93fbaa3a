# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole hosts as patterns: column generation, then rounding by diving.

A column is a group of hosts and a filling of one host. The master program says how many hosts get
which filling so that most is placed; new fillings come from `fill_host` at the prices of the
master. Its solution is rounded step by step: what is whole stays, the rest is solved again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ..arrays import Floats, Ints, coo_array, linprog, np
from ..grouped import Problem
from ..model import Budget
from .fill_host import Filler, Filling, empty_bin
from .state import Packing

Column = tuple[int, Filling]

# Shapes for each filling found, beside the first of a group, between two solutions of the master
# program. A solution needs about as many columns as shapes.
SHAPES_EACH = 10
FOLLOW = 0.6  # how much the guide's prices count at first


class Master:
    """The columns known so far, and the linear program over them."""

    def __init__(self, problem: Problem, most: Ints, values: Floats) -> None:
        self.problem, self.most, self.values = problem, most, values
        self.filler = Filler(problem)
        self.columns: dict[Column, None] = {}
        # Prices that are known to be good from elsewhere, and how much they count at first.
        self.guide: Floats | None = None
        self.bins = [empty_bin(problem, group) for group in range(len(problem.groups))]

    def learn(self, packing: Packing) -> None:
        """Take the contents of all hosts as columns."""
        problem = self.problem
        for host, items in enumerate(packing.items):
            counts = Counter(problem.streams[stream].shape for stream, _devices in items)
            if counts:
                self.columns[int(problem.group_of[host]), tuple(sorted(counts.items()))] = None

    def solve(self, count: Ints, sizes: Ints) -> tuple[list[Column], Floats, Floats, Floats]:
        """Columns, how many of each, the price of each shape, and that of a host of each group."""
        problem = self.problem
        usable = [
            column
            for column in self.columns
            if sizes[column[0]] and all(times <= count[shape] for shape, times in column[1])
        ]
        if not usable:
            return [], np.zeros(0), np.zeros(len(count)), np.zeros(len(sizes))
        rows, cols, vals = [], [], []
        worth = np.zeros(len(usable))
        first = len(problem.shapes)
        for n, (group, filling) in enumerate(usable):
            rows.append(first + group)
            cols.append(n)
            vals.append(1.0)
            for shape, times in filling:
                rows.append(shape)
                cols.append(n)
                vals.append(float(times))
                worth[n] += times * self.values[shape]
        matrix = coo_array((vals, (rows, cols)), shape=(first + len(sizes), len(usable)))
        right = np.concatenate([count, sizes]).astype(np.float64)
        found = linprog(-worth, A_ub=matrix.tocsr(), b_ub=right, method="highs-ds")
        if found.status != 0:
            return [], np.zeros(0), np.zeros(len(count)), np.zeros(len(sizes))
        duals = np.maximum(-found.ineqlin.marginals, 0.0)
        return usable, found.x, duals[:first], duals[first:]

    def value(self, columns: list[Column], numbers: Floats) -> float:
        """What so many of each column are worth."""
        worth = (sum(self.values[s] * times for s, times in filling) for _g, filling in columns)
        return float(sum(one * number for one, number in zip(worth, numbers.tolist())))

    def generate(
        self,
        prices: Floats,
        host_prices: Floats,
        count: Ints,
        sizes: Ints,
        width: int,
        true_prices: Floats,
    ) -> float:
        """Add fillings worth more than their host; give by how much all hosts could gain.

        A large group gets several at once: each takes only what those before it leave, so that
        together they serve many shapes. One at a time, each would serve the same few of them.
        """
        gain = 0.0
        order = self.filler.order
        more = int((count > 0).sum()) / SHAPES_EACH / max(1, int(sizes.sum()))
        value, true = self.values - prices, self.values - true_prices
        for group in np.flatnonzero(sizes).tolist():
            hosts, rest, best = int(sizes[group]), count.copy(), 0.0
            losses = np.zeros(len(value))
            for number in range(1 + int(more * hosts)):
                able = (value > 1e-9) & (self.most[:, group] > 0) & (rest > 0)
                useful = order[able[order]]
                if not len(useful) or hosts <= 0:
                    break
                if not number:
                    most, _prices, losses[useful] = self.filler.prices(
                        self.bins[group], useful, value[useful]
                    )
                    if prices is true_prices and most <= host_prices[group] + 1e-7:
                        break
                left = np.minimum(rest, self.most[:, group])[useful]
                found = self.filler.fill(
                    self.bins[group], useful, value[useful], losses[useful], left, width,
                    keep=1 if number else 4,
                )  # fmt: skip
                gains = [
                    sum(float(true[shape]) * times for shape, times in filling) - host_prices[group]
                    for _worth, filling in found
                ]
                for one, (_worth, filling) in zip(gains, found):
                    if one > 1e-7:
                        self.columns[group, tuple(sorted(filling))] = None
                best = max([best, *gains])
                if not found or (number and gains[0] <= 1e-7):
                    break
                hosts -= take(found[0][1], hosts, rest)
            gain += float(sizes[group]) * best
        return gain

    def improve(
        self, count: Ints, sizes: Ints, budget: Budget, rounds: int, width: int, enough: float
    ) -> tuple[list[Column], Floats, Floats]:
        """Solve and add columns until they gain less than ``enough``; columns, numbers, prices.

        Prices jump about at first, so they are mixed with the guide's while that finds columns.
        """
        columns, numbers, prices, host_prices = self.solve(count, sizes)
        follow = 0.0 if self.guide is None else FOLLOW
        for _round in range(rounds):
            if follow and self.guide is not None:
                mixed = follow * self.guide + (1 - follow) * prices
                # Columns are judged at the true prices, found at the mixed ones.
                gain = self.generate(mixed, host_prices, count, sizes, width, prices)
                if gain <= enough:
                    follow = 0.0 if follow < 0.2 else follow / 2
                    continue
            else:
                gain = self.generate(prices, host_prices, count, sizes, width, prices)
            if gain <= 1e-6 or not budget.left:
                break
            columns, numbers, prices, host_prices = self.solve(count, sizes)
            if gain < enough:
                break
        return columns, numbers, prices


def dive(
    master: Master, count: Ints, sizes: Ints, budget: Budget, rounds: int = 60, width: int = 24,
    enough: float = 0.5, worthwhile: float = 0.0,
) -> tuple[list[Column], Floats]:  # fmt: skip
    """Fillings for (nearly) all of these hosts, one entry each, and the first prices of shapes.

    Nothing is chosen where the broken solution is worth less than ``worthwhile`` already.
    """
    count, sizes = count.copy(), sizes.copy()
    chosen: list[Column] = []
    first_prices: Floats | None = None
    while sizes.any() and count.any():
        # When time is short the columns known so far must do, and more of them are taken at once.
        late = not budget.left
        part = budget.part(0.5 if first_prices is None else 0.25)
        columns, numbers, prices = master.improve(
            count, sizes, part, 0 if late else rounds, width, enough
        )
        if first_prices is None:
            first_prices = prices
            if master.value(columns, numbers) < worthwhile:
                break
        rounds = max(2, rounds // 4)
        if not columns or numbers.max(initial=0.0) < 1e-6:
            break
        before = len(chosen)
        for n in np.argsort(-numbers, kind="stable").tolist():
            _choose(columns[n], int(numbers[n] + 1e-6), count, sizes, chosen)
        # Whole numbers are settled; of the rest the nearest to one is taken, a few at a time.
        rest = numbers - np.floor(numbers + 1e-6)
        want = (
            max(1, int(sizes.sum()) // 8)
            if len(chosen) == before
            else int(sizes.sum()) // (4 if late else 20)
        )
        for n in np.argsort(-rest, kind="stable")[: int((rest > 1e-6).sum())].tolist():
            if want <= 0:
                break
            want -= _choose(columns[n], 1, count, sizes, chosen)
        if len(chosen) == before:
            break
    return chosen, first_prices if first_prices is not None else np.zeros(len(count))


def _choose(column: Column, times: int, count: Ints, sizes: Ints, chosen: list[Column]) -> int:
    times = take(column[1], min(times, int(sizes[column[0]])), count)
    sizes[column[0]] -= times
    chosen.extend([column] * times)
    return times


def take(filling: Filling, times: int, count: Ints) -> int:
    """Take the replicas of so many fillings, or of as many as there are, from ``count``."""
    times = max(0, min([times, *(int(count[shape]) // each for shape, each in filling)]))
    for shape, each in filling:
        count[shape] -= each * times
    return times


def realise(
    packing: Packing, chosen: Iterable[Column], order: Ints, hosts: Iterable[int] | None = None
) -> None:
    """Place the chosen fillings on these hosts (or all), which must be empty."""
    problem = packing.problem
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    waiting: list[list[int]] = [[] for _group in problem.groups]
    for host in reversed(list(range(len(problem.group_of)) if hosts is None else hosts)):
        waiting[problem.group_of[host]].append(host)
    for group, filling in chosen:
        if waiting[group]:
            host = waiting[group].pop()
            for shape, times in sorted(filling, key=lambda row: int(rank[row[0]])):
                for _each in range(times):
                    packing.put(shape, host)

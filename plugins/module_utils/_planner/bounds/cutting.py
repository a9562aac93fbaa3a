# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many devices parts of devices need at least: cutting stock (Gilmore and Gomory, 1961).

A *pattern* is one way to fill a device. Prices are given to the sizes so that no pattern is worth
more than 1; then the sum of the prices of all that is asked for is a number of devices needed in
any case. The best prices are those of the linear program over all patterns, which are found one by
one: each is the most valuable filling at the current prices, by an exact knapsack.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from ..arrays import Floats, linprog, np

Pattern = tuple[int, ...]
Size = tuple[int, int]

FINEST = 4000  # steps of the knapsack's table; finer sizes are rounded down: a lower bound still
ROUNDS = 300
SIMPLE = (12, 60, 2520)  # denominators tried, so that the prices can be checked by hand


@dataclass(frozen=True)
class Stock:
    """One kind of device, and the sizes of the parts that are asked of it.

    Sizes have two figures: memory slices and compute slices for MIG, else the part and 0.
    """

    full: Size
    sizes: tuple[Size, ...]

    def best(self, prices: Sequence[float]) -> tuple[float, Pattern]:
        """The value and the counts by size of the most valuable filling of one device."""
        step = _step(self)
        full = self.full[0] // step
        two = any(second for _first, second in self.sizes)
        full2 = self.full[1] if two else 0
        first = np.array([size // step for size, _second in self.sizes], dtype=np.int64)
        second = np.array([second for _first, second in self.sizes], dtype=np.int64)
        value = np.array(prices, dtype=np.float64)
        useful = np.flatnonzero((value > 0) & (first + second > 0))
        first, second, value = first[useful], second[useful], value[useful]
        order = np.argsort(first, kind="stable")
        first, second, value, useful = first[order], second[order], value[order], useful[order]
        table = np.zeros((full + 1, full2 + 1))
        choice = np.full((full + 1, full2 + 1), -1, dtype=np.int64)
        usable = np.searchsorted(first, np.arange(full + 1), side="right").tolist()
        for at in range(full + 1):
            upto = usable[at]
            if at:
                table[at] = table[at - 1]
            if not upto:
                continue
            for at2 in range(full2 + 1):
                if not two:
                    reach = table[at - first[:upto], 0] + value[:upto]
                else:
                    inside = second[:upto] <= at2
                    reach = np.where(
                        inside,
                        table[at - first[:upto], np.maximum(at2 - second[:upto], 0)] + value[:upto],
                        0.0,
                    )
                pick = int(reach.argmax())
                if reach[pick] > table[at, at2]:
                    table[at, at2] = reach[pick]
                    choice[at, at2] = pick
        counts = [0] * len(self.sizes)
        at, at2 = full, full2
        while at >= 0:
            pick = int(choice[at, at2])
            if pick < 0:
                at -= 1
                continue
            counts[int(useful[pick])] += 1
            at, at2 = at - int(first[pick]), at2 - int(second[pick])
        return float(table[full, full2]), tuple(counts)


def _step(stock: Stock) -> int:
    """The step of the knapsack's table."""
    step = max(1, math.gcd(*(size for size, _second in stock.sizes)))
    return step if stock.full[0] // step <= FINEST else -(-stock.full[0] // FINEST)


@dataclass(frozen=True)
class Cut:
    """``prices`` by size: no filling is worth more than 1. ``patterns`` are the fillings found."""

    prices: tuple[Fraction, ...]
    patterns: tuple[Pattern, ...]

    def devices(self, counts: Sequence[int]) -> Fraction:
        """How many devices so many parts of each size need at least."""
        return sum((price * n for price, n in zip(self.prices, counts)), Fraction(0))


def cut(stock: Stock, counts: Sequence[int]) -> Cut:
    """The best prices for these counts by size, and the fillings that prove them best.

    Each size must fit the device. Whatever the solver's rounding, no filling is worth more than 1:
    the prices returned are fractions, checked by the knapsack in whole numbers.
    """
    known: dict[Pattern, None] = {}
    for number, (first, second) in enumerate(stock.sizes):
        times = min(
            stock.full[0] // first if first else counts[number] or 1,
            stock.full[1] // second if second else 2**31,
        )
        known[tuple(times if n == number else 0 for n in range(len(stock.sizes)))] = None
    prices = np.zeros(len(stock.sizes))
    seen = np.array([first >= _step(stock) for first, _second in stock.sizes])
    for _round in range(ROUNDS):
        table = np.array(list(known), dtype=np.float64)
        found = linprog(
            np.ones(len(table)), A_ub=-table.T, b_ub=-np.array(counts, dtype=float), method="highs"
        )
        if found.status != 0:
            break
        # What is smaller than a step of the table would be free of charge there.
        prices = np.where(seen, np.maximum(-found.ineqlin.marginals, 0.0), 0.0)
        value, pattern = stock.best(prices.tolist())
        if value <= 1.0 + 1e-7 or pattern in known:
            break
        known[pattern] = None
    return Cut(_simple(stock, prices), tuple(known))


def _simple(stock: Stock, prices: Floats) -> tuple[Fraction, ...]:
    """Prices near these with small denominators, of which no filling is worth more than 1."""
    for denominator in SIMPLE:
        near = [Fraction(round(price * denominator), denominator) for price in prices.tolist()]
        close = all(abs(float(a) - b) < 1e-6 for a, b in zip(near, prices.tolist()))
        if close and _worth(stock, near) <= 1:
            return tuple(near)
    below = [Fraction(math.floor(price * 10000), 10000) for price in prices.tolist()]
    worth = _worth(stock, below)
    return tuple(price / max(worth, Fraction(1)) for price in below)


def _worth(stock: Stock, prices: Sequence[Fraction]) -> Fraction:
    unit = math.lcm(1, *(price.denominator for price in prices))
    value, _pattern = stock.best([float(price * unit) for price in prices])
    return Fraction(round(value), unit)

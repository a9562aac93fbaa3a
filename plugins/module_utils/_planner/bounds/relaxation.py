# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The linear program of shapes by groups of hosts: what could be placed if replicas could be cut.

Replicas may be split over hosts, but the resources and devices of each group limit what is on it,
and parts of devices are cut from devices by patterns (see `cutting`). The value of its optimum is
an upper bound of what any placement is worth; the bound used is computed from the prices (dual
values) alone, with the exact knapsack for patterns not yet seen, so it holds whatever the solver's
rounding. The same program with numbers of offered hosts as variables bounds a purchase.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import Bools, Floats, Ints, coo_array, csr_array, linprog, np
from ..grouped import NEVER, Problem
from ..model import Budget
from .cutting import Pattern, Stock, cut

LARGEST = 60_000  # pairs of shape and group; above, the program takes too long to be of use
ROUNDS = 40
MANY = 60  # sizes of parts above which patterns are not sought beforehand
NEAR = 1e-7


UNIT_ROUNDOFF = 2.0**-53  # of a float, IEEE 754 double
ROUNDINGS = 64  # further roundings of each figure: scaling, the knapsack's sums
SHY = 1e-11  # by which prices are lowered where offers are bought


@dataclass(frozen=True)
class Relaxed:
    """``bound`` is what any placement is worth at most (or the least cost, with offers).

    ``place[s, g]`` are the replicas placed; ``prices[s]`` what one more replica of a shape would be
    worth, ``host_prices[g, c]`` the price of one unit of each resource on a host of the group, the
    last column that of a device. ``bought`` are the (broken) numbers of offered hosts.
    ``worth`` is what all hosts of each group are worth at these prices, ``limits`` what the limits
    of single hosts add (``limited``: shape, group, and how much each adds), and ``parts`` the
    prices of parts: group, kind, share of a device, price. ``pools`` are the names of what several
    hosts draw from, with what each is worth.
    """

    bound: float
    place: Floats
    prices: Floats
    host_prices: Floats
    bought: Floats
    patterns: tuple[tuple[Stock, tuple[Pattern, ...]], ...]
    steps: tuple[str, ...] = ()
    worth: tuple[float, ...] = ()
    limits: float = 0.0
    limited: tuple[tuple[int, int, float], ...] = ()
    parts: tuple[tuple[int, int, float, float], ...] = ()
    pools: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Built:
    """Matrix, right-hand side, objective (to be minimised) and upper bounds of the columns.

    Columns are replicas (of a shape on a group and kind of device), then patterns, then from
    ``first_offer`` on the numbers of offered hosts.
    """

    matrix: csr_array
    right: Floats
    objective: Floats
    upper: Floats
    first_offer: int


@dataclass(frozen=True)
class _Entries:
    """Entries of a matrix that are found one by one."""

    rows: list[int]
    cols: list[int]
    vals: list[float]

    def add(self, row: int, col: int, value: float) -> None:
        self.rows.append(row)
        self.cols.append(col)
        self.vals.append(value)


class Program:
    """The linear program; ``sizes`` are numbers of hosts by group, ``cost`` that of one host more.

    Groups with a cost (not NaN) are offers: their number is a variable up to ``sizes``; then all
    replicas must be placed and the total cost is minimised. Without offers the total value of what
    is placed is maximised.
    """

    def __init__(
        self, problem: Problem, most: Ints, sizes: Ints, values: Floats, cost: Floats | None = None
    ) -> None:
        self.problem, self.most, self.sizes, self.values = problem, most, sizes, values
        self.cost = cost
        self.impossible = False
        self.scale = np.maximum(problem.supply.max(axis=0, initial=1), 1).astype(np.float64)
        self.columns: list[tuple[int, int, int]] = []
        for shape, group in np.argwhere(most > 0).tolist():
            kinds = sorted(set(problem.groups[group].kinds)) if problem.gpu[shape] else [-1]
            for kind in kinds:
                if kind < 0 or problem.usable[shape, kind] or problem.part[shape, kind] < NEVER:
                    self.columns.append((shape, group, kind))
        self.devices = sorted({(g, k) for _s, g, k in self.columns if k >= 0})
        self.stocks: dict[tuple[int, int], Stock] = {}
        self.cuts: dict[Stock, dict[Pattern, None]] = {}
        self.offers: list[int] = [] if cost is None else np.flatnonzero(~np.isnan(cost)).tolist()
        self._stocks()
        self._number_rows()

    def _stocks(self) -> None:
        problem = self.problem
        sizes: dict[int, set[tuple[int, int]]] = {}
        for shape, _group, kind in self.columns:
            if kind >= 0 and not problem.whole[shape]:
                part = (int(problem.part[shape, kind]), int(problem.part2[shape, kind]))
                sizes.setdefault(kind, set()).add(part)
        for group, kind in self.devices:
            if kind in sizes:
                second = int(problem.full2[kind]) if problem.kinds[kind].mig else 0
                stock = Stock((int(problem.full[kind]), second), tuple(sorted(sizes[kind])))
                self.stocks[group, kind] = stock
                if stock not in self.cuts:
                    counts = [
                        int(problem.count[self._of_size(kind, size)].sum()) for size in stock.sizes
                    ]
                    patterns = cut(stock, counts).patterns if len(stock.sizes) < MANY else ()
                    self.cuts[stock] = dict.fromkeys((*_first_patterns(stock), *patterns))

    def _of_size(self, kind: int, size: tuple[int, int]) -> Bools:
        problem = self.problem
        found: Bools = (problem.part[:, kind] == size[0]) & (problem.part2[:, kind] == size[1])
        return found

    def _number_rows(self) -> None:
        """Rows: shapes, then resources by group, then devices, then parts of devices."""
        problem = self.problem
        at = len(problem.shapes) + len(problem.groups) * problem.demand.shape[1]
        self.device_row = {pair: at + n for n, pair in enumerate(self.devices)}
        at += len(self.devices)
        parts = [(*pair, size) for pair, stock in self.stocks.items() for size in stock.sizes]
        self.part_row = {part: at + n for n, part in enumerate(parts)}
        self.pool_row = at + len(parts)
        self.height = self.pool_row + len(problem.pools)

    def _resource_row(self, group: int, resource: int) -> int:
        resources = len(self.problem.instance.resources)
        return len(self.problem.shapes) + group * resources + resource

    def build(self) -> Built:
        """The program with the patterns known so far."""
        first_offer = len(self.columns) + sum(len(self.cuts[one]) for one in self.stocks.values())
        supply = self.problem.group_supply() / self.scale
        right = self._right(supply)
        entries = _Entries([], [], [])
        self._enter_devices(entries)
        self._enter_patterns(entries)
        self._enter_pools(entries)
        self._enter_offers(entries, right, supply, first_offer)
        width = first_offer + len(self.offers)
        objective, upper = self._objective_and_upper(width, first_offer)
        return Built(self._matrix(entries, width), right, objective, upper, first_offer)

    def _right(self, supply: Floats) -> Floats:
        problem = self.problem
        devices = [
            float(self.sizes[g] * sum(kind == k for kind in problem.groups[g].kinds))
            for g, k in self.devices
        ]
        right: Floats = np.concatenate(
            [
                problem.count.astype(np.float64),
                (self.sizes[:, None] * supply).reshape(-1),
                np.array(devices),
                np.zeros(len(self.part_row)),
                np.ones(len(problem.pools)),
            ]
        )
        return right

    def _enter_devices(self, entries: _Entries) -> None:
        """The whole devices, or the part of one, that each replica takes."""
        problem = self.problem
        for n, (shape, group, kind) in enumerate(self.columns):
            if kind < 0:
                continue
            if problem.whole[shape]:
                entries.add(self.device_row[group, kind], n, float(problem.whole[shape]))
            else:
                size = (int(problem.part[shape, kind]), int(problem.part2[shape, kind]))
                entries.add(self.part_row[group, kind, size], n, 1.0)

    def _enter_pools(self, entries: _Entries) -> None:
        """The part of a pool that each replica draws from it."""
        problem = self.problem
        if not problem.pools:
            return
        for n, (shape, group, _kind) in enumerate(self.columns):
            for column, pool in problem.drawn(group):
                if problem.demand[shape, column]:
                    supply = max(1, problem.pools[pool].supply)
                    part = float(problem.demand[shape, column]) / supply
                    entries.add(self.pool_row + pool, n, part)

    def _enter_patterns(self, entries: _Entries) -> None:
        """The device that each pattern cuts up, and the parts that it gives."""
        column = len(self.columns)
        for (group, kind), stock in self.stocks.items():
            for pattern in self.cuts[stock]:
                entries.add(self.device_row[group, kind], column, 1.0)
                for size, times in zip(stock.sizes, pattern):
                    if times:
                        entries.add(self.part_row[group, kind, size], column, -float(times))
                column += 1

    def _enter_offers(
        self, entries: _Entries, right: Floats, supply: Floats, first_offer: int
    ) -> None:
        """What one more host of each offer gives, which ``right`` then no longer holds."""
        for column, group in enumerate(self.offers, first_offer):
            for resource in range(supply.shape[1]):
                row = self._resource_row(group, resource)
                entries.add(row, column, -float(supply[group, resource]))
                right[row] = 0.0
            kinds = self.problem.groups[group].kinds
            for kind in set(kinds):
                if (group, kind) in self.device_row:
                    row = self.device_row[group, kind]
                    entries.add(row, column, -float(sum(k == kind for k in kinds)))
                    right[row] = 0.0

    def _objective_and_upper(self, width: int, first_offer: int) -> tuple[Floats, Floats]:
        shapes, groups = self._shapes_and_groups()
        count = len(self.columns)
        objective, upper = np.zeros(width), np.full(width, np.inf)
        upper[:count] = np.minimum(
            self.problem.count[shapes], self.most[shapes, groups] * self.sizes[groups]
        )
        if self.cost is None:
            objective[:count] = -self.values[shapes]
        else:
            objective[first_offer:] = self.cost[self.offers]
            upper[first_offer:] = self.sizes[self.offers]
        return objective, upper

    def _matrix(self, entries: _Entries, width: int) -> csr_array:
        """The entries, with those of the replicas' numbers and resources."""
        shapes, groups = self._shapes_and_groups()
        column = np.arange(len(self.columns))
        rows, cols, vals = [shapes], [column], [np.ones(len(column))]
        resources = self.problem.demand.shape[1]
        for resource in range(resources):
            demand = self.problem.demand[shapes, resource] / self.scale[resource]
            some = demand > 0
            rows.append(len(self.problem.shapes) + groups[some] * resources + resource)
            cols.append(column[some])
            vals.append(demand[some])
        rows.append(np.array(entries.rows, dtype=np.int64))
        cols.append(np.array(entries.cols, dtype=np.int64))
        vals.append(np.array(entries.vals, dtype=np.float64))
        places = (np.concatenate(rows), np.concatenate(cols))
        return coo_array((np.concatenate(vals), places), shape=(self.height, width)).tocsr()

    def _shapes_and_groups(self) -> tuple[Ints, Ints]:
        shapes = np.array([c[0] for c in self.columns], dtype=np.int64)
        return shapes, np.array([c[1] for c in self.columns], dtype=np.int64)

    def solve(self, budget: Budget) -> Relaxed | None:
        """Solve it, adding patterns while they help and time allows. None if it has no solution."""
        best: Relaxed | None = None
        for _round in range(ROUNDS):
            built = self.build()
            matrix, right, objective = built.matrix, built.right, built.objective
            shapes = len(self.problem.shapes)
            limits = np.column_stack([np.zeros(len(built.upper)), built.upper])
            options = {"time_limit": max(1.0, budget.left)}
            if self.cost is None:
                found = linprog(
                    objective, A_ub=matrix, b_ub=right, bounds=limits, method="highs",
                    options=options,
                )  # fmt: skip
                if found.status != 0:
                    return best
                duals = np.maximum(-found.ineqlin.marginals, 0.0)
            else:
                found = linprog(
                    objective, A_ub=matrix[shapes:], b_ub=right[shapes:],
                    A_eq=matrix[:shapes], b_eq=right[:shapes], bounds=limits, method="highs",
                    options=options,
                )  # fmt: skip
                self.impossible = found.status == 2
                if found.status != 0:
                    return best
                duals = np.concatenate(
                    [-found.eqlin.marginals, np.maximum(-found.ineqlin.marginals, 0.0)]
                )
            grown = self._price(duals)
            relaxed = self._answer(found.x, duals, built)
            better = best is None or (
                relaxed.bound < best.bound if self.cost is None else relaxed.bound > best.bound
            )
            best = relaxed if better else best
            if not grown or not budget.left:
                break
        return best

    def _price(self, duals: Floats) -> bool:
        """Raise each device's price to its best filling, and learn the fillings worth more."""
        grown = False
        fresh: list[tuple[Stock, Pattern]] = []
        for pair, stock in self.stocks.items():
            prices = [duals[self.part_row[(*pair, size)]] for size in stock.sizes]
            value, pattern = stock.best(prices)
            price = duals[self.device_row[pair]]
            if value > price:
                if value > price * (1 + NEAR) + NEAR and pattern not in self.cuts[stock]:
                    fresh.append((stock, pattern))
                    grown = True
                duals[self.device_row[pair]] = value
        for stock, pattern in fresh:
            self.cuts[stock][pattern] = None
        return grown

    def _answer(self, x: Floats, duals: Floats, built: Built) -> Relaxed:
        problem, right, upper = self.problem, built.right, built.upper
        count = len(self.columns)
        if self.cost is not None:
            # An offer that is just worth its price would else count as worth a float's last digit
            # more, times as many as could be bought.
            duals = duals * (1 - SHY)
        reduced = built.objective + built.matrix.T @ duals
        # Patterns have no value of their own, and their devices are priced high enough above.
        reduced[count : built.first_offer] = 0.0
        slack = np.minimum(reduced, 0.0)
        finite = np.where(np.isfinite(upper), upper, 0.0)
        low = -float(duals @ right) + float(slack @ finite)
        error = _rounding(built, duals, reduced, finite)
        place = np.zeros(self.most.shape)
        np.add.at(place, ([c[0] for c in self.columns], [c[1] for c in self.columns]), x[:count])
        width = problem.demand.shape[1]
        first = len(problem.shapes)
        prices = np.zeros((len(problem.groups), width + 1))
        prices[:, :width] = (
            duals[first : first + prices.shape[0] * width].reshape(-1, width) / self.scale
        )
        for (group, _kind), row in self.device_row.items():
            prices[group, width] = max(prices[group, width], duals[row])
        worth = (
            (
                duals[first : first + prices.shape[0] * width]
                * right[first : first + prices.shape[0] * width]
            )
            .reshape(-1, width)
            .sum(axis=1)
        )
        for (group, _kind), row in self.device_row.items():
            worth[group] += duals[row] * right[row]
        parts = tuple(
            (group, kind, size[0] / int(problem.full[kind]), float(duals[row]))
            for (group, kind, size), row in self.part_row.items()
        )
        return Relaxed(
            bound=-low + error if self.cost is None else low - error,
            place=place,
            prices=duals[:first].copy(),
            host_prices=prices,
            bought=x[built.first_offer :],
            patterns=tuple((stock, tuple(cuts)) for stock, cuts in self.cuts.items()),
            worth=tuple(worth.tolist()),
            limits=-float(slack @ finite),
            limited=tuple(
                (self.columns[n][0], self.columns[n][1], -float(slack[n] * finite[n]))
                for n in np.flatnonzero(slack[:count] * finite[:count] < -1e-9).tolist()
            ),
            parts=parts,
            pools=tuple(
                (pool.name, float(duals[self.pool_row + number]))
                for number, pool in enumerate(problem.pools)
            ),
        )


def _rounding(built: Built, duals: Floats, reduced: Floats, finite: Floats) -> float:
    """By how much the bound can be wrong because it was added up in floats; never less than that.

    A sum of n products is off by at most n times the unit roundoff times the sum of their
    magnitudes (Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, 3.1); entries
    of the matrix are rounded themselves, and so are the values of fillings.
    """
    matrix, right = built.matrix, built.right
    magnitude = np.abs(duals)
    entries = int(np.diff(matrix.tocsc().indptr).max(initial=0)) + ROUNDINGS
    each = 2 * UNIT_ROUNDOFF * entries * (np.abs(built.objective) + abs(matrix).T @ magnitude)
    # A reduced cost that is above its own error counts as nothing, as it should.
    wrong = float(finite @ np.maximum(each - np.maximum(reduced, 0.0), 0.0))
    added = len(finite) * float(finite @ np.maximum(-reduced, 0.0))
    added += (len(right) + ROUNDINGS) * float(magnitude @ np.abs(right))
    return wrong + 2 * UNIT_ROUNDOFF * added


def _first_patterns(stock: Stock) -> list[Pattern]:
    """Fillings with one size only."""
    found = []
    for number, (first, second) in enumerate(stock.sizes):
        times = min(
            stock.full[0] // first if first else 1, stock.full[1] // second if second else 2**31
        )
        found.append(tuple(times if n == number else 0 for n in range(len(stock.sizes))))
    return found


def relax(
    problem: Problem, most: Ints | None, values: Floats, budget: Budget, sizes: Ints | None = None
) -> Relaxed | None:
    """The bound on the value of any placement; None where the program would be too large.

    ``sizes`` are numbers of hosts by group, of those that are still empty, for example.
    """
    if most is None or int((most > 0).sum()) > LARGEST or not most.any():
        return None
    return Program(problem, most, problem.sizes if sizes is None else sizes, values).solve(budget)

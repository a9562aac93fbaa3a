# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts hold at most of one resource, as replicas cannot be cut: cutting stock over hosts.

Processors, memory and disk of a host are filled as a device is cut up (see `cutting`): replicas
are given prices, hosts of a kind are worth their most valuable filling, by an exact knapsack in
whole numbers. What all replicas are worth and all hosts are not must be left out. The prices come
from the linear program over fillings, which are found one by one; whatever they are, the proof
holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from ..arrays import Bools, Floats, Ints, coo_array, linprog, np
from ..grouped import Problem
from ..model import Budget, Certificate
from .certificate import left_out, listed, names_of, number
from .sums import Places

FINEST = 2000  # steps of the knapsack's table; sizes are rounded down to them: a bound still
LARGEST = 300  # shapes above which a table takes too long
CLASSES = 24  # kinds of hosts that are told apart
ROUNDS = 80
DENOMINATORS = (2, 12, 60, 2520)  # of the prices, so that they can be checked by hand
NEAR = 1e-6


@dataclass(frozen=True)
class Filling:
    """The question for one resource: replicas by size, hosts by room.

    ``able[c, s]`` says whether a host of class c may carry the shape s, ``examples[c]`` is one.
    """

    column: int
    shapes: Ints
    sizes: Ints
    counts: Ints
    rooms: Ints
    hosts: Ints
    able: Bools
    examples: tuple[str, ...]

    def best(self, kind: int, prices: Ints | Floats) -> tuple[float, Ints]:
        """The value and the counts of the most valuable filling of a host of a class.

        Exact where the prices are whole numbers.
        """
        room = int(self.rooms[kind])
        useful = np.flatnonzero(self.able[kind] & (prices > 0) & (self.sizes <= room))
        useful = useful[np.argsort(self.sizes[useful], kind="stable")]
        sizes, worth = self.sizes[useful], prices[useful]
        table = np.zeros(room + 1, dtype=prices.dtype)
        choice = np.full(room + 1, -1, dtype=np.int64)
        upto = np.searchsorted(sizes, np.arange(room + 1), side="right").tolist()
        for at in range(1, room + 1):
            table[at] = table[at - 1]
            if upto[at]:
                reach = table[at - sizes[: upto[at]]] + worth[: upto[at]]
                pick = int(reach.argmax())
                if reach[pick] > table[at]:
                    table[at], choice[at] = reach[pick], pick
        counts, at = np.zeros(len(self.sizes), dtype=np.int64), room
        while at > 0:
            pick = int(choice[at])
            if pick >= 0:
                counts[useful[pick]] += 1
            at -= int(sizes[pick]) if pick >= 0 else 1
        return table[room].item(), counts


def packed(problem: Problem, where: Places, budget: Budget) -> Iterator[Certificate]:
    """A certificate for each resource of which the hosts cannot hold what is asked."""
    if where.most is None or where.eligible is None:
        return
    for column in range(len(problem.instance.resources)):
        if any(at == column for drawn in problem.pooled for at, _pool in drawn):
            continue  # a storage of several hosts is cut up by none of them
        filling = _filling(problem, where.eligible, column)
        if filling is None or not budget.left:
            continue
        prices, unit, excess = _prices(filling, budget)
        if excess > 0:
            yield _certificate(problem, filling, prices, unit, excess)


def _filling(problem: Problem, eligible: Bools, column: int) -> Filling | None:
    """The question for a resource; None where it is too large or nobody asks for much of it."""
    demand = problem.demand[:, column]
    shapes = np.flatnonzero((problem.count > 0) & (demand > 0) & eligible.any(axis=1))
    if not len(shapes) or len(shapes) > LARGEST:
        return None
    room = np.array([problem.supply[group.hosts[0], column] for group in problem.groups])
    used = eligible[shapes].any(axis=0)
    step = max(1, int(np.gcd.reduce(demand[shapes])))
    most = int(room[used].max())
    if most // step > FINEST:
        step = -(-most // FINEST)
    rows, room = eligible[shapes].T[used], room[used] // step
    number_of = problem.sizes[used]
    if len(np.unique(rows, axis=0)) > CLASSES:
        rows = np.ones_like(rows)  # who may run where is left out: a bound still
    kinds, first, of = np.unique(
        np.column_stack([room, rows]), axis=0, return_index=True, return_inverse=True
    )
    inside = np.flatnonzero(used)[first].tolist()
    if len(kinds) > CLASSES:
        return None
    hosts = np.bincount(of.reshape(-1), weights=number_of, minlength=len(kinds))
    return Filling(
        column,
        shapes,
        demand[shapes] // step,
        problem.count[shapes],
        kinds[:, 0],
        hosts.astype(np.int64),
        kinds[:, 1:].astype(bool),
        tuple(problem.instance.hosts[problem.groups[group].hosts[0]].name for group in inside),
    )


def _prices(filling: Filling, budget: Budget) -> tuple[Ints, int, Fraction]:
    """Prices of the shapes in parts of ``unit``, and by how much hosts are worth less than all."""
    known = {
        (kind, tuple(_alone(filling, kind, shape).tolist())) for kind, shape in _pairs(filling)
    }
    best: tuple[Ints, int, Fraction] = (np.zeros(len(filling.shapes), np.int64), 1, Fraction(0))
    for _round in range(ROUNDS):
        duals, worths = _solve(filling, sorted(known))
        # What is smaller than a step would be free of charge.
        duals = np.where(filling.sizes > 0, duals, 0.0)
        fresh = set()
        for kind in range(len(filling.rooms)):
            value, pattern = filling.best(kind, duals)
            if value > worths[kind] + NEAR:
                fresh.add((kind, tuple(pattern.tolist())))
        grown = bool(fresh - known)
        known |= fresh
        if not grown or not budget.left:
            best = max((best, *_exact(filling, duals)), key=lambda one: one[2])
            break
    return best


def _pairs(filling: Filling) -> Iterator[tuple[int, int]]:
    kinds, shapes = np.nonzero(filling.able)
    yield from zip(kinds.tolist(), shapes.tolist())


def _alone(filling: Filling, kind: int, shape: int) -> Ints:
    """A host with replicas of one shape only."""
    counts = np.zeros(len(filling.shapes), dtype=np.int64)
    size = int(filling.sizes[shape])
    most = int(filling.counts[shape])
    counts[shape] = min(most, int(filling.rooms[kind]) // size) if size else most
    return counts


def _solve(filling: Filling, known: Sequence[tuple[int, tuple[int, ...]]]) -> tuple[Floats, Floats]:
    """What a replica of each shape and a host of each class are worth, with these fillings."""
    shapes, kinds = len(filling.shapes), len(filling.rooms)
    table = np.array([pattern for _kind, pattern in known], dtype=np.float64)
    at = np.arange(shapes)
    rows, cols = np.nonzero(table.T)
    places = (
        np.concatenate([at, rows, shapes + np.array([kind for kind, _pattern in known])]),
        np.concatenate([at, shapes + cols, shapes + np.arange(len(known))]),
    )
    values = np.concatenate([np.ones(shapes), -table.T[rows, cols], np.ones(len(known))])
    matrix = coo_array((values, places), shape=(shapes + kinds, shapes + len(known))).tocsr()
    objective = np.concatenate([-np.ones(shapes), np.zeros(len(known))])
    upper = np.concatenate([filling.counts, np.full(len(known), np.inf)])
    found = linprog(
        objective,
        A_ub=matrix,
        b_ub=np.concatenate([np.zeros(shapes), filling.hosts]),
        bounds=np.column_stack([np.zeros(len(upper)), upper]),
        method="highs",
    )
    if found.status != 0:
        return np.zeros(shapes), np.full(kinds, np.inf)
    duals = np.maximum(-found.ineqlin.marginals, 0.0)
    return np.minimum(duals[:shapes], 1.0), duals[shapes:]


def _exact(filling: Filling, duals: Floats) -> Iterator[tuple[Ints, int, Fraction]]:
    """The prices as whole numbers of a unit, and what is missing then: no float is in it."""
    for unit in DENOMINATORS:
        prices = np.floor(duals * unit + NEAR).astype(np.int64)
        if not prices.any():
            continue
        worth = sum(
            int(hosts) * int(filling.best(kind, prices)[0])
            for kind, hosts in enumerate(filling.hosts.tolist())
        )
        asked = sum(p * n for p, n in zip(prices.tolist(), filling.counts.tolist()))
        yield prices, unit, Fraction(asked - worth, unit)


def _certificate(
    problem: Problem, filling: Filling, prices: Ints, unit: int, excess: Fraction
) -> Certificate:
    counts = filling.counts.tolist()
    out = left_out(
        [(Fraction(price, unit), n) for price, n in zip(prices.tolist(), counts)], excess
    )
    counting = np.flatnonzero(prices).tolist()
    total = sum(counts)
    return Certificate(
        "fragmentation",
        "all together",
        "replicas",
        float(total),
        float(total - out),
        float(out),
        out,
        names_of(problem, filling.shapes[counting].tolist()),
        tuple(_steps(problem, filling, prices, unit, excess, out)),
    )


def _steps(
    problem: Problem, filling: Filling, prices: Ints, unit: int, excess: Fraction, out: int
) -> Iterator[str]:
    instance, column = problem.instance, filling.column
    resource, measure = instance.resources[column], instance.units[column]
    yield (
        f"replicas cannot be cut: of {resource} each host has room for whole ones only, so they are"
        " counted as below, and a host as the most that it can hold"
    )
    asked = Fraction(0)
    for at in np.flatnonzero(prices).tolist():
        shape, price = int(filling.shapes[at]), Fraction(int(prices[at]), unit)
        count = int(filling.counts[at])
        asked += price * count
        yield (
            f"{count:,} like {listed(names_of(problem, [shape]), 3)}, of"
            f" {number(problem.real_demand[shape, column])} {measure} each, count {price} each:"
            f" {number(float(price * count))}"
        )
    free = len(prices) - int(np.count_nonzero(prices))
    if free:
        yield f"{free} smaller {'kind counts' if free == 1 else 'kinds count'} as nothing"
    for kind, hosts in enumerate(filling.hosts.tolist()):
        value, pattern = filling.best(kind, prices)
        parts = [
            f"{times} x {names_of(problem, [int(filling.shapes[at])])[0]}"
            for at, times in enumerate(pattern.tolist())
            if times
        ]
        holds = f" (for example {' + '.join(parts)})" if parts else ""
        yield (
            f"{hosts:,} {'host' if hosts == 1 else 'hosts'} like {filling.examples[kind]}"
            f" {'holds' if hosts == 1 else 'hold'} at most {Fraction(int(value), unit)} each{holds}"
        )
    yield (
        f"all replicas count {number(float(asked))}, all hosts hold"
        f" {number(float(asked - excess))}: {number(float(excess))} is missing, so at least {out}"
        " must be left out"
    )

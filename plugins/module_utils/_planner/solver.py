# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict on a plan: bounds first, then a placement, then its verification by other code."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction

from .arrays import Floats, np
from .bounds.certificate import names_of
from .bounds.packing import packed
from .bounds.relaxation import Relaxed, relax
from .bounds.sums import Places, certificates, places
from .grouped import Problem, group
from .model import (
    FEASIBLE,
    INFEASIBLE,
    UNDECIDED,
    Assignment,
    Budget,
    Certificate,
    Instance,
    Result,
)
from .search.best_fit import gpu_sizes
from .search.strategy import Search
from .verify import verify

VERIFYING = 4e-5  # seconds to verify a replica and to write it down, with some to spare
SHOWN = 12  # certificates given, the strongest first


def solve(instance: Instance, budget: Budget, seed: int = 0) -> Result:
    """Whether all replicas fit, and where; or why not, and how many must be left out at least.

    FEASIBLE comes only with a placement in which `verify` finds nothing wrong, INFEASIBLE only
    with a certificate; otherwise UNDECIDED, with the best placement found and the bound. The search
    goes on until nothing better is possible or ``budget`` is used up. It is deterministic for a
    seed in its steps; a search that time ends may have come to different points on different runs,
    so its placement may differ, but a verdict of FEASIBLE or INFEASIBLE is never contradicted.

    Raises ValueError where the question makes no sense, and Cancelled where the caller wants so.
    """
    problem = group(instance)
    return _Planner(problem, budget, seed, _priorities(problem)).run()


def mend(instance: Instance, start: Iterable[Assignment], budget: Budget, seed: int = 0) -> Result:
    """Like `solve`, from a sound placement of some replicas, which is only changed where needed."""
    problem = group(instance)
    return _Planner(problem, budget, seed, _priorities(problem)).run(tuple(start))


def allocate(instance: Instance, budget: Budget, seed: int = 0, resource: str = "gpu") -> Result:
    """The placement with most of a resource in use, where not all replicas need be placed.

    ``Result.value`` is the amount in use (for "gpu" a number of devices), ``Result.bound`` what no
    placement can exceed. Otherwise like `solve`. Raises ValueError for an unknown resource.
    """
    problem = group(instance)
    if resource == "gpu":
        values = gpu_sizes(problem)
    elif resource in instance.resources:
        values = problem.real_demand[:, instance.resources.index(resource)].copy()
    else:
        raise ValueError(f"{resource} is none of gpu, {', '.join(instance.resources)}")
    return _Planner(problem, budget, seed, values, most=True).run()


def _priorities(problem: Problem) -> Floats:
    """The value of a replica: one of higher priority outweighs many of the next lower one."""
    levels = sorted({shape.priority for shape in problem.shapes})
    rank = {priority: at for at, priority in enumerate(levels)}
    # With many levels the numbers must stay such that a linear program can tell them apart.
    base = min(1000.0, 1e6 ** (1.0 / max(1, len(levels) - 1)))
    return np.array([base ** rank[shape.priority] for shape in problem.shapes])


class _Planner:
    def __init__(
        self, problem: Problem, budget: Budget, seed: int, values: Floats, most: bool = False
    ) -> None:
        self.problem, self.budget, self.seed = problem, budget, seed
        self.values, self.most = values, most
        self.ones = np.ones(len(problem.shapes))

    def run(self, start: tuple[Assignment, ...] | None = None) -> Result:
        """Bounds, placement, verification; from this placement on, if one is given."""
        problem, budget = self.problem, self.budget
        # What is found last must still be verified in time.
        budget = budget.part(
            1.0 - min(0.5, VERIFYING * float(problem.count.sum()) / max(budget.seconds, 1e-9))
        )
        budget.tell("bounds", 0.0)
        where = places(problem)
        found, sums_fit = certificates(problem, where)
        able = np.ones(len(problem.shapes))
        able[where.nowhere] = 0.0
        bound = float(self.values * able @ problem.count)
        search = Search(problem, where, self.values, bound, self.seed)
        budget.tell("placing", 0.1)
        if start is None:
            search.quick(budget)
        else:
            search.begin(start, budget)
        if not search.best.unplaced():
            return self._result(search, found, sums_fit, bound)
        if start is not None:
            search.mend(budget)
            return self._result(search, found, sums_fit, bound)
        budget.tell("linear program", 0.2)
        counting = self._relax(where, self.ones, budget)
        if counting is not None:
            found += self._from_prices(counting)
        found += packed(problem, where, budget.part(0.3))
        if np.array_equal(self.values, self.ones):
            most = problem.count.sum() - max((one.unplaceable for one in found), default=0)
            search.bound = bound = min(bound, float(most))
        valued: Relaxed | None = counting
        if not np.array_equal(self.values, self.ones):
            valued = self._relax(where, self.values, budget)
        if valued is not None:
            bound = min(bound, valued.bound)
            whole = np.array_equal(self.values, np.round(self.values))
            search.bound = math.floor(bound) if whole else bound
        if search.exhaust(budget):
            bound = search.bound
            if search.best.unplaced() and not found:
                found = [_tried(problem, search.best.unplaced())]
        search.thorough(budget, budget.tell)
        return self._result(search, found, sums_fit, bound)

    def _relax(self, where: Places, values: Floats, budget: Budget) -> Relaxed | None:
        return relax(self.problem, where.most, values, budget.part(0.5)) if budget.left else None

    def _from_prices(self, relaxed: Relaxed) -> list[Certificate]:
        """A certificate from the prices of the linear program, if these show a shortage."""
        problem = self.problem
        total = int(problem.count.sum())
        out = math.ceil(total - Fraction(relaxed.bound))
        if out <= 0:
            return []
        weights = 1.0 - relaxed.prices
        binding = np.flatnonzero((np.abs(weights) > 1e-9) & (problem.count > 0))
        return [
            Certificate(
                "types",
                "all together",
                "replicas",
                float(total),
                relaxed.bound,
                total - relaxed.bound,
                out,
                names_of(problem, binding.tolist()),
                tuple(_by_prices(problem, relaxed, weights, out)),
            )
        ]

    def _result(
        self, search: Search, found: list[Certificate], sums_fit: bool, bound: float
    ) -> Result:
        problem, budget = self.problem, self.budget
        budget.tell("verifying", 0.95)
        placement, unplaced = search.best.placement()
        nowhere = sum(int(problem.count[shape]) for shape in search.where.nowhere)
        at_least = max([nowhere, *(one.unplaceable for one in found)])
        wrong = verify(problem.instance, placement)
        # Replicas left out are expected; anything else is an error of ours, never an answer.
        if len(wrong) != len(unplaced):
            raise AssertionError(f"the placement is wrong: {wrong[0]}")
        verdict = UNDECIDED
        if not unplaced:
            verdict = FEASIBLE
        elif found:
            verdict = INFEASIBLE
        worth = search.best.worth(self.values)
        return Result(
            verdict, placement, unplaced, at_least, _strongest(found), sums_fit, budget.used,
            search.done, worth, bound,
        )  # fmt: skip


def _by_prices(problem: Problem, relaxed: Relaxed, weights: Floats, out: int) -> Iterator[str]:
    """The prices of the linear program as a bill: what hosts are worth, what replicas cost."""
    instance = problem.instance
    yield (
        "each resource is given a price, by kind of host; a replica counts as no more than what its"
        " place costs on the cheapest kind that is allowed, and as no more than 1"
    )
    for at, group_ in enumerate(problem.groups):
        if relaxed.worth[at] <= 1e-9:
            continue
        first, times = group_.hosts[0], len(group_.hosts)
        scale = problem.real_supply[first] / np.maximum(problem.supply[first], 1)
        bill = [
            f"{price / rate:.6g} for each {unit} of {resource}"
            for price, rate, unit, resource in zip(
                relaxed.host_prices[at], scale, instance.units, instance.resources
            )
            if price > 0 and rate > 0
        ]
        if relaxed.host_prices[at, -1] > 0:
            bill.append(f"{relaxed.host_prices[at, -1]:.6g} for each GPU")
        parts = [
            f"{share:.4g} GPU {price:.6g}"
            for group_number, _kind, share, price in relaxed.parts
            if group_number == at and price > 0
        ]
        yield (
            f"{times:,} hosts like {instance.hosts[first].name}: {', '.join(bill)}"
            + (f" (parts: {', '.join(parts)})" if parts else "")
            + f"; together worth {relaxed.worth[at]:.6g}"
        )
    for name, worth in relaxed.pools:
        if worth > 1e-9:
            yield f"{name}, one storage for all hosts that reach it, is worth {worth:.6g}"
    demand = 0.0
    for shape in np.argsort(-weights * problem.count, kind="stable").tolist():
        amount = float(weights[shape]) * int(problem.count[shape])
        demand += amount
        if abs(amount) > 1e-9:
            name = names_of(problem, [shape])[0]
            yield f"{int(problem.count[shape]):,} like {name} count {weights[shape]:.6g} each"
    for shape, at, amount in relaxed.limited:
        host = instance.hosts[problem.groups[at].hosts[0]].name
        most = int(problem.most(np.array([shape]), at)[0])
        times = min(int(problem.count[shape]), most * len(problem.groups[at].hosts))
        yield (
            f"a host like {host} takes at most {most:,} like {names_of(problem, [shape])[0]},"
            f" so all of them at most {times:,}: where these cost less than they count, that is at"
            f" most {amount:.6g}"
        )
    supply = sum(relaxed.worth) + sum(worth for _name, worth in relaxed.pools)
    yield (
        f"all replicas count {demand:.6g}, all hosts are worth {supply:.6g}"
        + (f" and limits of single hosts {relaxed.limits:.6g}" if relaxed.limits > 1e-9 else "")
        + f": {demand - supply - relaxed.limits:.6g} is missing, and no replica counts more than 1,"
        f" so at least {out} must be left out"
    )


def _tried(problem: Problem, out: int) -> Certificate:
    """For a question so small that every placement was looked at."""
    total = int(problem.count.sum())
    return Certificate(
        "fragmentation",
        "all together",
        "replicas",
        float(total),
        float(total - out),
        float(out),
        # With priorities the placement of most worth need not be that of most replicas.
        1,
        names_of(problem, range(len(problem.shapes))),
        (
            f"every way to place these {total} replicas on these"
            f" {len(problem.instance.hosts)} hosts was tried: none places all of them",
        ),
    )


def _strongest(found: list[Certificate]) -> tuple[Certificate, ...]:
    """The strongest certificate of each kind, resource and set of shapes, strongest first."""
    kept: dict[tuple[str, str], Certificate] = {}
    for one in found:
        key = (one.cause, one.resource)
        if one.cause in ("nowhere", "spread") or one.resource == "hosts":
            key = (one.cause, str(one.shapes))
        if key not in kept or one.unplaceable > kept[key].unplaceable:
            kept[key] = one
    ranked = sorted(kept.values(), key=lambda one: -one.unplaceable)
    return tuple(ranked[:SHOWN])

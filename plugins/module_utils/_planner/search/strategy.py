# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Search for the best placement: from quick to thorough, until nothing better is possible."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..arrays import Floats, np
from ..bounds.sums import Places
from ..grouped import Problem
from ..model import Assignment, Budget
from .best_fit import BestFit, orders
from .by_quota import Quotas
from .column_generation import Master, dive, realise
from .exhaustive import Exact
from .host_by_host import Binwise
from .repair import Repair
from .state import Packing

COLUMNS = 40_000  # pairs of shape and group up to which whole hosts are planned as patterns
SHAPES = 1_500
MANY = 300  # shapes above which hosts are first filled by quotas: fewer need none
WIDTHS = (100, 300)  # narrower beams fill too unevenly
HOSTS = 3_000  # hosts up to which each is filled by itself where shapes are many


class Search:
    """Keeps the best packing found. ``bound`` is what any packing is worth at most."""

    def __init__(
        self, problem: Problem, where: Places, values: Floats, bound: float, seed: int
    ) -> None:
        self.problem, self.where, self.values, self.bound = problem, where, values, bound
        self.random = np.random.default_rng(seed)
        self.best = Packing(problem)
        self.tried: list[Packing] = []

    @property
    def worth(self) -> float:
        """What the best packing is worth."""
        return self.best.worth(self.values)

    @property
    def done(self) -> bool:
        """Whether nothing better is possible."""
        return self.worth >= self.bound - 1e-6

    def _offer(self, packing: Packing) -> None:
        if packing.worth(self.values) > self.worth + 1e-9:
            self.best = packing

    def begin(self, placement: Iterable[Assignment], budget: Budget) -> None:
        """Start from a placement of some replicas, and place the others beside them."""
        self.best.read(placement, pin=False)
        for order in orders(self.problem)[:1]:
            packing = self.best.copy()
            BestFit(packing, budget).run(order)
            self._offer(packing)

    def exhaust(self, budget: Budget) -> bool:
        """Try everything where that is little; whether no better packing exists."""
        if not self.done and budget.left:
            exact = Exact(self.problem, self.values, self.best)
            self.best = exact.run(budget)
            if exact.complete:
                self.bound = self.worth
                return True
        return False

    def mend(self, budget: Budget) -> None:
        """Only empty and fill hosts anew."""
        if self.where.most is not None and not self.done and budget.left:
            Repair(self.best, self.where.most, self.values, self.bound, self.random).run(budget)

    def quick(self, budget: Budget) -> None:
        """Place by simple orders."""
        for order in orders(self.problem):
            packing = Packing(self.problem)
            BestFit(packing, budget).run(order)
            self.tried.append(packing)
            self._offer(packing)
            if self.done or not budget.left:
                return

    def _one_by_one(self, budget: Budget) -> None:
        """Fill host by host: for many shapes with few replicas of each. Larger hosts come last."""
        problem = self.problem
        if len(problem.instance.hosts) > HOSTS:
            return
        size = problem.supply @ (1.0 / np.maximum(problem.supply.max(axis=0, initial=1), 1))
        for effort in (1.0, 3.0):
            packing = Packing(problem)
            hosts = np.argsort(size, kind="stable")
            Binwise(packing, self.random, effort).run(hosts, problem.count.copy(), budget)
            BestFit(packing, budget).run(orders(problem)[0])
            self._offer(packing)
            if self.done or not budget.left:
                return

    def _by_quotas(self, master: Master, budget: Budget) -> None:
        """Fill hosts with what the linear program sends to their groups, with a widening beam."""
        for width in WIDTHS:
            packing = Packing(self.problem)
            realise(packing, Quotas(master, width).run(budget), master.filler.order)
            BestFit(packing, budget).run(orders(self.problem)[0])
            self.tried.append(packing)
            self._offer(packing)
            # A wider beam takes about twice as long; half a placement would be of no use.
            if self.done or budget.left < 2 * budget.used:
                return

    def thorough(self, budget: Budget, tell: Callable[[str, float], None]) -> None:
        """Plan whole hosts by patterns, then mend what is left."""
        most = self.where.most
        if most is None or self.done or not budget.left:
            return
        if int((most > 0).sum()) > COLUMNS or len(self.problem.shapes) > SHAPES:
            self._one_by_one(budget)
            return
        tell("patterns", 0.0)
        master = Master(self.problem, most, self.values)
        if len(self.problem.shapes) > MANY:
            self._by_quotas(master, budget.part(0.4))
        for packing in self.tried:
            master.learn(packing)
        # With little time, whole hosts gain more than mending.
        part = budget.part(0.85 if budget.left < 15 else 0.6)
        chosen, _prices = dive(master, self.problem.count, self.problem.sizes, part)
        packing = Packing(self.problem)
        realise(packing, chosen, master.filler.order)
        BestFit(packing, budget).run(orders(self.problem)[0])
        self._offer(packing)
        if self.done or not budget.left:
            return
        tell("repair", 0.0)
        self.mend(budget)

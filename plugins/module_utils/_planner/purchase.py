# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The smallest purchase that makes a plan feasible, and why no smaller one can."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace
from fractions import Fraction

from .arrays import Floats, Ints, np
from .bounds.certificate import listed, names_of, number
from .bounds.relaxation import LARGEST, Program
from .bounds.sums import places
from .grouped import Problem, group
from .model import (
    FEASIBLE,
    INFEASIBLE,
    UNDECIDED,
    Assignment,
    Budget,
    Host,
    Instance,
    Offer,
    Purchase,
    Result,
)
from .search.host_by_host import Binwise
from .search.state import Packing
from .solver import mend, solve
from .verify import verify
from .whole_numbers import TOLERANCE, read

MANY = 30  # shapes and new hosts from which new hosts are filled one by one
EFFORTS = (1.0, 2.0, 3.0, 5.0, 8.0)
SPARE = 0.02  # more than the bound buys, part of it, at first; no whole plan meets a bound exactly
PLENTY = 10**6  # hosts of an offer without a limit
TOO_FEW = "as many hosts as are offered are too few"
NOT_THERE = (
    "no number of the hosts offered is enough: what may not run on them has too little room on"
    " the hosts that are there"
)
NOTHING = Fraction(1, 10**6)  # of a host or a price: no purchase, and no better bound
EXCHANGED = 4  # hosts of an offer that are exchanged for others at once, at most
GOES = 12  # times that something is added for what is still left out


def purchase(
    instance: Instance, offers: tuple[Offer, ...], budget: Budget, seed: int = 0
) -> Purchase:
    """The fewest hosts of the offers (or the cheapest, where all have a price) that suffice.

    ``at_least`` is proven by the linear program with the numbers of hosts as variables; the counts
    returned come with a placement on the old and new hosts in which `verify` found nothing wrong.
    ``counts`` is None where nothing listed makes the plan feasible, or nothing was found in time.
    New hosts are named like the offer with a number. Raises ValueError for a senseless offer.
    """
    names = [offer.name for offer in offers]
    for offer in offers:
        if names.count(offer.name) > 1:
            raise ValueError(f"offer {offer.name} is there twice")
        if offer.most is not None and offer.most < 0:
            raise ValueError(f"offer {offer.name} has at most {offer.most} hosts")
        if offer.price is not None and not 0 <= offer.price < math.inf:
            raise ValueError(f"offer {offer.name} has a price of {offer.price}")
    return _Buyer(instance, offers, budget, seed).run()


class _Buyer:
    def __init__(
        self, instance: Instance, offers: tuple[Offer, ...], budget: Budget, seed: int
    ) -> None:
        self.instance, self.offers, self.budget, self.seed = instance, offers, budget, seed
        self.priced = bool(offers) and all(offer.price is not None for offer in offers)
        self.costs = np.array([(offer.price or 0.0) if self.priced else 1.0 for offer in offers])
        self.taken = {host.name for host in instance.hosts}

    def run(self) -> Purchase:
        """Plan without a purchase, add what its rest needs, then take back or exchange."""
        budget = self.budget
        problem = self._one_each(self.instance)
        if nowhere := places(problem).nowhere:
            return self._without(names_of(problem, nowhere))
        counts = np.zeros(len(self.offers), dtype=np.int64)
        result = Result(UNDECIDED, (), {w.name: w.replicas for w in self.instance.workloads}, 0)
        if self.instance.hosts or not any(w.replicas for w in self.instance.workloads):
            result = solve(self.instance, budget.part(0.4), self.seed)
        if result.verdict == FEASIBLE:
            return self._answer(counts, result, 0.0, ("all fits without a purchase",))
        lower, bought, steps = self._lower(self.instance, [offer.most for offer in self.offers])
        if lower is None:
            return self._none(INFEASIBLE, 0.0, steps)
        packed = self._pack(result, bought, lower)
        if packed is not None:
            counts, result = self._cheaper(*packed, lower)
            return self._answer(counts, result, lower, steps)
        counts, result = self._grow(counts, result, bought)
        if result.verdict != FEASIBLE:
            return self._none(UNDECIDED, lower, steps)
        counts, result = self._cheaper(*self._used(counts, result.placement), lower)
        return self._answer(counts, result, lower, steps)

    def _grow(self, counts: Ints, result: Result, bought: Floats) -> tuple[Ints, Result]:
        """Add hosts for what is left out, until all fits, time is up or nothing helps."""
        budget = self.budget
        anew = False
        for go in range(GOES):
            more = self._for_rest(result, counts)
            if more is None:  # the rest is not allowed there, but others may make room for it
                more = self._some_more(counts, bought, go)
                if more is None:
                    break
                if not anew:
                    result, anew = self._bound_first(budget.part(0.2)), True
            counts = counts + more
            result = mend(self._with(counts), result.placement, budget.part(0.2), self.seed)
            if result.verdict == FEASIBLE or not budget.left:
                break
        return counts, result

    def _answer(
        self, counts: Ints, result: Result, lower: float, steps: tuple[str, ...]
    ) -> Purchase:
        named = {offer.name: times for offer, times in zip(self.offers, counts.tolist()) if times}
        price = float(counts @ self.costs) if self.priced else None
        return Purchase(
            FEASIBLE, named, int(counts.sum()), price, lower, result.placement, steps,
            self.budget.used,
        )  # fmt: skip

    def _none(self, verdict: str, lower: float, steps: tuple[str, ...]) -> Purchase:
        return Purchase(verdict, None, 0, None, lower, (), steps, self.budget.used)

    def _one_each(self, instance: Instance) -> Problem:
        """The question with one host of each offer besides, to be taken as often as wanted."""
        ones = self._with(np.ones(len(self.offers), dtype=np.int64), old=False)
        return group(
            replace(instance, hosts=(*instance.hosts, *ones.hosts), pools=ones.pools),
            frozenset(host.name for host in ones.hosts),
        )

    def _without(self, hopeless: tuple[str, ...]) -> Purchase:
        """What to buy for the others, where these workloads fit on no host by themselves."""
        work = tuple(one for one in self.instance.workloads if one.name not in set(hopeless))
        others = None
        if any(one.replicas for one in work):
            instance = replace(self.instance, workloads=work)
            others = _Buyer(instance, self.offers, self.budget, self.seed).run()
        return replace(self._none(INFEASIBLE, 0.0, _told(hopeless)), others=others)

    def _with(self, counts: Ints, old: bool = True) -> Instance:
        """The plan with so many hosts of each offer, and with the old hosts if asked."""
        hosts = [
            Host(self._name(offer, n), offer.supply, offer.devices, offer.tags)
            for at, offer in enumerate(self.offers)
            for n in range(int(counts[at]))
        ]
        names = [
            (offer.name, self._name(offer, n))
            for at, offer in enumerate(self.offers)
            for n in range(int(counts[at]))
        ]
        pools = tuple(
            replace(
                pool,
                columns=(
                    *pool.columns,
                    *(
                        (name, column)
                        for offer, name in names
                        for member, column in pool.offers
                        if member == offer
                    ),
                ),
            )
            for pool in self.instance.pools
        )
        return replace(
            self.instance, hosts=(*(self.instance.hosts if old else ()), *hosts), pools=pools
        )

    def _name(self, offer: Offer, n: int) -> str:
        name = f"{offer.name}-{n + 1}"
        while name in self.taken:
            name += "-new"
        return name

    def _pack(self, result: Result, bought: Floats, lower: float) -> tuple[Ints, Result] | None:
        """Pack all that was left out on new hosts, filling one after the other; the best of some.

        For many shapes on many new hosts; None where that is not so, or not enough are offered.
        """
        left = {name for name, times in result.unplaced.items() if times}
        if len(left) < MANY or bought.sum() < MANY:
            return None
        limits = [PLENTY if offer.most is None else offer.most for offer in self.offers]
        counts = np.minimum(np.ceil(bought * 1.25 + 2), limits).astype(np.int64)
        instance = self._with(counts)
        problem = group(instance)
        old = len(self.instance.hosts)
        best: tuple[Ints, Result] | None = None
        for effort in EFFORTS:
            packing = Packing(problem)
            packing.read(result.placement, pin=False)
            random = np.random.default_rng(self.seed)
            fill = Binwise(packing, random, effort)
            fill.run(np.arange(old, len(instance.hosts)), packing.todo.copy(), self.budget)
            if packing.unplaced():
                break
            placement, _left = packing.placement()
            packed = self._used(counts, placement)
            if best is None or self.costs @ packed[0] < self.costs @ best[0]:
                best = packed
            if self.costs @ best[0] <= lower + 1e-9 or self.budget.used > 0.4 * self.budget.seconds:
                break
        return best

    def _used(self, counts: Ints, placement: tuple[Assignment, ...]) -> tuple[Ints, Result]:
        """The same plan without the new hosts that nothing is on, the others numbered anew."""
        busy = {one.host for one in placement}
        fewer, names = np.zeros_like(counts), {}
        for at, offer in enumerate(self.offers):
            there = [self._name(offer, n) for n in range(int(counts[at]))]
            there = [name for name in there if name in busy]
            fewer[at] = len(there)
            names.update({name: self._name(offer, n) for n, name in enumerate(there)})
        kept = tuple(one._replace(host=names.get(one.host, one.host)) for one in placement)
        if verify(self._with(fewer), kept):
            raise AssertionError("the plan does not hold without its empty hosts")
        return fewer, Result(FEASIBLE, kept, {}, 0)

    def _for_rest(self, result: Result, counts: Ints) -> Ints | None:
        """What to buy so that what was left out has hosts of its own; None where none helps."""
        rest = replace(
            self.instance,
            hosts=(),
            workloads=tuple(
                replace(workload, replicas=result.unplaced[workload.name])
                for workload in self.instance.workloads
                if result.unplaced.get(workload.name)
            ),
        )
        limits = [
            None if offer.most is None else offer.most - times
            for offer, times in zip(self.offers, counts.tolist())
        ]
        lower, bought, _steps = self._lower(rest, limits)
        more = np.ceil(bought - 1e-6).astype(np.int64)
        more = np.minimum(more, [PLENTY if limit is None else limit for limit in limits])
        return None if lower is None or not more.any() else more

    def _bound_first(self, budget: Budget) -> Result:
        """A plan of what none of the offers takes, on the hosts that are there."""
        problem = group(self._with(np.ones(len(self.offers), dtype=np.int64), old=False))
        names = set(names_of(problem, places(problem).nowhere))
        bound = tuple(one for one in self.instance.workloads if one.name in names)
        return solve(replace(self.instance, workloads=bound), budget, self.seed)

    def _some_more(self, counts: Ints, bought: Floats, go: int) -> Ints | None:
        """What the bound buys, then ever more of what it buys most; None where there is no more."""
        limits = [PLENTY if offer.most is None else offer.most for offer in self.offers]
        bound = np.minimum(np.ceil(bought * (1 + SPARE)), limits).astype(np.int64)
        if (bound > counts).any():
            more: Ints = np.maximum(bound - counts, 0)
            return more
        times = math.ceil(max(1.0, SPARE * float(bought.sum()))) * 2**go
        for at in np.argsort(-bought, kind="stable").tolist():
            most = self.offers[at].most
            if most is None or counts[at] < most:
                more = np.zeros_like(counts)
                more[at] = times if most is None else min(times, most - int(counts[at]))
                return more
        return None

    def _cheaper(self, counts: Ints, result: Result, lower: float) -> tuple[Ints, Result]:
        """Take hosts back, or exchange them for cheaper ones, while the rest can be mended."""
        failed: set[tuple[int, ...]] = set()
        while self.budget.left:
            least, most = lower - 1e-9, float(self.costs @ counts) - 1e-9
            trial = next(
                (
                    one
                    for one in (*self._one_less(counts), *self._exchanged(counts))
                    if least <= self.costs @ one < most and tuple(one.tolist()) not in failed
                ),
                None,
            )
            if trial is None:
                break
            start = self._kept(result, counts, trial)
            part = 0.6 if (trial <= counts).all() else 0.2
            found = mend(self._with(trial), start, self.budget.part(part), self.seed)
            if found.verdict == FEASIBLE:
                counts, result = trial, found
            else:
                failed.add(tuple(trial.tolist()))
        return counts, result

    def _one_less(self, counts: Ints) -> list[Ints]:
        """One host taken back, the dearest first."""
        found = []
        for at in np.argsort(-self.costs, kind="stable").tolist():
            if counts[at]:
                trial = counts.copy()
                trial[at] -= 1
                found.append(trial)
        return found

    def _exchanged(self, counts: Ints) -> list[Ints]:
        """A few hosts of one offer for a few of another that cost less; the cheapest first."""
        found = []
        for gone, come in itertools.permutations(range(len(self.offers)), 2):
            most = self.offers[come].most
            room = EXCHANGED if most is None else min(EXCHANGED, most - int(counts[come]))
            for fewer in range(1, min(EXCHANGED, int(counts[gone])) + 1):
                for more in range(1, room + 1):
                    if more * self.costs[come] >= fewer * self.costs[gone]:
                        break
                    trial = counts.copy()
                    trial[gone] -= fewer
                    trial[come] += more
                    found.append(trial)
        return sorted(found, key=lambda trial: float(self.costs @ trial))

    def _kept(self, result: Result, counts: Ints, trial: Ints) -> tuple[Assignment, ...]:
        """The placement without the new hosts that go: those with least on them; others move up."""
        load = Counter(one.host for one in result.placement)
        names: dict[str, str | None] = {}
        for at, offer in enumerate(self.offers):
            there = [self._name(offer, n) for n in range(int(counts[at]))]
            busy = set(sorted(there, key=lambda name: -load[name])[: int(trial[at])])
            stay = [name for name in there if name in busy]
            names.update(dict.fromkeys(there))
            names.update({name: self._name(offer, n) for n, name in enumerate(stay)})
        kept = ((one, names.get(one.host, one.host)) for one in result.placement)
        return tuple(one._replace(host=name) for one, name in kept if name is not None)

    def _lower(
        self, instance: Instance, limits: list[int | None]
    ) -> tuple[float | None, Floats, tuple[str, ...]]:
        """The least cost in any case, what is bought in the linear program, and the arithmetic.

        None instead of a cost where nothing that is offered can be enough.
        """
        problem = self._one_each(instance)
        old = len(instance.hosts)
        where = places(problem)
        none = np.zeros(len(self.offers))
        if where.nowhere:
            return None, none, _told(names_of(problem, where.nowhere))
        lower, bought, steps = self._by_sums(problem, old)
        if where.most is not None and int((where.most > 0).sum()) <= LARGEST:
            sizes, cost = problem.sizes.copy(), np.full(len(problem.groups), np.nan)
            groups = problem.group_of[old:]
            sizes[groups] = [PLENTY if limit is None else limit for limit in limits]
            cost[groups] = self.costs
            program = Program(problem, where.most, sizes, np.ones(len(problem.shapes)), cost)
            relaxed = program.solve(self.budget.part(0.3))
            if relaxed is None and program.impossible:
                limited = any(limit is not None for limit in limits)
                return None, none, (TOO_FEW if limited else NOT_THERE,)
            if relaxed is not None:
                bought = relaxed.bought[np.argsort(np.argsort(groups))]
                if relaxed.bound > lower + NOTHING:
                    lower = Fraction(relaxed.bound)
                    what = "price" if self.priced else "number of hosts"
                    steps = (
                        *steps,
                        f"the linear program of shapes by kinds of host, with GPUs cut up by"
                        f" patterns, needs a {what} of at least {number(float(lower))}",
                    )
        return self._whole(lower), bought, steps

    def _whole(self, lower: Fraction) -> float:
        """A bound as whole hosts reach it: one at least, and a multiple of what all costs share.

        Bounds are exact or rounded down, so that nothing is claimed for a float's last digit.
        """
        if lower <= NOTHING:
            return 0.0
        costs: list[float] = self.costs.tolist()
        if all(one == round(one) for one in costs) and any(costs):
            step = math.gcd(*(round(one) for one in costs))
            lower = Fraction(math.ceil(lower / step) * step)
        return max(_down(lower), min(costs))

    def _by_sums(self, problem: Problem, old: int) -> tuple[Fraction, Floats, tuple[str, ...]]:
        """A bound by one resource alone, and enough of the offers by it."""
        instance = problem.instance
        best, bought = Fraction(0), np.zeros(len(self.offers))
        steps: tuple[str, ...] = ()
        counts = problem.count.tolist()
        for at, resource in enumerate(instance.resources):
            demands = problem.real_demand[:, at].tolist()
            asked = sum((read(d) * n for d, n in zip(demands, counts)), Fraction(0))
            there = problem.counted(range(old), at)
            have = sum(map(read, problem.real_supply[there, at].tolist()), Fraction(0))
            each = [
                # A new host reaches a storage that is there, and brings none of it.
                Fraction(0) if any(column == at for column, _pool in drawn) else read(figure)
                for figure, drawn in zip(
                    problem.real_supply[old:, at].tolist(), problem.pooled[old:]
                )
            ]
            if asked <= have * (1 + TOLERANCE) or not any(each):
                continue
            short = asked - have * (1 + TOLERANCE)
            rates = {
                n: read(cost) / (brings * (1 + TOLERANCE))
                for n, (cost, brings) in enumerate(zip(self.costs.tolist(), each))
                if brings
            }
            cheapest = min(rates, key=lambda n: rates[n])
            bound = short * rates[cheapest]
            if bound > best or not bought.any():
                best = max(best, bound)
                bought = np.zeros(len(self.offers))
                bought[cheapest] = float((asked - have) / each[cheapest])
                unit = instance.units[at]
                steps = (
                    f"{number(float(asked))} {unit} of {resource} are needed,"
                    f" {number(float(have))} are there: {number(float(asked - have))} short;"
                    f" {self.offers[cheapest].name} brings {number(float(each[cheapest]))}:"
                    f" at least {number(float(best))}" + (" in price" if self.priced else " hosts"),
                )
        return best, bought, steps


def _down(figure: Fraction) -> float:
    """The greatest float that is not above the figure."""
    near = float(figure)
    return near if Fraction(near) <= figure else math.nextafter(near, -math.inf)


def _told(hopeless: tuple[str, ...]) -> tuple[str, ...]:
    return (f"{listed(hopeless)} would fit on no host that is known or offered",)

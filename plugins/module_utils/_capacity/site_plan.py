# Copyright: (c) 2026, The mlops.onprem developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything a site wants to know about its workloads, from one question.

Whether they fit and where they go, what is short, which host may not be lost, until when it lasts,
what to buy, and what would be otherwise if hosts or workloads came or went.
"""

from __future__ import annotations

import datetime
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .._demand.workloads import Shape, Spec, WhatIf
from .._planner.model import (
    FEASIBLE,
    INFEASIBLE,
    UNDECIDED,
    Assignment,
    Budget,
    Certificate,
    Host,
    Instance,
    Purchase,
    Result,
    Survival,
    Workload,
)
from .._planner.purchase import purchase as buy
from .._planner.solver import mend, solve
from .._planner.survival import solve_surviving, survive
from .._planner.verify import verify
from .horizon import Horizon, gpu_parts, last_day, lasts, runouts
from .question import CPU, DISK_FOR, MEMORY, Earlier, Figures, Place, Problem, build

SCHEMA = 1
NO_CHANGE = WhatIf()


@dataclass(frozen=True)
class Planning:
    """How to plan: seconds in all, seed, years to look ahead, and whether any host may be lost."""

    seconds: float = 30.0
    seed: int = 0
    horizon_years: float = 3.0
    survive: bool = False


@dataclass(frozen=True)
class Site:
    """What is planned: hosts, offers, workloads, the day, and where work was placed before.

    ``unmeasured`` are hosts of the inventory whose supply is not known.
    """

    places: tuple[Place, ...]
    specs: tuple[Spec, ...]
    today: datetime.date
    offers: tuple[tuple[Shape, Place], ...] = ()
    earlier: tuple[Earlier, ...] = ()
    unmeasured: tuple[str, ...] = ()

    def problem(self, day: datetime.date) -> Problem:
        """The planner's question on a day."""
        return build(
            self.places,
            self.offers,
            self.specs,
            lambda spec: spec.growth.factor(self.today, day),
        )


@dataclass(frozen=True)
class Local:
    """One host in a shortage: ``free`` could be planned, ``left`` is what the best plan leaves."""

    host: str
    total: float
    reserved: float
    used: float
    free: float
    left: float


@dataclass(frozen=True)
class Shortage:
    """What is missing, of what, where.

    ``scope`` is ``host`` if no single host has room for one replica, else ``cluster``. ``used`` is
    foreign use and the platform's own services.
    """

    scope: str
    cause: str
    resource: str
    unit: str
    requested: float
    reserved: float
    used: float
    short: float
    free_total: float
    workloads: tuple[str, ...] = ()
    hosts: tuple[Local, ...] = ()
    steps: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        data = asdict(self)
        data["hosts"] = [asdict(row) for row in self.hosts]
        data["workloads"] = list(self.workloads)
        data["steps"] = list(self.steps)
        return data


@dataclass(frozen=True)
class Load:
    """What the plan puts on a host. GPUs are counted in whole and parts of them."""

    host: str
    replicas: int
    cpu: float
    cpu_free: float
    memory_mib: float
    memory_free_mib: float
    gpus: float
    gpus_total: int
    memory_limits_mib: float


@dataclass(frozen=True)
class SitePlan:
    """The answer. ``kept`` tells how many replicas stay where an earlier run placed them."""

    verdict: str
    site: Site
    planning: Planning
    problem: Problem
    result: Result
    kept: int = 0
    reason: str = ""
    shortages: tuple[Shortage, ...] = ()
    loads: tuple[Load, ...] = ()
    survivals: tuple[Survival, ...] | None = None
    horizon: Horizon | None = None
    purchase: Purchase | None = None
    purchase_for_horizon: Purchase | None = None
    seconds: float = 0.0
    changed: SitePlan | None = None
    what_if: WhatIf = field(default=NO_CHANGE)

    @property
    def exposed(self) -> tuple[Survival, ...]:
        """The hosts that may not be lost."""
        return tuple(row for row in self.survivals or () if row.stranded)

    def placement(self) -> list[dict[str, Any]]:
        """Where each replica goes, with the driver's names of its GPUs."""
        profiles = {spec.name: spec.gpu.profile for spec in self.site.specs}
        return [
            {
                "workload": one.workload,
                "replica": one.replica,
                "host": one.host,
                "gpus": list(self.problem.gpus(one)),
                "gpu_ids": [
                    self.problem.places[one.host].cards[position].uuid for position in one.devices
                ],
                "profile": profiles[one.workload],
                "slice": one.slice,
            }
            for one in sorted(self.result.placement)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as docs/schema/capacity_plan.schema.json describes it."""
        instance = self.problem.instance
        placed = Counter(one.workload for one in self.result.placement)
        data: dict[str, Any] = {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "reason": self.reason,
            "day": self.site.today.isoformat(),
            "seed": self.planning.seed,
            "seconds": round(self.seconds, 3),
            "kept": self.kept,
            "sums_fit": self.result.sums_fit,
            "at_least": self.result.at_least,
            "unmeasured": list(self.site.unmeasured),
            "hosts": [asdict(load) for load in self.loads],
            "workloads": [
                {
                    "name": work.name,
                    "kind": spec.kind,
                    "replicas": work.replicas,
                    "placed": placed[work.name],
                    "needs": dict(zip(instance.resources, map(_tidy, work.demand))),
                    "gpu": gpu_text(spec),
                    "priority": spec.priority,
                }
                for work, spec in zip(instance.workloads, self.site.specs)
            ],
            "resources": dict(zip(instance.resources, instance.units)),
            "placement": self.placement(),
            "unplaced": {name: count for name, count in self.result.unplaced.items() if count},
            "certificates": [
                {**asdict(row), "shapes": list(row.shapes), "steps": list(row.steps)}
                for row in self.result.certificates
            ],
            "shortages": [row.as_dict() for row in self.shortages],
            "lost_hosts": (
                None
                if self.survivals is None
                else [
                    {"host": row.host, "moves": row.lost, "stranded": dict(row.stranded)}
                    for row in self.survivals
                ]
            ),
            "horizon": None if self.horizon is None else self.horizon.as_dict(),
            "purchase": _bought(self.purchase),
            "purchase_for_horizon": _bought(self.purchase_for_horizon),
            "what_if": None,
        }
        if self.changed is not None:
            data["what_if"] = difference(self, self.changed, self.what_if)
        return data


def _bought(found: Purchase | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "verdict": found.verdict,
        "counts": None if found.counts is None else dict(found.counts),
        "hosts": found.hosts,
        "price": found.price,
        "at_least": _tidy(found.at_least),
        "steps": list(found.steps),
        "others": _bought(found.others),
    }


def _tidy(value: float) -> float:
    return round(value, 4)


def gpu_text(spec: Spec) -> str:
    """What a replica asks of GPUs, as words: ``2 GPUs A100``."""
    gpu = spec.gpu
    if not gpu.wanted:
        return ""
    said = (
        f"{gpu.count} GPU{'' if gpu.count == 1 else 's'}"
        if gpu.count
        else f"{gpu.share:g} GPU"
        if gpu.share
        else f"{gpu.memory_mib / 1024:,.10g} GiB of a GPU"
        if gpu.memory_mib
        else f"MIG {gpu.profile}"
    )
    return " ".join([said, *sorted(gpu.models)])


# -- placement ----------------------------------------------------------------------------------


def sound(instance: Instance, rows: Sequence[Assignment]) -> bool:
    """Whether these replicas, and no others, may stand where they are."""
    return not verify(*_only(instance, rows))


def _only(
    instance: Instance, rows: Sequence[Assignment]
) -> tuple[Instance, tuple[Assignment, ...]]:
    """The question for these replicas alone, numbered anew."""
    numbers: Counter[str] = Counter()
    again = []
    for row in rows:
        again.append(row._replace(replica=numbers[row.workload]))
        numbers[row.workload] += 1
    works = tuple(
        replace(work, replicas=numbers[work.name])
        for work in instance.workloads
        if numbers[work.name]
    )
    return replace(instance, workloads=works), tuple(again)


def still_sound(instance: Instance, rows: Sequence[Assignment]) -> tuple[Assignment, ...]:
    """Of earlier assignments those that may stay; a host where they do not fit keeps none."""
    if not rows or sound(instance, rows):
        return tuple(rows)
    by_host: dict[str, list[Assignment]] = defaultdict(list)
    for row in rows:
        by_host[row.host].append(row)
    hosts = {host.name: host for host in instance.hosts}
    good = [
        row
        for name, here in by_host.items()
        if sound(replace(instance, hosts=(hosts[name],)), here)
        for row in here
    ]
    return tuple(good) if sound(instance, good) else ()


def place(
    problem: Problem, earlier: Sequence[Earlier], planning: Planning, budget: Budget
) -> tuple[Result, tuple[Survival, ...] | None, int]:
    """Where everything goes, with as much as possible staying where it was.

    Earlier replicas that still fit stay, down to their GPUs, and the rest is added around them;
    only where that does not work everything is placed anew. Gives the result, what a lost host
    would strand if a plan that survives was asked for, and how many replicas did not move.
    """
    instance = problem.instance
    before = problem.earlier(earlier)
    rows = still_sound(instance, before)
    if rows:
        result = mend(instance, rows, budget.part(0.3), planning.seed)
        if result.verdict == FEASIBLE:
            result = replace(result, placement=renumbered(before, result.placement))
            survivals = survive(instance, result.placement, budget.part(0.3))
            if not planning.survive or not any(row.stranded for row in survivals):
                return result, survivals, _stayed(before, result.placement)
    if planning.survive:
        result, survivals = solve_surviving(instance, budget.part(0.7), planning.seed)
    else:
        result, survivals = solve(instance, budget.part(0.7), planning.seed), ()
    result = replace(result, placement=renumbered(before, result.placement))
    return result, survivals if planning.survive else None, _stayed(before, result.placement)


def _where(one: Assignment) -> object:
    return one[2:]


def _on(one: Assignment) -> object:
    return one.host


def renumbered(before: Sequence[Assignment], after: Sequence[Assignment]) -> tuple[Assignment, ...]:
    """The same placement with the replicas numbered as before, as far as they stay.

    Replicas of a workload are alike, so whichever number fits what was there is given to it: first
    those on the same devices, then those on the same host, then the rest in order.
    """
    numbers: dict[str, set[int]] = defaultdict(set)
    for one in after:
        numbers[one.workload].add(one.replica)
    waiting = list(after)
    answer: list[Assignment] = []
    for same in (_where, _on):
        old: dict[Any, list[int]] = defaultdict(list)
        for one in reversed(before):
            if one.replica in numbers[one.workload]:
                old[one.workload, same(one)].append(one.replica)
        rest = []
        for one in waiting:
            known = old[one.workload, same(one)]
            if known:
                number = known.pop()
                numbers[one.workload].remove(number)
                answer.append(one._replace(replica=number))
            else:
                rest.append(one)
        waiting = rest
    left = {name: iter(sorted(some)) for name, some in numbers.items()}
    answer += [one._replace(replica=next(left[one.workload])) for one in waiting]
    return tuple(sorted(answer))


def _stayed(before: Sequence[Assignment], after: Sequence[Assignment]) -> int:
    """How many replicas are on the host where they were."""
    hosts = {(row.workload, row.replica): row.host for row in before}
    return sum(1 for row in after if hosts.get((row.workload, row.replica)) == row.host)


# -- the whole answer ---------------------------------------------------------------------------


def plan_site(
    site: Site, planning: Planning, budget: Budget, what_if: tuple[WhatIf, Site] | None = None
) -> SitePlan:
    """Answer everything within the budget: half of the time for the placement at most.

    ``what_if`` is the same site with something changed; it gets half of the time. Raises Cancelled
    if the budget is asked to end.
    """
    if what_if is None:
        return _plan(site, planning, budget)
    first = _plan(site, planning, budget.part(0.5))
    change, changed = what_if
    after = replace(changed, earlier=_as_earlier(first))
    second = _plan(after, planning, budget.part(0.9))
    return replace(first, changed=second, what_if=change)


def _as_earlier(plan: SitePlan) -> tuple[Earlier, ...]:
    """So that the changed site is compared with what would be, and nothing moves without need."""
    return tuple(
        Earlier(one.workload, one.replica, one.host, plan.problem.gpus(one), one.slice)
        for one in plan.result.placement
    )


def _plan(site: Site, planning: Planning, budget: Budget) -> SitePlan:
    budget.tell("placing the workloads", 0.0)
    problem = site.problem(site.today)
    result, survivals, kept = place(problem, site.earlier, planning, budget.part(0.6))
    verdict, reason = result.verdict, ""
    if verdict == INFEASIBLE and site.unmeasured:
        verdict = UNDECIDED
        reason = "they do not fit on the hosts that could be measured; not measured: " + ", ".join(
            site.unmeasured
        )
    elif verdict == UNDECIDED:
        reason = (
            "the bounds do not exclude a placement, and none was found in the time given "
            "(assess_seconds)"
        )
    if verdict == FEASIBLE and survivals is None:
        budget.tell("losing each host once", 0.5)
        survivals = survive(problem.instance, result.placement, budget.part(0.3))
    horizon = None
    purchase = purchase_for_horizon = None
    if verdict == FEASIBLE:
        budget.tell("looking ahead", 0.6)
        horizon = _look_ahead(site, problem, result, planning, budget.part(0.6))
        if horizon.ends is not None and problem.offers:
            budget.tell("pricing the horizon", 0.8)
            later = site.problem(horizon.until)
            purchase_for_horizon = buy(
                later.instance, later.offers, budget.part(0.8), planning.seed
            )
    elif problem.offers:
        budget.tell("looking what to buy", 0.6)
        purchase = buy(problem.instance, problem.offers, budget.part(0.8), planning.seed)
    budget.tell("done", 1.0)
    return SitePlan(
        verdict,
        site,
        planning,
        problem,
        result,
        kept,
        reason,
        () if verdict == FEASIBLE else shortages(problem, result, site.specs),
        loads(problem, result, site.specs),
        survivals if verdict == FEASIBLE else None,
        horizon,
        purchase,
        purchase_for_horizon,
        budget.used,
    )


def _look_ahead(
    site: Site, problem: Problem, result: Result, planning: Planning, budget: Budget
) -> Horizon:
    until = last_day(site.today, planning.horizon_years)
    outs = runouts(problem, result.placement, site.specs, site.today, until)
    if not any(spec.growth.grows for spec in site.specs):
        return Horizon(until, until, None, False, outs)
    known: dict[Instance, str] = {problem.instance: FEASIBLE}
    # Bisection looks at this many days, and each gets its part of the time that is left: a search
    # that cannot succeed uses up what it gets.
    days = max(1, (until - site.today).days).bit_length() + 1

    def decide(day: datetime.date) -> str | None:
        nonlocal days
        instance = site.problem(day).instance
        if instance not in known:
            if day != until and budget.left <= 0:
                return None
            part = budget.part(1 / max(1, days))
            known[instance] = solve(instance, part, planning.seed).verdict
        days -= 1
        return known[instance]

    fits, ends, proven = lasts(site.today, until, decide)
    return Horizon(until, fits, ends, proven, outs)


def loads(problem: Problem, result: Result, specs: Sequence[Spec]) -> tuple[Load, ...]:
    """What the plan puts on each host, and what stays free there."""
    by_name = {spec.name: spec for spec in specs}
    works = {work.name: work for work in problem.instance.workloads}
    by_host: dict[str, list[Assignment]] = defaultdict(list)
    for one in result.placement:
        by_host[one.host].append(one)
    found = []
    for name, here in problem.places.items():
        rows = by_host.get(name, [])
        cpu = sum(works[one.workload].demand[0] for one in rows)
        memory = sum(works[one.workload].demand[1] for one in rows)
        gpus = sum(
            sum(gpu_parts(problem, one, by_name[one.workload]).values())
            for one in rows
            if one.devices
        )
        limits = sum(
            most if (most := by_name[one.workload].limit.memory_mib) is not None else own
            for one in rows
            for own in (works[one.workload].demand[1],)
        )
        found.append(
            Load(
                name,
                len(rows),
                _tidy(cpu),
                _tidy(here.cpu.free - cpu),
                _tidy(memory),
                _tidy(here.memory.free - memory),
                _tidy(gpus),
                len(here.cards),
                _tidy(limits),
            )
        )
    return tuple(found)


def shortages(problem: Problem, result: Result, specs: Sequence[Spec]) -> tuple[Shortage, ...]:
    """The certificates, with the figures of every host that is allowed to the shapes involved.

    One that says of some hosts what another says of all is told once.
    """
    used = _used(problem, result, specs)
    found: dict[tuple[object, ...], Shortage] = {}
    for certificate in result.certificates:
        row = _shortage(problem, certificate, used)
        found.setdefault((row.resource, row.unit, row.requested, row.short), row)
    return tuple(found.values())


def _used(
    problem: Problem, result: Result, specs: Sequence[Spec]
) -> Mapping[tuple[str, str], float]:
    """How much the best placement uses, by host and resource."""
    by_name = {spec.name: spec for spec in specs}
    works = {work.name: work for work in problem.instance.workloads}
    used: dict[tuple[str, str], float] = defaultdict(float)
    for one in result.placement:
        demand = works[one.workload].demand
        for resource, amount in zip(problem.instance.resources, demand):
            used[one.host, resource] += amount
        for position, part in gpu_parts(problem, one, by_name[one.workload]).items():
            used[one.host, f"GPU {position}"] += part
    return used


def _shortage(
    problem: Problem, found: Certificate, used: Mapping[tuple[str, str], float]
) -> Shortage:
    named = set(found.shapes)
    works = [work for work in problem.instance.workloads if work.name in named]
    rows = []
    for host in problem.instance.hosts:
        if works and not any(_allowed(work, host) for work in works):
            continue
        figures, taken = _figures(problem, host, found, works, used)
        if figures is not None:
            rows.append(
                Local(
                    host.name,
                    figures.total,
                    figures.reserved,
                    _tidy(figures.foreign + figures.roles),
                    _tidy(figures.free),
                    _tidy(max(0.0, figures.free - taken)),
                )
            )
    return Shortage(
        "host" if found.cause == "nowhere" else "cluster",
        found.cause,
        found.resource,
        found.unit,
        _tidy(found.demand),
        _tidy(sum(row.reserved for row in rows)),
        _tidy(sum(row.used for row in rows)),
        _tidy(found.short),
        _tidy(sum(row.free for row in rows) if rows else found.supply),
        tuple(work.name for work in works),
        tuple(rows),
        found.steps,
    )


def _allowed(work: Workload, host: Host) -> bool:
    return work.tags <= host.tags and (work.hosts is None or host.name in work.hosts)


def _figures(
    problem: Problem,
    host: Host,
    found: Certificate,
    works: Sequence[Workload],
    used: Mapping[tuple[str, str], float],
) -> tuple[Figures | None, float]:
    """The figures of what is short on one host, and how much of it the best plan takes.

    None where the certificate counts something that a host does not have, such as replicas.
    """
    here = problem.places[host.name]
    resource = found.resource
    if resource in problem.instance.resources:
        taken = used.get((host.name, resource), 0.0)
        if resource in (CPU, MEMORY):
            return (here.cpu if resource == CPU else here.memory), taken
        paths = resource.partition(DISK_FOR)[2].split(", ")
        systems = {here.system(path) for path in paths}
        system = systems.pop() if len(systems) == 1 else None
        return here.disks.get(system or "", Figures(0.0)), taken
    if found.unit != "GPUs":
        return None, 0.0
    cards = [
        position
        for position, card in enumerate(here.cards)
        if any(
            bool(card.mig) == bool(work.gpu.profile)
            and (not work.gpu.models or card.model in work.gpu.models)
            for work in works
        )
    ]
    taken = sum(used.get((host.name, f"GPU {position}"), 0.0) for position in cards)
    return Figures(float(len(cards))), taken


# -- what if ------------------------------------------------------------------------------------


def changed_site(site: Site, what_if: WhatIf, offered: Callable[[Shape], Place]) -> Site:
    """The site with hosts and workloads added and removed. New hosts are ``shape-1`` and so on."""
    gone = set(what_if.remove_hosts)
    places = [place for place in site.places if place.name not in gone]
    names = {place.name for place in site.places}
    for shape, count in what_if.add_hosts:
        number = 0
        for _one in range(count):
            number += 1
            while f"{shape.name}-{number}" in names:
                number += 1
            names.add(f"{shape.name}-{number}")
            places.append(replace(offered(shape), name=f"{shape.name}-{number}"))
    without = set(what_if.remove_workloads)
    specs = [spec for spec in site.specs if spec.name not in without]
    return replace(
        site,
        places=tuple(places),
        specs=(*specs, *what_if.add_workloads),
        unmeasured=tuple(name for name in site.unmeasured if name not in gone),
    )


def difference(before: SitePlan, after: SitePlan, what_if: WhatIf) -> dict[str, Any]:
    """What would be otherwise: the figures of both, and which replicas would move."""
    old = {(one.workload, one.replica): one.host for one in before.result.placement}
    moved = [
        {"workload": one.workload, "replica": one.replica, "from": old[key], "to": one.host}
        for one in sorted(after.result.placement)
        for key in [(one.workload, one.replica)]
        if key in old and old[key] != one.host
    ]
    return {
        "changes": {
            "add_hosts": {shape.name: count for shape, count in what_if.add_hosts},
            "remove_hosts": list(what_if.remove_hosts),
            "add_workloads": [spec.name for spec in what_if.add_workloads],
            "remove_workloads": list(what_if.remove_workloads),
        },
        "before": _summary(before),
        "after": _summary(after),
        "moved": moved,
    }


def _summary(plan: SitePlan) -> dict[str, Any]:
    free = {
        "CPU": _tidy(sum(load.cpu_free for load in plan.loads)),
        "memory": _tidy(sum(load.memory_free_mib for load in plan.loads)),
        "GPU": _tidy(sum(load.gpus_total - load.gpus for load in plan.loads)),
    }
    horizon = plan.horizon
    return {
        "verdict": plan.verdict,
        "hosts": len(plan.site.places),
        "replicas": sum(work.replicas for work in plan.problem.instance.workloads),
        "placed": len(plan.result.placement),
        "free": free,
        "may_not_be_lost": (None if plan.survivals is None else [row.host for row in plan.exposed]),
        "fits_until": None if horizon is None else horizon.fits_until.isoformat(),
        "ends": (None if horizon is None or horizon.ends is None else horizon.ends.isoformat()),
        "short": [
            {"resource": row.resource, "unit": row.unit, "short": row.short}
            for row in plan.shortages
        ],
    }

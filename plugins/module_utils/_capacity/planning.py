# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything a site wants to know about its workloads, from one question.

Whether they fit and where they go, what is short, which host may not be lost, until when it lasts,
what to buy, and what would be otherwise if hosts or workloads came or went.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .._demand.offers import Shape
from .._demand.what_if import WhatIf
from .._demand.words import parse_host_resources, parse_labels
from .._demand.workloads import Spec
from .._findings.finding import FAIL, SITE, WARN, Demand, Finding
from .._findings.shape import (
    ShapeError,
)
from .._planner.model import (
    FEASIBLE,
    INFEASIBLE,
    UNDECIDED,
    Budget,
    Instance,
    Result,
)
from .._planner.purchase import purchase as buy
from .._planner.solver import solve
from .._planner.survival import survive
from .._supply.facts import Facts
from .horizon import Horizon, last_day, lasts, runouts
from .leaving import leave_out
from .margins import Margins, read_facts
from .places import Figures, Place, measured, offered
from .question import Earlier, Problem
from .request import Written, parse_earlier, read_request
from .shared import draws_of, misplaced, storages_of
from .shortages import loads, shortages
from .site_plan import Planning, Site, SitePlan
from .staying import place, search_on
from .stores import by_host, stores_of


@dataclass(frozen=True)
class Planned:
    """The plan, None where what is written cannot be read, and the findings of both."""

    plan: SitePlan | None
    findings: tuple[Finding, ...]
    # What waits for hosts that are lost, and for devices that are switched off.
    waiting: tuple[Earlier, ...] = ()


def _unreadable(problem: str) -> Finding:
    return Finding(
        "inventory.workloads",
        SITE,
        FAIL,
        problem,
        "workloads as docs/capacity.md describes them",
        f"mend {problem.partition(':')[0]} in the inventory",
    )


def mistakes(
    written: Written, hosts: Sequence[str], asked: Mapping[str, Any]
) -> tuple[Finding, ...]:
    """What is wrong with what is written, which can be told while no host is measured."""
    return tuple(map(_unreadable, read_request(written, hosts, asked).problems))


def plan_workloads(
    written: Written,
    hosts: Sequence[str],
    supply: Mapping[str, Mapping[str, Any]],
    demand: Mapping[str, Sequence[Demand]],
    margins: Margins,
    asked: Mapping[str, Any],
    clock: Callable[[], float],
    now: float,
    tell: Callable[[str, float], None] = lambda _what, _done: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Planned:
    """Plan the workloads on the hosts, of which each needs facts; findings of everything.

    ``asked`` has seconds, seed, horizon_years and survive_lost_host, as far as they are given.
    ``clock`` measures the seconds, ``now`` is the time by which facts are judged, and ``tell`` is
    told what is being done. Raises Cancelled soon after ``cancelled`` says so.
    """
    findings: list[Finding] = []
    read = read_request(written, hosts, asked)
    if read.problems:
        return Planned(None, tuple(_unreadable(problem) for problem in read.problems))
    specs, shapes, planning, what_if = read.specs, read.shapes, read.planning, read.what_if
    try:
        earlier = parse_earlier(written.earlier)
    except ShapeError as error:
        earlier = ()
        findings.append(
            Finding(
                "capacity.earlier_placement",
                SITE,
                WARN,
                f"placement.json cannot be read: {error}",
                "the placement of the run before",
                "nothing to do: everything is placed anew; the file is written again",
            )
        )
    site = site_of(written, hosts, supply, demand, margins, specs, earlier, now, findings)

    def new_host(shape: Shape) -> Place:
        return offered(shape, margins, site.storages)

    site = replace(site, offers=tuple((shape, new_host(shape)) for shape in shapes))
    findings += misplaced(site.places, specs)
    budget = Budget(planning.seconds, clock, cancelled, tell)
    waiting: tuple[Earlier, ...] = ()
    if written.lost or written.off:
        off = [_switched_off(host, written) for host in written.off]
        site, waiting = leave_out(site, written.lost, off, planning, budget.part(0.5))
        budget = budget.part(1.0)
    change = None
    if what_if.wanted:
        change = what_if, changed_site(site, what_if, new_host)
    plan = plan_site(site, planning, budget, change)
    return Planned(plan, tuple(findings), waiting)


def _switched_off(host: str, written: Written) -> Place:
    """A device of which only the inventory speaks."""
    nothing = Figures(0.0, 0.0, 0.0, 0.0)
    labels, _wrong = parse_labels(written.labels)
    return Place(
        host,
        nothing,
        nothing,
        {},
        {},
        groups=frozenset(name for name, members in written.groups.items() if host in members),
        labels=frozenset(labels.get(host, ())),
    )


def site_of(
    written: Written,
    hosts: Sequence[str],
    supply: Mapping[str, Mapping[str, Any]],
    demand: Mapping[str, Sequence[Demand]],
    margins: Margins,
    specs: tuple[Spec, ...],
    earlier: tuple[Earlier, ...],
    now: float,
    findings: list[Finding],
) -> Site:
    """The hosts with usable facts as places; ``findings`` receives what cannot be planned."""
    labels, _wrong = parse_labels(written.labels)
    resources, _wrong = parse_host_resources(written.resources)
    by_name = {spec.name: spec for spec in specs}
    paths = sorted({path for spec in specs for path in spec.paths})
    groups: dict[str, set[str]] = {}
    for group, members in written.groups.items():
        for host in members:
            groups.setdefault(host, set()).add(group)
    running: dict[str, list[Earlier]] = {}
    for row in earlier:
        running.setdefault(row.host, []).append(row)
    usable = {
        host: facts
        for host in hosts
        if (given := supply.get(host)) is not None
        and isinstance(facts := read_facts(host, given, margins, now), Facts)
    }
    placed = {
        host: [by_name[row.workload] for row in rows if row.workload in by_name]
        for host, rows in running.items()
    }
    stores = stores_of(usable)
    on_host = by_host(stores)
    storages = storages_of(stores, usable, demand, placed, margins, paths)
    places = []
    unmeasured = []
    for host in hosts:
        if host not in usable:
            unmeasured.append(host)
            continue
        facts = usable[host]
        here = [row for row in running.get(host, ()) if row.workload in by_name]
        place, told = measured(
            host,
            facts,
            demand.get(host) or (),
            margins,
            paths,
            [by_name[row.workload] for row in here],
            frozenset(index for row in here for index in row.gpus),
            frozenset(groups.get(host, ())),
            frozenset(labels.get(host, ())),
            draws_of(host, facts, on_host.get(host, ()), storages),
        )
        findings += told
        if place is None:
            unmeasured.append(host)
        else:
            places.append(replace(place, resources=dict(resources.get(host, ()))))
    today = datetime.datetime.fromtimestamp(now, datetime.timezone.utc).date()
    return Site(
        tuple(places),
        specs,
        today,
        (),
        earlier,
        tuple(unmeasured),
        tuple(storages[name] for name in sorted(storages)),
    )


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
    if result.verdict == UNDECIDED:
        # Nothing but a purchase would use the rest of the time.
        rest = budget.part(0.4 if problem.offers else 0.95)
        result, kept = search_on(problem, site.earlier, (result, kept), planning.seed, rest)
        survivals = None
    verdict, reason = result.verdict, ""
    if verdict == INFEASIBLE and site.unmeasured:
        verdict = UNDECIDED
        reason = "they do not fit on the hosts that could be measured; not measured: " + ", ".join(
            site.unmeasured
        )
    elif verdict == UNDECIDED:
        reason = (
            "the bounds do not exclude a placement, and none was found in "
            f"{budget.used:.0f} of {budget.seconds:.0f} s (assess_seconds)"
        )
    if verdict == FEASIBLE and survivals is None:
        budget.tell("losing each host once", 0.5)
        survivals = survive(problem.instance, result.placement, budget.part(0.3))
    horizon = None
    # What is missing may be there on a host that was not measured: nobody is told to buy it.
    offers = () if site.unmeasured else problem.offers
    purchase = purchase_for_horizon = None
    if verdict == FEASIBLE:
        budget.tell("looking ahead", 0.6)
        horizon = _look_ahead(site, problem, result, planning, budget.part(0.6))
        if horizon.ends is not None and offers:
            budget.tell("pricing the horizon", 0.8)
            later = site.problem(horizon.until)
            purchase_for_horizon = buy(
                later.instance, later.offers, budget.part(0.8), planning.seed
            )
    elif offers:
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

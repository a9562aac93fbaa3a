# Copyright: (c) 2026, The mlops.onprem developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From plain data to a site to plan, and from its plan to findings.

What the ``capacity_plan`` module and the assessment have in common.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .._assess.plan_report import CAUSES, missing
from .._demand.workloads import (
    Known,
    Shape,
    Spec,
    WhatIf,
    at_most,
    parse_labels,
    parse_shapes,
    parse_what_if,
    parse_workloads,
    switch,
)
from .._findings.finding import ERROR, FAIL, PASS, WARN, Demand, Finding
from .._findings.sentence import counted
from .._findings.shape import (
    ShapeError,
    each,
    known_keys,
    mapping,
    number,
    optional,
    shown,
    text,
    whole,
)
from .._findings.shape import field as required
from .._planner.model import FEASIBLE, INFEASIBLE, Budget
from .host_sums import Margins, amount, check_facts
from .question import Earlier, measured, offered
from .site_plan import Planning, Site, SitePlan, changed_site, plan_site

SITE = "site"
PLACEMENT_SCHEMA = 1
MOST_SECONDS, MOST_YEARS = 86400.0, 20.0


@dataclass(frozen=True)
class Written:
    """Plain data as people and earlier runs wrote it. ``groups`` has the hosts of each group."""

    workloads: object
    offers: object = None
    labels: Mapping[str, object] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    what_if: object = None
    earlier: object = None


@dataclass(frozen=True)
class Planned:
    """The plan, None where what is written cannot be read, and the findings of both."""

    plan: SitePlan | None
    findings: tuple[Finding, ...]


def _earlier(value: object) -> Earlier:
    given = mapping(value)
    return Earlier(
        required(given, "workload", text),
        required(given, "replica", whole),
        required(given, "host", text),
        optional(given, "gpus", lambda row: each(row, whole), ()),
        optional(given, "slice", _slice, -1),
    )


def parse_planning(asked: Mapping[str, Any]) -> tuple[Planning, tuple[str, ...]]:
    """How to plan, and a sentence for what cannot be read."""
    usual = Planning()
    try:
        return (
            Planning(
                optional(asked, "seconds", _seconds, usual.seconds),
                optional(asked, "seed", whole, usual.seed),
                optional(asked, "horizon_years", _years, usual.horizon_years),
                optional(asked, "survive_lost_host", switch, usual.survive),
            ),
            (),
        )
    except ShapeError as error:
        return usual, (f"assess_{error}",)


def _seconds(value: object) -> float:
    found = at_most(MOST_SECONDS, number, "a day, in seconds")(value)
    if found < 1:
        raise ShapeError(f"must be at least 1, but is {shown(value)}")
    return found


def _years(value: object) -> float:
    return at_most(MOST_YEARS, number, "can be foreseen, in years")(value)


def _slice(value: object) -> int:
    return -1 if value == -1 else whole(value)


def parse_earlier(value: object) -> tuple[Earlier, ...]:
    """The placement of an earlier run. Raises ShapeError if it is not one."""
    if value is None:
        return ()
    if isinstance(value, str):  # why it could not be read
        raise ShapeError(shown(value))
    given = mapping(value)
    if given.get("schema") != PLACEMENT_SCHEMA:
        raise ShapeError(f"must be {PLACEMENT_SCHEMA}", "schema")
    known_keys(given, ("schema", "planned_at", "verdict", "placement"))
    return required(given, "placement", lambda rows: each(rows, _earlier))


def known_of(written: Written, hosts: Sequence[str]) -> tuple[Known, tuple[str, ...]]:
    """What workloads may name, and what is wrong with the labels."""
    labels, problems = parse_labels(written.labels)
    return (
        Known(
            frozenset(written.groups),
            frozenset(hosts).union(*written.groups.values()),
            frozenset(label for some in labels.values() for label in some),
        ),
        problems,
    )


@dataclass(frozen=True)
class _Read:
    specs: tuple[Spec, ...]
    shapes: tuple[Shape, ...]
    what_if: WhatIf
    planning: Planning
    problems: tuple[str, ...]


def _read(written: Written, hosts: Sequence[str], asked: Mapping[str, Any]) -> _Read:
    planning, problems = parse_planning(asked)
    known, wrong = known_of(written, hosts)
    problems += wrong
    shapes, wrong = parse_shapes(written.offers, known.groups)
    problems += wrong
    offered_labels = {label for shape in shapes for label in shape.labels}
    known = replace(known, labels=known.labels | offered_labels)
    specs, wrong = parse_workloads(written.workloads, known)
    problems += wrong
    what_if, wrong = parse_what_if(written.what_if, known, specs, shapes)
    # What is wrong with a workload or an offer makes the changes look wrong as well.
    return _Read(specs, shapes, what_if, planning, problems or wrong)


def problems_of(
    written: Written, hosts: Sequence[str], asked: Mapping[str, Any]
) -> tuple[str, ...]:
    """A sentence for everything written that cannot be read, beginning with its place."""
    return _read(written, hosts, asked).problems


def _unreadable(problem: str) -> Finding:
    return Finding(
        "inventory.workloads",
        SITE,
        FAIL,
        problem,
        "workloads as docs/capacity.md describes them",
        f"mend {problem.partition(':')[0]} in the inventory",
    )


def plan_workloads(
    written: Written,
    hosts: Sequence[str],
    supply: Mapping[str, Mapping[str, Any]],
    demand: Mapping[str, Sequence[Demand]],
    margins: Margins,
    asked: Mapping[str, Any],
    clock: Callable[[], float],
    now: float,
    accept_undecided: bool = False,
    tell: Callable[[str, float], None] = lambda _what, _done: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Planned:
    """Plan the workloads on the hosts, of which each needs facts; findings of everything.

    ``asked`` has seconds, seed, horizon_years and survive_lost_host, as far as they are given.
    ``clock`` measures the seconds, ``now`` is the time by which facts are judged, and ``tell`` is
    told what is being done. Raises Cancelled soon after ``cancelled`` says so.
    """
    findings: list[Finding] = []
    read = _read(written, hosts, asked)
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
    offers = tuple((shape, offered(shape, margins)) for shape in shapes)
    site = replace(
        site_of(written, hosts, supply, demand, margins, specs, earlier, now, findings),
        offers=offers,
    )
    change = None
    if what_if.wanted:
        change = what_if, changed_site(site, what_if, lambda shape: offered(shape, margins))
    plan = plan_site(site, planning, Budget(planning.seconds, clock, cancelled, tell), change)
    findings += findings_of(plan, accept_undecided)
    return Planned(plan, tuple(findings))


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
    by_name = {spec.name: spec for spec in specs}
    paths = sorted({path for spec in specs for path in spec.paths})
    groups: dict[str, set[str]] = {}
    for group, members in written.groups.items():
        for host in members:
            groups.setdefault(host, set()).add(group)
    running: dict[str, list[Earlier]] = {}
    for row in earlier:
        running.setdefault(row.host, []).append(row)
    places = []
    unmeasured = []
    for host in hosts:
        facts = supply.get(host)
        if facts is None or check_facts(host, facts, margins, now) is not None:
            unmeasured.append(host)
            continue
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
        )
        findings += told
        if place is None:
            unmeasured.append(host)
        else:
            places.append(place)
    today = datetime.datetime.fromtimestamp(now, datetime.timezone.utc).date()
    return Site(tuple(places), specs, today, (), earlier, tuple(unmeasured))


def findings_of(plan: SitePlan, accept_undecided: bool) -> list[Finding]:
    """What the plan says, as findings of the assessment."""
    wanted = sum(work.replicas for work in plan.problem.instance.workloads)
    if plan.verdict == FEASIBLE:
        used = len({one.host for one in plan.result.placement})
        found = [
            Finding(
                "capacity.workloads",
                SITE,
                PASS,
                f"{counted(wanted, 'replica')} of {counted(len(plan.site.specs), 'workload')} "
                f"fit on {counted(used, 'host')}; the placement was verified",
            )
        ]
    else:
        infeasible = plan.verdict == INFEASIBLE
        severity = FAIL if infeasible else WARN if accept_undecided else ERROR
        found = [
            Finding(
                "capacity.workloads",
                SITE,
                severity,
                f"the workloads do not fit: {_why(plan)}"
                if infeasible
                else f"it is not decided whether the workloads fit: {plan.reason}; "
                f"the best placement found leaves out {_left_out(plan)}",
                f"room for all {counted(wanted, 'replica')}",
                _remedy(plan, infeasible),
            )
        ]
    return [*found, *_lost_hosts(plan), *_limits(plan)]


def _left_out(plan: SitePlan) -> str:
    rows = [f"{count:,} of {name}" for name, count in sorted(plan.result.unplaced.items()) if count]
    return ", ".join(rows[:5]) + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")


def _why(plan: SitePlan) -> str:
    reasons = []
    for row in plan.shortages[:2]:
        digits = 0 if row.unit == "MiB" else 2
        whole = row.unit == "replicas"
        have = row.requested - row.short
        asked, had = (
            plain(row.requested, digits),
            plain(math.floor(have) if whole else have, digits),
        )
        reasons.append(
            f"of {asked} replicas at most {had} can be placed"
            if whole
            else f"{missing(row.as_dict())} missing "
            f"({asked} requested, {had} to be had: {CAUSES.get(row.cause, row.cause)})"
        )
    said = "; ".join(reasons)
    if plan.result.sums_fit:
        said += "; a sum over all hosts alone would have said yes"
    return said


def plain(value: float, digits: int) -> str:
    """A figure without zeros at its end."""
    said = amount(value, digits)
    return said.rstrip("0").rstrip(".") if "." in said else said


def _remedy(plan: SitePlan, infeasible: bool) -> str:
    bought = plan.purchase
    if bought is not None and bought.counts is not None:
        shapes = ", ".join(f"{count} x {name}" for name, count in bought.counts.items() if count)
        said = f"buy {shapes}, or ask for less in mlops_workloads"
    else:
        said = "ask for less in mlops_workloads, or add hosts"
        if bought is not None and bought.verdict == INFEASIBLE:
            said += f"; nothing listed in mlops_host_offers mends it: {bought.steps[-1]}"
        if not plan.problem.offers:
            said += "; list shapes that can be bought in mlops_host_offers to learn how many"
    if infeasible:
        return said
    # Where it does not fit on the hosts that were measured, more time finds nothing either.
    unmeasured = plan.site.unmeasured if plan.result.verdict == INFEASIBLE else ()
    first = (
        f"see that {', '.join(unmeasured)} can be measured"
        if unmeasured
        else "give more time by assess_seconds"
    )
    best = "go on with the best placement by assess_accept_undecided: true"
    return f"{first}; or {best}; or {said}"


def _lost_hosts(plan: SitePlan) -> list[Finding]:
    """Hosts that may not be lost, where the site wants to survive the loss of any."""
    if not plan.planning.survive:
        return []
    missed = len(plan.site.places) - len(plan.survivals or ())
    unknown = [
        Finding(
            "capacity.lost_host",
            SITE,
            ERROR,
            f"there was no time to look what the loss of {counted(missed, 'host')} would strand",
            "every host looked at",
            "give more time by assess_seconds",
        )
    ]
    return (unknown if plan.verdict == FEASIBLE and missed else []) + [
        Finding(
            "capacity.lost_host",
            row.host,
            FAIL,
            "if it is lost, "
            + ", ".join(f"{count:,} of {name}" for name, count in sorted(row.stranded.items()))
            + " would find no other place (no placement was found that survives this)",
            "room elsewhere for everything that is placed on it",
            "add a host, ask for less in mlops_workloads, or set assess_survive_lost_host: false",
        )
        for row in plan.exposed
    ]


def _limits(plan: SitePlan) -> list[Finding]:
    """Hosts whose memory would not suffice if every replica used as much as it may."""
    room = {name: place.memory.free for name, place in plan.problem.places.items()}
    return [
        Finding(
            "capacity.limits",
            load.host,
            WARN,
            f"the memory limits of what is placed here add up to "
            f"{amount(load.memory_limits_mib, 0)} MiB",
            f"at most {amount(room[load.host], 0)} MiB, else the kernel may end a process when "
            "all use what they may",
            "lower limits.memory in mlops_workloads, or raise requests.memory",
        )
        for load in plan.loads
        if load.memory_limits_mib > room[load.host] + 0.5
    ]


def by_host(plan: SitePlan) -> dict[str, list[dict[str, Any]]]:
    """For each host with work, what is placed there: one entry a replica."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in plan.placement():
        entry = {key: value for key, value in row.items() if key != "host"}
        found.setdefault(str(row["host"]), []).append(entry)
    return found

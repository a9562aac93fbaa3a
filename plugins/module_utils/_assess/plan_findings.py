# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan of the workloads says, as findings of the assessment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from .._capacity.planning import Planned
from .._capacity.site_plan import SitePlan
from .._findings.finding import ERROR, FAIL, PASS, SITE, WARN, Finding
from .._findings.sentence import amount, counted
from .._planner.model import FEASIBLE, INFEASIBLE
from .plan_report import CAUSES, missing, reckoned_without, value


def with_verdict(
    planned: Planned, accept_undecided: bool = False, without: Sequence[str] = ()
) -> Planned:
    """The same with the findings of the plan after those of planning it.

    ``without`` are the hosts that the plan leaves out, as they are lost or switched off.
    """
    if planned.plan is None:
        return planned
    said = findings_of(planned.plan, accept_undecided, without)
    return replace(planned, findings=(*planned.findings, *said))


def findings_of(
    plan: SitePlan, accept_undecided: bool, without: Sequence[str] = ()
) -> list[Finding]:
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
                "room for the one replica" if wanted == 1 else f"room for all {wanted:,} replicas",
                _remedy(plan, infeasible, reckoned_without(without)),
            )
        ]
    return [*found, *_lost_hosts(plan), *_limits(plan)]


def _left_out(plan: SitePlan) -> str:
    rows = [f"{count:,} of {name}" for name, count in sorted(plan.result.unplaced.items()) if count]
    return ", ".join(rows[:5]) + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")


def _why(plan: SitePlan) -> str:
    reasons = []
    for row in plan.shortages[:2]:
        have = row.requested - row.short
        if row.unit != "replicas":
            reasons.append(
                f"{missing(row.as_dict())} missing ({value(row.requested, row.unit)} requested,"
                f" {value(have, row.unit)} to be had: {CAUSES.get(row.cause, row.cause)})"
            )
        elif row.scope == "host":
            names = ", ".join(row.workloads[:3])
            reasons.append(f"no single host has everything that one replica of {names} needs")
        else:
            reasons.append(
                f"of {value(row.requested, row.unit)} at most {math.floor(have + 1e-6):,} can be"
                " placed"
            )
    said = "; ".join(reasons)
    if plan.result.sums_fit:
        said += "; a sum over all hosts alone would have said yes"
    return said


def _remedy(plan: SitePlan, infeasible: bool, reckoned: str) -> str:
    best = "go on with the best placement by assess_accept_undecided: true"
    # Where it does not fit on the hosts that were measured, more time finds nothing either.
    if not infeasible and plan.site.unmeasured and plan.result.verdict == INFEASIBLE:
        names = ", ".join(plan.site.unmeasured)
        return f"see that {names} can be measured, then assess again; or {best}"
    bought = plan.purchase
    if bought is not None and bought.counts is not None:
        shapes = ", ".join(f"{count} x {name}" for name, count in bought.counts.items() if count)
        said = f"buy {shapes}, or ask for less in mlops_workloads"
        said += f" ({reckoned})" if reckoned else ""
    else:
        said = "ask for less in mlops_workloads, or add hosts"
        if bought is not None and bought.verdict == INFEASIBLE:
            said += f"; nothing listed in mlops_host_offers mends it: {bought.steps[-1]}"
        if not plan.problem.offers and not plan.site.unmeasured:
            said += "; list shapes that can be bought in mlops_host_offers to learn how many"
    if infeasible:
        return said
    return f"give more time by assess_seconds; or {best}; or {said}"


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
            FAIL if row.proven else ERROR,
            "if it is lost, "
            + ", ".join(f"{count:,} of {name}" for name, count in sorted(row.stranded.items()))
            + (
                " would find no other place: without this host the workloads do not fit at all"
                if row.proven
                else " have no other place that was found, which does not say that there is none"
            ),
            "room elsewhere for everything that is placed on it",
            ("" if row.proven else "give more time by assess_seconds, ")
            + "add a host, ask for less in mlops_workloads, or set assess_survive_lost_host: false",
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

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The workloads of a site in its assessment: planned, or why they were not, and what is kept."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.mlops.onprem.plugins.module_utils._assess.days import told_days
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.margins import Margins
from ansible_collections.mlops.onprem.plugins.module_utils._demand.lost import Lost
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import (
    ERROR,
    FAIL,
    WARN,
    Demand,
    Finding,
)

PLACEMENT, REPORT = "placement.json", "assessment.json"


@dataclass(frozen=True)
class Hosts:
    """The variables of hosts that are looked at, are declared lost, and are switched off.

    ``rest`` are those that a run with --limit does not look at.
    """

    here: Mapping[str, Mapping[str, Any]]
    gone: Mapping[str, Mapping[str, Any]]
    lost: Lost
    off: Mapping[str, Mapping[str, Any]]
    rest: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def workloads_of(
    args: Mapping[str, Any],
    hosts: Hosts,
    groups: Mapping[str, Sequence[str]],
    supply: Mapping[str, Mapping[str, Any]],
    demand: Mapping[str, Sequence[Demand]],
    margins: Margins,
    now: float,
    tell: Callable[[str, float], None],
    clock: Callable[[], float],
) -> tuple[dict[str, Any] | None, Mapping[str, Any], list[Finding]]:
    """The plan of the workloads, what is placed on each host, and findings.

    ``groups`` are those of the inventory. Without workloads nothing of the planner is loaded.
    """
    entries = hosts.here
    findings = [
        Finding(
            "inventory.workloads",
            host,
            FAIL,
            "sets mlops_workloads to something else than the rest of the site",
            "one list for the whole site",
            "move mlops_workloads to group_vars/all",
        )
        for host, entry in entries.items()
        if entry.get("mlops_workloads", args["workloads"]) != args["workloads"]
    ]
    if not args["workloads"]:
        return None, {}, findings
    earlier = read_placement(Path(args["directory"]))
    try:
        # Here, since only a site with workloads needs numpy and scipy.
        from ansible_collections.mlops.onprem.plugins.module_utils._assess.lost_work import (  # noqa: PLC0415
            kept,
            told,
            told_of_off,
        )
        from ansible_collections.mlops.onprem.plugins.module_utils._assess.plan_findings import (  # noqa: PLC0415
            with_verdict,
        )
        from ansible_collections.mlops.onprem.plugins.module_utils._capacity.planning import (  # noqa: PLC0415
            mistakes,
            plan_workloads,
        )
        from ansible_collections.mlops.onprem.plugins.module_utils._capacity.request import (  # noqa: PLC0415
            Written,
            read_request,
        )
        from ansible_collections.mlops.onprem.plugins.module_utils._capacity.site_plan import (  # noqa: PLC0415
            by_host,
        )
        from ansible_collections.mlops.onprem.plugins.module_utils._workloads.refusals import (  # noqa: PLC0415
            around_of,
            refusals,
            refusals_anywhere,
        )
    except ImportError as error:
        raise AnsibleActionFail(
            f"Planning workloads needs numpy and scipy on the controller: {error}."
        ) from error
    labels, resources = (
        {
            host: entry.get(name) or {}
            for host, entry in {**entries, **hosts.gone, **hosts.off, **hosts.rest}.items()
        }
        for name in ("mlops_host_labels", "mlops_host_resources")
    )
    written = Written(
        args["workloads"],
        args["offers"],
        labels,
        groups,
        args["what_if"],
        earlier,
        resources,
        hosts.lost.hosts,
        tuple(hosts.off),
    )
    first = next(iter(entries.values()), {})
    around = around_of("", first.get("mlops_teams"), groups.get("scheduler") or (), supply)
    unplanned = _unplanned(groups["all"], entries, supply)
    if unplanned:
        wrong = mistakes(written, groups["all"], args["planning"])
        # What is written is wrong on whichever host it would run.
        specs = () if wrong else read_request(written, groups["all"], args["planning"]).specs
        findings += [*wrong, *map(_refused, refusals_anywhere(specs, around)), unplanned]
        return None, rows_by_host(earlier), findings
    planned = plan_workloads(
        written,
        list(entries),
        supply,
        demand,
        margins,
        args["planning"],
        clock,
        now,
        tell,
    )
    without = [*hosts.lost.hosts, *hosts.off]
    planned = with_verdict(planned, args["accept_undecided"], without)
    findings.extend(planned.findings)
    if planned.plan is None:
        return None, {}, findings
    moves, lost_rows = told(hosts.lost, planned)
    moves += told_of_off(tuple(hosts.off), planned)
    workloads = planned.plan.as_dict()
    today = datetime.datetime.fromtimestamp(now, datetime.timezone.utc).date()
    workloads["days"] = told_days(workloads["horizon"], read_days(Path(args["directory"])), today)
    if without:
        workloads["without"] = without
    if hosts.lost.hosts:
        workloads["lost"] = lost_rows
    if hosts.lost.hosts or planned.waiting:
        workloads["waiting"] = kept(planned.waiting)
    said = refusals(planned.plan.site.specs, planned.plan.placement(), around, supply)
    return workloads, by_host(planned.plan), [*findings, *moves, *map(_refused, said)]


def _unplanned(
    everyone: Sequence[str], entries: Mapping[str, Any], supply: Mapping[str, Any]
) -> Finding | None:
    """Why this run plans nothing; None if it does."""
    if set(everyone) - set(entries):
        return Finding(
            "capacity.workloads",
            "site",
            WARN,
            f"the workloads were not planned: {len(entries)} of {len(everyone)} hosts are "
            "looked at; the placement of the run before stands",
            "all hosts of the site",
            "assess without --limit",
        )
    if not supply:
        return Finding(
            "capacity.workloads",
            "site",
            ERROR,
            "the workloads were not planned: no host could be measured",
            "hosts that were measured",
            "mend what keeps the hosts from being measured, then assess again",
        )
    return None


def _refused(said: str) -> Finding:
    return Finding(
        "workloads.run",
        "site",
        FAIL,
        said.partition("; ")[0],
        "work that can be started where it is placed",
        said.partition("; ")[2] or "mend run in mlops_workloads",
    )


def read_placement(directory: Path) -> Any:
    """What an earlier run placed; a text where the file cannot be read, which is told later."""
    path = directory / PLACEMENT
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        return f"unreadable: {error}"


def read_days(directory: Path) -> Any:
    """The days that an earlier run told; None where there is none that can be read."""
    try:
        report = json.loads((directory / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    workloads = report.get("workloads") if isinstance(report, Mapping) else None
    return workloads.get("days") if isinstance(workloads, Mapping) else None


def rows_by_host(earlier: Any) -> dict[str, list[Any]]:
    """The rows of a placement file by host; nothing where it cannot be used."""
    found: dict[str, list[Any]] = {}
    rows = earlier.get("placement") if isinstance(earlier, Mapping) else None
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, Mapping) and isinstance(row.get("host"), str):
            entry = {key: value for key, value in row.items() if key != "host"}
            found.setdefault(row["host"], []).append(entry)
    return found

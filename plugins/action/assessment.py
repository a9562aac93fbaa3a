# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of the assessment module: judges everything that was found, and reports."""

from __future__ import annotations

import datetime
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.mlops.onprem.plugins.module_utils._assess.days import told_days
from ansible_collections.mlops.onprem.plugins.module_utils._assess.deferred import defer
from ansible_collections.mlops.onprem.plugins.module_utils._assess.folding import fold
from ansible_collections.mlops.onprem.plugins.module_utils._assess.host_checks import (
    HostRules,
    check_host,
    check_twins,
)
from ansible_collections.mlops.onprem.plugins.module_utils._assess.judge import judge
from ansible_collections.mlops.onprem.plugins.module_utils._assess.language import ENGLISH
from ansible_collections.mlops.onprem.plugins.module_utils._assess.lost import (
    left_out,
    mistakes,
)
from ansible_collections.mlops.onprem.plugins.module_utils._assess.page import as_html
from ansible_collections.mlops.onprem.plugins.module_utils._assess.reaching import (
    check_reached,
    way_to,
    with_inventory,
)
from ansible_collections.mlops.onprem.plugins.module_utils._assess.report import (
    as_text,
    headline,
    host_row,
)
from ansible_collections.mlops.onprem.plugins.module_utils._assess.systems import is_device
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.margins import Margins
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.site_sums import plan
from ansible_collections.mlops.onprem.plugins.module_utils._demand.lost import Lost, lost_hosts
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import (
    ERROR,
    FAIL,
    FINDING_KEYS,
    WARN,
    Demand,
    Finding,
    parse_demand,
    parse_finding,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import ShapeError, each
from ansible_collections.mlops.onprem.plugins.module_utils._findings.waivers import read_waivers
from ansible_collections.mlops.onprem.plugins.module_utils._supply import TOOL_VERSION

PLACEMENT, REPORT = "placement.json", "assessment.json"
TELL_SECONDS = 5.0
ARGUMENTS = {
    "hosts": {"type": "list", "elements": "str", "required": True},
    "site": {"type": "str", "required": True},
    "profile": {"type": "str", "required": True},
    "language": {"type": "str", "default": ENGLISH},
    "margins": {"type": "dict", "required": True},
    "rules": {"type": "dict", "required": True},
    "max_age": {"type": "float", "required": True},
    "deferred_max": {"type": "float", "default": 0.0},
    "lost": {"type": "raw", "default": []},
    "findings": {"type": "list", "elements": "dict", "default": []},
    "hints": {"type": "dict", "default": {}},
    "waivers": {"type": "raw", "default": []},
    "workloads": {"type": "raw", "default": []},
    "offers": {"type": "raw", "default": []},
    "planning": {"type": "dict", "default": {}},
    "what_if": {"type": "raw", "default": {}},
    "accept_undecided": {"type": "bool", "default": False},
    "directory": {"type": "path", "required": True},
}


class ActionModule(ActionBase):  # type: ignore[misc]
    """Ansible's entry point."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _VALID_ARGS = frozenset(ARGUMENTS)

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _checked, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        variables = task_vars or {}
        try:
            report, placement = assess(args, variables, time.time(), self._tell())
        except (ShapeError, TypeError) as error:
            raise AnsibleActionFail(f"The findings cannot be judged: {error}.") from error
        text = as_text(report)
        place = ""
        if not self._task.check_mode:
            place = write_report(Path(args["directory"]), report)
            if report["exit_code"] == 0:
                keep_placement(Path(args["directory"]), report, bool(args["workloads"]))
        result.update(
            changed=False,
            verdict=report["verdict"],
            exit_code=report["exit_code"],
            counts=report["counts"],
            findings=report["findings"],
            table=report["table"],
            workloads=report.get("workloads"),
            placement=placement,
            text=text.splitlines() + ([f"Report: {place}"] if place else []),
            report=place,
            ansible_facts={
                "mlops_assessment": {
                    "verdict": report["verdict"],
                    "exit_code": report["exit_code"],
                    "headline": headline(report),
                    "report": place,
                    "placement": placement,
                    "deferred": report["deferred"],
                    # The process that runs the playbook: facts of another run do not open the gate.
                    "run": os.getppid(),
                }
            },
        )
        return result

    def _tell(self) -> Callable[[str, float], None]:
        """Says what the planner does, every few seconds at most."""
        started = told = time.monotonic()

        def tell(what: str, _done: float) -> None:
            nonlocal told
            now = time.monotonic()
            if now - told >= TELL_SECONDS:
                told = now
                self._display.display(f"planning: {what}, {now - started:.0f} s so far")

        return tell


def _numbers(kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a dataclass from data: lists become tuples, texts of numbers numbers."""
    found: dict[str, Any] = {}
    for item in fields(kind):
        if item.name not in given:
            continue
        value = given[item.name]
        if isinstance(item.default, bool):
            value = bool(value)
        elif isinstance(item.default, int):
            value = int(value)
        elif isinstance(item.default, float):
            value = float(value)
        elif isinstance(item.default, tuple):
            value = tuple(str(part) for part in ([value] if isinstance(value, str) else value))
        found[item.name] = value
    return found


def assess(
    args: Mapping[str, Any],
    variables: Mapping[str, Any],
    now: float,
    tell: Callable[[str, float], None],
    clock: Callable[[], float] = time.monotonic,
) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Collect supply, demand and findings of all hosts, judge them, and make the report.

    Gives the report, and what is placed on each host. ``clock`` measures the planner's seconds.
    """
    hostvars = variables["hostvars"]
    rules = HostRules(**_numbers(HostRules, args["rules"]))
    margins = Margins(**_numbers(Margins, {**args["margins"], "max_age_seconds": args["max_age"]}))
    findings = [parse_finding(row) for row in args["findings"]]
    lost = lost_hosts(args.get("lost"), variables["groups"])
    findings += mistakes(lost) + left_out(lost)
    supply: dict[str, Mapping[str, Any]] = {}
    demand = {}
    entries = {host: hostvars[host] for host in args["hosts"] if host not in lost.hosts}
    for host, entry in entries.items():
        facts = entry.get("ansible_facts") or {}
        measured = facts.get("mlops_supply")
        limited = bool(variables.get("ansible_limit"))
        silent = check_reached(host, measured, way_to(entry, host, limited))
        if silent is None and measured is not None:
            supply[host] = measured
            demand[host] = each(facts.get("mlops_demand") or [], parse_demand)
            device = is_device(variables["groups"], host)
            findings.extend(check_host(host, measured, rules, device))
        elif silent is not None:
            findings.append(silent)
        for row in facts.get("mlops_findings") or []:
            findings.append(parse_finding({key: row[key] for key in FINDING_KEYS if key in row}))
    findings, deferred = defer(findings, variables["groups"], args.get("deferred_max", 0.0))
    here = {host: entry for host, entry in entries.items() if host not in deferred}
    away = {*deferred, *lost.hosts}
    everyone = [host for host in variables["groups"]["all"] if host not in away]
    findings.extend(check_twins(supply, rules))
    planned = plan(supply, demand, margins, now, args["hints"])
    findings.extend(planned.findings)
    workloads, placement, said = workloads_of(
        args,
        Hosts(
            here,
            {host: hostvars[host] for host in lost.hosts},
            lost,
            {host: hostvars[host] for host in deferred},
        ),
        {**variables["groups"], "all": everyone},
        supply,
        demand,
        margins,
        now,
        tell,
        clock,
    )
    findings.extend(said)
    findings = [
        replace(row, remedy=with_inventory(row.remedy, sources(variables)))
        for row in fold(findings)
    ]
    today = datetime.datetime.fromtimestamp(now, datetime.timezone.utc).date()
    known = [*variables["groups"]["all"], *(finding.host for finding in findings)]
    judged = judge(findings, read_waivers(args["waivers"], known, today))
    report = {
        "schema": 1,
        "tool_version": TOOL_VERSION,
        "site": args["site"],
        "profile": args["profile"],
        "language": args["language"],
        "assessed_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "verdict": judged.verdict,
        "exit_code": judged.exit_code,
        "capacity": planned.verdict,
        "counts": dict(judged.counts),
        "findings": [row.as_dict() for row in judged.findings],
        "table": [row.as_dict() for row in planned.rows],
        "demand": {host: [need.as_dict() for need in needs] for host, needs in demand.items()},
        "margins": {item.name: getattr(margins, item.name) for item in fields(Margins)},
        "hosts": [host_row(host, facts) for host, facts in supply.items()],
        "deferred": deferred,
        "lost": list(lost.hosts),
        "supply": dict(supply),
    }
    if workloads is not None:
        report["workloads"] = workloads
    return report, placement


@dataclass(frozen=True)
class Hosts:
    """The variables of hosts that are looked at, are declared lost, and are switched off."""

    here: Mapping[str, Mapping[str, Any]]
    gone: Mapping[str, Mapping[str, Any]]
    lost: Lost
    off: Mapping[str, Mapping[str, Any]]


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
    everyone = groups["all"]
    if set(everyone) - set(entries):
        findings.append(
            Finding(
                "capacity.workloads",
                "site",
                WARN,
                f"the workloads were not planned: {len(entries)} of {len(everyone)} hosts are "
                "looked at; the placement of the run before stands",
                "all hosts of the site",
                "assess without --limit",
            )
        )
        return None, rows_by_host(earlier), findings
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
        )
        from ansible_collections.mlops.onprem.plugins.module_utils._capacity.site_plan import (  # noqa: PLC0415
            by_host,
        )
        from ansible_collections.mlops.onprem.plugins.module_utils._workloads.refusals import (  # noqa: PLC0415
            around_of,
            refusals,
        )
    except ImportError as error:
        raise AnsibleActionFail(
            f"Planning workloads needs numpy and scipy on the controller: {error}."
        ) from error
    labels, resources = (
        {
            host: entry.get(name) or {}
            for host, entry in {**entries, **hosts.gone, **hosts.off}.items()
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
    if not supply:
        findings += mistakes(written, list(entries), args["planning"])
        findings.append(
            Finding(
                "capacity.workloads",
                "site",
                ERROR,
                "the workloads were not planned: no host could be measured",
                "hosts that were measured",
                "mend what keeps the hosts from being measured, then assess again",
            )
        )
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
    planned = with_verdict(planned, args["accept_undecided"])
    findings.extend(planned.findings)
    if planned.plan is None:
        return None, {}, findings
    moves, lost_rows = told(hosts.lost, planned)
    moves += told_of_off(tuple(hosts.off), planned)
    workloads = planned.plan.as_dict()
    today = datetime.datetime.fromtimestamp(now, datetime.timezone.utc).date()
    workloads["days"] = told_days(workloads["horizon"], read_days(Path(args["directory"])), today)
    if hosts.lost.hosts:
        workloads["lost"] = lost_rows
    if hosts.lost.hosts or planned.waiting:
        workloads["waiting"] = kept(planned.waiting)
    first = next(iter(entries.values()))
    around = around_of("", first.get("mlops_teams"), groups.get("scheduler") or (), supply)
    refused = [
        Finding(
            "workloads.run",
            "site",
            FAIL,
            said.partition("; ")[0],
            "work that can be started where it is placed",
            said.partition("; ")[2] or "mend run in mlops_workloads",
        )
        for said in refusals(planned.plan.site.specs, planned.plan.placement(), around, supply)
    ]
    return workloads, by_host(planned.plan), [*findings, *moves, *refused]


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


def keep_placement(directory: Path, report: Mapping[str, Any], asked: bool) -> None:
    """Write down where workloads are, for the next run and for other playbooks.

    Only of a site that may go on: what was refused is not applied, so what was there stays.
    """
    plan = report.get("workloads")
    if plan is None:
        if not asked:
            (directory / PLACEMENT).unlink(missing_ok=True)
        return
    kept = {
        "schema": 1,
        "planned_at": report["assessed_at"],
        "verdict": plan["verdict"],
        "placement": plan["placement"],
        **({"waiting": plan["waiting"]} if plan.get("waiting") else {}),
    }
    replace_file(directory / PLACEMENT, json.dumps(kept, indent=1, sort_keys=True) + "\n")


def sources(variables: Mapping[str, Any]) -> list[str]:
    """The sources of the inventory, as they were given."""
    given = variables.get("ansible_inventory_sources") or []
    return [str(source) for source in ([given] if isinstance(given, str) else given)]


def write_report(directory: Path, report: Mapping[str, Any]) -> str:
    """Both forms of the report, replaced atomically; only the owner may read them."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, text in (
        (REPORT, json.dumps(report, indent=1, sort_keys=True) + "\n"),
        ("assessment.html", as_html(report)),
    ):
        replace_file(directory / name, text)
    return str(directory / "assessment.html")


def replace_file(path: Path, text: str) -> None:
    """Write a file in one step, for its owner only."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise

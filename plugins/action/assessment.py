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
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.mlops.onprem.plugins.module_utils._assess.deferred import defer
from ansible_collections.mlops.onprem.plugins.module_utils._assess.folding import fold
from ansible_collections.mlops.onprem.plugins.module_utils._assess.host_checks import (
    HostRules,
    check_host,
    check_twins,
)
from ansible_collections.mlops.onprem.plugins.module_utils._assess.judge import judge
from ansible_collections.mlops.onprem.plugins.module_utils._assess.language import ENGLISH
from ansible_collections.mlops.onprem.plugins.module_utils._assess.left_behind import (
    check_left_behind,
    modes_of,
)
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
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.margins import (
    Margins,
    read_facts,
)
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.site_sums import plan
from ansible_collections.mlops.onprem.plugins.module_utils._demand.lost import lost_hosts
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import (
    FINDING_KEYS,
    parse_demand,
    parse_finding,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import ShapeError, each
from ansible_collections.mlops.onprem.plugins.module_utils._findings.waivers import read_waivers
from ansible_collections.mlops.onprem.plugins.module_utils._supply import TOOL_VERSION
from ansible_collections.mlops.onprem.plugins.module_utils._supply.facts import Facts
from ansible_collections.mlops.onprem.plugins.module_utils._supply.machine import (
    Machine,
    answer_of,
    machine_of,
)
from ansible_collections.mlops.onprem.plugins.plugin_utils.planned_work import (
    PLACEMENT,
    REPORT,
    Hosts,
    workloads_of,
)

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
    machines: dict[str, Machine] = {}
    demand = {}
    modes = modes_of(hostvars[host] for host in variables["groups"]["all"])
    entries = {host: hostvars[host] for host in args["hosts"] if host not in lost.hosts}
    for host, entry in entries.items():
        facts = entry.get("ansible_facts") or {}
        measured = facts.get("mlops_supply")
        limited = bool(variables.get("ansible_limit"))
        answer = None if measured is None else answer_of(measured)
        silent = check_reached(host, answer, way_to(entry, host, limited))
        if silent is None and measured is not None:
            supply[host] = measured
            demand[host] = each(facts.get("mlops_demand") or [], parse_demand)
            device = is_device(variables["groups"], host)
            machines[host] = machine_of(measured)
            findings.extend(check_host(host, machines[host], rules, device))
            if isinstance(read := read_facts(host, measured, margins, now), Facts):
                findings += check_left_behind(host, read, modes_of([entry]), modes)
        elif silent is not None:
            findings.append(silent)
        for row in facts.get("mlops_findings") or []:
            findings.append(parse_finding({key: row[key] for key in FINDING_KEYS if key in row}))
    findings, deferred = defer(findings, variables["groups"], args.get("deferred_max", 0.0))
    here = {host: entry for host, entry in entries.items() if host not in deferred}
    away = {*deferred, *lost.hosts}
    everyone = [host for host in variables["groups"]["all"] if host not in away]
    findings.extend(check_twins(machines, rules))
    planned = plan(supply, demand, margins, now, args["hints"])
    findings.extend(planned.findings)
    workloads, placement, said = workloads_of(
        args,
        Hosts(
            here,
            {host: hostvars[host] for host in lost.hosts},
            lost,
            {host: hostvars[host] for host in deferred},
            {host: hostvars[host] for host in everyone if host not in here},
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
        "hosts": [host_row(host, machine) for host, machine in machines.items()],
        "deferred": deferred,
        "lost": list(lost.hosts),
        "supply": dict(supply),
    }
    if workloads is not None:
        report["workloads"] = workloads
    return report, placement


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

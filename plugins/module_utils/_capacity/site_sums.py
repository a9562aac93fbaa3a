# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict on all hosts by their sums, before any workload is placed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._findings.finding import ERROR, FAIL, PASS, Demand, Finding
from .._supply.facts import Facts
from .host_sums import Hints, Host, Row
from .margins import Margins, read_facts
from .ports import judge_ports
from .store_sums import judge_stores, pooled_mounts, store_rows
from .stores import by_host, stores_of

FEASIBLE, INFEASIBLE, UNDECIDED = "FEASIBLE", "INFEASIBLE", "UNDECIDED"


@dataclass(frozen=True)
class Plan:
    """The verdict on the whole site, with everything it rests on."""

    verdict: str
    hosts: Mapping[str, str]
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "verdict": self.verdict,
            "hosts": dict(self.hosts),
            "table": [row.as_dict() for row in self.rows],
            "findings": [finding.as_dict() for finding in self.findings],
        }


def verdict_of(findings: Iterable[Finding]) -> str:
    """What follows from findings: one that fails decides, then one that could not be had."""
    severities = {finding.severity for finding in findings}
    return INFEASIBLE if FAIL in severities else UNDECIDED if ERROR in severities else FEASIBLE


def plan(
    supply: Mapping[str, Mapping[str, Any]],
    demand: Mapping[str, Sequence[Demand]],
    margins: Mapping[str, Margins] | Margins,
    now: float,
    hints: Hints | None = None,
) -> Plan:
    """Judge every host that has facts or is asked for something."""
    hosts: dict[str, str] = {}
    rows: list[Row] = []
    findings: list[Finding] = []
    read = {
        name: read_facts(
            name, given, margins if isinstance(margins, Margins) else margins[name], now
        )
        for name, given in supply.items()
    }
    usable = {name: facts for name, facts in read.items() if isinstance(facts, Facts)}
    stores = stores_of(usable)
    on_host = by_host(stores)
    shared = store_rows(stores, usable, demand, margins)
    told, too_much = judge_stores(shared, margins, hints or {})
    for name in sorted(set(supply) | set(demand)):
        needs = demand.get(name) or ()
        own = margins if isinstance(margins, Margins) else margins[name]
        facts = read.get(name)
        if facts is None:
            findings.append(
                Finding(
                    "capacity.no_facts",
                    name,
                    ERROR,
                    "no facts were measured",
                    "facts of this host",
                    "measure it with: ansible-playbook playbooks/assess.yml",
                )
            )
            hosts[name] = UNDECIDED
            continue
        if isinstance(facts, Finding):
            findings.append(facts)
            hosts[name] = UNDECIDED
            continue
        pooled = frozenset(pooled_mounts(name, facts, on_host.get(name, ())))
        work = Host(name, facts, needs, own, hints or {}, pooled)
        work.cpu()
        work.memory()
        work.disks()
        work.gpus()
        judge_ports(work)
        hosts[name] = INFEASIBLE if name in too_much else verdict_of(work.findings)
        if hosts[name] == FEASIBLE:
            count = len(needs)
            work.add("fits", PASS, f"{count} service{'' if count == 1 else 's'} fit on this host")
        rows.extend(work.rows)
        findings.extend(work.findings)
    rows += [row for _store, row, _asking in shared.values()]
    findings += told
    verdicts = set(hosts.values())
    verdict = (
        INFEASIBLE if INFEASIBLE in verdicts else UNDECIDED if UNDECIDED in verdicts else FEASIBLE
    )
    return Plan(verdict, hosts, tuple(rows), tuple(findings))

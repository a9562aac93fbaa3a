# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report says of the work on hosts that are declared lost, and on devices that are off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from .._capacity.planning import Planned
from .._capacity.question import Earlier
from .._demand.lost import Lost
from .._demand.workloads import DATASET, Spec
from .._findings.finding import WARN, Finding
from .._findings.sentence import counted, listing


def told(lost: Lost, planned: Planned) -> tuple[list[Finding], list[dict[str, Any]]]:
    """What moves from each lost host and what waits for it, as findings and for the report."""
    if planned.plan is None:
        return [], []
    specs = {spec.name: spec for spec in planned.plan.site.specs}
    waits: dict[str, Counter[str]] = {host: Counter() for host in lost.hosts}
    for row in planned.waiting:
        waits.setdefault(row.host, Counter())[row.workload] += 1
    moved = _moved(lost, planned)
    findings = [
        finding
        for host in lost.hosts
        for finding in (
            *_moves(host, moved[host], specs),
            *(
                _waits(host, specs[name], number, lost.hosts)
                for name, number in sorted(waits[host].items())
            ),
        )
    ]
    rows = [
        {
            "host": host,
            "moved": [{"workload": name, "to": to} for name, to in moved[host]],
            "waiting": dict(sorted(waits[host].items())),
        }
        for host in lost.hosts
    ]
    return findings, rows


def told_of_off(off: Sequence[str], planned: Planned) -> list[Finding]:
    """One finding for each device that is switched off and has work that waits for it."""
    waits: dict[str, Counter[str]] = {host: Counter() for host in off}
    for row in planned.waiting:
        if row.host in waits:
            waits[row.host][row.workload] += 1
    return [
        Finding(
            "capacity.waiting",
            host,
            WARN,
            "work waits until it answers: "
            + listing(f"{counted(n, 'replica')} of {name}" for name, n in sorted(names.items())),
            "a device that answers",
            "nothing now: the next run of site.yml that reaches it goes on with this work there",
        )
        for host, names in waits.items()
        if names
    ]


def _moved(lost: Lost, planned: Planned) -> dict[str, list[tuple[str, str]]]:
    """For each lost host the workloads of which a replica goes elsewhere, and where.

    Replicas of a workload are alike: whatever is on a host beyond what was there has come to it.
    """
    if planned.plan is None:
        return {host: [] for host in lost.hosts}
    was = planned.plan.site.earlier
    before = Counter((row.workload, row.host) for row in was if row.host not in lost.hosts)
    after = Counter((one.workload, one.host) for one in planned.plan.result.placement)
    came: dict[str, list[str]] = {}
    for (name, host), number in sorted(after.items()):
        came.setdefault(name, []).extend([host] * (number - before[name, host]))
    waiting = Counter((row.workload, row.host) for row in planned.waiting)
    found: dict[str, list[tuple[str, str]]] = {host: [] for host in lost.hosts}
    for row in was:
        if row.host not in found:
            continue
        if waiting[row.workload, row.host]:
            waiting[row.workload, row.host] -= 1
        elif came.get(row.workload):
            found[row.host].append((row.workload, came[row.workload].pop(0)))
    return found


def _moves(host: str, moved: Sequence[tuple[str, str]], specs: Mapping[str, Spec]) -> list[Finding]:
    if not moved:
        return []
    places = listing(f"{name} to {to}" for name, to in moved[:8])
    more = f", and {len(moved) - 8} more" if len(moved) > 8 else ""
    one = len(moved) == 1
    what = f"{counted(len(moved), 'replica')} that {'was on it goes' if one else 'were on it go'}"
    found = [
        Finding(
            "capacity.moved",
            host,
            WARN,
            f"{what} elsewhere: {places}{more}",
            "as little moved as can be",
            "nothing: they stay there, also when the host is back",
        )
    ]
    data = sorted({name for name, _to in moved if name in specs and specs[name].kind == DATASET})
    if data:
        found.append(
            Finding(
                "capacity.lost_data",
                host,
                WARN,
                f"holds the data of {listing(data)}; the directory at the new place begins empty",
                "data that is where its directory is",
                "bring the data there from its backup, or pin the dataset to the host with "
                "hosts.names in mlops_workloads until it is back",
            )
        )
    return found


def _waits(host: str, spec: Spec, number: int, lost: Sequence[str]) -> Finding:
    only = bool(spec.hosts) and set(spec.hosts) <= set(lost)
    why = (
        f"may run on {listing(spec.hosts)} only"
        if only
        else "finds no room on the hosts that are left"
    )
    mend = (
        f"name further hosts in hosts.names of {spec.name} in mlops_workloads"
        if only
        else f"add a host, or ask for less in mlops_workloads; {spec.name} goes before others with"
        " a higher priority"
    )
    return Finding(
        "capacity.waiting",
        host,
        WARN,
        f"{counted(number, 'replica')} of {spec.name} cannot move and "
        f"{'waits' if number == 1 else 'wait'} until it is back: {spec.name} {why}",
        "another place within the rules of the workload",
        mend,
    )


def kept(waiting: Sequence[Earlier]) -> list[dict[str, Any]]:
    """What waits, as the placement file has it."""
    return [
        {
            "workload": row.workload,
            "replica": row.replica,
            "host": row.host,
            "gpus": list(row.gpus),
            "slice": row.slice,
        }
        for row in waiting
    ]

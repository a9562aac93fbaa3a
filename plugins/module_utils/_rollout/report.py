# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the lines of a journal to the report of one rollout, in the form of its published schema.

The journal is the only source: who comes later, on another controller, makes the same report.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .shapes import EXIT_CODES, FAIL, INCONCLUSIVE, MISSING, ON_DEVICE, PAUSED, PHASES, STAGE

SCHEMA = 1
RUNNING = "RUNNING"
# What can have stopped a ring, the gravest first.
STOPS = (FAIL, MISSING, INCONCLUSIVE)


class Line(Protocol):
    """A line of the journal; ``journal.Entry`` is one."""

    @property
    def time(self) -> float:
        """When it was decided."""

    @property
    def rollout(self) -> str:
        """The rollout that it belongs to."""

    @property
    def event(self) -> str:
        """What was decided."""

    @property
    def data(self) -> Mapping[str, Any]:
        """Everything else that it says."""


@dataclass(frozen=True)
class Row:
    """A line of the journal as the module rollout returns it."""

    time: float
    rollout: str
    event: str
    data: Mapping[str, Any]


def row(line: Mapping[str, Any]) -> Row:
    """Read such a line."""
    return Row(float(line["time"]), str(line["rollout"]), str(line["event"]), line)


def stamp(at: float) -> str:
    """A time as people and machines read it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def last_rollout(lines: Iterable[Line]) -> str:
    """The rollout that was begun last, empty if none was."""
    found = ""
    for line in lines:
        if line.event == "started":
            found = line.rollout
    return found


def gate_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """A verdict as the report has it."""
    return {
        "name": str(row.get("name") or ""),
        "verdict": str(row.get("verdict") or MISSING),
        "said": str(row.get("said") or ""),
        "found": dict(row.get("found") or {}),
        "wanted": dict(row.get("wanted") or {}),
    }


def _fresh_host(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "phase": PHASES[0],
        "served": "",
        "reached": True,
        "moved": 0,
        "refused": "",
        "failure": "",
        "gates": [],
    }


def _fresh_ring(name: str, hosts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "state": "not begun",
        "looks": 0,
        "seconds": 0.0,
        "hosts": hosts,
        "gates": [],
    }


class _Reader:
    """Goes through the lines of one rollout."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self.plan = plan
        self.rings: dict[str, dict[str, Any]] = {}
        self.hosts: dict[str, dict[str, Any]] = {}
        self.began: dict[str, float] = {}
        self.approvals: list[dict[str, str]] = []
        self.deferred: set[str] = set()
        self.stopped: dict[str, Any] | None = None
        self.outcome, self.said, self.by = RUNNING, "", ""
        self.ended = ""
        for ring in plan.get("rings") or ():
            hosts = [_fresh_host(str(name)) for name in ring["hosts"]]
            self.hosts.update({host["name"]: host for host in hosts})
            self.rings[str(ring["name"])] = _fresh_ring(str(ring["name"]), hosts)

    def read(self, line: Line) -> None:
        """Take in one line; an event that says nothing for the report is passed over."""
        take = getattr(self, f"_on_{line.event}", None)
        if take is not None:
            take(line)

    def _ring(self, line: Line) -> dict[str, Any]:
        return self.rings.get(str(line.data.get("ring"))) or {"hosts": [], "gates": [], "looks": 0}

    def _on_started(self, line: Line) -> None:
        self.by = str(line.data.get("by") or "")

    def _on_approved(self, line: Line) -> None:
        said = {"ring": str(line.data["ring"]), "person": str(line.data["by"])}
        self.approvals.append({**said, "at": stamp(line.time)})

    def _on_ring_begun(self, line: Line) -> None:
        name, hosts = str(line.data["ring"]), [str(host) for host in line.data["hosts"]]
        if name not in self.rings:  # those that were left out, caught up behind the last ring
            self.rings[name] = _fresh_ring(name, [self._host(host) for host in hosts])
        self.deferred -= set(hosts)
        self._ring(line)["state"] = "begun"
        self.began[name] = line.time

    def _host(self, name: str) -> dict[str, Any]:
        return self.hosts.setdefault(name, _fresh_host(name))

    def _on_deferred(self, line: Line) -> None:
        for host, said in line.data["hosts"].items():
            self.deferred.add(str(host))
            self._host(str(host))["failure"] = str(said)

    def _on_answered(self, line: Line) -> None:
        rows = line.data["answers"]
        for row in rows.values() if isinstance(rows, Mapping) else rows:
            host = self.hosts.get(str(row.get("host")))
            if host is None:
                continue
            host["reached"] = bool(row.get("reached"))
            if host["reached"]:
                host["phase"] = str(row.get("phase") or host["phase"])
                host["served"] = str(row.get("served") or "")
            # A device that fetches its orders says with each later step again what it fetched.
            host["moved"] += int(row.get("moved") or 0) if row.get("step") == STAGE else 0
            host["refused"] = str(row.get("refused") or "")
            host["failure"] = str(row.get("failure") or host["failure"])
            known = {gate["name"]: gate for gate in host["gates"]}
            known.update({str(gate["name"]): gate_of(gate) for gate in row.get("gates") or ()})
            host["gates"] = list(known.values())

    def _on_judged(self, line: Line) -> None:
        ring = self._ring(line)
        ring["looks"] += 1
        ring["gates"] = [gate_of(gate) for gate in line.data.get("gates") or ()]
        began = self.began.get(str(line.data["ring"]), line.time)
        ring["seconds"] = max(0.0, line.time - began)

    def _on_ring_passed(self, line: Line) -> None:
        self._ring(line)["state"] = "passed"

    def _on_ring_failed(self, line: Line) -> None:
        ring = self._ring(line)
        ring["state"] = "failed"
        over = [gate_of(gate) for gate in line.data.get("gates") or () if "name" in gate]
        known = {gate["name"] for gate in over if gate["name"] not in ON_DEVICE}
        if known:
            ring["gates"] = [gate for gate in over if gate["name"] in known]
        self.stopped = self._stop(ring, over, str(line.data.get("said") or ""))

    def _stop(
        self, ring: Mapping[str, Any], over: Sequence[Mapping[str, Any]], said: str
    ) -> dict[str, Any]:
        """The gate that stopped a ring: one of a device goes before those over the ring."""
        where = str(ring.get("name") or "")
        for verdict in STOPS:
            for host in ring["hosts"]:
                for gate in host["gates"]:
                    if gate["verdict"] == verdict:
                        return {"ring": where, "host": host["name"], **gate}
            for gate in over:
                if gate["verdict"] == verdict:
                    return {"ring": where, "host": "", **gate}
        silent = next((host for host in ring["hosts"] if not host["reached"]), None)
        return {
            "ring": where,
            "host": silent["name"] if silent else "",
            **gate_of({"name": "answers", "verdict": FAIL, "said": said}),
        }

    def _on_paused(self, line: Line) -> None:
        self.outcome, self.said = PAUSED, str(line.data["said"])
        for ring in self.rings.values():
            if ring["state"] == "begun" and self.stopped is None:
                stopping = [gate for gate in ring["gates"] if gate["verdict"] in STOPS]
                if stopping:
                    self.stopped = self._stop(ring, stopping, self.said)

    def _on_resumed(self, line: Line) -> None:
        self.outcome, self.said, self.stopped = RUNNING, str(line.data.get("said") or ""), None

    def _on_aborted(self, line: Line) -> None:
        self.said = str(line.data.get("said") or "")

    def _on_reverting(self, line: Line) -> None:
        self.said = str(line.data.get("said") or "")

    def _on_finished(self, line: Line) -> None:
        self.outcome, self.said = str(line.data["outcome"]), str(line.data.get("said") or "")
        self.ended = stamp(line.time)


def report(lines: Sequence[Line], rollout: str = "") -> dict[str, Any]:
    """The report of a rollout, of the last one where none is named; empty where there was none."""
    wanted = rollout or last_rollout(lines)
    ours = [line for line in lines if line.rollout == wanted]
    started = next((line for line in ours if line.event == "started"), None)
    if started is None:
        return {}
    plan = started.data["plan"]
    reader = _Reader(plan)
    for line in ours:
        reader.read(line)
    before = sorted(
        {str(one.get("previous") or "") for one in (plan.get("devices") or {}).values()} - {""}
    )
    return {
        "schema": SCHEMA,
        "id": wanted,
        "model": str(plan["model"]),
        "version": str(plan.get("version") or ""),
        "digest": str(plan["digest"]),
        "from": before[0] if len(before) == 1 else "",
        "by": reader.by,
        "outcome": reader.outcome,
        "exit_code": EXIT_CODES.get(reader.outcome, EXIT_CODES[PAUSED]),
        "said": reader.said,
        "started_at": stamp(started.time),
        "ended_at": reader.ended,
        "rings": list(reader.rings.values()),
        "stopped_by": reader.stopped,
        "deferred": sorted(reader.deferred),
        "approvals": reader.approvals,
        **({"base": str(plan["base"]), "changes": plan["changes"]} if plan.get("changes") else {}),
    }

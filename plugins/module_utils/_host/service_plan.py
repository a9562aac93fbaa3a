# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service: from what systemd runs and what is wanted to the steps between.

Nothing here looks at a host. What is to be done to the process follows from what it was started
with, not from what this run happens to change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import unit
from .errors import HostError
from .ledger import Ledger
from .steps import Run, Step, difference

SLICE_PATH = "/etc/systemd/system/" + unit.SLICE
RELOAD = Run(("systemctl", "daemon-reload"), "make systemd read its units again")


@dataclass(frozen=True)
class Before:
    """The host as far as the service matters, and its inputs as they will be with the new unit."""

    running: unit.Running = field(default_factory=unit.Running)
    shown: Mapping[str, str] = field(default_factory=dict)  # as systemctl show says it
    texts: Mapping[str, str] = field(default_factory=dict)  # of the files that exist
    occupied: bool = False  # something is where the unit goes
    shut: str = ""  # why even root cannot write units and what to do, if that is so
    missing: str = ""  # the sentence, if something that the start needs is missing
    inputs: unit.Inputs = field(default_factory=lambda: unit.Inputs("", ""))


@dataclass(frozen=True)
class WriteUnit:
    path: str
    text: str


@dataclass(frozen=True)
class Plan:
    """Steps for the unit, then what is to be done to the process."""

    steps: tuple[Step, ...]
    action: str  # nothing, start, restart or reload


def plan(
    before: Before, service: unit.Service, ledger: Ledger, role: str, trial: bool = False
) -> Plan:
    """How the service becomes as wanted by the role, or a refusal.

    In a ``trial`` (check mode) what the start needs may come from an earlier task.
    """
    refuse(service, before, ledger)
    if before.missing and not trial:
        raise HostError(before.missing)
    steps: list[Step] = []
    ledger = ledger.claim(role, "unit", unit.SLICE, path=SLICE_PATH)
    steps.append(_placed(before, ledger, SLICE_PATH, unit.SLICE_TEXT))
    ledger = ledger.claim(
        role, "unit", service.unit, path=service.path, unit=service.unit, dropin=service.dropin
    )
    if service.job:
        # Both are recorded before either is written.
        path = f"/etc/systemd/system/{service.job}"
        ledger = ledger.claim(role, "unit", service.job, path=path, unit=service.job)
    for path, text in service.texts.items():
        steps.append(_placed(before, ledger, path, text))
    if before.running.stale or any(step.act for step in steps):
        steps.append(Step(ledger, RELOAD))
    fixed = before.shown.get("UnitFileState") in ("static", "generated")
    if not before.running.enabled and not fixed:
        ledger = ledger.claim(role, "unit", service.unit, enabled=True)
        act = Run(("systemctl", "enable", "--quiet", service.unit), f"enable {service.unit}")
        steps.append(Step(ledger, act, f"{service.unit}: enabled"))
    record = recorded(ledger, service.unit)
    action = unit.decide(before.running, before.inputs, record, unit.can_reload(service))
    if action != "nothing":
        steps.append(Step(ledger, None, f"{service.unit}: {action}"))
    return Plan(tuple(steps), action)


def refuse(service: unit.Service, before: Before, ledger: Ledger) -> None:
    """Refuse what stands in the way of the unit, on the disk or in systemd."""
    ours = ledger.has("unit", service.unit)
    if before.shown.get("LoadState") == "masked":
        raise HostError(
            f"The unit {service.unit} is masked on this host; run: systemctl unmask {service.unit}"
        )
    there = "" if service.dropin else before.shown.get("FragmentPath") or ""
    if not ours and (there or before.occupied):
        raise HostError(
            f"A unit {service.unit} exists already ({there or service.path}) and was not written "
            "by the platform; remove or rename it."
        )
    other = before.texts.get(SLICE_PATH, unit.SLICE_TEXT) != unit.SLICE_TEXT
    if other and not ledger.has("unit", unit.SLICE):
        raise HostError(
            f"{SLICE_PATH} exists already with other content and was not written by the platform; "
            "remove or rename it."
        )
    if before.shut and not all(path in before.texts for path in (SLICE_PATH, *service.texts)):
        raise HostError(f"No unit of the platform can be written: {before.shut}.")


def _placed(before: Before, ledger: Ledger, path: str, text: str) -> Step:
    old = before.texts.get(path)
    if old == text:
        return Step(ledger)
    said = f"{path}: " + ("created" if old is None else "content")
    diff = difference(path, (old or "").encode(), text.encode(), sensitive=False)
    return Step(ledger, WriteUnit(path, text), said, diff)


def recorded(ledger: Ledger, name: str) -> unit.Record | None:
    """With what the process was started, as far as it is noted."""
    thing = ledger.get("unit", name)
    noted = thing.data.get("record") if thing else None
    return unit.Record(**noted) if noted else None


def noted(
    ledger: Ledger,
    role: str,
    name: str,
    inputs: unit.Inputs,
    invocation: str,
    accepted: Mapping[str, Any] | None = None,
) -> Ledger:
    """The ledger with what the process of an invocation runs with, and what it accepted."""
    record = {"invocation": invocation, "restart": inputs.restart, "reload": inputs.reload}
    data: dict[str, Any] = {"record": record}
    if accepted is not None:
        data["accepted"] = accepted
    return ledger.claim(role, "unit", name, **data)


def put_back(
    accepted: Mapping[str, Any], present: Mapping[str, Any]
) -> tuple[list[str], dict[str, Any]]:
    """Which of the present files go, and which come back, so that all are as accepted last."""
    gone = [path for path in present if path not in accepted]
    return gone, {path: old for path, old in accepted.items() if present.get(path) != old}


def unsteady(name: str, first: unit.Running, now: unit.Running, shown: Mapping[str, str]) -> str:
    """What is wrong with a unit that should stay up, looked at twice; empty if nothing is."""
    if now.invocation != first.invocation or shown.get("SubState") == "auto-restart":
        return f"{name} ends right after its start"
    if not now.active and shown.get("ActiveState") != "activating":
        return (
            f"{name} does not stay up: it is {shown.get('ActiveState')} ({shown.get('SubState')})"
        )
    return ""

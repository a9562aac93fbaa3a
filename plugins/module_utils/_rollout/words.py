# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people say to a rollout: begin, resume, pause, abort, roll back. Each becomes entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import journal as j
from .errors import RolloutError
from .journal import Entry
from .modes import going_back, pausing
from .plan import Plan
from .shapes import COMPLETED, PARTIAL, REVERT, ROLLED_BACK
from .state import BAKING, FAILED, REVERTING, STOPPED, State, apply, to_catch_up, touched


def begin(
    state: State, plan: Plan, generation: int, by: str, approved: str, now: float
) -> list[Entry]:
    """Start a rollout."""
    if state.running:
        raise RolloutError(
            f"The rollout {state.rollout} of the model {plan.model} has not ended "
            f"({'paused' if state.paused else state.mode}). Go on with rollout_action=resume, or "
            "end it with rollout_action=abort or rollback."
        )
    own = state.copy()
    own.generation, own.rollout = generation, plan.rollout
    entries = _written(own, [(j.STARTED, {"plan": plan.as_dict(), "by": by})], now)
    return entries + _approve(own, approved, now)


def _written(state: State, steps: Sequence[tuple[str, dict[str, Any]]], now: float) -> list[Entry]:
    entries = []
    for event, data in steps:
        entry = state.entry(event, data, now)
        apply(state, entry)
        entries.append(entry)
    return entries


def _approve(state: State, approved: str, now: float) -> list[Entry]:
    """The approval of the ring that is next, by one of the persons that the plan names."""
    plan = state.planned()
    if not approved or state.ring + 1 >= len(plan.rings):
        return []
    ring = plan.rings[state.ring + 1].name
    persons = plan.approval.get(ring, ())
    if not persons or ring in state.approvals:
        return []
    if approved not in persons:
        raise RolloutError(
            f"{approved} cannot approve the ring {ring}; {' or '.join(persons)} can "
            "(rollout_approval)."
        )
    return _written(state, [(j.APPROVED, {"ring": ring, "by": approved})], now)


def resume(
    state: State,
    generation: int,
    by: str,
    approved: str,
    devices: Mapping[str, Mapping[str, Any]],
    now: float,
) -> list[Entry]:
    """Go on as another controller, or catch up devices of a rollout that has ended."""
    if not state.rollout:
        raise RolloutError("There is no rollout to resume; start one with rollout_action=start.")
    new = {host: dict(data) for host, data in devices.items() if host not in state.hosts}
    if not state.running:
        if state.outcome not in (COMPLETED, PARTIAL):
            raise RolloutError(
                f"The rollout {state.rollout} is over ({state.outcome}): {state.said} Start a new "
                "one with rollout_action=start."
            )
        if not new and not to_catch_up(state):
            return []
    own = state.copy()
    own.generation = generation
    said = f"{by} went on with the rollout."
    entries = _written(own, [(j.RESUMED, {"by": by, "said": said, "hosts": new})], now)
    return entries + _approve(own, approved, now)


def pause(state: State, by: str, reason: str, now: float) -> list[Entry]:
    """Stop giving orders; devices that are activated keep their deadline."""
    if not state.running or state.mode in (REVERTING, FAILED, STOPPED):
        raise RolloutError(_nothing(state, "pause"))
    if state.paused:
        return []
    said = f"{by} paused the rollout{': ' + reason if reason else '.'}"
    if state.mode == BAKING:
        until = state.activated_at + state.planned().limits.deadline - now
        said += f" The ring goes back by itself in {max(0.0, until):.0f} s."
    return _written(state.copy(), [pausing("person", said)], now)


def _nothing(state: State, verb: str) -> str:
    if not state.rollout:
        return f"There is no rollout to {verb}; start one with rollout_action=start."
    if state.running:
        return f"The rollout {state.rollout} is going back already; there is nothing to {verb}."
    return f"The rollout {state.rollout} is over ({state.outcome}); there is nothing to {verb}."


def abort(state: State, generation: int, by: str, reason: str, now: float) -> list[Entry]:
    """End a rollout where it is: what is committed stays."""
    if not state.running or state.mode in (REVERTING, FAILED, STOPPED):
        raise RolloutError(_nothing(state, "abort"))
    own = state.copy()
    own.generation = generation
    said = f"{by} aborted the rollout{': ' + reason if reason else '.'}"
    return _written(own, [(j.ABORTED_EVENT, {"by": by, "said": said})], now)


def rollback(state: State, generation: int, by: str, reason: str, now: float) -> list[Entry]:
    """Bring every device that has something of the release back to the one before."""
    hosts = [h for h in touched(state) if not (state.hosts[h].step == REVERT and state.hosts[h].ok)]
    if not state.rollout or (not hosts and not state.running):
        raise RolloutError(_nothing(state, "roll back"))
    own = state.copy()
    own.generation = generation
    said = f"{by} rolled back{': ' + reason if reason else '.'}"
    return _written(own, [going_back(hosts, ROLLED_BACK, said)], now)

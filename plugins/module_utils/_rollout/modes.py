# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each mode of a rollout does next: an entry of the journal, or nothing yet.

The way of a ring: stage, activate, bake and judge, commit. Nothing of a later ring is touched
before the ring is committed, and nothing at all but going back once a ring has failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._findings.sentence import count, counted
from . import journal as j
from .orders import least_bake
from .plan import ALL, PUSH
from .shapes import (
    ABORTED,
    ACTIVATE,
    COMMIT,
    COMPLETED,
    FAIL,
    INCONCLUSIVE,
    MISSING,
    PARTIAL,
    PASS,
    REVERT,
    ROLLED_BACK,
    ROLLED_BACK_PARTIAL,
    STAGE,
)
from .standing import (
    devices_answer,
    few_enough,
    given_up,
    lost_to_commit,
    lost_while_catching,
    next_batch,
    on_the_way_back,
    silent,
    told_to,
    went_back,
    with_reasons,
)
from .state import (
    BAKING,
    CATCH_UP,
    CATCHING,
    COMMITTING,
    FAILED,
    REOPENED,
    REVERTING,
    STAGING,
    STOPPED,
    WAITING,
    State,
    active,
    to_catch_up,
    touched,
)


def _ring_failure(state: State) -> Any:
    """The ring fails where more devices failed than the plan tolerates."""
    failed = [host for host in state.members if state.hosts[host].failure]
    if not failed or len(failed) <= state.planned().limits.failed_share * len(state.members):
        return None
    gates = {
        gate["name"]: gate
        for host in failed
        for gate in state.hosts[host].gates
        if gate["verdict"] == FAIL
    }
    # Going back at the deadline says that nobody committed, not that the release is bad.
    reverted = all(state.hosts[host].phase == "reverted" for host in failed) and not gates
    return j.RING_FAILED, {
        "ring": state.records[state.ring].name,
        "said": f"{len(failed)} of {counted(len(state.members), 'device')} failed: "
        f"{with_reasons(state, failed)}.",
        "gates": [gates[name] for name in sorted(gates)],
        "deadline": reverted,
    }


def _next_ring(state: State, now: float) -> Any:
    """Begin the next ring, where nothing stands against it."""
    plan = state.planned()
    index = state.ring + 1
    ring = plan.rings[index]
    persons = plan.approval.get(ring.name, ())
    if persons and ring.name not in state.approvals:
        return pausing(
            "approval",
            f"The ring {ring.name} ({counted(len(ring.hosts), 'device')}) waits for the approval "
            f"of {' or '.join(persons)}: rollout_action=resume rollout_approved_by={persons[0]}.",
        )
    if plan.when().opens_in(now) > 0:
        return None
    return j.RING_BEGUN, {"ring": ring.name, "hosts": list(ring.hosts)}


def pausing(kind: str, said: str) -> Any:
    return j.PAUSED_EVENT, {"kind": kind, "said": said}


def _waiting(state: State, now: float) -> Any:
    return _next_ring(state, now)


def _staging(state: State, now: float) -> Any:
    found = _ring_failure(state)
    if found:
        return found
    gone = given_up(state, told_to(state, STAGE), STAGE, now)
    if gone:
        return j.DEFERRED, {"hosts": gone}
    batch = next_batch(state, [host for host in active(state) if not state.hosts[host].step])
    if batch:
        return j.ORDERED, {"step": STAGE, "hosts": batch}
    if told_to(state, STAGE):
        return None
    return _staged(state, now)


def _staged(state: State, now: float) -> Any:
    """Every device of the ring has the release or is deferred: may the ring switch?"""
    plan, ring = state.planned(), state.records[state.ring].name
    deferred = [host for host in state.members if state.hosts[host].deferred]
    if not active(state):
        return pausing(
            "deferred",
            f"No device of the ring {ring} could be reached, so there is no evidence: "
            f"{with_reasons(state, deferred)}. Bring one back and say rollout_action=resume.",
        )
    if len(deferred) > plan.limits.deferred_share * len(state.members):
        return pausing(
            "deferred",
            f"{len(deferred)} of {counted(len(state.members), 'device')} of the ring {ring} are "
            f"deferred, {plan.limits.deferred_share:.0%} are allowed (rollout_deferred_share): "
            f"{with_reasons(state, deferred)}. Bring them back and say rollout_action=resume.",
        )
    if plan.when().opens_in(now) > 0:
        return None
    return j.ORDERED, {"step": ACTIVATE, "hosts": active(state)}


def _baking(state: State, now: float) -> Any:
    limits, ring = state.planned().limits, state.records[state.ring].name
    found = _ring_failure(state)
    if found:
        return found
    gone = given_up(state, told_to(state, ACTIVATE), ACTIVATE, now)
    if gone:
        return j.DEFERRED, {"hosts": gone}
    if not active(state):
        return pausing(
            "missing", f"No device of the ring {ring} serves the release; nothing can be judged."
        )
    if state.verdict == FAIL:
        return _judged_failed(state)
    if now - state.activated_at >= limits.deadline:
        return j.RING_FAILED, {
            "ring": ring,
            "said": f"The commit deadline of {limits.deadline:g} s passed without a verdict; its "
            "devices go back to the release before by themselves.",
            "gates": [],
            "deadline": True,
        }
    return _bake_on(state)


def _judged_failed(state: State) -> Any:
    failed = [gate for gate in state.gates if gate["verdict"] == FAIL]
    return j.RING_FAILED, {
        "ring": state.records[state.ring].name,
        "said": " ".join(gate.get("said") or f"The gate {gate['name']} failed." for gate in failed),
        "gates": list(state.gates),
        "deadline": False,
    }


def _bake_on(state: State) -> Any:
    """The verdict of the last look, once the ring has baked long enough."""
    limits, ring = state.planned().limits, state.records[state.ring].name
    if not state.looked or state.seconds < least_bake(state):
        return None
    gone = silent(state)
    if gone:
        late = state.seconds >= limits.bake_limit
        return _gone_silent(state, gone) if late or _tolerated(state, gone) else None
    unjudged = [host for host in active(state) if state.hosts[host].unjudged]
    if unjudged:
        said = f"{unjudged[0]}: {state.hosts[unjudged[0]].unjudged}"
        return pausing("missing", f"The ring {ring} cannot be judged on its devices. {said}")
    if state.verdict == PASS:
        return j.RING_PASSED, {
            "ring": ring,
            "said": f"All gates passed after {state.seconds:.0f} s, "
            f"at {count(state.looks, 'look')}.",
        }
    if state.verdict == MISSING:
        return pausing(
            "missing", f"The ring {ring} cannot be judged. {_gates_said(state, MISSING)}"
        )
    if state.seconds >= limits.bake_limit:
        return pausing(
            "inconclusive",
            f"The ring {ring} has no verdict after {state.seconds:.0f} s "
            f"(rollout_bake_limit_seconds). {_gates_said(state, INCONCLUSIVE)} Its devices go back "
            f"by themselves {limits.deadline:g} s after they were activated.",
        )
    return None


def _gates_said(state: State, verdict: str) -> str:
    said = [gate.get("said") or gate["name"] for gate in state.gates if gate["verdict"] == verdict]
    return " ".join(said) or "No gate had anything to judge."


def _tolerated(state: State, gone: Sequence[str]) -> bool:
    """Whether the gates pass the ring although devices are silent."""
    return state.verdict == PASS and few_enough(state, gone)


def _gone_silent(state: State, gone: Sequence[str]) -> Any:
    """Devices that were activated and do not answer at the limit have failed."""
    if state.verdict in (PASS, INCONCLUSIVE) and few_enough(state, gone):
        said = "It went silent after it had been activated, and goes back by itself."
        return j.DEFERRED, {"hosts": dict.fromkeys(gone, said)}
    return j.RING_FAILED, {
        "ring": state.records[state.ring].name,
        "said": f"{count(len(gone), 'device')} did not answer from the new release until the limit "
        f"of baking: {with_reasons(state, gone)}.",
        "gates": list(state.gates),
        "deadline": False,
    }


def _committing(state: State, now: float) -> Any:
    found = _ring_failure(state)
    if found:
        return found
    waiting = [h for h in active(state) if not state.hosts[h].committed]
    gone = given_up(state, told_to(state, COMMIT), COMMIT, now)
    for host in waiting:
        if lost_to_commit(state, host, now):
            gone.setdefault(host, "It was not heard of after its ring had passed.")
    if gone:
        return j.DEFERRED, {"hosts": gone}
    fresh = [host for host in waiting if state.hosts[host].step != COMMIT]
    if fresh:
        return j.ORDERED, {"step": COMMIT, "hosts": fresh}
    back = _back(state)
    if back:
        return back
    if waiting or on_the_way_back(state, now):
        return None
    return _after_ring(state, now)


def _back(state: State) -> Any:
    """A tolerated failure is one device that goes back alone.

    One that fetches its orders cannot be told alone; it goes back by its own deadline.
    """
    hosts = [
        host
        for host in state.members
        if state.hosts[host].failure
        and state.hosts[host].touched
        and state.hosts[host].step != REVERT
        and state.hosts[host].transport == PUSH
    ]
    return (j.ORDERED, {"step": REVERT, "hosts": hosts}) if hosts else None


def _after_ring(state: State, now: float) -> Any:
    plan = state.planned()
    if state.ring + 1 < len(plan.rings):
        return _next_ring(state, now)
    late = to_catch_up(state)
    tried = any(
        record.name == CATCH_UP and record.begun >= state.resumed_at for record in state.records
    )
    if late and not tried:
        if plan.when().opens_in(now) > 0:
            return None
        return j.RING_BEGUN, {"ring": CATCH_UP, "hosts": late}
    return _end(state)


def _end(state: State) -> Any:
    late = to_catch_up(state)
    plan = state.planned()
    if not late:
        return j.FINISHED, {
            "outcome": COMPLETED,
            "said": f"{devices_answer(len(state.hosts))} from {plan.digest}.",
        }
    return j.FINISHED, {
        "outcome": PARTIAL,
        "said": f"{len(state.hosts) - len(late):,} of {counted(len(state.hosts), 'device')} answer "
        f"from {plan.digest}; to be caught up by rollout_action=resume: "
        f"{with_reasons(state, late)}.",
    }


def _catching(state: State, now: float) -> Any:
    """Devices that come late take the committed release one by one, by their own gates."""
    gone = lost_while_catching(state, now)
    if gone:
        return j.DEFERRED, {"hosts": gone}
    batch = next_batch(state, [host for host in active(state) if not state.hosts[host].step])
    if batch:
        return j.ORDERED, {"step": STAGE, "hosts": batch}
    for step, then in ((STAGE, ACTIVATE), (ACTIVATE, COMMIT)):
        ready = [h for h in active(state) if state.hosts[h].step == step and state.hosts[h].ok]
        if ready:
            return j.ORDERED, {"step": then, "hosts": ready}
    back = _back(state)
    if back:
        return back
    if any(not state.hosts[h].committed for h in active(state)) or on_the_way_back(state, now):
        return None
    return _end(state)


def _failed(state: State, _now: float) -> Any:
    """A ring failed: it, or everything, goes back."""
    everything = state.planned().on_failure == ALL and state.wanted_outcome != "deadline"
    hosts = touched(state) if everything else [h for h in state.members if state.hosts[h].touched]
    return going_back(hosts, ROLLED_BACK, state.reason)


def _stopped(state: State, _now: float) -> Any:
    """A person stopped it: what is not committed goes back, the rest stays."""
    hosts = [
        h for h in touched(state) if not state.hosts[h].committed and state.hosts[h].step != REVERT
    ]
    return going_back(hosts, ABORTED, state.reason)


def going_back(hosts: Sequence[str], outcome: str, said: str) -> Any:
    return j.REVERTING, {"hosts": list(hosts), "outcome": outcome, "said": said}


def _reverting(state: State, now: float) -> Any:
    fresh = [host for host in state.reverting if state.hosts[host].step != REVERT]
    if fresh:
        return j.ORDERED, {"step": REVERT, "hosts": fresh}
    if on_the_way_back(state, now):
        return None
    unproven = [host for host in state.reverting if not state.hosts[host].ok]
    outcome = state.wanted_outcome
    if unproven and outcome == ROLLED_BACK:
        outcome = ROLLED_BACK_PARTIAL
    proven = [state.hosts[host] for host in state.reverting if state.hosts[host].ok]
    said = f"{state.reason} {went_back(proven)}"
    if unproven:
        said += (
            f" Not proved by {with_reasons(state, unproven)}; a device that was not committed goes "
            "back by its own deadline. Say rollout_action=rollback to ask again."
        )
    return j.FINISHED, {"outcome": outcome, "said": said.strip()}


MODES: Mapping[str, Any] = {
    WAITING: _waiting,
    STAGING: _staging,
    BAKING: _baking,
    COMMITTING: _committing,
    REOPENED: _after_ring,
    CATCHING: _catching,
    FAILED: _failed,
    STOPPED: _stopped,
    REVERTING: _reverting,
}

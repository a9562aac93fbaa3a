# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state machine of a rollout: state, answers and looks in; entries, orders and a wait out.

It is driven by levels, not by events: what has to be done follows from what the journal lacks. So a
controller that was killed after any line goes on by asking again, and an order that was given twice
is the same order (rollout, host and step are its key).

The way of a ring: stage, activate, bake and judge, commit. Nothing of a later ring is touched
before the ring is committed, and nothing at all but going back once a ring has failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._findings.sentence import count, counted, listing
from . import journal as j
from .codec import as_dict
from .journal import Entry
from .orders import IDLE_SPREAD, Watch, least_bake, orders, wait, watch
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
    PAUSED,
    REVERT,
    ROLLED_BACK,
    ROLLED_BACK_PARTIAL,
    STAGE,
    Answer,
    Gate,
    Order,
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
    TRIES,
    WAITING,
    Host,
    State,
    active,
    apply,
    to_catch_up,
    touched,
)

NAMED = 10  # devices that a sentence names before it only counts the others


@dataclass(frozen=True)
class Judged:
    """What the gates made of a look, and which devices did not answer from the new release."""

    gates: tuple[Gate, ...]
    memory: Mapping[str, float]
    silent: tuple[str, ...]
    baseline: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """What to write down, what to order, and when to come back."""

    entries: tuple[Entry, ...]
    orders: Mapping[str, Order]
    watch: Watch | None
    wait: float
    outcome: str
    state: State


def _answering(devices: int) -> str:
    return f"{counted(devices, 'device')} {'answers' if devices == 1 else 'answer'}"


def _gone_back(hosts: Sequence[Host]) -> str:
    """What devices serve that have gone back; a first release leaves nothing to go back to."""
    answering = sum(1 for host in hosts if host.previous)
    nothing = len(hosts) - answering
    said = f"{_answering(answering)} from the release before." if answering or not nothing else ""
    if nothing:
        serve = "serves" if nothing == 1 else "serve"
        said += f" {counted(nothing, 'device')} {serve} nothing, as before."
    return said.strip()


def verdict_of(gates: Sequence[Gate]) -> str:
    """The verdict of a look: the worst of its gates. Gates that judge nothing are no evidence."""
    found = {gate.verdict for gate in gates}
    for worst in (FAIL, MISSING, INCONCLUSIVE):
        if worst in found:
            return worst
    return PASS if PASS in found else MISSING


# -- one call ----------------------------------------------------------------------------------


def decide(before: State, answers: Sequence[Answer], judged: Judged | None, now: float) -> Decision:
    """The next decisions, from what is known and what was answered and seen since."""
    state = before.copy()
    entries: list[Entry] = []

    def write(event: str, data: Mapping[str, Any]) -> None:
        entry = state.entry(event, data, now)
        apply(state, entry)
        entries.append(entry)

    if state.running:
        known = [answer for answer in answers if _asked(state, answer)]
        if known:
            write(j.ANSWERED, {"answers": [as_dict(answer) for answer in known]})
        if judged is not None and state.mode == BAKING and not state.paused:
            write(j.JUDGED, _judged(state, judged))
    while state.running and not state.paused:
        step = MODES[state.mode](state, now)
        if step is None:
            break
        write(*step)
    return Decision(
        tuple(entries),
        orders(state, now),
        watch(state),
        wait(state, now),
        PAUSED if state.paused else state.outcome,
        state,
    )


def _asked(state: State, answer: Answer) -> bool:
    host = state.hosts.get(answer.host)
    return host is not None and host.step == answer.step and not host.ok


def _judged(state: State, judged: Judged) -> dict[str, Any]:
    return {
        "ring": state.records[state.ring].name,
        "gates": [as_dict(gate) for gate in judged.gates],
        "memory": dict(judged.memory),
        "verdict": "" if judged.baseline and not judged.gates else verdict_of(judged.gates),
        "silent": list(judged.silent),
        "baseline": dict(judged.baseline),
    }


# -- what follows from a state -----------------------------------------------------------------


def _told(state: State, step: str) -> list[str]:
    """Active devices whose step this is and that have not proved it yet."""
    return [
        host
        for host in active(state)
        if state.hosts[host].step == step and not state.hosts[host].ok
    ]


def _given_up(state: State, hosts: Sequence[str], step: str, now: float) -> dict[str, str]:
    """Devices that are to be caught up later, with the sentence why."""
    limits = state.planned().limits
    found = {}
    for name in hosts:
        host = state.hosts[name]
        since = max(host.since, state.resumed_at)
        if host.refused:
            found[name] = f"It refused to {step}: {host.refused}"
        elif step == STAGE and _offline(state, name):
            found[name] = "It was offline when its ring began."
        elif step == STAGE and _stays_away(state, name, now - since):
            found[name] = "It was not heard of before the rollout, and did not come since."
        elif step == STAGE and now - since >= limits.bake_limit:
            found[name] = f"It did not stage the release within {limits.bake_limit:g} s."
    return found


def _offline(state: State, name: str) -> bool:
    """Whether a device was asked in vain often enough; one offline at the start, once.

    One that asks by itself is not asked: only time tells that it does not come.
    """
    host, device = state.hosts[name], state.planned().devices.get(name)
    tries = 1 if device is not None and not device.online else 2
    return host.transport == PUSH and host.tries >= tries and not host.served


def _stays_away(state: State, name: str, seconds: float) -> bool:
    """Whether a device that asks by itself, and was away before, would have come by now."""
    host, device = state.hosts[name], state.planned().devices.get(name)
    limits = state.planned().limits
    away = host.transport != PUSH and device is not None and not device.online
    return away and not host.served and seconds >= IDLE_SPREAD * limits.idle + limits.poll


def _names(state: State, hosts: Sequence[str]) -> str:
    """Devices with what is wrong with each, for a sentence."""
    said = []
    for host in hosts[:NAMED]:
        problem = (
            state.hosts[host].failure or state.hosts[host].deferred or state.hosts[host].problem
        )
        said.append(f"{host} ({problem.rstrip('.')})" if problem else host)
    if len(hosts) > NAMED:
        said.append(f"{len(hosts) - NAMED:,} more")
    return listing(said)


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
        f"{_names(state, failed)}.",
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
    gone = _given_up(state, _told(state, STAGE), STAGE, now)
    if gone:
        return j.DEFERRED, {"hosts": gone}
    batch = _batch(state, [host for host in active(state) if not state.hosts[host].step])
    if batch:
        return j.ORDERED, {"step": STAGE, "hosts": batch}
    if _told(state, STAGE):
        return None
    return _staged(state, now)


def _batch(state: State, waiting: Sequence[str]) -> list[str]:
    """The devices that may begin to download now.

    Those that fetch their orders read one document for the whole ring, so all of them may.
    """
    busy = sum(
        host.step == STAGE and not host.ok and host.active and host.transport == PUSH
        for host in state.hosts.values()
    )
    pushed = [host for host in waiting if state.hosts[host].transport == PUSH]
    left = max(0, state.planned().limits.concurrent_downloads - busy)
    held = set(pushed[left:])
    return [host for host in waiting if host not in held]


def _staged(state: State, now: float) -> Any:
    """Every device of the ring has the release or is deferred: may the ring switch?"""
    plan, ring = state.planned(), state.records[state.ring].name
    deferred = [host for host in state.members if state.hosts[host].deferred]
    if not active(state):
        return pausing(
            "deferred",
            f"No device of the ring {ring} could be reached, so there is no evidence: "
            f"{_names(state, deferred)}. Bring one back and say rollout_action=resume.",
        )
    if len(deferred) > plan.limits.deferred_share * len(state.members):
        return pausing(
            "deferred",
            f"{len(deferred)} of {counted(len(state.members), 'device')} of the ring {ring} are "
            f"deferred, {plan.limits.deferred_share:.0%} are allowed (rollout_deferred_share): "
            f"{_names(state, deferred)}. Bring them back and say rollout_action=resume.",
        )
    if plan.when().opens_in(now) > 0:
        return None
    return j.ORDERED, {"step": ACTIVATE, "hosts": active(state)}


def _baking(state: State, now: float) -> Any:
    limits, ring = state.planned().limits, state.records[state.ring].name
    found = _ring_failure(state)
    if found:
        return found
    gone = _given_up(state, _told(state, ACTIVATE), ACTIVATE, now)
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


def silent(state: State) -> list[str]:
    """Active devices that were not seen answering from the new release at the last look."""
    unseen = set(state.silent)
    return [host for host in active(state) if host in unseen or not state.hosts[host].ok]


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


def _few(state: State, gone: Sequence[str]) -> bool:
    """Whether the plan tolerates that so many devices failed."""
    failed = [host for host in state.members if state.hosts[host].failure]
    tolerated = state.planned().limits.failed_share * len(state.members)
    return len(failed) + len(gone) <= tolerated and len(gone) < len(active(state))


def _tolerated(state: State, gone: Sequence[str]) -> bool:
    """Whether the gates pass the ring although devices are silent."""
    return state.verdict == PASS and _few(state, gone)


def _gone_silent(state: State, gone: Sequence[str]) -> Any:
    """Devices that were activated and do not answer at the limit have failed."""
    if state.verdict in (PASS, INCONCLUSIVE) and _few(state, gone):
        said = "It went silent after it had been activated, and goes back by itself."
        return j.DEFERRED, {"hosts": dict.fromkeys(gone, said)}
    return j.RING_FAILED, {
        "ring": state.records[state.ring].name,
        "said": f"{count(len(gone), 'device')} did not answer from the new release until the limit "
        f"of baking: {_names(state, gone)}.",
        "gates": list(state.gates),
        "deadline": False,
    }


def _committing(state: State, now: float) -> Any:
    found = _ring_failure(state)
    if found:
        return found
    waiting = [h for h in active(state) if not state.hosts[h].committed]
    gone = _given_up(state, _told(state, COMMIT), COMMIT, now)
    for host in waiting:
        if _lost(state, host, now):
            gone.setdefault(host, "It was not heard of after its ring had passed.")
    if gone:
        return j.DEFERRED, {"hosts": gone}
    fresh = [host for host in waiting if state.hosts[host].step != COMMIT]
    if fresh:
        return j.ORDERED, {"step": COMMIT, "hosts": fresh}
    back = _back(state)
    if back:
        return back
    if waiting or _going_back(state, now):
        return None
    return _after_ring(state, now)


def _lost(state: State, name: str, now: float) -> bool:
    """Whether a device of a ring that passed was asked to commit long enough.

    By then it is committed, or has gone back by itself: either is no harm to a ring that passed.
    """
    limits, host = state.planned().limits, state.hosts[name]
    asked = now - max(host.since, state.resumed_at) >= 2 * limits.poll
    return host.step == COMMIT and asked and now - state.activated_at >= limits.deadline


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


def _going_back(state: State, now: float) -> list[str]:
    """Devices that are going back and have neither proved it nor been given up."""
    return [
        host
        for host in (*state.members, *state.reverting)
        if state.hosts[host].step == REVERT and not _reverted(state, host, now)
    ]


def _reverted(state: State, name: str, now: float) -> bool:
    """Whether nothing more is to be waited for of a device that was told to go back."""
    host = state.hosts[name]
    since = max(host.since, state.resumed_at)
    tried = host.transport == PUSH and host.tries >= TRIES
    return host.ok or tried or now - since >= state.planned().limits.deadline


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
            "said": f"{_answering(len(state.hosts))} from {plan.digest}.",
        }
    return j.FINISHED, {
        "outcome": PARTIAL,
        "said": f"{len(state.hosts) - len(late):,} of {counted(len(state.hosts), 'device')} answer "
        f"from {plan.digest}; to be caught up by rollout_action=resume: {_names(state, late)}.",
    }


def _lost_while_catching(state: State, now: float) -> dict[str, str]:
    """Devices that are given up, by name, and why."""
    limits = state.planned().limits
    gone: dict[str, str] = {}
    for step in (STAGE, ACTIVATE, COMMIT):
        told = _told(state, step)
        gone.update(_given_up(state, told, step, now))
        for name in told:
            if now - max(state.hosts[name].since, state.resumed_at) >= limits.deadline:
                gone.setdefault(
                    name, "It went silent while it was caught up, and goes back by itself."
                )
    for name in active(state):
        if state.hosts[name].unjudged and not state.hosts[name].committed:
            gone[name] = f"{state.hosts[name].unjudged} It goes back by itself."
    return gone


def _catching(state: State, now: float) -> Any:
    """Devices that come late take the committed release one by one, by their own gates."""
    gone = _lost_while_catching(state, now)
    if gone:
        return j.DEFERRED, {"hosts": gone}
    batch = _batch(state, [host for host in active(state) if not state.hosts[host].step])
    if batch:
        return j.ORDERED, {"step": STAGE, "hosts": batch}
    for step, then in ((STAGE, ACTIVATE), (ACTIVATE, COMMIT)):
        ready = [h for h in active(state) if state.hosts[h].step == step and state.hosts[h].ok]
        if ready:
            return j.ORDERED, {"step": then, "hosts": ready}
    back = _back(state)
    if back:
        return back
    if any(not state.hosts[h].committed for h in active(state)) or _going_back(state, now):
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
    if _going_back(state, now):
        return None
    unproven = [host for host in state.reverting if not state.hosts[host].ok]
    outcome = state.wanted_outcome
    if unproven and outcome == ROLLED_BACK:
        outcome = ROLLED_BACK_PARTIAL
    proven = [state.hosts[host] for host in state.reverting if state.hosts[host].ok]
    said = f"{state.reason} {_gone_back(proven)}"
    if unproven:
        said += (
            f" Not proved by {_names(state, unproven)}; a device that was not committed goes back "
            "by its own deadline. Say rollout_action=rollback to ask again."
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

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a model's rollouts: nothing but the journal, folded.

What an entry means stands here and nowhere else, so a controller that reads the journal and one
that has just written it know the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from . import journal as j
from .codec import answer as parse_answer
from .journal import Entry
from .plan import Plan, Planned, from_dict
from .shapes import (
    ACTIVATE,
    COMMIT,
    COMPLETED,
    FAIL,
    MISSING,
    PARTIAL,
    REVERT,
    ROLLED_BACK,
    ROLLED_BACK_PARTIAL,
    STAGE,
    Answer,
)

# Where a rollout is. WAITING is before its first ring.
IDLE = "idle"
WAITING = "waiting"
STAGING = "staging"
BAKING = "baking"
COMMITTING = "committing"
CATCHING = "catching"
FAILED = "failed"
STOPPED = "aborted"
REVERTING = "reverting"
OVER = "finished"
REOPENED = "reopened"  # it had ended, and devices are to be caught up

CATCH_UP = "catch-up"
TRIES = 3  # of a step that failed or was not reached, where trying again can help


@dataclass(frozen=True)
class Host:
    """One device in a rollout."""

    previous: str = ""
    transport: str = "push"
    ring: str = ""
    step: str = ""  # what it was told last
    ok: bool = False  # and proved to have done
    since: float = 0.0  # when it was told
    last: float = 0.0  # when it was asked in vain last
    tries: int = 0
    touched: bool = False  # it may have something of the release
    committed: bool = False
    deferred: str = ""  # the sentence why it is to be caught up
    failure: str = ""  # the sentence why it failed
    problem: str = ""  # what is wrong so far, without a verdict
    refused: str = ""
    served: str = ""
    phase: str = "none"
    moved: int = 0
    gates: tuple[Mapping[str, Any], ...] = ()
    channel: str = ""  # that it follows, where it fetches its orders

    @property
    def active(self) -> bool:
        """Whether it counts in its ring."""
        return not self.deferred and not self.failure

    @property
    def unjudged(self) -> str:
        """What a gate of the device says that found nothing to judge by."""
        said = [gate["said"] or gate["name"] for gate in self.gates if gate["verdict"] == MISSING]
        return " ".join(said)


@dataclass
class Record:
    """What the page says about a ring."""

    name: str
    hosts: tuple[str, ...]
    state: str = WAITING
    begun: float = 0.0
    activated: float = 0.0
    ended: float = 0.0
    looks: int = 0
    said: str = ""
    gates: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Brought:
    """A release as a rollout brings it: what a channel says of it. ``size`` is in bytes."""

    rollout: str
    digest: str
    size: int
    counter: int
    local: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan) -> Brought:
        """What a plan brings."""
        return cls(plan.rollout, plan.digest, plan.size, plan.counter, plan.local)


@dataclass
class State:
    """Everything that the journal says. Owned by whoever folded it."""

    seq: int = 0
    generation: int = 0
    rollout: str = ""
    plan: Plan | None = None
    started: float = 0.0
    changed: float = 0.0
    mode: str = IDLE
    ring: int = -1
    members: tuple[str, ...] = ()  # devices of the ring under way
    hosts: dict[str, Host] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    activated_at: float = 0.0
    resumed_at: float = 0.0
    looks: int = 0
    looked: bool = False  # since it was resumed
    seconds: float = 0.0  # how long the ring had baked at the last look
    memory: dict[str, float] = field(default_factory=dict)
    baseline: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    verdict: str = ""
    gates: tuple[Mapping[str, Any], ...] = ()
    silent: tuple[str, ...] = ()
    paused: str = ""  # the kind of pause
    said: str = ""
    approvals: dict[str, str] = field(default_factory=dict)
    reverting: tuple[str, ...] = ()
    reverting_since: float = 0.0
    wanted_outcome: str = ""
    reason: str = ""
    outcome: str = ""
    committed: dict[str, str] = field(default_factory=dict)  # over all rollouts of the model
    release: str = ""  # that the fleet was brought to last, or went back to
    counts: dict[str, int] = field(default_factory=dict)  # events, for the metrics
    brought: dict[str, Brought] = field(default_factory=dict)  # releases of all rollouts by digest

    @property
    def running(self) -> bool:
        """Whether there is a rollout that has not ended."""
        return self.mode not in (IDLE, OVER)

    def planned(self) -> Plan:
        """The plan of the rollout."""
        if self.plan is None:
            raise ValueError("no rollout was started")
        return self.plan

    def entry(self, event: str, data: Mapping[str, Any], now: float) -> Entry:
        """The next entry of the journal."""
        return Entry(self.seq + 1, self.generation, now, self.rollout, event, data)

    def change(self, name: str, **values: Any) -> None:
        """Change what is known of one device."""
        self.hosts[name] = replace(self.hosts[name], **values)

    def copy(self) -> State:
        """A state of one's own; what is immutable is shared."""
        own = replace(self)
        own.hosts = dict(self.hosts)
        own.records = [replace(record) for record in self.records]
        for name in ("memory", "baseline", "approvals", "committed", "counts", "brought"):
            setattr(own, name, dict(getattr(self, name)))
        return own


def active(state: State) -> list[str]:
    """The devices that count in the ring under way."""
    return [host for host in state.members if state.hosts[host].active]


def touched(state: State) -> list[str]:
    """Devices that may have something of the release."""
    return [name for name, host in state.hosts.items() if host.touched]


def to_catch_up(state: State) -> list[str]:
    """Devices that are not on the release that the fleet was brought to."""
    return [name for name, host in state.hosts.items() if not host.committed]


def fold(entries: Iterable[Entry]) -> State:
    """The state after all entries."""
    state = State()
    for entry in entries:
        apply(state, entry)
    return state


def apply(state: State, entry: Entry) -> None:
    """Bring a state forward by one entry."""
    state.seq, state.generation, state.changed = entry.seq, entry.generation, entry.time
    EVENTS[entry.event](state, entry)
    state.counts[entry.event] = state.counts.get(entry.event, 0) + 1


def _started(state: State, entry: Entry) -> None:
    plan = from_dict(entry.data["plan"])
    kept = {
        name: getattr(state, name)
        for name in ("seq", "generation", "changed", "committed", "release", "counts", "brought")
    }
    fresh = State(**kept)
    for name in State.__dataclass_fields__:
        setattr(state, name, getattr(fresh, name))
    state.rollout, state.plan, state.started, state.mode = entry.rollout, plan, entry.time, WAITING
    state.brought.setdefault(plan.digest, Brought.of(plan))
    for ring in plan.rings:
        state.records.append(Record(ring.name, ring.hosts))
        for host in ring.hosts:
            device = plan.devices[host]
            state.hosts[host] = Host(
                device.previous, device.transport, ring.name, channel=device.channel
            )


def _approved(state: State, entry: Entry) -> None:
    state.approvals[entry.data["ring"]] = entry.data["by"]


def _ring_begun(state: State, entry: Entry) -> None:
    name, hosts = entry.data["ring"], tuple(entry.data["hosts"])
    state.members = hosts
    state.looks, state.seconds, state.verdict = 0, 0.0, ""
    state.memory, state.baseline, state.gates, state.silent = {}, {}, (), ()
    if name == CATCH_UP:
        state.mode = CATCHING
        state.records = [record for record in state.records if record.name != CATCH_UP]
        state.records.append(Record(CATCH_UP, hosts, CATCHING, entry.time))
        for host in hosts:
            state.change(
                host,
                step="",
                ok=False,
                tries=0,
                last=0.0,
                deferred="",
                failure="",
                refused="",
                problem="",
            )
        return
    state.mode = STAGING
    state.ring += 1
    record = state.records[state.ring]
    record.state, record.begun = STAGING, entry.time


def _ordered(state: State, entry: Entry) -> None:
    step = entry.data["step"]
    for host in entry.data["hosts"]:
        found = state.hosts[host]
        state.change(
            host, step=step, ok=False, since=entry.time, last=0.0, tries=0, problem="",
            touched=found.touched or step == ACTIVATE,
            committed=found.committed and step != REVERT,
        )  # fmt: skip
    if step == ACTIVATE and state.mode == STAGING:
        state.mode, state.activated_at = BAKING, entry.time
        state.records[state.ring].state, state.records[state.ring].activated = BAKING, entry.time


def _answered(state: State, entry: Entry) -> None:
    for data in entry.data["answers"]:
        found = parse_answer(data)
        if found.host in state.hosts and state.hosts[found.host].step == found.step:
            _one_answer(state, found, entry.time)


def _one_answer(state: State, answer: Answer, now: float) -> None:
    host = state.hosts[answer.host]
    if not answer.reached:
        state.change(answer.host, last=now, tries=host.tries + 1, problem="it could not be reached")
        return
    previous = host.previous
    if not previous and answer.step == STAGE and answer.served != state.planned().digest:
        previous = answer.served  # it was offline at the start
    host = replace(
        host,
        previous=previous,
        served=answer.served,
        phase=answer.phase,
        moved=host.moved + answer.moved,
        refused=answer.refused,
        gates=tuple(data for data in map(_plain, answer.gates)) or host.gates,
    )
    state.hosts[answer.host] = _settled(state, host, answer, now)


def _plain(gate: Any) -> Mapping[str, Any]:
    return {
        "name": gate.name, "verdict": gate.verdict, "said": gate.said,
        "found": dict(gate.found), "wanted": dict(gate.wanted),
    }  # fmt: skip


def _settled(state: State, host: Host, answer: Answer, now: float) -> Host:
    """What an answer of a device that was reached proves."""
    digest = state.planned().digest
    if proves(host, answer, digest):
        if answer.step == COMMIT:
            state.committed[answer.host] = digest
        if answer.step == REVERT:
            state.committed[answer.host] = host.previous
        return replace(
            host, ok=True, touched=True, last=0.0, tries=0, problem="", refused="",
            committed=answer.step == COMMIT or (host.committed and answer.step != REVERT),
        )  # fmt: skip
    tried = replace(host, last=now, tries=host.tries + 1)
    if answer.refused:
        return replace(tried, problem=f"it refused: {answer.refused}")
    said = problem_of(host, answer, digest)
    # A gate, and a device that has gone back, are final. Anything else may pass: it is tried again.
    final = answer.phase == "reverted" or any(gate.verdict == FAIL for gate in answer.gates)
    if said and answer.step != REVERT and (final or tried.tries >= TRIES):
        return replace(tried, problem=said, failure=said)
    return replace(tried, problem=said or f"it is {answer.phase} so far")


def proves(host: Host, answer: Answer, digest: str) -> bool:
    """Whether a device did what it was told: by what it serves, not by what it says."""
    if answer.step == REVERT:
        return answer.served == host.previous and answer.phase != "activated"
    if answer.failure or answer.refused or any(gate.verdict == FAIL for gate in answer.gates):
        return False
    if answer.step == STAGE:
        return answer.phase in ("staged", "activated", "committed")
    if answer.step == ACTIVATE:
        return answer.served == digest and answer.phase in ("activated", "committed")
    return answer.served == digest and answer.phase == "committed"


def problem_of(host: Host, answer: Answer, digest: str) -> str:
    """Why a device failed at a step; nothing where it may only not be that far yet."""
    failed = [
        gate.said or f"the gate {gate.name} failed" for gate in answer.gates if gate.verdict == FAIL
    ]
    if answer.phase == "reverted" and answer.step in (ACTIVATE, COMMIT) and not failed:
        return f"it has gone back to the release before by itself. {answer.failure}".strip()
    if failed or answer.failure:
        # A device names its gates itself when it says why it did not work.
        return answer.failure or " ".join(failed)
    if answer.step == REVERT:
        return f"it serves {answer.served or 'nothing'}, wanted is {host.previous or 'nothing'}"
    if answer.phase == "activated" and answer.served != digest:
        return f"it says that it activated and serves {answer.served or 'nothing'}"
    return ""


def _deferred(state: State, entry: Entry) -> None:
    for host, said in entry.data["hosts"].items():
        state.change(host, deferred=said)


def _judged(state: State, entry: Entry) -> None:
    data = entry.data
    state.baseline.update(data["baseline"])
    state.silent = tuple(data["silent"])
    if not data["verdict"]:
        return  # it only says from where to count
    state.looks += 1
    state.looked = True
    state.seconds = entry.time - state.activated_at
    state.memory, state.verdict = dict(data["memory"]), data["verdict"]
    state.gates = tuple(data["gates"])
    record = state.records[state.ring]
    record.looks, record.gates = state.looks, state.gates


def _ring_passed(state: State, entry: Entry) -> None:
    state.mode = COMMITTING
    record = state.records[state.ring]
    record.state, record.ended, record.said = "passed", entry.time, entry.data["said"]


def _ring_failed(state: State, entry: Entry) -> None:
    state.mode, state.reason = FAILED, entry.data["said"]
    record = state.records[state.ring]
    record.state, record.ended, record.said = FAILED, entry.time, entry.data["said"]
    if entry.data["gates"]:
        record.gates = tuple(entry.data["gates"])
    # Only evidence against the release is a reason to take it from other rings too.
    state.wanted_outcome = "deadline" if entry.data.get("deadline") else ""


def _paused(state: State, entry: Entry) -> None:
    state.paused, state.said = entry.data["kind"], entry.data["said"]


def _resumed(state: State, entry: Entry) -> None:
    for name in state.members:
        host = state.hosts[name]
        if state.paused == "missing" and host.unjudged:
            state.change(name, ok=False)  # it is asked again
        elif state.paused == "deferred" and host.deferred and host.step == STAGE:
            state.change(name, deferred="", step="", tries=0, problem="", refused="")
    state.paused, state.said = "", ""
    state.resumed_at, state.looked = entry.time, False
    for name in state.hosts:
        if state.hosts[name].last:
            state.change(name, last=0.0)
    for name, data in entry.data["hosts"].items():
        if name not in state.hosts:
            device = Planned(**data)
            state.hosts[name] = Host(
                device.previous, device.transport, CATCH_UP, channel=device.channel
            )
    if state.mode == OVER:
        state.mode, state.outcome = REOPENED, ""


def _aborted(state: State, entry: Entry) -> None:
    state.mode, state.paused, state.reason = STOPPED, "", entry.data["said"]


def _reverting(state: State, entry: Entry) -> None:
    state.mode, state.paused, state.outcome = REVERTING, "", ""
    state.reverting, state.reverting_since = tuple(entry.data["hosts"]), entry.time
    state.wanted_outcome, state.reason = entry.data["outcome"], entry.data["said"]
    for host in state.reverting:
        state.change(host, step="", ok=False, tries=0, last=0.0, deferred="")
    names = {state.hosts[host].ring for host in state.reverting}
    for record in state.records:
        if record.name in names and record.state != FAILED:
            record.state, record.ended = "reverted", entry.time


TAKEN_BACK = (ROLLED_BACK, ROLLED_BACK_PARTIAL)


def _before(state: State) -> str:
    """What most devices served before the rollout, nothing where they served nothing."""
    served = Counter(host.previous for host in state.hosts.values())
    return max(served, key=lambda digest: (served[digest], digest), default="")


def _finished(state: State, entry: Entry) -> None:
    state.mode, state.outcome, state.said = OVER, entry.data["outcome"], entry.data["said"]
    if state.outcome in (COMPLETED, PARTIAL):
        state.release = state.planned().digest
        # Of several rollouts of a release the last one that went well counts.
        state.brought[state.release] = Brought.of(state.planned())
    elif state.release in ("", state.planned().digest) and state.outcome in TAKEN_BACK:
        state.release = _before(state)
    for record in state.records:
        if record.state == CATCHING:
            record.state, record.ended = "passed", entry.time


EVENTS: Mapping[str, Callable[[State, Entry], None]] = {
    j.STARTED: _started,
    j.APPROVED: _approved,
    j.RING_BEGUN: _ring_begun,
    j.ORDERED: _ordered,
    j.ANSWERED: _answered,
    j.DEFERRED: _deferred,
    j.JUDGED: _judged,
    j.RING_PASSED: _ring_passed,
    j.RING_FAILED: _ring_failed,
    j.PAUSED_EVENT: _paused,
    j.RESUMED: _resumed,
    j.ABORTED_EVENT: _aborted,
    j.REVERTING: _reverting,
    j.FINISHED: _finished,
}

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a controller asks: read the journal, decide, write it down, and only then answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .._findings.sentence import counted
from .._findings.shape import ShapeError
from . import channels, evidence, machine, telling, words
from . import journal as j
from . import plan as planning
from .codec import answers as parse_answers
from .codec import looked
from .errors import RolloutError
from .gates import GateSettings, detectable, judge, thresholds
from .journal import Entry
from .judging import judge as judge_look
from .keeper import Holder, Keeper, replace_file
from .machine import Decision
from .plan import Plan
from .shapes import EXIT_CODES, Gate, Look
from .state import State, apply, fold

TAKING_OVER = ("begin", "resume", "abort", "rollback")
WRITTEN_BY_PEOPLE = ("pause", *TAKING_OVER)
ROWS = "metrics.json"


@dataclass(frozen=True)
class Asked:
    """What a controller asks."""

    ask: str
    model: str
    holder: str = ""
    generation: int | None = None
    reason: str = ""
    approved_by: str = ""
    request: Mapping[str, Any] = field(default_factory=dict)
    answers: Sequence[Any] = ()
    look: Mapping[str, Any] | None = None


def settings_of(plan: Plan) -> GateSettings:
    """The gates of a plan: its rings share what may be wrong by chance."""
    gates = dict(plan.gates)
    if plan.limits.min_requests:
        gates.setdefault("min_requests", plan.limits.min_requests)
    try:
        return GateSettings.parse(gates).over(len(plan.rings))
    except ShapeError as error:
        raise RolloutError(f"The gates cannot be read: {error}.") from None


class Desk:
    """Answers one call on this host."""

    def __init__(self, directory: Path, metrics: Path, check: bool) -> None:
        self._directory, self._metrics, self._check = directory, metrics, check

    def answer(self, asked: Asked, now: float) -> dict[str, Any]:
        """Decide; what is returned is on the disk, unless nothing is to be written."""
        if not planning.MODEL.fullmatch(asked.model):  # it names a directory
            raise RolloutError(f"rollout_model is {asked.model!r}, which is no name of a model.")
        keeper = Keeper(self._directory, asked.model)
        if self._check or asked.ask in ("plan", "status"):
            return self._decided(keeper, asked, now, write=False)
        with keeper.held():
            return self._decided(keeper, asked, now, write=True)

    def _decided(self, keeper: Keeper, asked: Asked, now: float, write: bool) -> dict[str, Any]:
        entries = keeper.entries()
        before = fold(entries)
        now = max(now, before.changed)  # a clock that was set back waits at most for itself
        if asked.ask == "plan":
            plan = planning.make(asked.model, asked.request, now, promoted(before))
            return {**self._told(before, None, now), **plan_told(plan)}
        spoken = _spoken(before, asked, now, keeper.holder())
        state = before.copy()
        for entry in spoken:
            apply(state, entry)
        decision = None
        if asked.ask in ("next", "begin", "resume", "abort", "rollback"):
            decision = self._next(state, asked, now, keeper.holder())
        new = [*spoken, *(decision.entries if decision else ())]
        if write:
            if spoken and asked.ask in TAKING_OVER:
                keeper.hold(Holder(spoken[0].generation, asked.holder, now))
            keeper.add(new)
            self._tell(keeper, decision.state if decision else state)
        told = self._told(state, decision, now)
        told.update(changed=bool(new), said=[line for entry in new for line in said_by(entry)])
        if asked.ask == "begin":
            told.update(plan_told(state.planned()))
        if asked.ask == "status":
            told["plan"] = state.plan.as_dict() if state.plan else None
        if told["outcome"] or asked.ask == "status":
            told["journal"] = [
                line_of(entry) for entry in [*entries, *new] if entry.rollout == state.rollout
            ]
            told["committed"] = (decision.state if decision else state).committed
        return told

    def _next(self, state: State, asked: Asked, now: float, holder: Holder) -> Decision:
        if asked.ask == "next":
            _leads(state, asked.generation, holder)
        answers = parse_answers(asked.answers)
        look = looked(asked.look) if asked.look else None
        # The answers first: a device that has just activated belongs to those that are judged.
        first = machine.decide(state, answers, None, now)
        if look is None or not first.state.running:
            return first
        settings = settings_of(first.state.planned())

        def gates(
            found: Look, memory: Mapping[str, float]
        ) -> tuple[tuple[Gate, ...], dict[str, float]]:
            return judge(found, settings, memory)

        timed = Look(
            look.ring,
            look.control,
            first.state.looks,
            now - first.state.activated_at,
            look.queries,
        )
        judged = judge_look(first.state, timed, gates, evidence.since)
        if judged is None:
            return first
        second = machine.decide(first.state, (), judged, now)
        return Decision(
            (*first.entries, *second.entries),
            second.orders,
            second.watch,
            second.wait,
            second.outcome,
            second.state,
        )

    def _told(self, state: State, decision: Decision | None, now: float) -> dict[str, Any]:
        after = decision.state if decision else state
        outcome = decision.outcome if decision else "PAUSED" if state.paused else state.outcome
        wanted = decision.watch if decision else None
        watch = None
        if wanted is not None:
            plan = after.planned()
            watch = {
                "ring": dict.fromkeys(wanted.ring, plan.digest),
                "control": {host: plan.devices[host].previous for host in wanted.control},
                "probe_requests": plan.limits.probe_requests,
            }
        return {
            "changed": False,
            "rollout": after.rollout,
            "generation": after.generation,
            "mode": after.mode,
            "outcome": outcome,
            "exit_code": EXIT_CODES.get(outcome, 0),
            "said": [],
            "orders": [
                {"host": host, "transport": after.hosts[host].transport, **asdict(order)}
                for host, order in (decision.orders if decision else {}).items()
            ],
            "channels": channels.wanted(after, now),
            "watch": watch,
            "wait_seconds": decision.wait if decision else 0.0,
            "release": after.release,
        }

    def _tell(self, keeper: Keeper, state: State) -> None:
        """Hand Prometheus what is known of all models of this host."""
        if not self._metrics.parent.is_dir():
            return
        replace_file(keeper.place / ROWS, json.dumps(telling.rows(state)), 0o640)
        found = []
        for path in sorted(self._directory.glob(f"*/{ROWS}")):
            try:
                found += json.loads(path.read_bytes())
            except (OSError, ValueError):
                continue  # it is written anew with the next decision about that model
        replace_file(self._metrics, telling.page(found), 0o644)


def promoted(state: State) -> tuple[str, ...]:
    """Devices that the rollout before had moved to the first ring."""
    return state.plan.promoted if state.plan else ()


def plan_told(plan: Plan) -> dict[str, Any]:
    """What a plan comes to."""
    settings = settings_of(plan)
    rows = planning.forecast(plan, lambda hosts: detectable(hosts, settings))
    lines = planning.lines(plan, rows, settings.power)
    lines += [
        *thresholds.sentences(settings, plan.local, plan.first),
        thresholds.certainty(settings),
    ]
    return {"plan": plan.as_dict(), "forecast": rows, "text": lines}


def _spoken(state: State, asked: Asked, now: float, holder: Holder) -> list[Entry]:
    """The entries that a person's word makes, before the machine decides anything."""
    by = asked.holder or "somebody"
    generation = max(state.generation, holder.generation) + 1
    if asked.ask == "begin":
        if state.running:
            _under_way(state, holder)
        plan = planning.make(asked.model, asked.request, now, promoted(state))
        settings_of(plan)
        return words.begin(state, plan, generation, by, asked.approved_by, now)
    if asked.ask == "pause":
        return words.pause(state, by, asked.reason, now)
    if asked.ask == "resume":
        devices = planning.devices_of(asked.request)
        return words.resume(state, generation, by, asked.approved_by, devices, now)
    if asked.ask == "abort":
        return words.abort(state, generation, by, asked.reason, now)
    if asked.ask == "rollback":
        return words.rollback(state, generation, by, asked.reason, now)
    return []


def _under_way(state: State, holder: Holder) -> None:
    raise RolloutError(
        f"The rollout {state.rollout} has not ended ({'paused' if state.paused else state.mode}); "
        f"{holder} leads it. Go on with rollout_action=resume, or end it with "
        "rollout_action=abort or rollback."
    )


def _leads(state: State, generation: int | None, holder: Holder) -> None:
    """Only the controller that took over last decides."""
    if not state.rollout:
        raise RolloutError("There is no rollout; start one with rollout_action=start.")
    if generation != state.generation:
        raise RolloutError(
            f"The rollout {state.rollout} is led by another controller: {holder}, by generation "
            f"{state.generation}; this one has {generation}. It has stopped here; devices refuse "
            "its orders. rollout_action=resume would take over again."
        )


def line_of(entry: Entry) -> dict[str, Any]:
    """An entry as it stands in the journal."""
    return {**{name: getattr(entry, name) for name in j.HEAD}, **entry.data}


def said_by(entry: Entry) -> list[str]:
    """What a decision is, for those who watch."""
    data = entry.data
    if entry.event == j.RING_BEGUN:
        return [f"The ring {data['ring']} begins with {counted(len(data['hosts']), 'device')}."]
    if entry.event == j.ORDERED:
        return [f"{counted(len(data['hosts']), 'device')}: {data['step']}."]
    if entry.event == j.DEFERRED:
        return [f"{host} is deferred. {why}" for host, why in data["hosts"].items()]
    if entry.event == j.JUDGED and data["verdict"]:
        return [
            f"{gate['name']}: {gate['verdict']}. {gate.get('said', '')}".strip()
            for gate in data["gates"]
        ]
    if entry.event == j.APPROVED:
        return [f"{data['by']} approved the ring {data['ring']}."]
    if entry.event in (j.RING_PASSED, j.RING_FAILED):
        verb = "passed" if entry.event == j.RING_PASSED else "failed"
        return [f"The ring {data['ring']} {verb}. {data['said']}"]
    return [str(data["said"])] if data.get("said") else []

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state machine of a rollout: state, answers and looks in; entries, orders and a wait out.

It is driven by levels, not by events: what has to be done follows from what the journal lacks. So a
controller that was killed after any line goes on by asking again, and an order that was given twice
is the same order (rollout, host and step are its key).

What follows from a state is told by its mode (``modes``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import journal as j
from .codec import as_dict
from .journal import Entry
from .modes import MODES
from .orders import Watch, orders, wait, watch
from .shapes import FAIL, INCONCLUSIVE, MISSING, PASS, PAUSED, Answer, Gate, Order
from .state import BAKING, State, apply


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

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What devices that fetch their orders have told: their states, read as answers and as evidence.

A state is written by a device, which may be broken or taken over. It can speak for itself alone:
whose it is, is said by the name of the file, which nginx made of the certificate.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .._findings.shape import ShapeError, each, mapping, number, optional, text, whole
from .._findings.shape import field as wanted
from .evidence import read_metrics
from .shapes import (
    ACTIVATE,
    COMMIT,
    LOOK,
    PHASES,
    REVERT,
    STAGE,
    STEPS,
    VERDICTS,
    Answer,
    Gate,
    Seen,
)

FORMAT = 1
MAX_BYTES = 16 * 1024
MAX_GATES = 32
MOST_TEXT = 1000

# The phase that a step leads to. A device that has come further has also been there.
ENDS = {STAGE: "staged", ACTIVATE: "activated", COMMIT: "committed", REVERT: "reverted"}
ONWARD = ("none", "staged", "activated", "committed")


@dataclass(frozen=True)
class Model:
    """Where a device is with one model."""

    rollout: str
    generation: int
    digest: str
    step: str
    answer: Answer


@dataclass(frozen=True)
class Told:
    """The state of one device. ``at`` is when it came in, by the clock of the control host.

    ``problem`` says why a state cannot be read; then nothing else of it is known.
    """

    host: str
    at: float
    ring: str = ""
    root: int = 0
    sequence: int = 0
    stale: bool = False
    refusal: str = ""
    lock: str = ""
    certificate_expires: float = 0.0
    models: Mapping[str, Model] = field(default_factory=dict)
    metrics: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class Collected:
    """What a ring has told of one order.

    ``waiting`` are devices that have not come to an end with it yet, ``silent`` those that told
    nothing since the moment that was asked for.
    """

    answers: tuple[Answer, ...]
    seen: tuple[Seen, ...]
    waiting: tuple[str, ...]
    silent: tuple[str, ...]
    told: tuple[Told, ...]


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _line(value: object) -> str:
    """Text of a device on one line, as long as people read."""
    if not isinstance(value, str):
        raise ShapeError(f"must be text, but is {type(value).__name__}")
    plain = "".join(one if one.isprintable() else " " for one in value)
    return " ".join(plain.split())[:MOST_TEXT]


def _one_of(allowed: Iterable[str], value: object) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise ShapeError(f"must be one of {', '.join(allowed)}")
    return value


def _numbers(value: object) -> dict[str, float]:
    return {_line(name): float(number(found)) for name, found in mapping(value).items()}


def _gate(value: object) -> Gate:
    data = mapping(value)
    return Gate(
        wanted(data, "name", _line),
        wanted(data, "verdict", lambda found: _one_of(VERDICTS, found)),
        optional(data, "said", _line, ""),
        optional(data, "found", _numbers, {}),
        optional(data, "wanted", _numbers, {}),
    )


def _gates(value: object) -> tuple[Gate, ...]:
    found = each(value, _gate)
    if len(found) > MAX_GATES:
        raise ShapeError(f"must be at most {MAX_GATES} gates")
    return found


def _answer(host: str, value: object) -> Answer:
    data = mapping(value)
    return Answer(
        host=host,
        step=wanted(data, "step", lambda found: _one_of(STEPS, found)),
        reached=True,
        phase=wanted(data, "phase", lambda found: _one_of(PHASES, found)),
        served=optional(data, "served", _line, ""),
        gates=optional(data, "gates", _gates, ()),
        refused=optional(data, "refused", _line, ""),
        failure=optional(data, "failure", _line, ""),
        moved=optional(data, "moved", whole, 0),
    )


def _model(host: str, value: object) -> Model:
    data = mapping(value)
    return Model(
        rollout=wanted(data, "rollout", _line),
        generation=wanted(data, "generation", whole),
        digest=wanted(data, "digest", _line),
        step=wanted(data, "step", lambda found: _one_of(STEPS, found)),
        answer=wanted(data, "answer", lambda found: _answer(host, found)),
    )


def _machine(value: object) -> dict[str, Any]:
    data = mapping(value)
    return {
        "architecture": optional(data, "architecture", _line, ""),
        "memory_mib": float(optional(data, "memory_mib", number, 0.0)),
        "accelerator": optional(data, "accelerator", _line, ""),
    }


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ShapeError("must be true or false")
    return value


def read(data: bytes, host: str, at: float) -> Told:
    """Read the state that a device has left; one that cannot be read says so, and no more."""
    try:
        if len(data) > MAX_BYTES:
            raise ShapeError(f"is larger than {MAX_BYTES} bytes")
        value = mapping(json.loads(data, parse_constant=_constant))
        if value.get("format") != FORMAT:
            raise ShapeError(f"has the format {value.get('format')!r}, wanted {FORMAT}")
        if value.get("name") != host:
            raise ShapeError(f"is of {value.get('name')!r}, and {host} has left it")
        return Told(
            host=host,
            at=at,
            ring=wanted(value, "ring", text),
            root=wanted(value, "root", whole),
            sequence=wanted(value, "sequence", whole),
            stale=wanted(value, "stale", _flag),
            refusal=optional(value, "refusal", _line, ""),
            lock=optional(value, "lock", _line, ""),
            certificate_expires=float(optional(value, "certificate_expires", number, 0.0)),
            models={
                _line(name): _model(host, row)
                for name, row in wanted(value, "models", mapping).items()
            },
            metrics=str(value.get("metrics") or ""),
            machine=optional(value, "machine", _machine, {}),
        )
    except (ShapeError, ValueError, RecursionError) as error:
        return Told(host, at, problem=f"The state of {host} cannot be read: {error}.")


def ended(model: Model, step: str) -> bool:
    """Whether a device has come to an end with a step, well or not."""
    answer = model.answer
    if model.step != step:
        return False
    if answer.failure or answer.refused:
        return True
    if answer.phase == "reverted":
        return True
    if step == REVERT:
        # Who had not begun has nothing to go back from.
        return answer.phase == "none"
    return ONWARD.index(answer.phase) >= ONWARD.index(ENDS[step])


def _about(told: Told, model: str, rollout: str, generation: int, digest: str) -> Model | None:
    found = told.models.get(model)
    if found is None or (found.rollout, found.digest) != (rollout, digest):
        return None
    return found if found.generation >= generation else None


def collect(
    states: Mapping[str, Told],
    hosts: Iterable[str],
    model: str,
    rollout: str,
    generation: int,
    digest: str,
    step: str,
    since: float = 0.0,
) -> Collected:
    """What devices have told of one step of one rollout; with the step look, where they are.

    What they counted is read with that step alone: thousands of pages are nothing to read in vain.
    """
    answers: list[Answer] = []
    seen: list[Seen] = []
    waiting: list[str] = []
    silent: list[str] = []
    told: list[Told] = []
    for host in hosts:
        one = states.get(host)
        if one is None or one.problem or one.at < since:
            silent.append(host)
            if one is not None and one.problem:
                told.append(one)
            continue
        told.append(one)
        about = _about(one, model, rollout, generation, digest)
        if step == LOOK:
            seen.append(read_metrics(one.metrics, host, model, digest, one.at))
            answers.append(replace(about.answer, step=LOOK) if about else Answer(host, LOOK, True))
        elif about is not None and ended(about, step):
            answers.append(replace(about.answer, step=step))
        else:
            waiting.append(host)
    return Collected(tuple(answers), tuple(seen), tuple(waiting), tuple(silent), tuple(told))

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What devices say, read from plain data: answers to orders, and what was seen of their serving."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from .._findings.shape import (
    ShapeError,
    each,
    field,
    known_keys,
    mapping,
    number,
    optional,
    text,
    whole,
)
from .errors import RolloutError
from .shapes import PHASES, STEPS, VERDICTS, Answer, Gate, Look, Seen


def _one_of(allowed: tuple[str, ...], value: object) -> str:
    if value not in allowed:
        raise ShapeError(f"must be one of {', '.join(allowed)}, but is {value!r}")
    return str(value)


def _numbers(value: object) -> dict[str, float]:
    return {name: number(found) for name, found in mapping(value).items()}


def _counts(value: object) -> dict[str, int]:
    return {name: whole(found) for name, found in mapping(value).items()}


def _any_text(value: object) -> str:
    return str(value)


def gate(value: object) -> Gate:
    """The verdict of a gate. Numbers may be negative or huge here: they are only shown."""
    data = mapping(value)
    return Gate(
        field(data, "name", text),
        field(data, "verdict", lambda found: _one_of(VERDICTS, found)),
        str(data.get("said") or ""),
        {name: float(found) for name, found in (data.get("found") or {}).items()},
        {name: float(found) for name, found in (data.get("wanted") or {}).items()},
    )


def answer(value: object) -> Answer:
    """What came of an order; keys of a module's own result that are no part of it are ignored."""
    data = mapping(value)
    return Answer(
        host=field(data, "host", text),
        step=field(data, "step", lambda found: _one_of(STEPS, found)),
        reached=bool(data.get("reached", False)),
        phase=optional(data, "phase", lambda found: _one_of(PHASES, found), "none"),
        served=str(data.get("served") or ""),
        gates=optional(data, "gates", lambda rows: each(rows, gate), ()),
        refused=str(data.get("refused") or ""),
        failure=str(data.get("failure") or ""),
        moved=optional(data, "moved", whole, 0),
    )


def seen(value: object) -> Seen:
    """What was seen of one device."""
    data = mapping(value)
    known_keys(data, tuple(Seen.__dataclass_fields__))
    answered = data.get("answered")
    counts = {
        name: optional(data, name, whole, 0)
        for name in ("requests", "errors", "invalid")
        if name in Seen.__dataclass_fields__
    }
    return Seen(
        host=field(data, "host", text),
        digest=str(data.get("digest") or ""),
        answered=None if answered is None else bool(answered),
        latency=optional(data, "latency", _counts, {}),
        predictions=optional(data, "predictions", _counts, {}),
        at=optional(data, "at", number, 0.0),
        **counts,
    )


def look(value: object) -> Look:
    """One look at a ring, as it was gathered; how often and how long is the journal's to say."""
    data = mapping(value)
    known_keys(data, ("ring", "control", "queries"))
    queries: Mapping[str, Any] = mapping(data.get("queries") or {})
    return Look(
        ring=optional(data, "ring", lambda rows: each(rows, seen), ()),
        control=optional(data, "control", lambda rows: each(rows, seen), ()),
        looks=0,
        seconds=0.0,
        queries={name: None if found is None else float(found) for name, found in queries.items()},
    )


def answers(value: object) -> tuple[Answer, ...]:
    """Every answer of a call."""
    try:
        return each(value, answer)
    except ShapeError as error:
        raise RolloutError(
            f"The answers of the devices cannot be read: {error.within('answers')}."
        ) from None


def looked(value: object) -> Look:
    """The look of a call."""
    try:
        return look(value)
    except (ShapeError, TypeError, ValueError) as error:
        raise RolloutError(f"What was seen of the ring cannot be read: look.{error}.") from None


def as_dict(value: Answer | Gate | Seen) -> dict[str, Any]:
    """For the journal; what is empty is left out."""
    return {
        name: found for name, found in asdict(value).items() if found not in ("", {}, (), 0, [])
    }


def as_dicts(values: Mapping[str, Seen]) -> dict[str, dict[str, Any]]:
    """The same by host."""
    return {host: as_dict(found) for host, found in values.items()}

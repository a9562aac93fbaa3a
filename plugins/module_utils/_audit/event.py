# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One event, as it stands in the stream (``docs/schema/event.schema.json``)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from .errors import AuditError

VERSION = 1
PERSON, DEVICE, SERVICE, CONTROLLER, UNKNOWN = (
    "person",
    "device",
    "service",
    "controller",
    "unknown",
)
KINDS = (PERSON, DEVICE, SERVICE, CONTROLLER, UNKNOWN)
SUCCESS, DENIED, FAILURE = "success", "denied", "failure"
OUTCOMES = (SUCCESS, DENIED, FAILURE)
NOTHING = "0" * 64
"""What the first line of all names as the hash of the line before."""
KEYS = (
    "v",
    "time",
    "seq",
    "actor",
    "action",
    "object",
    "host",
    "source",
    "outcome",
    "details",
    "prev",
)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
_ACTION = re.compile(r"[a-z]+(\.[a-z_]+)+")
_HASH = re.compile(r"[0-9a-f]{64}")
_LONGEST = 400  # characters of a text that somebody else has written


@dataclass(frozen=True)
class Actor:
    """Who did it, as far as it was proved to the platform."""

    kind: str = UNKNOWN
    name: str = ""


@dataclass(frozen=True)
class Thing:
    """What it was done to."""

    kind: str = ""
    name: str = ""
    version: str = ""
    digest: str = ""


@dataclass(frozen=True)
class Event:
    """Something that somebody did. ``seq`` and ``prev`` come with its place in the chain."""

    time: str
    actor: Actor
    action: str
    thing: Thing = Thing()
    host: str = ""
    source: str = ""
    outcome: str = SUCCESS
    details: Mapping[str, Any] = field(default_factory=dict)
    seq: int = 0
    prev: str = ""

    def line(self) -> bytes:
        """As it stands in the file, without its end. ASCII, so that every syslog takes it."""
        whole = {
            "v": VERSION,
            "time": self.time,
            "seq": self.seq,
            "actor": {"kind": self.actor.kind, "name": short(self.actor.name)},
            "action": self.action,
            "object": {
                "kind": self.thing.kind,
                "name": short(self.thing.name),
                "version": short(self.thing.version),
                "digest": short(self.thing.digest),
            },
            "host": self.host,
            "source": self.source,
            "outcome": self.outcome,
            "details": {name: _bounded(value) for name, value in self.details.items()},
            "prev": self.prev,
        }
        return json.dumps(whole, separators=(",", ":"), ensure_ascii=True).encode("ascii")

    def at(self, seq: int, prev: str) -> Event:
        """The same at its place in the chain."""
        return replace(self, seq=seq, prev=prev)


def short(text: str) -> str:
    """A text of somebody else's, cut where it would fill the disk."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _bounded(value: Any) -> Any:
    if isinstance(value, str):
        return short(value)
    if isinstance(value, (list, tuple)):
        return [_bounded(one) for one in value]
    if isinstance(value, dict):
        return {short(str(name)): _bounded(one) for name, one in value.items()}
    return value


def stamp(seconds: float) -> str:
    """Seconds since 1970 as RFC 3339 in UTC, to the millisecond."""
    told = datetime.fromtimestamp(seconds, timezone.utc)
    return told.strftime("%Y-%m-%dT%H:%M:%S.") + f"{told.microsecond // 1000:03d}Z"


def seconds_of(text: str) -> float:
    """The moment that a person or another program names: RFC 3339, or a day, in UTC if not said."""
    plain = text.strip().replace(" ", "T", 1)
    plain = plain[:-1] + "+00:00" if plain.endswith(("Z", "z")) else plain
    plain = re.sub(r"\.(\d{1,6})\d*", lambda found: "." + found[1].ljust(6, "0"), plain)
    try:
        told = datetime.fromisoformat(plain)
    except ValueError:
        raise AuditError(
            f"Found the time {text!r}, wanted one such as 2026-11-28T14:30:00Z or 2026-11-28."
        ) from None
    return (told if told.tzinfo else told.replace(tzinfo=timezone.utc)).timestamp()


def parse(line: bytes) -> Event:
    """Read a line of the stream; an :class:`AuditError` says what is wrong with it."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        raise AuditError("it is no JSON") from None
    if not isinstance(told, dict) or set(told) != set(KEYS):
        raise AuditError(f"it has not exactly the keys {', '.join(KEYS)}")
    _check(told)
    actor, thing = told["actor"], told["object"]
    return Event(
        time=told["time"],
        actor=Actor(str(actor["kind"]), str(actor["name"])),
        action=told["action"],
        thing=Thing(*(str(thing[name]) for name in ("kind", "name", "version", "digest"))),
        host=str(told["host"]),
        source=str(told["source"]),
        outcome=told["outcome"],
        details=told["details"],
        seq=told["seq"],
        prev=told["prev"],
    )


def _check(told: Mapping[str, Any]) -> None:
    right = {
        "v": told["v"] == VERSION,
        "time": isinstance(told["time"], str) and bool(_TIME.fullmatch(told["time"])),
        "seq": isinstance(told["seq"], int) and told["seq"] > 0,
        "actor": _has(told["actor"], ("kind", "name")) and told["actor"]["kind"] in KINDS,
        "action": isinstance(told["action"], str) and bool(_ACTION.fullmatch(told["action"])),
        "object": _has(told["object"], ("kind", "name", "version", "digest")),
        "outcome": told["outcome"] in OUTCOMES,
        "details": isinstance(told["details"], dict),
        "prev": isinstance(told["prev"], str) and bool(_HASH.fullmatch(told["prev"])),
    }
    wrong = [name for name, good in right.items() if not good]
    if wrong:
        raise AuditError(f"its {', '.join(wrong)} is not as the schema says")


def _has(value: Any, names: tuple[str, ...]) -> bool:
    return isinstance(value, dict) and set(value) == set(names)

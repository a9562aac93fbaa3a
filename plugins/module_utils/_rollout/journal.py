# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of a model's rollouts: one line of JSON per decision, only ever added to.

A power loss can tear the last line; it then never was a decision, since nothing is answered before
its line is on the disk. Any other damage is refused: what was decided cannot be guessed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import RolloutError

STARTED = "started"
APPROVED = "approved"
RING_BEGUN = "ring_begun"
ORDERED = "ordered"
ANSWERED = "answered"
DEFERRED = "deferred"
JUDGED = "judged"
RING_PASSED = "ring_passed"
RING_FAILED = "ring_failed"
PAUSED_EVENT = "paused"
RESUMED = "resumed"
ABORTED_EVENT = "aborted"
REVERTING = "reverting"
FINISHED = "finished"

# What each event has to say.
NEEDS: Mapping[str, tuple[str, ...]] = {
    STARTED: ("plan",),
    APPROVED: ("ring", "by"),
    RING_BEGUN: ("ring", "hosts"),
    ORDERED: ("step", "hosts"),
    ANSWERED: ("answers",),
    DEFERRED: ("hosts",),
    JUDGED: ("ring", "gates", "memory", "verdict", "silent", "baseline"),
    RING_PASSED: ("ring", "said"),
    RING_FAILED: ("ring", "said", "gates"),
    PAUSED_EVENT: ("kind", "said"),
    RESUMED: ("by", "said", "hosts"),
    ABORTED_EVENT: ("by", "said"),
    REVERTING: ("hosts", "outcome", "said"),
    FINISHED: ("outcome", "said"),
}
HEAD = ("seq", "generation", "time", "rollout", "event")


@dataclass(frozen=True)
class Entry:
    """One decision."""

    seq: int
    generation: int
    time: float
    rollout: str
    event: str
    data: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> bytes:
        """As it stands in the file, with the line's end."""
        head = {name: getattr(self, name) for name in HEAD}
        return json.dumps({**head, **self.data}, separators=(",", ":")).encode() + b"\n"


class _BadLineError(Exception):
    """A line is no entry; says why."""


def _entry(raw: bytes) -> Entry:
    try:
        data = json.loads(raw)
    except ValueError as error:
        raise _BadLineError(f"it is no JSON ({error})") from None
    if not isinstance(data, dict):
        raise _BadLineError("it is no mapping")
    missing = [name for name in HEAD if name not in data]
    if missing:
        raise _BadLineError(f"it lacks {', '.join(missing)}")
    event = data["event"]
    if event not in NEEDS:
        raise _BadLineError(f"it has the unknown event {event!r}")
    missing = [name for name in NEEDS[event] if name not in data]
    if missing:
        raise _BadLineError(f"the event {event} lacks {', '.join(missing)}")
    head = {name: data.pop(name) for name in HEAD}
    return Entry(**head, data=data)


def read(content: bytes, name: str = "journal.jsonl") -> tuple[list[Entry], int]:
    """All entries, and how many bytes of the file they are; what is beyond was torn off."""
    entries: list[Entry] = []
    good = 0
    while good < len(content):
        end = content.find(b"\n", good)
        if end < 0:
            break  # the last line has no end: power was lost while it was written
        number = len(entries) + 1
        try:
            entry = _entry(content[good:end])
            _follows(entries, entry)
        except _BadLineError as error:
            if end == len(content) - 1 and _torn(content[good:end]):
                break
            raise RolloutError(
                f"The journal {name} is damaged in line {number}: {error}. Restore it from the "
                "backup of this host, or move it away and begin a new rollout once no device "
                "has an uncommitted release."
            ) from None
        entries.append(entry)
        good = end + 1
    return entries, good


def _torn(line: bytes) -> bool:
    """Whether blocks of a line never reached the disk: filesystems fill them with zeros."""
    return b"\0" in line


def _follows(entries: Sequence[Entry], entry: Entry) -> None:
    """Entries are counted without a gap, and generations never fall."""
    before = entries[-1:]
    seq = before[0].seq + 1 if before else 1
    if entry.seq != seq:
        raise _BadLineError(f"it has the number {entry.seq}, wanted is {seq}")
    if before and entry.generation < before[0].generation:
        raise _BadLineError(
            f"its generation {entry.generation} is below {before[0].generation} of the line before"
        )

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain: each line names the SHA-256 of the line before, so that none can be changed alone.

The lines lie in segments, files named after the number of their first line. What became too old
goes by whole segments; an event of the chain itself then says which lines went and what the hash of
the last of them was, so that what is left still has something to hang on.

What this shows: that the lines are those that were written, in their order, none missing. What it
does not show: that what was written was true, and nothing at all where somebody rewrote every line
from one on *and* every hash that the second host was told since. Whoever is root on one of the
hosts alone cannot do both.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .errors import AuditError
from .event import NOTHING, SERVICE, Actor, Event, Thing, parse

EXPIRED = "audit.expired"
ITSELF = Actor(SERVICE, "audit_log")
_TOLD = re.compile(
    r'(\S+) - \S* \[[^]]*\] "PUT /audit/head/(\d{1,15})/([0-9a-f]{64}) HTTP/[0-9.]+" (\d{3}) '
)
_NAME = re.compile(r"events-(\d{12})\.jsonl")


@dataclass(frozen=True)
class Head:
    """The last line: its number and its hash."""

    seq: int = 0
    hash: str = NOTHING


@dataclass(frozen=True)
class Segment:
    """A file of the chain as it was found."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Damage:
    """The first thing that is not as it was written."""

    file: str
    line: int
    what: str

    def sentence(self) -> str:
        """For people."""
        where = f"{self.file}, line {self.line}" if self.line else self.file
        return f"{where}: {self.what}"


@dataclass(frozen=True)
class Read:
    """All that is there: the events up to the first damage, and that damage."""

    events: tuple[Event, ...]
    head: Head
    damage: Damage | None


def hash_of(line: bytes) -> str:
    """What the next line names."""
    return hashlib.sha256(line).hexdigest()


def name_of(seq: int) -> str:
    """The file that begins with this line."""
    return f"events-{seq:012d}.jsonl"


def first_of(name: str) -> int | None:
    """The number of the first line of a segment, or None for another file."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def link(events: Iterable[Event], head: Head) -> tuple[list[bytes], Head]:
    """The lines of new events, and the head after them."""
    lines = []
    for event in events:
        line = event.at(head.seq + 1, head.hash).line()
        lines.append(line)
        head = Head(head.seq + 1, hash_of(line))
    return lines, head


def expiry(time: str, name: str, first: int, last: Head, newest: str) -> Event:
    """The event that says which segment goes."""
    return Event(
        time=time,
        actor=ITSELF,
        action=EXPIRED,
        thing=Thing("segment", name),
        source="audit_log",
        details={"first": first, "last": last.seq, "last_hash": last.hash, "newest": newest},
    )


@dataclass(frozen=True)
class _Line:
    """A line and where it stands."""

    file: str
    number: int
    raw: bytes


def read(
    segments: Sequence[Segment], heads: Sequence[Head] = (), known: Head | None = None
) -> Read:
    """Read and check everything.

    ``heads`` are those that the second host was told, in their order. ``known`` is the last line
    that this host knows to have written.
    """
    ordered = sorted(segments, key=lambda one: one.name)
    lines, cut = _lines(ordered)
    events: list[Event] = []
    hashes: dict[int, str] = {}
    head: Head | None = None
    damage: Damage | None = None
    for index, line in enumerate(lines):
        try:
            event = parse(line.raw)
        except AuditError as error:
            damage = Damage(line.file, line.number, str(error))
            break
        damage = _out_of_place(lines, index, event, head, known)
        if damage:
            break
        head = Head(event.seq, hash_of(line.raw))
        events.append(event)
        hashes[event.seq] = head.hash
    head = head or Head()
    place = {event.seq: (line.file, line.number) for event, line in zip(events, lines)}
    if damage is None and cut:
        damage = Damage(cut[0], cut[1], "the line was cut off")
    damage = damage or _begins(ordered, events) or _witnessed(heads, hashes, place, head, lines)
    if damage is None and known is not None:
        damage = _known(known, head, lines)
    return Read(tuple(events), head, damage)


def _lines(ordered: Sequence[Segment]) -> tuple[list[_Line], tuple[str, int] | None]:
    """All whole lines, and the place of the last one if it has no end."""
    lines: list[_Line] = []
    for index, segment in enumerate(ordered):
        *whole, rest = segment.content.split(b"\n")
        lines += [_Line(segment.name, number, raw) for number, raw in enumerate(whole, 1)]
        if rest and index == len(ordered) - 1:
            return lines, (segment.name, len(whole) + 1)
        if rest:
            lines.append(_Line(segment.name, len(whole) + 1, rest))
    return lines, None


def _out_of_place(
    lines: Sequence[_Line], index: int, event: Event, head: Head | None, known: Head | None
) -> Damage | None:
    """What is wrong with the place of a line after the one before."""
    line = lines[index]
    first = first_of(line.file) if line.number == 1 else None
    wanted = head.seq + 1 if head is not None else (first or event.seq)
    if event.seq != wanted:
        said = f"it has the number {event.seq}, wanted is {wanted}: "
        if event.seq < wanted or _later(lines, index, wanted):
            return Damage(line.file, line.number, said + "it is out of its order")
        many = f"the lines {wanted} to {event.seq - 1} are"
        one = f"line {wanted} is"
        missing = many if event.seq > wanted + 1 else one
        return Damage(line.file, line.number, f"{said}{missing} missing before it")
    if head is None or event.prev == head.hash:
        return None
    # Whoever changes a line leaves what comes after it: so it tells which of the two was changed.
    after = _prev(lines[index + 1].raw) if index + 1 < len(lines) else known.hash if known else ""
    if after == hash_of(line.raw):
        before = lines[index - 1]
        said = "it was changed: the line after it names another hash"
        return Damage(before.file, before.number, said)
    said = "it was changed: it does not name the hash of the line before it"
    return Damage(line.file, line.number, said)


def _known(known: Head, head: Head, lines: Sequence[_Line]) -> Damage | None:
    """Hold the last line against what this host knows to have written last."""
    if head.seq < known.seq:
        return _gone(lines, f"the lines {head.seq + 1} to {known.seq} are missing at the end")
    if head.seq > known.seq:
        return _gone(lines, f"it has the number {head.seq}, and {known.seq} was written last")
    if head.hash != known.hash:
        return _gone(lines, "it was changed: it has not the hash that it was written with")
    return None


def _prev(raw: bytes) -> str:
    try:
        return parse(raw).prev
    except AuditError:
        return ""


def _later(lines: Sequence[_Line], index: int, seq: int) -> bool:
    """Whether a line with this number stands further down; looked for near by."""
    mark = f'"seq":{seq},'.encode()
    return any(mark in line.raw for line in lines[index + 1 : index + 1000])


def _begins(ordered: Sequence[Segment], events: Sequence[Event]) -> Damage | None:
    """The first line is the first of all, or hangs on one that is said to have become too old."""
    if not events:
        return None
    first = events[0]
    if first.seq == 1:
        if first.prev == NOTHING:
            return None
        return Damage(ordered[0].name, 1, "it is the first line and names a line before it")
    for event in events:
        gone = event.details
        if event.action == EXPIRED and gone.get("last") == first.seq - 1:
            if gone.get("last_hash") == first.prev:
                return None
            return Damage(
                ordered[0].name, 1, "it does not name the hash of the line that became too old"
            )
    return Damage(
        ordered[0].name,
        0,
        f"the lines 1 to {first.seq - 1} are missing, and no event says that they became too old",
    )


def _witnessed(
    heads: Sequence[Head],
    hashes: Mapping[int, str],
    place: Mapping[int, tuple[str, int]],
    head: Head,
    lines: Sequence[_Line],
) -> Damage | None:
    """Hold the chain against what the second host was told."""
    first = min(hashes, default=1)
    for told in sorted(heads, key=lambda one: one.seq):
        if told.seq < first:
            continue
        if told.seq > head.seq:
            said = (
                f"the second host was told of line {told.seq}; the lines {head.seq + 1} to "
                f"{told.seq} are missing at the end"
            )
            return _gone(lines, said)
        if hashes.get(told.seq) != told.hash:
            file, line = place[told.seq]
            said = (
                "the second host was told another hash: this line, or one before it, was changed "
                "and all hashes after it were computed anew"
            )
            return Damage(file, line, said)
    return None


def _gone(lines: Sequence[_Line], said: str) -> Damage:
    if not lines:
        return Damage(name_of(1), 0, said)
    return Damage(lines[-1].file, lines[-1].number, said)


def parse_heads(text: str, teller: str = "") -> tuple[list[Head], int]:
    """What the nginx of the second host has written down, and how many lines are no such thing.

    ``teller`` is the address of the host whose chain it is; empty for every one.
    """
    found, bad = [], 0
    for line in text.splitlines():
        said = _TOLD.match(line)
        if not said:
            bad += 1
        elif said[4] == "204" and (not teller or said[1] == teller):
            found.append(Head(int(said[2]), said[3]))
    return found, bad

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The segments on a disk.

A batch is written in two steps, so that nothing is told twice and nothing is lost: first the new
places in all sources, the batch itself and where it belongs, in one file that replaces the one
before; then the batch at that place. What was cut off in between is done again at the next start.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .chain import Head, Segment, expiry, first_of, hash_of, link, name_of
from .errors import AuditError
from .event import Event, parse, seconds_of, stamp

SEGMENT_LINES = 20_000
STATE = "state.json"


@dataclass
class State:
    """What the collector remembers: where it was in each source, and its place in the chain."""

    head: Head = field(default_factory=Head)
    segment: str = ""
    length: int = 0
    lines: int = 0
    day: str = ""
    batch: list[str] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        told = {**self.__dict__, "head": [self.head.seq, self.head.hash]}
        return json.dumps(told, separators=(",", ":"))


class Store:
    """A directory with the segments and the state."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.events = directory / "events"
        self.state = self._load()
        self._finish()

    def _load(self) -> State:
        path = self.directory / STATE
        try:
            return _parsed(path.read_text(encoding="ascii"))
        except FileNotFoundError:
            if any(self.events.glob("events-*.jsonl")):
                raise AuditError(
                    f"Found events in {self.events} and no {path}, which says where they end. "
                    "Restore it from a backup, or move the events away: a new chain then begins."
                ) from None
            return State()
        except (ValueError, TypeError, KeyError):
            raise AuditError(
                f"{path} is damaged. Restore it from a backup, or move it and the events away."
            ) from None

    def _finish(self) -> None:
        """Write what the state says is written, if a power loss came between."""
        state = self.state
        if not state.batch:
            return
        path = self.events / state.segment
        batch = "".join(f"{line}\n" for line in state.batch).encode("ascii")
        there = path.stat().st_size if path.exists() else 0
        if state.length <= there < state.length + len(batch):
            with path.open("ab") as stream:
                stream.truncate(state.length)
                stream.write(batch)
                stream.flush()
                os.fsync(stream.fileno())
            path.chmod(0o640)

    def append(self, events: Sequence[Event], now: float) -> None:
        """Add a batch and keep the memory, both or none."""
        state = self.state
        before = state.length + sum(len(line) + 1 for line in state.batch)
        lines, head = link(events, state.head)
        day = stamp(now)[:10]
        full = state.lines >= SEGMENT_LINES or (state.lines and day != state.day)
        if lines and (full or not state.segment):
            state.segment, state.lines, before = name_of(state.head.seq + 1), 0, 0
            state.day = day
        state.length = before
        state.lines += len(lines)
        state.batch = [line.decode("ascii") for line in lines]
        state.head = head
        self._save()
        self._finish()

    def _save(self) -> None:
        path = self.directory / STATE
        part = path.with_suffix(".part")
        with part.open("w", encoding="ascii") as stream:
            stream.write(self.state.to_json())
            stream.flush()
            os.fsync(stream.fileno())
        part.chmod(0o640)
        part.replace(path)

    def segments(self) -> list[Path]:
        """The files of the chain, oldest first."""
        return sorted(one for one in self.events.iterdir() if first_of(one.name) is not None)

    def expire(self, days: int, now: float, most_bytes: int = 0) -> list[str]:
        """Delete whole segments: those whose newest event is too old, and the oldest ones where all
        take more than may be. Each deletion is an event, written before the file goes."""
        gone = []
        paths = self.segments()
        sizes = sum(one.stat().st_size for one in paths)
        for path in paths[:-1]:  # the last one is being written
            raw, newest = _newest(path)
            over = most_bytes and sizes > most_bytes
            if newest is None or (seconds_of(newest.time) > now - days * 86400 and not over):
                break
            sizes -= path.stat().st_size
            last = Head(newest.seq, hash_of(raw))
            first = first_of(path.name) or 0
            self.append([expiry(stamp(now), path.name, first, last, newest.time)], now)
            path.unlink()
            gone.append(path.name)
        return gone


def _newest(path: Path) -> tuple[bytes, Event | None]:
    """The last event of a closed segment; events stand in the order in which they were learnt."""
    content = path.read_bytes().rstrip(b"\n")
    line = content[content.rfind(b"\n") + 1 :]
    try:
        return line, parse(line)
    except AuditError:
        return line, None  # damaged: kept, for people to look at


def read_segments(directory: Path) -> list[Segment]:
    """All segments of a directory."""
    return [
        Segment(path.name, path.read_bytes())
        for path in sorted(directory.iterdir())
        if first_of(path.name) is not None
    ]


def read_whole(directory: Path) -> tuple[list[Segment], Head]:
    """The segments, and the head that they have to end with, while the collector may be at work.

    What its state says is written may not stand in the file yet.
    """
    for _again in range(20):
        before = _state_of(directory)
        segments = read_segments(directory / "events")
        state = _state_of(directory)
        if before.head == state.head:
            break
    batch = "".join(f"{line}\n" for line in state.batch).encode("ascii")
    names = {one.name for one in segments}
    if batch and state.segment not in names and state.length == 0:
        segments.append(Segment(state.segment, b""))
    whole = [
        Segment(one.name, one.content + batch)
        if one.name == state.segment and len(one.content) == state.length
        else one
        for one in segments
    ]
    return whole, state.head


def _state_of(directory: Path) -> State:
    path = directory / STATE
    try:
        return _parsed(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        if (directory / "events").is_dir():
            return State()
        raise AuditError(
            f"Found no {directory}, wanted the event stream of this host. Run site.yml, which "
            "begins it (role audit_log)."
        ) from None
    except (ValueError, TypeError, KeyError):
        raise AuditError(
            f"{path} is damaged: how the stream ends cannot be told. Restore it from a backup."
        ) from None


def _parsed(text: str) -> State:
    told = json.loads(text)
    return State(**{**told, "head": Head(*told["head"])})

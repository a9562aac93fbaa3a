# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which allocations of people nobody works in any more, by what Slurm counts of their processors.

Travels to hosts with ``batch``. An allocation is idle while its processes together use less than a
small part of one core; an open shell or a notebook that nobody touches uses less, any work more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEAST_CORES = 0.02
"""A choice: an open shell that nobody types in uses nothing, and whatever computes, on a GPU too,
keeps far more than a fiftieth of a core of its host busy."""

STEP_FORMAT = "JobID,AveCPU,NTasks"
_TIME = re.compile(r"(?:([0-9]+)-)?(?:([0-9]+):)?([0-9]+):([0-9]+)(?:\.([0-9]+))?")


@dataclass(frozen=True)
class Look:
    """What was seen of an allocation: seconds of processors used so far, when, and since when it
    has been idle."""

    used: float
    at: float
    since: float

    def as_dict(self) -> dict[str, float]:
        """Plain data for the file."""
        return {"used": self.used, "at": self.at, "since": self.since}


def seconds_of(text: str) -> float:
    """Slurm's ``[days-][hours:]minutes:seconds[.part]`` in seconds; 0 where it says nothing."""
    found = _TIME.fullmatch(text.strip())
    if found is None:
        return 0.0
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups()[:4])
    part = float(f"0.{found[5]}") if found[5] else 0.0
    return days * 86_400 + hours * 3600 + minutes * 60 + seconds + part


def used(text: str) -> dict[int, float]:
    """Seconds of processors by job, of the lines of ``sstat -nPa -o STEP_FORMAT``."""
    found: dict[int, float] = {}
    for line in text.splitlines():
        values = line.strip().split("|")
        number = values[0].partition(".")[0]
        if len(values) < 3 or not number.isdigit():
            continue
        tasks = int(values[2]) if values[2].isdigit() else 1
        found[int(number)] = found.get(int(number), 0.0) + seconds_of(values[1]) * max(1, tasks)
    return found


def looks(data: Mapping[str, Any]) -> dict[int, Look]:
    """What was seen before, of the file; what cannot be read was not seen."""
    found = {}
    for number, row in data.items():
        try:
            found[int(number)] = Look(float(row["used"]), float(row["at"]), float(row["since"]))
        except (KeyError, TypeError, ValueError):
            continue
    return found


def look(
    before: Mapping[int, Look], sessions: Iterable[int], now_used: Mapping[int, float], now: float
) -> dict[int, Look]:
    """What is seen now of the allocations that run.

    A step that ended takes its seconds with it, so that fewer than before means that somebody was
    there.
    """
    found = {}
    for number in sessions:
        seconds, was = now_used.get(number, 0.0), before.get(number)
        if was is None or now <= was.at:
            found[number] = Look(seconds, now, now)
            continue
        grown = seconds - was.used
        idle = 0 <= grown < LEAST_CORES * (now - was.at)
        found[number] = Look(seconds, now, was.since if idle else now)
    return found


def over(
    seen: Mapping[int, Look], limits: Mapping[int, int], now: float
) -> Sequence[tuple[int, int]]:
    """Allocations that have been idle for longer than they may, with the seconds."""
    return [
        (number, int(now - one.since))
        for number, one in sorted(seen.items())
        if limits.get(number) and now - one.since >= limits[number]
    ]

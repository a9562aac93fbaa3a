# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Maintenance windows: when a ring may begin and switch. The time is always handed in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from .errors import RolloutError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SPAN = re.compile(r"(\S+)\s+(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})(?:\s+(\S+))?")
EXAMPLE = "'Mon-Fri 22:00-04:00 Europe/Berlin'"
MINUTES = 24 * 60


@dataclass(frozen=True)
class Span:
    """One line of a window. One that ends past midnight belongs to the day on which it begins."""

    days: frozenset[int]
    begin: int  # minutes of the day
    minutes: int  # how long
    zone: str

    def _opening(self, day: datetime) -> float:
        local = datetime(day.year, day.month, day.day, tzinfo=zone_of(self.zone))
        return local.replace(hour=self.begin // 60, minute=self.begin % 60).timestamp()

    def opens_in(self, now: float) -> float:
        """Seconds until it is open, 0 where it is."""
        today = datetime.fromtimestamp(now, zone_of(self.zone))
        for ahead in range(-1, 9):
            day = today + timedelta(days=ahead)
            if day.weekday() not in self.days:
                continue
            opening = self._opening(day)
            if now < opening:
                return opening - now
            if now < opening + self.minutes * 60:
                return 0.0
        raise RolloutError("A maintenance window without a day never opens.")


@dataclass(frozen=True)
class Window:
    """Every span of a site; none at all means that it is always open."""

    spans: tuple[Span, ...] = ()

    def opens_in(self, now: float) -> float:
        """Seconds until a ring may begin or switch, 0 where it may now."""
        return min((span.opens_in(now) for span in self.spans), default=0.0)


def parse(text: str) -> Window:
    """Read a window; spans are parted by ``;``."""
    lines = [line.strip() for line in text.split(";") if line.strip()]
    return Window(tuple(parse_span(line) for line in lines))


def parse_span(line: str) -> Span:
    """Read one span, such as ``Mon-Fri 22:00-04:00 Europe/Berlin``."""
    match = SPAN.fullmatch(line)
    if not match:
        raise RolloutError(
            f"rollout_window is {line!r}; wanted are days, a time from and to, and a zone, such "
            f"as {EXAMPLE}."
        )
    begin, end = minute(line, match[2], match[3]), minute(line, match[4], match[5])
    length = (end - begin) % MINUTES or MINUTES
    zone = match[6] or "UTC"
    zone_of(zone)
    return Span(days_of(line, match[1]), begin % MINUTES, length, zone)


def minute(line: str, hours: str, minutes: str) -> int:
    """A time of day as minutes; 24:00 is the end of the day."""
    found = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or found > MINUTES:
        raise RolloutError(f"rollout_window is {line!r}; {hours}:{minutes} is no time of day.")
    return found


def days_of(line: str, text: str) -> frozenset[int]:
    """``Mon-Fri``, ``Sat,Sun`` or ``daily``; a span of days may run over the week's end."""
    if text.lower() == "daily":
        return frozenset(range(7))
    found: set[int] = set()
    for part in text.lower().split(","):
        first, _dash, last = part.partition("-")
        try:
            begin, end = DAYS.index(first[:3]), DAYS.index((last or first)[:3])
        except ValueError:
            raise RolloutError(
                f"rollout_window is {line!r}; {text!r} are no days of the week. Write them as in "
                f"{EXAMPLE}, or daily."
            ) from None
        found |= {(begin + step) % 7 for step in range((end - begin) % 7 + 1)}
    return frozenset(found)


def zone_of(name: str) -> tzinfo:
    """A time zone by its name."""
    if name == "UTC":
        return timezone.utc
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise RolloutError(
            f"rollout_window names the time zone {name!r}, which this host does not know; write "
            "one such as Europe/Berlin or UTC, or install the package tzdata."
        ) from None

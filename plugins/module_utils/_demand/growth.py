# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the need of a workload changes with time."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from .._findings.shape import (
    ShapeError,
    each,
    field,
    known_keys,
    mapping,
    number,
    optional,
)
from .quantities import (
    at_most,
    day,
    switch,
)
from .words import one_of

REPLICAS, REQUESTS = "replicas", "requests"
MOST_PERCENT, MOST_FACTOR = 1e4, 1e3
DAYS_A_YEAR = 365.25
NO_STEPS: tuple[tuple[datetime.date, float], ...] = ()


@dataclass(frozen=True)
class Growth:
    """How the need changes: percent a year, compound or linear, or factors from given days on.

    ``since`` is the day for which the written figures hold; None is the day of the assessment.
    """

    of: str = REPLICAS
    percent: float = 0.0
    linear: bool = False
    since: datetime.date | None = None
    steps: tuple[tuple[datetime.date, float], ...] = ()

    def factor(self, today: datetime.date, day: datetime.date) -> float:
        """By what the written figures are to be multiplied on a day, given the present one.

        Compound: ``(1 + p/100) ** years``; linear: ``1 + p/100 * years``; a year is 365.25 days.
        Of steps the highest one so far counts: what was needed once stays planned.
        """
        if self.steps:
            return max([1.0, *(factor for at, factor in self.steps if at <= day)])
        years = max(0, (day - (self.since or today)).days) / DAYS_A_YEAR
        rate = self.percent / 100
        return 1 + rate * years if self.linear else (1 + rate) ** years

    @property
    def grows(self) -> bool:
        """Whether anything changes at all."""
        return bool(self.percent or self.steps)


NO_GROWTH = Growth()


def _step(value: object) -> tuple[datetime.date, float]:
    given = mapping(value)
    known_keys(given, ("date", "factor"))
    return (
        field(given, "date", day),
        field(given, "factor", at_most(MOST_FACTOR, number, "can be planned, as a factor")),
    )


def growth(value: object, usual: str) -> Growth:
    """How the need changes; ``usual`` is what grows where nothing is said."""
    given = mapping(value)
    known_keys(given, ("percent_per_year", "linear", "since", "steps", "of"))
    of = optional(given, "of", one_of((REPLICAS, REQUESTS)), usual)
    percent = optional(
        given,
        "percent_per_year",
        at_most(MOST_PERCENT, number, "can be planned, in percent"),
        0.0,
    )
    steps = tuple(sorted(optional(given, "steps", lambda rows: each(rows, _step), NO_STEPS)))
    if given.get("percent_per_year") is not None and given.get("steps") is not None:
        raise ShapeError("cannot stand beside percent_per_year; keep one of them", "steps")
    if given.get("percent_per_year") is None and given.get("steps") is None:
        raise ShapeError("must have percent_per_year or steps")
    for key in ("linear", "since"):
        if steps and given.get(key) is not None:
            raise ShapeError("belongs to percent_per_year, not to steps", key)
    for (first, _factor), (second, _other) in zip(steps, steps[1:]):
        if first == second:
            raise ShapeError(f"has two factors for {first}", "steps")
    return Growth(
        of=of,
        percent=percent,
        linear=optional(given, "linear", switch, False),
        since=optional(given, "since", day, None),
        steps=steps,
    )

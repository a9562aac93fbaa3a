# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares what a model is asked, and what it answers, with its reference profile, in windows.

A window ends when it is old enough and holds enough requests; then there is one verdict, and a new
window begins. So a month has at most as many verdicts as windows fit into it, and the level of each
test is the declared number of false alarms a month, divided by tests and windows (Bonferroni: the
expected number of false alarms is the sum of the levels, however the tests depend on one another).

PSI is the sum over bins of (b - a) ln(b / a), a and b being the shares of reference and window. If
both come from one distribution, PSI / (1/n + 1/m) of n and m rows is distributed as chi-square with
one degree less than bins (B. Yurdakul, Statistical Properties of Population Stability Index,
Western Michigan University, 2018). Half a row is added to each bin, and bins in which a window
has fewer than 20 rows to expect are joined; tests/benchmarks/drift.py measures how well that holds.
A PSI below 0.1 is no alarm however sure it is: the usual bound for "no change" (N. Siddiqi, Credit
Risk Scorecards, 2006).

Of missing, rare, new and out-of-range values, r of n reference rows have shown one (of the range:
one, as the largest and smallest value are themselves the ends; of new values: as many as were seen
once, by Good and Turing). Their share lies below Beta(r + 1, n - r) in the sense of Clopper and
Pearson, so the count in a window is compared with the beta-binomial distribution. So is a bin that
is so rare that the PSI joins it with a frequent one, where a class of one in a hundred could become
every second answer unseen. Which bins are rare is told by the reference itself, so all bins of the
column share the level.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import profile as profiles
from .profile import CATEGORY, NUMBER, Column, Profile
from .tails import chi_square_limit, most_expected

MONTH_SECONDS = 30 * 86400
CHUNK = 256
"""Rows that wait until they are counted together."""
LEAST_EXPECTED = 20
LEAST_PSI = 0.1
LEAST_SHARE = 0.01
"""Missing, rare, new or out-of-range values that are more frequent by less are no alarm."""
HALF = 0.5
STALE_WINDOWS = 24
"""A verdict that is older than so many windows, and than a day, is none any more."""

PSI = "psi"
RARE = "rare"
MISSING = "missing"
OUT_OF_RANGE = "out_of_range"
UNSEEN = "unseen"


# -- one window -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """How large windows are, and how sensitive the verdict is."""

    window_seconds: float = 3600.0
    window_requests: int = 500
    false_alarms: float = 0.1
    """Of one model on one device in thirty days."""
    shown: int = 5
    """Features that have series of their own."""

    def level(self, tests: int) -> float:
        """The level of each test."""
        windows = max(1.0, MONTH_SECONDS / max(1.0, self.window_seconds))
        return min(0.05, max(1e-12, self.false_alarms / (max(1, tests) * windows)))


@dataclass(frozen=True)
class Tally:
    """What was counted of one column in a window."""

    counts: tuple[int, ...]
    missing: int = 0
    outside: int = 0
    """Out of range, or new."""


@dataclass(frozen=True)
class Reading:
    """One measure of one feature, and what it may be."""

    feature: str
    measure: str
    value: float
    limit: float

    @property
    def beyond(self) -> bool:
        """Whether this is an alarm."""
        return self.value > self.limit

    @property
    def excess(self) -> float:
        """How far beyond, to sort by."""
        return self.value / self.limit if self.limit > 0 else math.inf


@dataclass(frozen=True)
class Verdict:
    """What came of a window."""

    requests: int
    ended: float
    readings: tuple[Reading, ...]

    @property
    def beyond(self) -> tuple[Reading, ...]:
        """The alarms, worst first."""
        return tuple(sorted((r for r in self.readings if r.beyond), key=lambda r: -r.excess))


def rising(counts: Sequence[int], window: int) -> list[tuple[int, float]]:
    """The bins, rarest first, and how many rows a window is expected to have in each."""
    total = sum(counts)
    order = sorted(range(len(counts)), key=lambda at: (counts[at], at))
    return [(at, counts[at] * window / total if total else 0.0) for at in order]


def joined(counts: Sequence[int], window: int) -> list[list[int]]:
    """Groups of bins of which a window has enough to expect; the rarest are joined first."""
    groups: list[list[int]] = []
    group: list[int] = []
    expected = 0.0
    for at, rows in rising(counts, window):
        group.append(at)
        expected += rows
        if expected >= LEAST_EXPECTED:
            groups.append(group)
            group, expected = [], 0.0
    if group:
        if groups:
            groups[-1] += group
        else:
            groups.append(group)
    return groups


def rare(counts: Sequence[int], window: int) -> list[int]:
    """The rarest bins, of which a window has too few to expect even of all of them together."""
    found: list[int] = []
    expected = 0.0
    for at, rows in rising(counts, window):
        expected += rows
        if expected >= LEAST_EXPECTED:
            break
        found.append(at)
    return found


def stability(reference: Sequence[int], seen: Sequence[int]) -> tuple[float, int]:
    """The population stability index of a window, and how many bins it was computed of."""
    n, m = sum(reference), sum(seen)
    groups = joined(reference, m)
    if n == 0 or m == 0 or len(groups) < 2:
        return 0.0, len(groups)
    total = 0.0
    for group in groups:
        a = (sum(reference[at] for at in group) + HALF) / (n + HALF * len(groups))
        b = (sum(seen[at] for at in group) + HALF) / (m + HALF * len(groups))
        total += (b - a) * math.log(b / a)
    return total, len(groups)


def psi_reading(column: Column, tally: Tally, level: float) -> Reading | None:
    """Judge the distribution of a column; nothing where there is nothing to compare."""
    n, m = column.rows, sum(tally.counts)
    value, bins = stability(column.counts, tally.counts)
    if bins < 2:
        return None
    limit = (1 / n + 1 / m) * chi_square_limit(bins - 1, level)
    return Reading(column.name, PSI, value, max(limit, LEAST_PSI))


def share_reading(
    name: str, measure: str, seen: int, rows: int, found: int, window: int, level: float
) -> Reading | None:
    """Judge how frequent missing, new or out-of-range values are."""
    if not rows or not window:
        return None
    most = most_expected(seen, rows, window, level) / window
    return Reading(name, measure, found / window, min(1.0, max(most, seen / rows + LEAST_SHARE)))


def rare_reading(column: Column, tally: Tally, level: float, inputs: bool) -> Reading | None:
    """Judge how frequent the values of rare bins are, by the bin that is furthest beyond.

    What counts as new of an input is left to the measure of new values.
    """
    seen, window = list(tally.counts), sum(tally.counts)
    places = rare(column.counts, window)
    if inputs and column.kind == CATEGORY and column.complete:
        seen[-1] -= tally.outside
        places = [at for at in places if column.counts[at]]
    if len(places) == len(seen):
        return None
    each = level / len(seen)
    found = [
        share_reading(column.name, RARE, column.counts[at], column.rows, seen[at], window, each)
        for at in places
    ]
    return max((one for one in found if one), key=lambda one: one.excess, default=None)


def judge_column(column: Column, tally: Tally, level: float, inputs: bool) -> list[Reading]:
    """All measures of a column; of what was predicted the distribution alone."""
    found = [psi_reading(column, tally, level), rare_reading(column, tally, level, inputs)]
    if inputs:
        there = sum(tally.counts)
        rows, window = column.rows + column.missing, there + tally.missing
        found.append(
            share_reading(column.name, MISSING, column.missing, rows, tally.missing, window, level)
        )
        if column.kind == NUMBER:
            one = min(1, column.rows)
            found.append(
                share_reading(
                    column.name, OUT_OF_RANGE, one, column.rows, tally.outside, there, level
                )
            )
        elif column.complete:
            found.append(
                share_reading(
                    column.name, UNSEEN, column.singletons, column.rows, tally.outside, there, level
                )
            )
    return [reading for reading in found if reading is not None]


def tests_of(profile: Profile) -> int:
    """How many tests a window has at most."""
    further = (profile.prediction is not None) + (profile.confidence is not None)
    return 4 * len(profile.features) + 2 * further


def judge(
    profile: Profile, tallies: Mapping[str, Tally], settings: Settings
) -> tuple[Reading, ...]:
    """Judge a window, column by column."""
    level = settings.level(tests_of(profile))
    found: list[Reading] = []
    for column in (profile.prediction, profile.confidence):
        if column is not None and column.name in tallies:
            found += judge_column(column, tallies[column.name], level, inputs=False)
    for place, column in enumerate(profile.features):
        found += judge_column(column, tallies[f"feature {place}"], level, inputs=True)
    return tuple(found)


def chosen(readings: Sequence[Reading], features: Sequence[str], shown: int) -> list[Reading]:
    """The readings that become series: predictions, alarms, then the first features.

    They stay the same while nothing is wrong, and there are never more than ``4 * shown + 4``.
    """
    special = (profiles.PREDICTION, profiles.CONFIDENCE)
    worst = sorted((r for r in readings if r.beyond), key=lambda r: -r.excess)
    order = [r.feature for r in worst if r.feature not in special]
    names = list(dict.fromkeys([*order, *features]))[: max(0, shown)]
    return [r for r in readings if r.feature in special or r.feature in names]


# -- counting ---------------------------------------------------------------------------------


class Bins:
    """Counts one column."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self.edges = np.asarray(column.edges, dtype=np.float64)
        self.bins = len(column.counts)
        # A place of its own for each value that has none of the bins: it is known, and not new.
        self.codes = {value: min(at, self.bins - 1) for at, value in enumerate(column.values)}
        self.counts = np.zeros(self.bins, dtype=np.int64)
        self.missing = 0
        self.outside = 0

    def code(self, value: Any) -> float:
        """The number that stands for a value of a category; -1 for a new one."""
        if isinstance(value, float) and math.isnan(value):
            return math.nan
        text = profiles.as_category(value)
        return math.nan if text == "" else float(self.codes.get(text, -1))

    def places(self, values: Any) -> tuple[Any, Any]:
        """The bin of each value that is there, and whether it is new or out of range."""
        if self.column.kind == CATEGORY:
            new = values < 0
            return np.where(new, self.bins - 1, values).astype(np.int64), new
        outside = (values < self.column.minimum) | (values > self.column.maximum)
        return self.edges.searchsorted(values, side="left"), outside

    def add(self, values: Any) -> None:
        """Count numbers, or what ``code`` has made of values."""
        absent = np.isnan(values)
        lost = int(absent.sum())
        if lost:
            self.missing += lost
            values = values[~absent]
        places, outside = self.places(values)
        self.outside += int(outside.sum())
        self.counts += np.bincount(places, minlength=self.bins)

    def take(self) -> Tally:
        """What was counted; counting begins again."""
        found = Tally(tuple(int(count) for count in self.counts), self.missing, self.outside)
        self.counts[:] = 0
        self.missing = self.outside = 0
        return found


class _Source:
    """Takes the columns of one input out of a request."""

    def __init__(self, tensor: str, places: Sequence[tuple[int, Column]]) -> None:
        self.tensor = tensor
        self.at = np.asarray([column.index for _place, column in places])
        self.into = np.asarray([place for place, _column in places])
        self.categories = [
            (place, column.index) for place, column in places if column.kind == CATEGORY
        ]
        self.numbers = all(column.kind == NUMBER for _place, column in places)
        size = int(self.at.max()) + 1
        self.size = size
        self.whole = len(places) == size and bool((self.at == np.arange(size)).all())
        self.first = int(self.into[0])
        self.dense = bool((np.diff(self.into) == 1).all())


class Watch:
    """Looks at one row of each request: a client with large batches weighs no more than others."""

    def __init__(self, profile: Profile, settings: Settings, now: float) -> None:
        self.profile = profile
        self.settings = settings
        self.verdict: Verdict | None = None
        self._lock = threading.Lock()
        self._counters = [Bins(column) for column in profile.features]
        by_tensor: dict[str, list[tuple[int, Column]]] = {}
        for place, column in enumerate(profile.features):
            by_tensor.setdefault(column.tensor, []).append((place, column))
        self._sources = [_Source(name, places) for name, places in by_tensor.items()]
        width = len(self._counters)
        self._answers: list[tuple[int, Column]] = []
        for answer in (profile.prediction, profile.confidence):
            if answer is not None:
                self._answers.append((width + len(self._answers), answer))
                self._counters.append(Bins(answer))
        self._rows = np.full((CHUNK, len(self._counters)), np.nan)
        self._waiting = 0
        self.requests = 0
        self._turn = 0
        self._until = now + settings.window_seconds

    def fits(self, shapes: Mapping[str, Sequence[int]], outputs: Iterable[str]) -> str:
        """Say what the profile speaks of and the model does not have; empty where all is there."""
        there = set(outputs)
        for source in self._sources:
            if source.tensor not in shapes:
                return f"the model has no input {source.tensor}"
        for _place, column in self._answers:
            if column.tensor not in there:
                return f"the model has no output {column.tensor}"
        return ""

    def observe(
        self, feed: Mapping[str, Any], names: Sequence[str], outputs: Sequence[Any], now: float
    ) -> None:
        """Take a row of a request that was answered."""
        with self._lock:
            self._turn += 1
            row = self._rows[self._waiting]
            row[:] = np.nan
            for source in self._sources:
                self._take(source, feed[source.tensor], row)
            for place, column in self._answers:
                for name, values in zip(names, outputs, strict=True):
                    if name == column.tensor:
                        row[place] = self._answer(self._counters[place], values)
            self._waiting += 1
            self.requests += 1
            if self._waiting == CHUNK:
                self._count()
            if self.requests >= self.settings.window_requests and now >= self._until:
                self._close(now)

    def _take(self, source: _Source, values: Any, row: Any) -> None:
        """Copy the columns of one input."""
        if not values.size:
            return
        at = self._turn % len(values) if values.ndim else 0
        line = values[at : at + 1].ravel() if values.ndim else values.ravel()
        if len(line) < source.size:
            return
        if source.numbers:
            if source.whole and source.dense:
                row[source.first : source.first + source.size] = line[: source.size]
            else:
                row[source.into] = line[source.at]
            return
        for place, index in zip(source.into, source.at, strict=True):
            counter = self._counters[place]
            value = line[index]
            row[place] = counter.code(value) if counter.column.kind == CATEGORY else value

    def _answer(self, counter: Bins, values: Any) -> float:
        """What is compared of an output."""
        if not values.size:
            return math.nan
        at = self._turn % len(values) if values.ndim else 0
        flat = values[at : at + 1].ravel() if values.ndim else values.ravel()
        found: Any
        if counter.column.name == profiles.CONFIDENCE:
            return float(flat.max())
        found = flat[0]
        if flat.dtype.kind == "f" and flat.size > 1:
            place = flat.argmax()
            found = math.nan if math.isnan(flat[place]) else place
        return counter.code(found) if counter.column.kind == CATEGORY else float(found)

    def _count(self) -> None:
        """Count the rows that wait, column by column."""
        rows = self._rows[: self._waiting]
        for place, counter in enumerate(self._counters):
            counter.add(rows[:, place])
        self._waiting = 0

    def _close(self, now: float) -> None:
        """End the window."""
        self._count()
        tallies = {}
        for place, counter in enumerate(self._counters):
            name = counter.column.name
            inputs = place < len(self.profile.features)
            tallies[f"feature {place}" if inputs else name] = counter.take()
        readings = judge(self.profile, tallies, self.settings)
        self.verdict = Verdict(self.requests, now, readings)
        self.requests = 0
        self._until = now + self.settings.window_seconds

    def current(self, now: float) -> Verdict | None:
        """The last verdict, unless it speaks of times long gone."""
        verdict = self.verdict
        if verdict is None:
            return None
        most = max(86400.0, STALE_WINDOWS * self.settings.window_seconds)
        return verdict if now - verdict.ended <= most else None


def make(directory: Any, settings: Settings, now: Callable[[], float]) -> Watch | None:
    """A watch for a release with a profile; a ProfileError says why one cannot be used."""
    profile = profiles.read(directory)
    if profile is None or not (profile.features or profile.prediction):
        return None
    return Watch(profile, settings, now())

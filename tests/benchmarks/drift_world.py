# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Streams of requests that change at a known place, and what the model server says of them.

A population is the rows of a real data set. Reference and stream are drawn from it one by one, with
replacement, so that before the change nothing differs but by chance: what is found there is a false
alarm. The profile, the counting and the verdict are the code of the model server.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "roles/model_serving/files"))
drift = importlib.import_module("mlops_serving.drift")
profiles = importlib.import_module("mlops_serving.profile")

WINDOW = 500
MONTH = 720
"""Windows in a month: one each hour."""
SECONDS = 3600 / WINDOW
"""From one request to the next."""
Predict = Callable[[Any], Any]
"""Rows in, probabilities of the classes out."""


@dataclass(frozen=True)
class Population:
    """Rows of a data set, and their classes."""

    name: str
    rows: Any
    labels: Any
    image: int = 0
    """The side of the square image that a row is; 0 if it is none."""


@dataclass(frozen=True)
class World:
    """A reference, the model that was trained on it, and where further rows come from."""

    population: Population
    reference: Any
    labels: Any
    predict: Predict
    profile: Any


def make(population: Population, train: Callable[[Any, Any], Predict], chance: Any) -> World:
    """Draw a reference as large as the population; train; make the profile."""
    chosen = chance.integers(0, len(population.rows), len(population.rows))
    reference, labels = population.rows[chosen], population.labels[chosen]
    predict = train(reference, labels)
    outputs = {"probabilities": predict(reference)}
    profile = profiles.build({"features": reference}, outputs)
    return World(population, reference, labels, predict, profile)


# -- nothing changes --------------------------------------------------------------------------


def columns(world: World, rows: Any) -> list[tuple[str, Any, Any]]:
    """Each column of a profile by its key, its bins, and its values in these rows."""
    found = [
        (f"feature {place}", drift.Bins(column), rows[:, column.index].astype(np.float64))
        for place, column in enumerate(world.profile.features)
    ]
    chances = world.predict(rows)
    for column, values in (
        (world.profile.prediction, chances.argmax(axis=1)),
        (world.profile.confidence, chances.max(axis=1)),
    ):
        if column is None:
            continue
        bins = drift.Bins(column)
        coded = values
        if column.kind == profiles.CATEGORY:
            coded = np.asarray([bins.code(value) for value in values])
        found.append((column.name, bins, coded.astype(np.float64)))
    return found


def quiet_windows(
    world: World, chance: Any, windows: int, size: int = WINDOW
) -> Iterator[dict[str, Any]]:
    """Counts of windows in which nothing has changed; all columns at once, for speed."""
    rows = world.population.rows
    table: list[Any] = []
    parts: list[tuple[str, int]] = []
    for key, bins, values in columns(world, rows):
        places, outside = bins.places(values)
        table.append((np.arange(bins.bins)[:, None] == places).astype(np.float32))
        table.append(outside[None].astype(np.float32))
        parts.append((key, bins.bins))
    matrix = np.concatenate(table)
    for _window in range(windows):
        drawn = np.bincount(chance.integers(0, len(rows), size), minlength=len(rows))
        counts = (matrix @ drawn.astype(np.float32)).round().astype(int).tolist()
        at, tallies = 0, {}
        for key, bins in parts:
            tallies[key] = drift.Tally(tuple(counts[at : at + bins]), 0, counts[at + bins])
            at += bins + 1
        yield tallies


@dataclass(frozen=True)
class Quiet:
    """What was found where nothing was."""

    months: float
    windows: int
    alarms: int
    """Windows with an alarm."""
    readings: int
    """Measures beyond their limits: what is declared counts each."""

    @property
    def per_month(self) -> float:
        """False alarms in thirty days."""
        return self.readings / self.months


def quiet(population: Population, train: Any, declared: float, months: int, seed: int) -> Quiet:
    """Months in which nothing changes, each with a reference of its own."""
    chance = np.random.default_rng(seed)
    settings = drift.Settings(3600.0, WINDOW, declared)
    alarms = readings = 0
    for _month in range(months):
        world = make(population, train, chance)
        for tallies in quiet_windows(world, chance, MONTH):
            beyond = sum(one.beyond for one in drift.judge(world.profile, tallies, settings))
            alarms += bool(beyond)
            readings += beyond
    return Quiet(months, months * MONTH, alarms, readings)


# -- something changes ------------------------------------------------------------------------


def shifted(rows: Any, world: World, chance: Any, by: float) -> Any:
    """One number is larger by so many standard deviations."""
    at = varied(world, chance)
    rows[:, at] += by * world.population.rows[:, at].std()
    return rows


def scaled(rows: Any, world: World, chance: Any) -> Any:
    """One number scatters twice as far around its mean."""
    at = varied(world, chance)
    middle = world.population.rows[:, at].mean()
    rows[:, at] = middle + 2 * (rows[:, at] - middle)
    return rows


def rotated(rows: Any, world: World, chance: Any) -> Any:
    """An image is turned by a quarter; of a table two numbers are mixed, at 45 degrees."""
    side = world.population.image
    if side:
        return np.rot90(rows.reshape(-1, side, side), axes=(1, 2)).reshape(len(rows), -1).copy()
    one, two = chance.choice(rows.shape[1], 2, replace=False)
    everything = world.population.rows
    middle, spread = everything.mean(axis=0), everything.std(axis=0)
    a, b = ((rows[:, at] - middle[at]) / spread[at] for at in (one, two))
    rows[:, one] = middle[one] + spread[one] * (a - b) / math.sqrt(2)
    rows[:, two] = middle[two] + spread[two] * (a + b) / math.sqrt(2)
    return rows


def missing(rows: Any, world: World, chance: Any) -> Any:
    """One number is missing in one of twenty requests."""
    at = varied(world, chance)
    rows[chance.random(len(rows)) < 0.05, at] = np.nan
    return rows


def varied(world: World, chance: Any) -> int:
    """A feature that varies at all."""
    spread = world.population.rows.std(axis=0)
    return int(chance.choice(np.flatnonzero(spread > spread.max() * 1e-6)))


CHANGES: dict[str, Callable[[Any, World, Any], Any]] = {
    "shifted by 0.3 deviations": lambda rows, world, chance: shifted(rows, world, chance, 0.3),
    "shifted by 1 deviation": lambda rows, world, chance: shifted(rows, world, chance, 1.0),
    "scaled by 2": scaled,
    "rotated": rotated,
    "5 % missing": missing,
}
NOVEL = "a class never seen, 20 %"


@dataclass(frozen=True)
class Stream:
    """What comes before a change, and after it."""

    world: World
    before: Any
    after: Any


def changed(population: Population, train: Any, change: str, requests: int, seed: int) -> Stream:
    """A stream that changes at a place that no window knows of."""
    chance = np.random.default_rng(seed)
    known, novel = population, None
    if change == NOVEL:
        rare = int(chance.choice(np.unique(population.labels)))
        keep = population.labels != rare
        known = Population(
            population.name, population.rows[keep], population.labels[keep], population.image
        )
        novel = population.rows[~keep]
    world = make(known, train, chance)
    count = int(chance.integers(0, WINDOW))
    before = known.rows[chance.integers(0, len(known.rows), count)].copy()
    after = known.rows[chance.integers(0, len(known.rows), requests)].copy()
    if novel is not None:
        there = chance.random(requests) < 0.2
        after[there] = novel[chance.integers(0, len(novel), int(there.sum()))]
    else:
        # The same feature for the whole stream.
        kept = np.random.default_rng(seed + 1)
        after = CHANGES[change](after, world, kept)
    return Stream(world, before, after)


def delay(stream: Stream, declared: float) -> int | None:
    """Requests from the change to the verdict that says so, as the server counts them."""
    watch = drift.Watch(stream.world.profile, drift.Settings(3600.0, WINDOW, declared), 0.0)
    rows = np.concatenate([stream.before, stream.after])
    chances = stream.world.predict(np.nan_to_num(rows))
    # A model answers nothing of use where a value is missing.
    chances[np.isnan(rows).any(axis=1)] = np.nan
    for at, row in enumerate(rows):
        now = (at + 1) * SECONDS
        watch.observe({"features": row[None]}, ("probabilities",), [chances[at : at + 1]], now)
        verdict = watch.verdict
        seen = at + 1 - len(stream.before)
        if verdict is not None and verdict.ended == now and verdict.beyond and seen > 0:
            return seen
    return None

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A sample of the benchmark of drift, on rows that are drawn here: what is declared is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.benchmarks import drift_world as world


def train(_rows: Any, _labels: Any) -> world.Predict:
    """A model that looks at the first number."""

    def predict(rows: Any) -> Any:
        sure = 1 / (1 + np.exp(-rows[:, 0].astype(float)))
        return np.stack([1 - sure, sure], axis=1)

    return predict


@pytest.fixture(scope="module")
def population() -> world.Population:
    chance = np.random.default_rng(0)
    rows = chance.normal(size=(800, 4)).astype(np.float32)
    rows[:, 3] = chance.integers(0, 3, 800)
    rows[:, 1] += 3 * (rows[:, 3] == 2)
    return world.Population("drawn", rows, rows[:, 3].astype(int))


def test_a_month_has_no_more_false_alarms_than_declared(population: world.Population) -> None:
    """Three are declared for each of two months: more than 17 come by chance once in 20,000."""
    found = world.quiet(population, train, declared=3.0, months=2, seed=1)
    assert found.windows == 1440
    assert found.readings <= 17


def test_the_fast_way_of_counting_is_that_of_the_server(population: world.Population) -> None:
    known = world.make(population, train, np.random.default_rng(2))
    (fast,) = world.quiet_windows(known, np.random.default_rng(3), 1)
    drawn = population.rows[np.random.default_rng(3).integers(0, len(population.rows), 500)]
    watch = world.drift.Watch(known.profile, world.drift.Settings(3600.0, 500, 1.0), 0.0)
    chances = known.predict(drawn)
    for at in range(500):
        asked = {"features": drawn[at : at + 1]}
        watch.observe(asked, ("probabilities",), [chances[at : at + 1]], (at + 1) * 7.2)
    assert watch.verdict is not None
    assert watch.verdict.readings == world.drift.judge(known.profile, fast, watch.settings)


@pytest.mark.parametrize("change", ["shifted by 1 deviation", "scaled by 2", "5 % missing"])
def test_a_change_is_seen_within_two_windows(population: world.Population, change: str) -> None:
    for seed in (4, 5, 6):
        stream = world.changed(population, train, change, 1500, seed)
        seen = world.delay(stream, 0.01)
        assert seen is not None
        assert seen <= 1000


def test_a_class_that_lies_elsewhere_is_seen(population: world.Population) -> None:
    streams = (world.changed(population, train, world.NOVEL, 2000, seed) for seed in range(9, 40))
    stream = next(each for each in streams if 2 not in each.world.labels)
    assert len(stream.world.reference) < 800
    seen = world.delay(stream, 0.01)
    assert seen is not None
    assert seen <= 1000

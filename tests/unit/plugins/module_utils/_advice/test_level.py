# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Levels are passed as often as they say, for few blocks as for many."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._advice.level import (
    gumbel,
    highest,
    pivot,
    settled,
    share_held,
    tail_pivot,
    trend,
)

ROUNDS, AHEAD = 3000, 14
# Five standard errors above 1 %.
MOST_PASSED = 0.01 + 5 * math.sqrt(0.01 * 0.99 / ROUNDS)


def test_a_gumbel_distribution_is_found_again() -> None:
    maxima = np.random.default_rng(1).gumbel(5.0, 2.0, size=(2000, 20))
    location, scale = gumbel(maxima)
    assert location.mean() == pytest.approx(5.0, abs=0.05)
    assert scale.mean() == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("number", [8, 14, 28])
def test_the_level_of_one_percent_is_passed_by_one_percent(number: int) -> None:
    draw = np.random.default_rng(number)
    maxima = draw.gumbel(size=(ROUNDS, number))
    following = draw.gumbel(size=(ROUNDS, AHEAD)).max(axis=1)
    location, scale = gumbel(maxima)
    passed = (following > location + scale * pivot(number, AHEAD, 0.01)).mean()
    assert 0.004 < passed < MOST_PASSED
    # Taking the estimates for the truth is passed more often: this is what the pivot is for.
    naive = location + scale * (math.log(AHEAD) - math.log(-math.log(0.99)))
    assert (following > naive).mean() > MOST_PASSED


@pytest.mark.parametrize("number", [14, 28])
def test_days_with_a_burst_now_and_then_are_foreseen(number: int) -> None:
    draw = np.random.default_rng(number)
    burst = np.where(
        draw.random((800, number + AHEAD)) < 0.4, draw.exponential(0.3, (800, number + AHEAD)), 0.0
    )
    days = 1 + 0.02 * draw.random(burst.shape) + burst
    levels = np.array([highest(row[:number].tolist(), AHEAD, 0.01) for row in days])
    assert (days[:, number:].max(axis=1) > levels).mean() < 0.03
    assert tail_pivot(number, 4, AHEAD, 0.01) > tail_pivot(number, 4, 1, 0.01)


def test_a_trend_that_is_no_chance_goes_on() -> None:
    rising = np.linspace(10.0, 19.5, 20)
    assert trend(rising) == pytest.approx(0.5)
    assert trend(rising[::-1]) == 0
    assert trend(np.full(20, 3.0)) == 0
    assert highest(rising.tolist(), 10, 0.01) == pytest.approx(rising[-1] + 5)


def test_chance_is_rarely_taken_for_a_trend() -> None:
    draw = np.random.default_rng(3)
    found = [trend(draw.normal(size=20)) for _each in range(1000)]
    assert sum(slope > 0 for slope in found) < 25


def test_the_level_of_today_counts_only() -> None:
    assert settled([1.0, 1.1, 1.0, 2.0, 2.1], 0.15) == 2
    assert settled([1.0, 1.1, 1.0, 1.1, 1.0], 0.15) == 5
    assert settled([2.0, 2.1, 1.0, 1.0], 0.15) == 4
    assert settled([1.0], 0.15) == 1


@pytest.mark.parametrize("share", [0.01, 0.05])
def test_processors_may_be_short_for_the_declared_share(share: float) -> None:
    draw = np.random.default_rng(4)
    broken = 0
    for _each in range(200):
        busy = draw.random(28 + AHEAD) < 0.3
        days = [draw.lognormal(0.5 if high else 0.0, 0.3, size=288) for high in busy.tolist()]
        value = share_held(days[:28], AHEAD, share, 0.01)
        broken += float((np.concatenate(days[28:]) > value).mean()) > share
        assert value < max(day.max() for day in days[:28]) + 1e-9
    assert broken <= 12

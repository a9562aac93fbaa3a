# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A sample of the simulation of rollouts, with fixed seeds; `make bench-rollout` has all of it."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.shapes import (
    FAIL,
    INCONCLUSIVE,
    PASS,
)

from tests.benchmarks import rollout_policy as policy
from tests.benchmarks.rollout_policy import ALPHA, DECIDED

SAMPLE = 200


@cache
def sample(cell: str) -> list[dict[str, Any]]:
    return policy.run(cell, SAMPLE, 1)


def share(rows: list[dict[str, Any]], verdict: str) -> float:
    return [row["verdict"] for row in rows].count(verdict) / len(rows)


@pytest.mark.parametrize("cell", policy.LIMITS)
def test_a_release_at_a_threshold_is_rarely_failed_however_often_it_is_looked_at(cell: str) -> None:
    rows = sample(cell)
    assert len(rows) == SAMPLE
    assert share(rows, FAIL) < ALPHA


@pytest.mark.parametrize("cell", DECIDED)
def test_what_is_far_from_a_threshold_is_decided_right(cell: str) -> None:
    assert share(policy.run(cell, SAMPLE // 10, 1), DECIDED[cell][1]) == 1


def test_a_test_of_a_fixed_sample_that_is_peeked_at_fails_many_good_releases() -> None:
    rows = sample("devices")
    assert sum(row["peeked"] for row in rows) / SAMPLE > 2 * ALPHA


def test_a_defect_of_devices_is_stopped_early_and_a_healthy_fleet_completes() -> None:
    ill = policy.fleet("gates", 0.05, SAMPLE, 1)
    assert ill.completed == 0
    assert ill.early > 1 - ALPHA
    assert policy.fleet("gates", 0.0, 1, 1).completed == 1
    assert policy.fleet("gates, 1 % tolerated", 0.002, 1, 1).completed == 1
    # A percentage of a large group lets the same defect through to every device.
    assert policy.fleet("10 % / 80 %", 0.05, SAMPLE, 1).completed > 0.9


def test_thresholds_in_percent() -> None:
    assert policy.percentage(2, 10, 0.1, 0.8) == FAIL
    assert policy.percentage(1, 10, 0.1, 0.8) == PASS
    assert policy.percentage(1, 10, 0.1, 1.0) == INCONCLUSIVE

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Percentiles, and who stands out."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks.latency import (
    outliers,
    percentile,
)


@pytest.mark.parametrize(
    ("values", "share", "wanted"),
    [([7.0], 0.5, 7), ([1, 2, 3, 4], 0.5, 2), (list(range(1, 101)), 0.95, 95), ([3, 1], 1.0, 3)],
)
def test_a_percentile_is_one_of_the_values(
    values: list[float], share: float, wanted: float
) -> None:
    assert percentile(values, share) == wanted


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_a_device_is_compared_with_its_ring() -> None:
    values = {"a": 10.0, "b": 11.0, "c": 40.0, "d": 100.0, "e": 110.0, "f": 120.0}
    rings = {"a": "early", "b": "early", "c": "early", "d": "fleet", "e": "fleet", "f": "fleet"}
    assert outliers(values, rings) == {"c": (40 / 11, "early")}


def test_a_small_ring_is_compared_with_all() -> None:
    rings = {"a": "canary", "b": "early", "c": "fleet", "d": "fleet"}
    found = outliers({"a": 90.0, "b": 10.0, "c": 10.0, "d": 10.0}, rings)
    assert found == {"a": (9.0, "all devices")}


def test_two_devices_say_nothing_about_each_other() -> None:
    assert outliers({"a": 1.0, "b": 90.0}, {}) == {}


def test_small_differences_are_noise() -> None:
    assert outliers({"a": 1.0, "b": 1.0, "c": 4.0}, {}, floor=10.0) == {}

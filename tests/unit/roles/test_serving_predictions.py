# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Predictions are counted in at most twenty buckets that mean the same on every device."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "roles/model_serving/files"))
predictions = importlib.import_module("mlops_serving.predictions")


def bucket(values: Any, **config: Any) -> str:
    found: str = predictions.Buckets("y", config).of(["y"], [np.asarray(values)])
    return found


@pytest.mark.parametrize(
    ("values", "config", "wanted"),
    [
        ([3, 9], {}, "3"),
        ([[3]], {}, "3"),
        (np.int64(18), {}, "18"),
        ([19], {}, "other"),
        ([-1], {}, "other"),
        ([True, False], {}, "1"),
        ([7], {"classes": [5, 7]}, "1"),
        ([6], {"classes": [5, 7]}, "other"),
        (np.array(["cat", "dog"], object), {"classes": ["dog", "cat"]}, "1"),
        (np.array([b"dog"], object), {"classes": ["dog", "cat"]}, "0"),
        (np.array(["dog"], object), {"classes": list(range(30))}, "other"),
        (np.array([25], object), {"classes": list(range(30))}, "other"),
        ([[0.1, 0.7, 0.2], [1.0, 0.0, 0.0]], {}, "1"),
        ([0.0], {}, "0.05"),
        ([[0.05]], {}, "0.05"),
        ([0.051], {}, "0.1"),
        (0.95, {}, "0.95"),
        ([0.96], {}, "+Inf"),
        ([math.nan], {}, "+Inf"),
        ([-5.0], {}, "0.05"),
        ([12.0], {"prediction_edges": [10, 20.5]}, "20.5"),
        ([21.0], {"prediction_edges": [10, 20.5]}, "+Inf"),
        ([[[0.25, 0.5], [0.25, 0.5]]], {}, "0.4"),
        ([], {}, ""),
    ],
)
def test_the_first_prediction_has_a_bucket(
    values: Any, config: dict[str, Any], wanted: str
) -> None:
    assert bucket(values, **config) == wanted


def test_strings_that_the_release_does_not_list_are_the_same_everywhere() -> None:
    assert bucket(np.array(["dog"], object)) == bucket(np.array([b"dog"], object)) == "13"


def test_only_the_first_output_counts() -> None:
    buckets = predictions.Buckets("y", {})
    label, other = np.array([4]), np.array([9])
    assert buckets.of(["z", "y"], [other, label]) == "4"
    assert buckets.of(["z"], [other]) == ""


@given(
    st.sampled_from([np.float32, np.int64, np.bool_, np.uint8, np.float16, np.int8]).flatmap(
        lambda kind: arrays.arrays(kind, arrays.array_shapes(max_dims=4, max_side=5))
    )
)
def test_there_are_at_most_twenty_buckets(values: Any) -> None:
    known = {*map(str, range(19)), "other"}
    scores = {*(f"{0.05 * step:g}" for step in range(1, 20)), "+Inf"}
    assert len(known) == len(scores) == 20
    assert bucket(values) in known | scores


@given(st.text(max_size=20))
def test_texts_are_bounded_too(text: str) -> None:
    assert bucket(np.array([text], object)) in set(map(str, range(19)))


@pytest.mark.parametrize(
    "edges", [[], [2, 1], [1, 1], ["1"], "1", [math.nan], list(range(20)), [True]]
)
def test_edges_that_cannot_be_meant_are_refused(edges: Any) -> None:
    with pytest.raises(ValueError, match="prediction_edges must be"):
        predictions.edges_of(edges)

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The truth comes late: what is kept until then, and what the quality is."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "roles/model_serving/files"))
truth = importlib.import_module("mlops_serving.truth")


@pytest.mark.parametrize(
    ("values", "classes", "wanted"),
    [
        (np.asarray([[0.1, 0.9]]), ["no", "yes"], "yes"),
        (np.asarray([[0.1, 0.9]]), [], "1"),
        (np.asarray([[2.5], [9.0]]), [], 2.5),
        (np.asarray([3, 4]), [], "3"),
        (np.asarray(["red"], dtype=object), [], "red"),
        (np.asarray([True]), [], "1"),
        (np.zeros((0, 2)), [], None),
    ],
)
def test_the_first_prediction_is_kept(values: Any, classes: list[Any], wanted: Any) -> None:
    assert truth.prediction_of(values, classes) == wanted


def test_the_oldest_predictions_are_forgotten_first() -> None:
    truths = truth.Truths(3)
    for number in range(5):
        truths.remember(f"r{number}", "1")
    truths.remember("r3", "0")
    truths.remember("x" * 129, "1")
    assert truths.learn([(f"r{number}", 1) for number in range(5)]) == (3, 2)
    assert truths.learn([("r4", 1), ("x" * 129, 1)]) == (0, 2)


def test_accuracy_and_f1_are_those_of_the_last_answers() -> None:
    truths = truth.Truths(1000, window=100)
    for number in range(200):
        truths.remember(f"r{number}", "1" if number % 2 else "0")
    assert truths.quality() == {}
    # The first hundred are all wrong and have left the window; of the others one of ten is.
    told = [(f"r{n}", str((n + (n < 100 or n % 10 == 0)) % 2)) for n in range(200)]
    truths.learn(told)
    pairs = [("1" if n % 2 else "0", told[n][1]) for n in range(100, 200)]
    right = sum(a == b for a, b in pairs) / 100
    found = truths.quality()
    assert found["accuracy"] == pytest.approx(right)
    assert found["judged"] == 100
    scores = []
    for label in ("0", "1"):
        hit = sum(a == b == label for a, b in pairs)
        precision = hit / sum(a == label for a, _b in pairs)
        recall = hit / sum(b == label for _a, b in pairs)
        scores.append(2 * precision * recall / (precision + recall))
    assert found["f1_macro"] == pytest.approx(sum(scores) / 2)


def test_the_error_of_numbers() -> None:
    truths = truth.Truths(100)
    for number in range(60):
        truths.remember(f"r{number}", float(number))
    entries = [(f"r{number}", number + 2) for number in range(58)]
    assert truths.learn([*entries, ("r58", "much"), ("r59", math.inf)]) == (58, 2)
    assert truths.quality() == {"rmse": 2.0, "judged": 58.0}


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"truth": {}},
        {"truth": [1]},
        {"truth": [{"id": 1, "value": 1}]},
        {"truth": [{"id": "a"}]},
    ],
)
def test_what_tells_no_truth_is_refused(document: Any) -> None:
    with pytest.raises(truth.TruthError):
        truth.entries_of(document)


def test_a_table_tells_the_truth_by_id() -> None:
    data = b'\xef\xbb\xbfid,when,value\r\nq1,monday,good\r\n\r\n"q,2",tuesday,2.5\r\n'
    assert truth.entries_of_csv(data) == [("q1", "good"), ("q,2", "2.5")]
    truths = truth.Truths(10)
    truths.remember("q1", "bad")
    truths.remember("q,2", 2.0)
    assert truths.learn(truth.entries_of_csv(data)) == (2, 0)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "found nothing"),
        (b"id;value\nq1;1\n", "found id;value"),
        (b"id,value\nq1\n", "Line 2 has 1 of 2 columns"),
        (b"id,value\nq1,0,5\n", "Line 2 has 3 of 2 columns; numbers have a point"),
        (b"id,value\nq1,\n", "Line 2 has no value; leave out rows"),
        (b"id,value\n\xff,1\n", "not CSV in UTF-8"),
        (b'id,value\n"q1,1\n', "not CSV in UTF-8"),
    ],
)
def test_a_table_that_tells_no_truth_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(truth.TruthError, match=said):
        truth.entries_of_csv(data)

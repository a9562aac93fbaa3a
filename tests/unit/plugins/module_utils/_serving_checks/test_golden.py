# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden answers: what is read, what is missing, what differs."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks.errors import CheckError
from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks.golden import (
    compare,
    gap,
    parse_golden,
)

REQUEST = {"inputs": [{"name": "features", "shape": [1, 1], "datatype": "FP32", "data": [0.5]}]}


def golden(*expected: Any, tolerance: Any = 0.01) -> str:
    cases = [{"request": REQUEST, "expected": each} for each in expected]
    return json.dumps({"tolerance": tolerance, "cases": cases})


def answer(**outputs: list[Any]) -> dict[str, Any]:
    return {"outputs": [{"name": name, "data": data} for name, data in outputs.items()]}


def test_the_trainers_answers_are_accepted_within_the_tolerance() -> None:
    cases = parse_golden(golden({"label": [1], "p": [0.1, 0.9]}))
    worst, sentence = compare(cases, [answer(label=[1], p=[0.105, 0.895])])
    assert worst == pytest.approx(0.005)
    assert sentence == ""


def test_other_answers_are_counted_and_the_first_is_named() -> None:
    cases = parse_golden(golden({"p": [0.1]}, {"p": [0.2]}, {"p": [0.3]}))
    worst, sentence = compare(cases, [answer(p=[0.1]), answer(p=[0.7]), answer(p=[0.9])])
    assert worst == pytest.approx(0.6)
    assert sentence == (
        "2 of 3 answers are not the trainer's (request 2 differs by up to 0.6; "
        "at most 0.01 is accepted)"
    )


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"outputs": None},
        {"outputs": [7]},
        answer(q=[0.1]),
        answer(p=[0.1, 0.2]),
        answer(p=["x"]),
        answer(p=[math.nan]),
    ],
)
def test_an_answer_without_the_output_is_infinitely_wrong(found: dict[str, Any]) -> None:
    (case,) = parse_golden(golden({"p": [0.1]})).cases
    assert gap(case, found) == math.inf


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "The golden answers are not JSON"),
        ("[]", "The release has no golden answer to compare with"),
        (golden(), "The release has no golden answer to compare with; set golden_cases"),
        (golden({"p": [1]}, {}), "The golden answer to request 2 of 2 is missing"),
        (golden({"p": []}), "The golden answer to request 1 of 1 is missing"),
        (golden({"p": ["x"]}), "answer to request 1 of 1 is not a list of numbers"),
        (golden({"p": [1]}, tolerance=None), "The tolerance of the golden answers is None"),
        (golden({"p": [1]}, tolerance=-1), "The tolerance of the golden answers is -1"),
        ('{"tolerance": 1, "cases": [{"request": {}}]}', "Golden request 1 of 1 asks nothing."),
    ],
)
def test_what_is_missing_is_said(text: str, sentence: str) -> None:
    with pytest.raises(CheckError) as refusal:
        parse_golden(text)
    assert sentence in str(refusal.value)

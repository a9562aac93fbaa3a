# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests and answers in the forms that people have them in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlops_pipeline import cases
from mlops_pipeline.errors import PipelineError

X = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
N = {"name": "n", "datatype": "INT64", "shape": [-1]}
S = {"name": "s", "datatype": "BYTES", "shape": [-1, 1]}
REQUEST = {"inputs": [{**X, "shape": [1, 2], "data": [[1, 2]]}]}


@pytest.mark.parametrize(
    "value",
    [
        REQUEST,
        [REQUEST],
        {"requests": [REQUEST]},
        {"cases": [{"request": REQUEST}]},
        [{"request": REQUEST}],
    ],
)
def test_requests_are_read_in_every_form(value: Any) -> None:
    found = cases.from_json(value, "f")
    assert found == [{"request": {"inputs": [{**X, "shape": [1, 2], "data": [1, 2]}]}}]


def test_answers_that_are_given_stay() -> None:
    found = cases.from_json([{"request": REQUEST, "expected": {"y": [[3]]}}], "f")
    assert found[0]["expected"] == {"y": [3]}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ([], r"f: there is no case\. Wanted one request"),
        ({"cases": 3}, "f: there is no case"),
        ([3], "f, case 1: wanted a request such as"),
        ([{"request": REQUEST, "expected": []}], "f, case 1: the expected answer is not"),
    ],
)
def test_what_is_no_case_is_said(value: Any, sentence: str) -> None:
    with pytest.raises(PipelineError, match=sentence):
        cases.from_json(value, "f")


def test_rows_of_arrays_become_cases_of_the_types_of_the_model(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "c.npz",
        x=np.arange(6).reshape(3, 2),
        n=np.array([1.0, 2.0, 3.0]),
        s=np.array([["a"], ["b"], ["ü"]]),
    )
    found = cases.read_cases(tmp_path / "c.npz", [X, N, S])
    assert len(found) == 3
    assert found[2]["request"]["inputs"] == [
        {"name": "n", "shape": [1], "datatype": "INT64", "data": [3]},
        {"name": "s", "shape": [1, 1], "datatype": "BYTES", "data": ["ü"]},
        {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [4.0, 5.0]},
    ]


def test_arrays_of_a_model_without_rows_are_one_case() -> None:
    found = cases.from_arrays(
        {"a": np.zeros((4, 2)), "b": np.zeros(3)},
        [{**X, "name": "a", "shape": [4, 2]}, {**N, "name": "b"}],
        "f",
    )
    assert [len(each["request"]["inputs"]) for each in found] == [2]


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"y": np.zeros((1, 2))}, "found arrays named y; the inputs of the model are x"),
        ({"x": np.zeros(2)}, r"x has the shape \[2\]; the input has \[-1, 2\]"),
        ({"x": np.zeros((0, 2))}, "there is no row in it"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays: Any, sentence: str) -> None:
    with pytest.raises(PipelineError, match=sentence):
        cases.from_arrays(arrays, [X], "f")


def test_arrays_that_would_run_code_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(PipelineError, match="does not hold plain arrays"):
        cases.read_cases(tmp_path / "c.npz", [X])
    (tmp_path / "d.npz").write_bytes(b"PK nothing")
    with pytest.raises(PipelineError, match=r"does not hold plain arrays|cannot be read"):
        cases.read_cases(tmp_path / "d.npz", [X])


def test_expected_answers_come_from_another_file(tmp_path: Path) -> None:
    two = [{"request": REQUEST}, {"request": REQUEST}]
    path = tmp_path / "e.json"
    for value in ([{"y": [1]}, {"y": [[2]]}], {"answers": [{"y": [1]}, {"y": [2]}]}):
        path.write_text(json.dumps(value))
        assert [each["expected"] for each in cases.read_expected(path, two)] == [
            {"y": [1]},
            {"y": [2]},
        ]
    np.savez(tmp_path / "e.npz", y=np.array([[1.0], [2.0]]))
    found = cases.read_expected(tmp_path / "e.npz", two)
    assert found[1]["expected"] == {"y": [2.0]}
    path.write_text("[{}]")
    with pytest.raises(PipelineError, match="found 1 answers, wanted 2"):
        cases.read_expected(path, two)
    np.savez(tmp_path / "e.npz", y=np.array([[1.0]]))
    with pytest.raises(PipelineError, match="an answer for each of 2 cases; missing in y"):
        cases.read_expected(tmp_path / "e.npz", two)


def test_answers_that_json_cannot_carry() -> None:
    assert cases.writable({"y": [float("nan"), 1.0]}, 1) == {"y": [None, 1.0]}
    with pytest.raises(PipelineError, match="Case 4: the model answers infinity in y"):
        cases.writable({"y": [float("inf")]}, 4)


@pytest.mark.parametrize(
    ("value", "inputs"),
    [
        ({"inputs": [[1, 2], [3, 4]]}, [X]),
        ({"inputs": {"x": [[1, 2], [3, 4]]}}, [X]),
        ({"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}}, [X]),
        ([[1, 2], [3, 4]], [X]),
    ],
)
def test_input_examples_of_mlflow_are_read(value: Any, inputs: Any) -> None:
    found = cases.from_example(value, inputs, "input_example.json")
    assert [each["request"]["inputs"][0]["data"] for each in found] == [[1.0, 2.0], [3.0, 4.0]]


def test_columns_named_like_inputs_are_inputs() -> None:
    value = {"columns": ["s", "t"], "data": [["a", "b"]]}
    found = cases.from_example(value, [S, {**S, "name": "t"}], "input_example.json")
    assert [each["data"] for each in found[0]["request"]["inputs"]] == [["a"], ["b"]]


@pytest.mark.parametrize("value", [[[1], [2, 3]], 7, "x", {"columns": [1], "data": 3}])
def test_input_examples_of_no_form_ask_for_cases(value: Any) -> None:
    with pytest.raises(PipelineError):
        cases.from_example(value, [X], "input_example.json")
    with pytest.raises(PipelineError, match="one array for a model of 2 inputs"):
        cases.from_example([[1]], [X, N], "input_example.json")

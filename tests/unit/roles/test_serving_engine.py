# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model takes and gives, and how golden answers are compared; without ONNX Runtime."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "roles/model_serving/files"))
engine = importlib.import_module("mlops_serving.engine")

ONNX_OF = {datatype: kind for kind, (datatype, _dtype) in engine.KINDS.items()}


def tensor(datatype: str, *dims: int | str, name: str = "x") -> Any:
    return engine.describe(name, ONNX_OF[datatype], dims)


def mirror(datatype: str, *dims: int | str) -> Any:
    """A model that answers what it is asked."""
    return engine.Engine(
        [tensor(datatype, *dims)],
        [tensor(datatype, *dims, name="y")],
        lambda names, feed: [feed["x"] for _name in names],
    )


def golden(datatype: str, data: list[Any], expected: list[Any]) -> dict[str, Any]:
    asked = {"name": "x", "datatype": datatype, "shape": [len(data)], "data": data}
    return {"cases": [{"request": {"inputs": [asked]}, "expected": {"y": expected}}]}


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("FP16", [1.5, -2]),
        ("FP32", [1.5, 2]),
        ("FP64", [1e300, -1e-300]),
        ("INT8", [-128, 127]),
        ("INT16", [-32768, 32767]),
        ("INT32", [-(2**31), 2**31 - 1]),
        ("INT64", [-(2**63), 2**63 - 1]),
        ("UINT8", [0, 255]),
        ("UINT16", [0, 65535]),
        ("UINT32", [0, 2**32 - 1]),
        ("UINT64", [0, 2**64 - 1]),
        ("BOOL", [True, False]),
        ("BYTES", ["naïve", ""]),
    ],
)
def test_every_type_of_the_protocol_is_taken_and_given_exactly(
    datatype: str, data: list[Any]
) -> None:
    values = engine.array(tensor(datatype, "n"), data, [2])
    assert values.dtype == engine.DTYPES[datatype]
    assert engine.listed(values) == data
    assert engine.array(tensor(datatype, "n"), [[data[0]], [data[1]]], [2, 1]).shape == (2, 1)
    assert engine.check_golden(mirror(datatype, "n"), golden(datatype, data, data), 0.0) == 1


@pytest.mark.parametrize(
    ("datatype", "data", "shape", "sentence"),
    [
        ("INT64", [1.5], [1], "is INT64; the data are not"),
        ("INT8", [128], [1], "a number that it cannot hold"),
        ("UINT8", [-1], [1], "a number that it cannot hold"),
        ("FP32", ["1.5"], [1], "is FP32; the data are not"),
        ("FP32", [True], [1], "is FP32; the data are not"),
        ("BOOL", [1], [1], "is BOOL; the data are not"),
        ("BYTES", [1], [1], "is BYTES, found int, wanted strings"),
        ("BYTES", [b"\xff"], [1], "is not UTF-8"),
        ("FP32", [[1.0], [1.0, 2.0]], [3], "do not fit its shape"),
        ("FP32", [1.0, 2.0], [3], "do not fit its shape"),
        ("FP32", [1.0, 2.0], [-1], "not a list of whole numbers"),
        ("FP32", [1.0, 2.0], [2.0], "not a list of whole numbers"),
        ("FP32", [1.0, 2.0], "2", "not a list of whole numbers"),
        ("FP32", [], [0, 10**30], "do not fit its shape"),
        ("FP32", {"a": 1}, [1], "do not fit its shape"),
        ("INT64", [10**30], [1], "is INT64; the data are not"),
    ],
)
def test_nothing_is_bent_to_fit(datatype: str, data: Any, shape: Any, sentence: str) -> None:
    with pytest.raises(engine.DataError, match=sentence):
        engine.array(tensor(datatype, "n"), data, shape)


def test_null_stands_for_no_number() -> None:
    values = engine.array(tensor("FP32", "n"), [None, 1.0], [2])
    assert np.isnan(values[0])
    assert values[1] == 1.0


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("tensor(bfloat16)", "bfloat16, which clients cannot send"),
        ("seq(tensor(float))", "a sequence, for which the protocol has no type"),
        ("seq(map(int64,tensor(float)))", "zipmap off"),
        ("map(string,tensor(float))", "zipmap off"),
        ("tensor(float8e4m3fn)", "none of the protocol's types"),
    ],
)
def test_what_cannot_be_served_is_refused_with_a_way_out(kind: str, sentence: str) -> None:
    with pytest.raises(engine.EngineError, match=sentence):
        engine.describe("y", kind, ["n"])


def test_a_request_is_held_to_the_shapes_of_the_model() -> None:
    model = engine.Engine(
        [tensor("FP32", "batch", 2, name="a"), tensor("FP32", "batch", name="b")],
        [tensor("FP32", "batch", name="y")],
        lambda names, feed: [feed["b"] for _name in names],
    )
    two, three = np.zeros(2, np.float32), np.zeros(3, np.float32)
    pairs = np.zeros((2, 2), np.float32)
    assert model.run({"a": pairs, "b": two})[0].shape == (2,)
    with pytest.raises(engine.DataError, match="The size batch is 2 in one input and 3 in b"):
        model.run({"a": pairs, "b": three})
    with pytest.raises(engine.DataError, match=r"has the shape \[-1, 2\], the request has \[2\]"):
        model.run({"a": two, "b": two})
    with pytest.raises(engine.DataError, match="lacks the input b"):
        model.run({"a": pairs})
    with pytest.raises(engine.DataError, match="has no input 'c'; it has a, b"):
        model.run({"c": two})
    with pytest.raises(engine.DataError, match="has no output z; it has y"):
        model.run({"a": pairs, "b": two}, ["z"])


@pytest.mark.parametrize(
    ("datatype", "data", "expected", "tolerance", "good"),
    [
        ("FP32", [1.0], [1.00001], 1e-4, True),
        ("FP32", [1.0], [1.1], 1e-4, False),
        # The tolerance is a share of large numbers, which no two machines add up alike.
        ("FP64", [1e6], [1e6 + 5], 1e-5, True),
        ("FP64", [1e6], [1e6 + 50], 1e-5, False),
        ("FP32", [None], [None], 0.0, True),
        ("FP32", [None], [1.0], 1e9, False),
        ("FP64", [1e308], [float("inf")], 1.0, False),
        ("INT64", [3], [3], 0.0, True),
        ("INT64", [3], [4], 100.0, False),
        ("BYTES", ["a"], ["a"], 0.0, True),
        ("BYTES", ["a"], ["b"], 100.0, False),
        ("FP32", [1.0, 2.0], [1.0], 100.0, False),
    ],
)
def test_golden_answers_are_compared_by_type(
    datatype: str, data: list[Any], expected: list[Any], tolerance: float, good: bool
) -> None:
    model, cases = mirror(datatype, "n"), golden(datatype, data, expected)
    if good:
        assert engine.check_golden(model, cases, tolerance) == 1
    else:
        with pytest.raises(engine.EngineError, match="Golden case 1: the answer differs"):
            engine.check_golden(model, cases, tolerance)


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ({}, "hold no case"),
        ({"cases": []}, "hold no case"),
        ({"cases": [{}]}, "Golden case 1 cannot be read"),
        ({"cases": [3]}, "Golden case 1 cannot be read"),
        (golden("FP32", ["x"], [1.0]), "Golden case 1: The tensor x is FP32"),
    ],
)
def test_golden_answers_that_cannot_be_read_are_a_sentence(
    broken: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(engine.EngineError, match=sentence):
        engine.check_golden(mirror("FP32", "n"), broken, 1.0)

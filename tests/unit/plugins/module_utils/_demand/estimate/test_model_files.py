# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights from the heads of model files; whatever the file holds, the answer is a sentence."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._demand.estimate import onnx_tensors
from ansible_collections.mlops.onprem.plugins.module_utils._demand.estimate.model_files import (
    read_weights,
)
from ansible_collections.mlops.onprem.plugins.module_utils._demand.estimate.onnx_tensors import (
    External,
    read_onnx,
)
from ansible_collections.mlops.onprem.plugins.module_utils._demand.estimate.safe_tensors import (
    read_safetensors,
)
from ansible_collections.mlops.onprem.plugins.module_utils._demand.estimate.weights import Weights
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import ShapeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from .model_writers import MemoryFiles, message, number, onnx, safetensors, tensor

RELEASE = Path(__file__).resolve().parents[5] / "fixtures" / "release" / "model.onnx"
F32_2X3 = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
BF16_5 = {"dtype": "BF16", "shape": [5], "data_offsets": [24, 34]}


def from_safetensors(raw: bytes) -> Weights:
    return read_safetensors(io.BytesIO(raw), len(raw))


def from_onnx(raw: bytes) -> tuple[Weights, tuple[External, ...]]:
    return read_onnx(io.BytesIO(raw), len(raw))


def test_a_safetensors_header_gives_parameters_and_bytes_by_type() -> None:
    raw = safetensors({"__metadata__": {"format": "pt"}, "a": F32_2X3, "b": BF16_5}, b"\0" * 34)
    assert from_safetensors(raw) == Weights(2, 11, 34, (("BF16", 10), ("F32", 24)))


def test_a_scalar_has_one_element_and_an_empty_tensor_none() -> None:
    header = {
        "scalar": {"dtype": "F64", "shape": [], "data_offsets": [0, 8]},
        "empty": {"dtype": "I8", "shape": [0, 7], "data_offsets": [8, 8]},
    }
    assert from_safetensors(safetensors(header, b"\0" * 8)).parameters == 1


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"", "is no safetensors file: it is shorter than 8 bytes"),
        (b"\0" * 8, "is no safetensors file: its header is no JSON"),
        (b"PK\x03\x04" * 9, "is no safetensors file: its header claims 289157608118635344 of 36"),
        (struct.pack("<Q", 30) + b"{}", "is no safetensors file: its header claims 30 of 10 bytes"),
        (safetensors([]), "is no safetensors file: its header is no JSON object"),
        (safetensors({"a": 1}), "describes the tensor 'a' by no object"),
        (
            safetensors({"a": {**F32_2X3, "dtype": "F31"}}, b"\0" * 24),
            "gives the tensor 'a' the unknown type 'F31'",
        ),
        (
            safetensors({"a": {**F32_2X3, "shape": [2, -3]}}, b"\0" * 24),
            "gives the tensor 'a' no shape",
        ),
        (
            safetensors({"a": {**F32_2X3, "shape": [2**40, 2**40]}}, b"\0" * 24),
            "gives the tensor 'a' an impossible shape",
        ),
        (
            safetensors({"a": {**F32_2X3, "data_offsets": [0, 20]}}, b"\0" * 20),
            "gives the tensor 'a' 20 bytes, but its shape needs 24",
        ),
        (
            safetensors({"a": {**F32_2X3, "data_offsets": [0]}}, b"\0" * 24),
            "gives the tensor 'a' no place",
        ),
        (
            safetensors({"b": BF16_5}, b"\0" * 34),
            "is damaged: its tensors leave a gap or overlap at byte 0",
        ),
        (
            safetensors({"a": F32_2X3}, b"\0" * 20),
            "is damaged or incomplete: 24 bytes of tensors are described, but 20 are there",
        ),
    ],
)
def test_what_is_no_safe_tensors_is_refused(raw: bytes, sentence: str) -> None:
    with pytest.raises(ShapeError) as caught:
        from_safetensors(raw)
    assert str(caught.value).startswith(sentence)


def test_onnx_initializers_are_counted() -> None:
    raw = onnx(
        message(5, tensor([2, 3], 1, message(9, b"\0" * 24), message(8, b"w"))),
        message(5, tensor([5], 10, message(9, b"\0" * 10))),
        message(5, tensor([3], 22, message(9, b"\0" * 2))),
    )
    assert from_onnx(raw) == (
        Weights(3, 14, 36, (("FLOAT", 24), ("FLOAT16", 10), ("INT4", 2))),
        (),
    )


def test_onnx_shapes_may_be_packed() -> None:
    packed = message(1, b"\x02\x03") + number(2, 1)
    assert from_onnx(onnx(message(5, packed)))[0].parameters == 6


def test_onnx_constants_subgraphs_functions_and_sparse_tensors_are_counted() -> None:
    constant = message(1, message(5, message(5, tensor([4], 1, message(9, b"\0" * 16)))))
    inner_graph = message(5, tensor([2], 11))
    subgraph = message(1, message(5, message(6, inner_graph)))
    sparse = message(15, message(1, tensor([3], 1)), message(2, tensor([3], 7)))
    function = message(25, message(7, message(5, message(5, tensor([7], 3)))))
    weights, _external = from_onnx(onnx(constant, subgraph, sparse) + function)
    assert weights == Weights(
        5,
        4 + 2 + 3 + 3 + 7,
        16 + 16 + 12 + 24 + 7,
        (("DOUBLE", 16), ("FLOAT", 28), ("INT64", 24), ("INT8", 7)),
    )


def test_coefficients_of_a_classical_model_are_counted() -> None:
    raw = RELEASE.read_bytes()
    weights, external = from_onnx(raw)
    # A linear classifier for 2 classes of 4 features: coefficients, intercepts and labels.
    assert dict(weights.by_type)["FLOAT"] >= 4 * 2 * 4
    assert weights.size < len(raw)
    assert external == ()


def _external(location: str, *more: tuple[str, str]) -> bytes:
    rows = [("location", location), *more]
    return b"".join(
        message(13, message(1, key.encode()), message(2, value.encode())) for key, value in rows
    ) + number(14, 1)


def test_onnx_data_beside_the_model_are_counted_and_must_be_there() -> None:
    raw = onnx(message(5, tensor([4, 4], 1, _external("weights.bin", ("offset", "4096")))))
    assert from_onnx(raw)[1] == (External("weights.bin", 4096 + 64),)
    files = MemoryFiles({"m/model.onnx": raw, "m/weights.bin": b"\0" * 4160})
    assert read_weights(["m/model.onnx"], files).size == 64
    files.content["m/weights.bin"] = b"\0" * 4159
    with pytest.raises(
        ShapeError,
        match=r"^m/model.onnx keeps weights in 'weights.bin' up to byte 4160, but it has 4159",
    ):
        read_weights(["m/model.onnx"], files)
    del files.content["m/weights.bin"]
    with pytest.raises(ShapeError, match=r"keeps weights in 'weights.bin', which is not there$"):
        read_weights(["m/model.onnx"], files)


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"", "is no ONNX file: it has no graph"),
        (b"\0", "is no ONNX file: byte 0 begins no field"),
        (b"\xff" * 11, "is no ONNX file: the number at byte 0 has no end"),
        (b"\x0b", "is no ONNX file: byte 0 has the unknown wire type 3"),
        (b"\x3a\x7f", "is no ONNX file, or ends too early: see byte 0"),
        (number(1, 8), "is no ONNX file: it has no graph"),
        (onnx(message(5, tensor([1], 99))), "gives the tensor '' the unknown type 99"),
        (
            onnx(message(5, tensor([2, 3], 1, message(9, b"\0" * 23), message(8, b"w")))),
            "gives the tensor 'w' 23 bytes, but its shape needs 24",
        ),
        (onnx(message(5, tensor([2**40] * 3, 1))), "gives the tensor '' an impossible shape"),
        (onnx(message(5, tensor([2**63], 1))), "gives the tensor '' no shape"),
        (
            onnx(message(5, tensor([1], 1, _external("../../etc/passwd")))),
            "keeps the tensor '' in '../../etc/passwd', which is not beside it",
        ),
        (
            onnx(message(5, tensor([1], 1, _external("/etc/passwd")))),
            "keeps the tensor '' in '/etc/passwd', which is not beside it",
        ),
        (
            onnx(message(5, tensor([1], 1, _external("w", ("offset", "-4"))))),
            "gives the tensor '' the offset '-4'",
        ),
        (
            onnx(message(5, tensor([1], 1, _external("w", ("length", "5"))))),
            "gives the tensor '' 5 bytes, but its shape needs 4",
        ),
    ],
)
def test_what_is_no_onnx_tensors_is_refused(raw: bytes, sentence: str) -> None:
    with pytest.raises(ShapeError) as caught:
        from_onnx(raw)
    assert str(caught.value) == sentence


def test_graphs_in_graphs_without_end_are_refused() -> None:
    graph = message(5, tensor([1], 1))
    for _level in range(onnx_tensors.MOST_DEPTH + 1):
        graph = message(1, message(5, message(6, graph)))
    with pytest.raises(ShapeError, match="nested more than 32 deep"):
        from_onnx(onnx(graph))


def test_a_file_of_endless_parts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_tensors, "MOST_PARTS", 10)
    with pytest.raises(ShapeError, match="more than 10 parts, too many to read"):
        from_onnx(number(1, 8) * 11)


def test_a_directory_stands_for_the_model_files_in_it() -> None:
    one = safetensors({"a": F32_2X3}, b"\0" * 24)
    files = MemoryFiles({"m/1.safetensors": one, "m/2.safetensors": one, "m/config.json": b"{}"})
    assert read_weights(["m"], files).parameters == 12


@pytest.mark.parametrize(
    ("content", "path", "sentence"),
    [
        ({}, "m.onnx", "m.onnx cannot be read: No such file or directory"),
        ({"m/a.bin": b""}, "m", "m is a directory with no .safetensors or .onnx file"),
        ({"m.pkl": b"cos\nsystem"}, "m.pkl", "m.pkl is neither a .safetensors nor an .onnx file"),
        ({"m.safetensors": safetensors({})}, "m.safetensors", "names files that hold no weights"),
    ],
)
def test_files_that_give_no_weights_are_refused(
    content: dict[str, bytes], path: str, sentence: str
) -> None:
    with pytest.raises(ShapeError) as caught:
        read_weights([path], MemoryFiles(content))
    assert str(caught.value) == sentence


def answered(read: Callable[[bytes], Weights], raw: bytes) -> bool:
    """Whether the answer is sensible, or else a sentence. Anything else than these is raised."""
    try:
        found = read(raw)
    except ShapeError as error:
        return len(str(error)) > 10
    return found.size >= 0 and found.parameters >= 0 and found.tensors >= 0


def from_onnx_alone(raw: bytes) -> Weights:
    return from_onnx(raw)[0]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
HEADER = st.dictionaries(
    st.text(max_size=5),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "BF16", "F4", "X"]) | JSON,
            "shape": st.lists(st.integers(-1, 2**62), max_size=4) | JSON,
            "data_offsets": st.lists(st.integers(-1, 2**62), max_size=3) | JSON,
        }
    )
    | JSON,
    max_size=4,
)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
@example(struct.pack("<Q", 2) + b"{}")
def test_any_bytes_give_a_sentence_or_an_answer(raw: bytes) -> None:
    assert answered(from_safetensors, raw)
    assert answered(from_onnx_alone, raw)


@settings(max_examples=200, deadline=None)
@given(HEADER | JSON, st.binary(max_size=40))
def test_any_header_gives_a_sentence_or_an_answer(header: Any, data: bytes) -> None:
    assert answered(from_safetensors, safetensors(header, data))


WHOLE = onnx(
    message(1, message(5, message(5, tensor([4], 1, message(9, b"\0" * 16))))),
    message(5, tensor([2, 3], 1, message(9, b"\0" * 24), message(8, b"w"))),
    message(5, tensor([4, 4], 1, _external("weights.bin", ("offset", "4096")))),
)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=4
    ),
    st.integers(0, len(WHOLE)),
)
def test_a_damaged_model_gives_a_sentence_or_an_answer(
    damage: list[tuple[int, int]], length: int
) -> None:
    raw = bytearray(WHOLE)
    for place, value in damage:
        raw[place] = value
    assert answered(from_onnx_alone, bytes(raw))
    assert answered(from_onnx_alone, bytes(raw[:length]))

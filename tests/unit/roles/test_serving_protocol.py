# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a request asks, in JSON, binary and compressed form, and how its answer is written."""

from __future__ import annotations

import gzip
import importlib
import json
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "roles/model_serving/files"))
engine = importlib.import_module("mlops_serving.engine")
protocol = importlib.import_module("mlops_serving.protocol")

MODEL = engine.Engine(
    [
        engine.describe("x", "tensor(float)", ["n"]),
        engine.describe("s", "tensor(string)", ["n"]),
        engine.describe("b", "tensor(bool)", ["n"]),
    ],
    [
        engine.describe("y", "tensor(float)", ["n"]),
        engine.describe("t", "tensor(string)", ["n"]),
        engine.describe("c", "tensor(bool)", ["n"]),
    ],
    lambda names, feed: [feed[{"y": "x", "t": "s", "c": "b"}[name]] for name in names],
)


def tensor(name: str, datatype: str, data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(data)], "data": data}


PLAIN = [
    tensor("x", "FP32", [1.5, 2.5]),
    tensor("s", "BYTES", ["ü", ""]),
    tensor("b", "BOOL", [True, False]),
]


def binary_request() -> tuple[dict[str, Any], bytes]:
    parts = {
        "x": np.array([1.5, 2.5], "<f4").tobytes(),
        "s": struct.pack("<I", 2) + "ü".encode() + struct.pack("<I", 0),
        "b": b"\x02\x00",
    }
    inputs = [
        {
            "name": entry["name"],
            "datatype": entry["datatype"],
            "shape": entry["shape"],
            "parameters": {"binary_data_size": len(parts[entry["name"]])},
        }
        for entry in PLAIN
    ]
    return {"inputs": inputs, "parameters": {"binary_data_output": True}}, b"".join(parts.values())


def answer(document: Any, binary: bytes = b"") -> tuple[Any, list[dict[str, Any]], list[bytes]]:
    ask = protocol.decode(MODEL, document, memoryview(binary))
    outputs, blobs = protocol.encode(MODEL, ask, MODEL.run(ask.feed, ask.names))
    return ask, outputs, blobs


def test_json_is_answered_in_json() -> None:
    ask, outputs, blobs = answer({"id": "7", "inputs": PLAIN})
    assert (ask.identifier, blobs) == ("7", [])
    found = {output["name"]: list(output["data"]) for output in outputs}
    assert found == {"y": [1.5, 2.5], "t": ["ü", ""], "c": [True, False]}


def test_binary_is_answered_in_binary() -> None:
    document, binary = binary_request()
    _ask, outputs, blobs = answer(document, binary)
    assert blobs[0] == np.array([1.5, 2.5], "<f4").tobytes()
    assert blobs[1] == struct.pack("<I", 2) + "ü".encode() + struct.pack("<I", 0)
    assert blobs[2] == b"\x01\x00"  # any byte but 0 is true
    assert [output["parameters"] for output in outputs] == [
        {"binary_data_size": len(blob)} for blob in blobs
    ]
    assert not any("data" in output for output in outputs)


def test_each_output_may_be_asked_in_its_own_form() -> None:
    wanted = [{"name": "c"}, {"name": "y", "parameters": {"binary_data": True}}]
    ask, outputs, blobs = answer({"inputs": PLAIN, "outputs": wanted})
    assert ask.names == ("c", "y")
    assert [("data" in output) for output in outputs] == [True, False]
    assert len(blobs) == 1


def changed(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{**PLAIN[0], **changes}, *PLAIN[1:]]}


@pytest.mark.parametrize(
    ("document", "binary", "sentence"),
    [
        ([], b"", "The request is not an object"),
        ({}, b"", "inputs or outputs are not a list"),
        ({"inputs": {}}, b"", "inputs or outputs are not a list"),
        ({"inputs": PLAIN, "outputs": "y"}, b"", "inputs or outputs are not a list"),
        ({"inputs": [3]}, b"", "An input is not an object"),
        ({"inputs": [{}]}, b"", "An input has no name"),
        ({"inputs": PLAIN, "id": 3}, b"", "id of the request is not a string"),
        ({"inputs": PLAIN, "outputs": [{}]}, b"", "An output has no name"),
        ({"inputs": [*PLAIN, PLAIN[0]]}, b"", "stands in the request twice"),
        ({"inputs": PLAIN[:1]}, b"", "lacks the input b, s"),
        (changed(name="z"), b"", "has no input 'z'"),
        (changed(datatype="FP64"), b"", "is FP32, the request says FP64"),
        (changed(datatype=3), b"", "is FP32, the request says 3"),
        (changed(shape=[3]), b"", "do not fit its shape"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}]}, b"", "has no data"),
        (changed(parameters=[]), b"", "parameters of input x is not an object"),
        (changed(parameters={"binary_data_size": 9}), b"12345678", "binary_data_size of 9"),
        (changed(parameters={"binary_data_size": -1}), b"", "binary_data_size of -1"),
        (changed(parameters={"binary_data_size": True}), b"1", "binary_data_size of True"),
        (changed(parameters={"binary_data_size": 7}), b"1234567", "no multiple of 4"),
        (changed(parameters={"shared_memory_region": "a"}), b"", "does not read shared memory"),
        ({"inputs": PLAIN}, b"1", "1 bytes behind the JSON belong to no input"),
        (
            {"inputs": PLAIN, "outputs": [{"name": "y", "parameters": {"classification": 2}}]},
            b"",
            "does not do classification",
        ),
        ({"inputs": PLAIN, "outputs": [{"name": "q"}]}, b"", "has no output q; it has y, t, c"),
    ],
)
def test_what_does_not_fit_is_a_sentence(document: Any, binary: bytes, sentence: str) -> None:
    with pytest.raises(engine.DataError, match=sentence):
        answer(document, binary)


@pytest.mark.parametrize("data", [b"\1\0\0", b"\5\0\0\0ab", b"\1\0\0\0a\2"])
def test_binary_strings_that_end_early_are_refused(data: bytes) -> None:
    entry = {**PLAIN[1], "shape": [1], "parameters": {"binary_data_size": len(data)}}
    with pytest.raises(engine.DataError, match="end within a"):
        protocol.decode(MODEL, {"inputs": [entry]}, memoryview(data))


@pytest.mark.parametrize(
    ("header", "status"), [("x", 400), ("-1", 400), ("999", 400), ("²", 400), ("", 400)]
)
def test_a_wrong_length_of_the_json_is_the_clients_mistake(header: str, status: int) -> None:
    with pytest.raises(protocol.ProtocolError) as refusal:
        protocol.split(b"{}", header)
    assert refusal.value.status == status


def test_json_and_binary_are_separated() -> None:
    head, rest = protocol.split(b"{}abc", "2")
    assert (bytes(head), bytes(rest)) == (b"{}", b"abc")
    head, rest = protocol.split(b"{}abc", None)
    assert (bytes(head), bytes(rest)) == (b"{}abc", b"")


def bare(data: bytes) -> bytes:
    machine = zlib.compressobj(wbits=-15)
    return machine.compress(data) + machine.flush()


@pytest.mark.parametrize(
    ("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", bare)]
)
def test_compressed_bodies_are_read_and_bounded(name: str, pack: Any) -> None:
    text = json.dumps({"inputs": PLAIN}).encode()
    assert protocol.inflate(pack(text), name, len(text)) == text
    with pytest.raises(protocol.ProtocolError) as refusal:
        protocol.inflate(pack(b"0" * 10_000_000), name, 1_000_000)
    assert refusal.value.status == 413
    for broken in (pack(text)[:-5], b"nothing of the kind"):
        with pytest.raises(protocol.ProtocolError) as refusal:
            protocol.inflate(broken, name, 1000)
        assert refusal.value.status == 400


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (None, ""),
        ("", ""),
        ("identity", ""),
        ("gzip, deflate, br", "gzip"),
        ("deflate", "deflate"),
        ("gzip;q=0, deflate;q=0.5", "deflate"),
        ("br", ""),
    ],
)
def test_answers_are_compressed_as_the_client_accepts(header: str | None, found: str) -> None:
    assert protocol.accepted(header) == found
    if found:
        assert protocol.inflate(protocol.deflate(b"abc" * 99, found), found, 1000) == b"abc" * 99


def test_an_unknown_compression_is_refused_with_those_that_work() -> None:
    with pytest.raises(protocol.ProtocolError) as refusal:
        protocol.encoding("br")
    assert refusal.value.status == 415
    assert refusal.value.headers == {"accept-encoding": "gzip, deflate"}


@pytest.mark.parametrize(
    ("value", "found"), [(None, None), ("0", 0), ("8", 8), ("9", 413), ("-1", 400), ("x", 400)]
)
def test_the_length_is_judged_before_the_body_is_read(value: str | None, found: int | None) -> None:
    if found in (400, 413):
        with pytest.raises(protocol.ProtocolError) as refusal:
            protocol.content_length(value, 8)
        assert refusal.value.status == found
    else:
        assert protocol.content_length(value, 8) == found


# MiB that a body of 8 MiB takes at most, as measured on one machine with the answer in JSON.
MEASURED = {
    b"0.1,": 128,
    b"1,": 112,
    b"[],": 286,
    b"{},": 251,
    b'{"":1},': 301,
    b"[1],": 256,
    b'"",': 101,
    b'"00",': 144,
    b"[5.1,3.5,1.4,0.2],": 155,
}


@pytest.mark.parametrize("unit", MEASURED)
def test_the_estimate_is_above_what_was_measured(unit: bytes) -> None:
    body = unit * (8 * 2**20 // len(unit))
    assert protocol.cost(body, len(body), strings=False) >= MEASURED[unit] * 2**20
    assert protocol.worst_cost(len(body)) >= MEASURED[unit] * 2**20


def test_binary_data_are_cheaper_than_json() -> None:
    body = b"{}" + bytes(2**20)
    assert protocol.cost(body, 2, strings=False) < 8 * 2**20
    assert protocol.cost(body, 2, strings=True) > 14 * 2**20

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put releases into a registry that a rollout has to tell from good ones, each with its version.

    python -m tests.rollout_releases --url https://10.208.0.10:5443 --ca-file ca.crt \
        --key sign.key --user push --password-file password --repository models

prints the digests by name as JSON. The models are the sample with something put before it, written
byte by byte: what makes it slow or large is computed from the request, so that no optimiser can
take it away.
"""

from __future__ import annotations

import json
import struct

from tests.onnx_bytes import field
from tests.releases import (
    FIXTURE,
    MODEL,
    Publisher,
    Signer,
    golden_changed,
    publish_by_command,
    wrong_label,
)

INPUT, RENAMED = b"features", b"featurez"
FLOAT, INT64 = 1, 7
TINY = 1e-30
# The version of each, which is how a rollout names it.
VERSIONS = {
    "good": "1",
    "better": "2",
    "worse": "3",
    "slow": "4",
    "large": "5",
    "broken": "6",
    "shifted": "7",
    "stranger": "8",
    "tampered": "9",
    "unloadable": "14",
    "wrong": "15",
    "third": "10",
    "fourth": "11",
    "fifth": "12",
    "seventh": "16",
    "sixth": "13",
}
TAMPERED = b'{"input": "features", "model_name": "iris", "tolerance": 0.0002}'


def node(kind: str, inputs: list[str], output: str, *attributes: bytes) -> bytes:
    """A node of a graph."""
    parts = b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, kind)
    return field(1, parts + b"".join(field(5, one) for one in attributes))


def tensor(name: str, kind: int, data: bytes, *dims: int) -> bytes:
    """A tensor with its raw data."""
    parts = b"".join(field(1, size) for size in dims)
    return parts + field(2, kind) + (field(8, name) if name else b"") + field(9, data)


def keep_no_dimensions() -> bytes:
    return field(1, "keepdims") + field(3, 0) + field(20, 2)


def before_the_model(model: bytes, shape: list[int], products: int) -> bytes:
    """The model behind a detour: a tensor of this shape, times the request, multiplied on."""
    filled = (
        field(1, "value") + field(5, tensor("", FLOAT, struct.pack("<f", 1e-4), 1)) + field(20, 4)
    )
    nodes = [
        node("ReduceMean", ["features"], "detour_mean", keep_no_dimensions()),
        node("ConstantOfShape", ["detour_shape"], "detour_filled", filled),
        node("Mul", ["detour_filled", "detour_mean"], "detour_0"),
    ]
    for number in range(products):
        nodes.append(node("MatMul", [f"detour_{number}", "detour_0"], f"detour_{number + 1}"))
    nodes += [
        node("ReduceMean", [f"detour_{products}"], "detour_end", keep_no_dimensions()),
        node("Mul", ["detour_end", "detour_tiny"], "detour_nothing"),
        node("Add", ["features", "detour_nothing"], RENAMED.decode()),
    ]
    held = [
        tensor("detour_shape", INT64, struct.pack(f"<{len(shape)}q", *shape), len(shape)),
        tensor("detour_tiny", FLOAT, struct.pack("<f", TINY)),
    ]
    return with_graph(model, b"".join(nodes), b"".join(field(5, one) for one in held))


def with_graph(model: bytes, nodes: bytes, rest: bytes) -> bytes:
    """The model with nodes before its own, whose first one reads what they make."""
    at, size, end = graph_of(model)
    graph = model[at:end]
    reads = field(1, INPUT)
    first = graph.index(reads)
    graph = graph[:first] + field(1, RENAMED) + graph[first + len(reads) :]
    start = at - size
    return model[:start] + field(7, nodes + graph + rest) + model[end:]


def graph_of(model: bytes) -> tuple[int, int, int]:
    """Where the graph of a model begins, how long what says so is, and where it ends."""
    place = 0
    while place < len(model):
        tag, after = read_varint(model, place)
        if tag & 7 == 0:
            _value, place_after = read_varint(model, after)
            place = place_after
            continue
        length, begin = read_varint(model, after)
        if tag >> 3 == 7:
            return begin, begin - place, begin + length
        place = begin + length
    raise ValueError("the model has no graph")


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 0x80:
            return value, at


def shifted(model: bytes) -> bytes:
    """The model with so large an intercept that everything is of the first class."""
    at = model.index(b"intercepts") + len(b"intercepts")
    return model[: at + 1] + struct.pack("<f", 1000.0) + model[at + 5 :]


def always_first(value: dict[str, object]) -> None:
    """The golden answers of that model."""
    cases = value["cases"]
    assert isinstance(cases, list)
    for case in cases:
        case["expected"] = {"label": [0], "probabilities": [1.0, 0.0, 0.0]}


def publish_all(publisher: Publisher, stranger: Signer) -> dict[str, str]:
    """Publish all of them; return their digests by name."""
    model = (FIXTURE / "model.onnx").read_bytes()
    changed: dict[str, dict[str, bytes]] = {
        "worse": {"golden.json": golden_changed(wrong_label)},
        "slow": {"model.onnx": before_the_model(model, [640, 640], 4)},
        "large": {"model.onnx": before_the_model(model, [20_000_000], 0)},
        "broken": {"model.onnx": b"this is no model"},
        "unloadable": {"model.onnx": b"this is no model either"},
        "wrong": {"golden.json": golden_changed(wrong_label)},
        "shifted": {"model.onnx": shifted(model), "golden.json": golden_changed(always_first)},
        "tampered": {"config.json": TAMPERED},
    }
    found = {}
    for name, version in VERSIONS.items():
        sign = stranger if name == "stranger" else None
        found[name] = publisher.publish(version, changed.get(name), sign=sign, tag=True)
    return found


def main() -> None:
    """Publish; print the digests."""
    digests = publish_by_command(__doc__, publish_all)
    print(json.dumps({"model": MODEL, "digests": digests}, sort_keys=True))


if __name__ == "__main__":
    main()

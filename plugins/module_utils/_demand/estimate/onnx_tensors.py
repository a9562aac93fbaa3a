# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The weights in an ONNX file, read without ONNX's library.

The messages are those of ``onnx/onnx.proto`` of https://github.com/onnx/onnx, in the encoding of
Protocol Buffers (https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import BinaryIO, NamedTuple

from ..._findings.shape import ShapeError, shown
from .weights import MOST_DIMENSIONS, Weights, elements_of

# A large network has some ten thousand parts; a forest of trees has one for every number.
MOST_PARTS = 20_000_000
MOST_DEPTH = 32
# TensorProto.DataType: number, name, bits of one element. Texts have no fixed size.
ONNX_TYPES = {
    1: ("FLOAT", 32),
    2: ("UINT8", 8),
    3: ("INT8", 8),
    4: ("UINT16", 16),
    5: ("INT16", 16),
    6: ("INT32", 32),
    7: ("INT64", 64),
    8: ("STRING", 0),
    9: ("BOOL", 8),
    10: ("FLOAT16", 16),
    11: ("DOUBLE", 64),
    12: ("UINT32", 32),
    13: ("UINT64", 64),
    14: ("COMPLEX64", 64),
    15: ("COMPLEX128", 128),
    16: ("BFLOAT16", 16),
    17: ("FLOAT8E4M3FN", 8),
    18: ("FLOAT8E4M3FNUZ", 8),
    19: ("FLOAT8E5M2", 8),
    20: ("FLOAT8E5M2FNUZ", 8),
    21: ("UINT4", 4),
    22: ("INT4", 4),
    23: ("FLOAT4E2M1", 4),
    24: ("FLOAT8E8M0", 8),
    25: ("UINT2", 2),
    26: ("INT2", 2),
}
VARINT, EIGHT, BYTES, FOUR = 0, 1, 2, 5
# Read at once: headers of fields lie close together, data between them are skipped.
WINDOW = 4096


@dataclass
class _Tensor:
    """What the fields of a tensor say: ``raw`` is the length of its data, where they are inside."""

    name: str = ""
    kind: int = 0
    shape: list[int] = field(default_factory=list)
    texts: int = 0
    raw: int | None = None
    outside: bool = False
    said: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class External:
    """Data of a tensor in another file: its name, and the byte at which the data end."""

    location: str
    end: int


class _Part(NamedTuple):
    """One field of a message: number, wire type, value of a number, or place of its bytes."""

    number: int
    wire: int
    value: int
    start: int
    end: int


class _Reader:
    """Fields of Protocol Buffers messages in a file; counts them, so that no file takes forever."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.parts = 0
        self.window = b""
        self.window_start = 0

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """The number at a byte, and the byte after it. Ten bytes hold 64 bits."""
        index = at - self.window_start
        if index < 0 or index + 10 > len(self.window):
            self.stream.seek(at)
            self.window, self.window_start, index = self.stream.read(WINDOW), at, 0
        if at < end and index < len(self.window) and self.window[index] < 0x80:
            return self.window[index], at + 1  # most numbers have one byte
        value = shift = 0
        for byte in self.window[index : index + min(10, end - at)]:
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value & (2**64 - 1), at + shift // 7
        raise ShapeError(f"is no ONNX file: the number at byte {at} has no end")

    def fields(self, start: int, end: int) -> Iterator[_Part]:
        """The fields of the message between two bytes."""
        at = start
        while at < end:
            self.parts += 1
            if self.parts > MOST_PARTS:
                raise ShapeError(f"has more than {MOST_PARTS} parts, too many to read")
            key, after = self.varint(at, end)
            number, wire = key >> 3, key & 7
            if number == 0:
                raise ShapeError(f"is no ONNX file: byte {at} begins no field")
            if wire == VARINT:
                value, at = self.varint(after, end)
                yield _Part(number, wire, value, after, at)
                continue
            if wire == BYTES:
                length, after = self.varint(after, end)
            elif wire in (EIGHT, FOUR):
                length = 8 if wire == EIGHT else 4
            else:
                raise ShapeError(f"is no ONNX file: byte {at} has the unknown wire type {wire}")
            if length > end - after:
                raise ShapeError(f"is no ONNX file, or ends too early: see byte {at}")
            at = after + length
            yield _Part(number, wire, 0, after, at)

    def text(self, part: _Part, limit: int = 4096) -> str:
        """The bytes of a field as text, for names and paths."""
        self.stream.seek(part.start)
        return self.stream.read(min(limit, part.end - part.start)).decode("utf-8", "replace")

    def numbers(self, part: _Part) -> Iterator[int]:
        """A repeated number, packed or not."""
        if part.wire == VARINT:
            yield part.value
            return
        at = part.start
        while part.wire == BYTES and at < part.end:
            value, at = self.varint(at, part.end)
            yield value


def read_onnx(stream: BinaryIO, size: int) -> tuple[Weights, tuple[External, ...]]:
    """The weights of an ONNX model, and what of them other files hold.

    Counted are initializers, tensors in attributes of operators (constants, and the coefficients
    of classical models, which are lists of numbers), in subgraphs and in functions.
    """
    reader = _Reader(stream)
    walk = _Walk(reader)
    graphs = 0
    for part in reader.fields(0, size):
        if part.wire != BYTES:
            continue
        if part.number == 7:  # ModelProto.graph
            graphs += 1
            walk.graph(part, 0)
        elif part.number == 25:  # ModelProto.functions
            for inner in reader.fields(part.start, part.end):
                if inner.number == 7 and inner.wire == BYTES:  # FunctionProto.node
                    walk.node(inner, 0)
    if not graphs:
        raise ShapeError("is no ONNX file: it has no graph")
    return walk.found(), tuple(walk.external)


class _Walk:
    """Sums up the tensors of graphs."""

    def __init__(self, reader: _Reader) -> None:
        self.reader = reader
        self.external: list[External] = []
        self.tensors = 0
        self.parameters = 0
        self.sizes: dict[str, int] = {}

    def found(self) -> Weights:
        """All so far."""
        types = tuple(sorted(self.sizes.items()))
        return Weights(self.tensors, self.parameters, sum(self.sizes.values()), types)

    def add(self, kind: str, elements: int, size: int) -> None:
        """One tensor more."""
        self.tensors += 1
        self.parameters += elements
        self.sizes[kind] = self.sizes.get(kind, 0) + size

    def graph(self, graph: _Part, depth: int) -> None:
        """GraphProto: node = 1, initializer = 5, sparse_initializer = 15."""
        if depth > MOST_DEPTH:
            raise ShapeError(f"is no ONNX file: its graphs are nested more than {MOST_DEPTH} deep")
        for part in self.reader.fields(graph.start, graph.end):
            if part.wire != BYTES:
                continue
            if part.number == 1:
                self.node(part, depth)
            elif part.number == 5:
                self.tensor(part)
            elif part.number == 15:
                self.sparse(part)

    def node(self, node: _Part, depth: int) -> None:
        """NodeProto: attribute = 5."""
        for part in self.reader.fields(node.start, node.end):
            if part.number == 5 and part.wire == BYTES:
                self.attribute(part, depth)

    def attribute(self, attribute: _Part, depth: int) -> None:
        """AttributeProto: t = 5, g = 6, floats = 7, ints = 8, tensors = 10, graphs = 11.

        Sparse tensors are 22 and 23.
        """
        lists = {7: ("FLOAT", 32), 8: ("INT64", 64)}
        counts = dict.fromkeys(lists, 0)
        for part in self.reader.fields(attribute.start, attribute.end):
            if part.number in lists:
                if part.number == 7:
                    counts[7] += (part.end - part.start) // 4
                else:
                    counts[8] += sum(1 for _number in self.reader.numbers(part))
            elif part.wire != BYTES:
                continue
            elif part.number in (5, 10):
                self.tensor(part)
            elif part.number in (6, 11):
                self.graph(part, depth + 1)
            elif part.number in (22, 23):
                self.sparse(part)
        # A list of numbers is a weight of a classical model; a few are settings, such as strides.
        for number, count in counts.items():
            if count:
                kind, bits = lists[number]
                self.add(kind, count, count * bits // 8)

    def sparse(self, sparse: _Part) -> None:
        """SparseTensorProto: values = 1, indices = 2."""
        for part in self.reader.fields(sparse.start, sparse.end):
            if part.number in (1, 2) and part.wire == BYTES:
                self.tensor(part)

    def tensor(self, part: _Part) -> None:
        """Count a TensorProto, once its fields agree with each other."""
        tensor = self._fields_of(part)
        if tensor.kind not in ONNX_TYPES:
            raise ShapeError(
                f"gives the tensor {shown(tensor.name)} the unknown type {tensor.kind}"
            )
        word, bits = ONNX_TYPES[tensor.kind]
        elements = elements_of(tensor.name, tensor.shape)
        size = -(-elements * bits // 8) or tensor.texts
        if tensor.raw is not None and not tensor.outside and bits and tensor.raw != size:
            raise ShapeError(
                f"gives the tensor {shown(tensor.name)} {tensor.raw} bytes, but its shape needs "
                f"{size}"
            )
        if tensor.outside:
            self.external.append(_external(tensor.name, tensor.said, size))
        self.add(word, elements, size)

    def _fields_of(self, tensor: _Part) -> _Tensor:
        """TensorProto: dims = 1, data_type = 2, string_data = 6, name = 8, raw_data = 9.

        external_data = 13 gives location, offset and length by name; data_location = 14.
        """
        reader, found = self.reader, _Tensor()
        for part in reader.fields(tensor.start, tensor.end):
            if part.number == 1:
                room = max(1, MOST_DIMENSIONS + 1 - len(found.shape))
                found.shape.extend(islice(reader.numbers(part), room))
            elif part.number == 2 and part.wire == VARINT:
                found.kind = part.value
            elif part.number == 6:
                found.texts += part.end - part.start
            elif part.number == 8 and part.wire == BYTES:
                found.name = reader.text(part)
            elif part.number == 9 and part.wire == BYTES:
                found.raw = part.end - part.start
            elif part.number == 13 and part.wire == BYTES:
                key, value = self._entry(part)
                found.said[key] = value
            elif part.number == 14:
                found.outside = part.value == 1
        return found

    def _entry(self, part: _Part) -> tuple[str, str]:
        """StringStringEntryProto: key = 1, value = 2."""
        reader = self.reader
        texts = {
            inner.number: reader.text(inner)
            for inner in reader.fields(part.start, part.end)
            if inner.wire == BYTES
        }
        return texts.get(1, ""), texts.get(2, "")


def _external(name: str, said: dict[str, str], size: int) -> External:
    location = said.get("location", "")
    if not location or location.startswith("/") or ".." in location.split("/"):
        raise ShapeError(
            f"keeps the tensor {shown(name)} in {shown(location)}, which is not beside it"
        )
    numbers = {}
    for key, default in (("offset", "0"), ("length", str(size))):
        written = said.get(key, default) or default
        if not written.isascii() or not written.isdigit() or len(written) > 19:
            raise ShapeError(f"gives the tensor {shown(name)} the {key} {shown(written)}")
        numbers[key] = int(written)
    if numbers["length"] != size:
        raise ShapeError(
            f"gives the tensor {shown(name)} {numbers['length']} bytes, but its shape needs {size}"
        )
    return External(location, numbers["offset"] + numbers["length"])

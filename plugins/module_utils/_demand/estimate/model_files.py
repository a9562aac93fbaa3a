# Copyright: (c) 2026, The mlops.onprem developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights of a model from the head of its file: safetensors or ONNX, without their libraries.

Only what describes the tensors is read, never their data; reads are bounded, and a file that is
not what it claims to be gets a sentence. Formats: https://huggingface.co/docs/safetensors and
``onnx/onnx.proto`` of https://github.com/onnx/onnx, in the encoding of Protocol Buffers
(https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

import json
import math
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple, Protocol

from ..._findings.shape import ShapeError, shown

# The library's own limit of a safetensors header.
MOST_HEADER_BYTES = 100_000_000
# A large network has some ten thousand parts; a forest of trees has one for every number.
MOST_PARTS = 20_000_000
MOST_DEPTH = 32
MOST_DIMENSIONS = 64
MOST_ELEMENTS = 2**60

SAFETENSORS_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
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


class Files(Protocol):
    """The files that may be asked for. Errors are OSError."""

    def open(self, path: str) -> BinaryIO:
        """The file for reading, able to seek."""

    def size(self, path: str) -> int:
        """How many bytes the file has."""

    def names(self, path: str) -> tuple[str, ...] | None:
        """What is in a directory; None if it is none."""


@dataclass(frozen=True)
class Weights:
    """What a model consists of: tensors, elements of all, and bytes by type of element."""

    tensors: int
    parameters: int
    size: int
    by_type: tuple[tuple[str, int], ...] = ()

    def __add__(self, other: Weights) -> Weights:
        types = dict(self.by_type)
        for name, size in other.by_type:
            types[name] = types.get(name, 0) + size
        return Weights(
            self.tensors + other.tensors,
            self.parameters + other.parameters,
            self.size + other.size,
            tuple(sorted(types.items())),
        )


NOTHING = Weights(0, 0, 0)


def read_weights(paths: Iterable[str], files: Files) -> Weights:
    """The weights in all files; a directory stands for the model files in it.

    Raises ShapeError with a sentence where a file cannot be read or is no model.
    """
    found = NOTHING
    for path in _expanded(paths, files):
        try:
            found = found + _one(path, files)
        except OSError as error:
            raise ShapeError(f"{path} cannot be read: {error.strerror or error}") from None
        except ShapeError as error:
            raise ShapeError(f"{path} {error.problem}") from None
    if not found.tensors:
        raise ShapeError("names files that hold no weights")
    return found


def _expanded(paths: Iterable[str], files: Files) -> Iterator[str]:
    for path in paths:
        names = files.names(path)
        if names is None:
            yield path
            continue
        chosen = sorted(name for name in names if name.endswith(".safetensors"))
        chosen = chosen or sorted(name for name in names if name.endswith(".onnx"))
        if not chosen:
            raise ShapeError(f"{path} is a directory with no .safetensors or .onnx file")
        for name in chosen:
            yield posixpath.join(path, name)


def _one(path: str, files: Files) -> Weights:
    size = files.size(path)
    with files.open(path) as stream:
        if path.endswith(".safetensors"):
            return read_safetensors(stream, size)
        if path.endswith(".onnx"):
            weights, external = read_onnx(stream, size)
            _check_external(path, external, files)
            return weights
    raise ShapeError("is neither a .safetensors nor an .onnx file")


# -- safetensors ----------------------------------------------------------------------------------


def read_safetensors(stream: BinaryIO, size: int) -> Weights:
    """The tensors that a safetensors header describes. ``size`` is that of the file, in bytes.

    The file begins with the length of a JSON header (64 bits, little end first); the header gives
    type, shape and place of every tensor. Places must fill the rest of the file without gaps, as
    the format demands.
    """
    head = stream.read(8)
    if len(head) < 8:
        raise ShapeError("is no safetensors file: it is shorter than 8 bytes")
    length = int.from_bytes(head, "little")
    if length > MOST_HEADER_BYTES or length > size - 8:
        raise ShapeError(f"is no safetensors file: its header claims {length} of {size} bytes")
    raw = stream.read(length)
    if len(raw) < length:
        raise ShapeError("ends within its header")
    try:
        header = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ShapeError("is no safetensors file: its header is no JSON") from None
    if not isinstance(header, dict):
        raise ShapeError("is no safetensors file: its header is no JSON object")
    header.pop("__metadata__", None)
    found = NOTHING
    places = []
    for name, row in header.items():
        weights, place = _safetensor(name, row)
        found = found + weights
        places.append(place)
    end = 0
    for first, last in sorted(places):
        if first != end:
            raise ShapeError(f"is damaged: its tensors leave a gap or overlap at byte {end}")
        end = last
    if end != size - 8 - length:
        raise ShapeError(
            f"is damaged or incomplete: {end} bytes of tensors are described, but"
            f" {size - 8 - length} are there"
        )
    return found


def _safetensor(name: str, row: object) -> tuple[Weights, tuple[int, int]]:
    if not isinstance(row, dict):
        raise ShapeError(f"describes the tensor {shown(name)} by no object")
    kind, place = row.get("dtype"), row.get("data_offsets")
    if not isinstance(kind, str) or kind not in SAFETENSORS_BITS:
        raise ShapeError(f"gives the tensor {shown(name)} the unknown type {shown(kind)}")
    elements = _elements(name, row.get("shape"))
    if (
        not isinstance(place, list)
        or len(place) != 2
        or not all(_is_whole(edge) for edge in place)
        or not 0 <= place[0] <= place[1]
    ):
        raise ShapeError(f"gives the tensor {shown(name)} no place")
    size = -(-elements * SAFETENSORS_BITS[kind] // 8)
    if place[1] - place[0] != size:
        raise ShapeError(
            f"gives the tensor {shown(name)} {place[1] - place[0]} bytes, but its shape needs"
            f" {size}"
        )
    return Weights(1, elements, size, ((kind, size),)), (place[0], place[1])


def _is_whole(value: object) -> bool:
    """Whether JSON gave a whole number; to Python, true and false are some, too."""
    return isinstance(value, int) and not isinstance(value, bool)


def _elements(name: str, shape: object) -> int:
    if (
        not isinstance(shape, list)
        or len(shape) > MOST_DIMENSIONS
        or not all(_is_whole(length) and 0 <= length <= MOST_ELEMENTS for length in shape)
    ):
        raise ShapeError(f"gives the tensor {shown(name)} no shape")
    found = math.prod(shape)
    if found > MOST_ELEMENTS:
        raise ShapeError(f"gives the tensor {shown(name)} an impossible shape")
    return found


# -- ONNX -----------------------------------------------------------------------------------------

VARINT, EIGHT, BYTES, FOUR = 0, 1, 2, 5
# Read at once: headers of fields lie close together, data between them are skipped.
WINDOW = 4096


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

    def tensor(self, tensor: _Part) -> None:
        """TensorProto: dims = 1, data_type = 2, string_data = 6, name = 8, raw_data = 9.

        external_data = 13 gives location, offset and length by name; data_location = 14.
        """
        reader = self.reader
        shape: list[int] = []
        kind = texts = 0
        raw: int | None = None
        name, outside = "", False
        said: dict[str, str] = {}
        for part in reader.fields(tensor.start, tensor.end):
            if part.number == 1:
                for length in reader.numbers(part):
                    shape.append(length)
                    if len(shape) > MOST_DIMENSIONS:
                        break
            elif part.number == 2 and part.wire == VARINT:
                kind = part.value
            elif part.number == 6:
                texts += part.end - part.start
            elif part.number == 8 and part.wire == BYTES:
                name = reader.text(part)
            elif part.number == 9 and part.wire == BYTES:
                raw = part.end - part.start
            elif part.number == 13 and part.wire == BYTES:
                entry = {
                    inner.number: reader.text(inner)
                    for inner in reader.fields(part.start, part.end)
                    if inner.wire == BYTES
                }
                said[entry.get(1, "")] = entry.get(2, "")
            elif part.number == 14:
                outside = part.value == 1
        if kind not in ONNX_TYPES:
            raise ShapeError(f"gives the tensor {shown(name)} the unknown type {kind}")
        word, bits = ONNX_TYPES[kind]
        elements = _elements(name, shape)
        size = -(-elements * bits // 8) or texts
        if raw is not None and not outside and bits and raw != size:
            raise ShapeError(
                f"gives the tensor {shown(name)} {raw} bytes, but its shape needs {size}"
            )
        if outside:
            self.external.append(_external(name, said, size))
        self.add(word, elements, size)


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


def _check_external(path: str, external: Iterable[External], files: Files) -> None:
    ends: dict[str, int] = {}
    for part in external:
        ends[part.location] = max(ends.get(part.location, 0), part.end)
    for location, end in sorted(ends.items()):
        try:
            there = files.size(posixpath.join(posixpath.dirname(path), location))
        except (OSError, ValueError):
            raise ShapeError(f"keeps weights in {shown(location)}, which is not there") from None
        if there < end:
            raise ShapeError(
                f"keeps weights in {shown(location)} up to byte {end}, but it has {there} bytes"
            )

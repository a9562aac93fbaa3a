# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an ONNX file says about itself, read without a native parser and without its weights.

The file may come from anybody. Only lengths and the few fields that are needed are looked at, so
that a hostile file can make this fail with a sentence, but not read other files or take memory.
Field numbers are those of onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import PipelineError

MAX_DEPTH = 40
MAX_MESSAGES = 5_000_000
# A model imports a handful of sets of operators and has some thousand tensors in other files.
MAX_OPSETS = 100
MAX_EXTERNALS = 100_000

# Which fields of a message hold other messages in which a tensor may be found.
INSIDE: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse",
        23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
}
EXTERNAL_DATA = 13
TENSOR_NAME = 8
OPSET_IMPORT = 8


@dataclass(frozen=True)
class External:
    """A tensor whose numbers lie in another file."""

    tensor: str
    location: str
    end: int


@dataclass(frozen=True)
class Description:
    """What is known before anything is loaded."""

    opsets: Mapping[str, int]
    ir_version: int
    producer: str
    externals: tuple[External, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files that hold numbers of the model."""
        return tuple(sorted({each.location for each in self.externals}))


class _Broken(Exception):
    pass


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._messages = 0
        self.externals: dict[tuple[str, int], External] = {}

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                raise _Broken("it ends in the middle of a number")
            byte = self._data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
        raise _Broken("it holds a number of more than 64 bits")

    def fields(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield number, value, begin and end of each field; the value of a text is 0."""
        self._messages += 1
        if self._messages > MAX_MESSAGES:
            raise _Broken("it holds more parts than any model")
        at = start
        while at < end:
            tag, at = self._varint(at, end)
            number, kind = tag >> 3, tag & 7
            value, begin = 0, at
            if kind == 0:
                value, at = self._varint(at, end)
            elif kind == 1:
                at += 8
            elif kind == 2:
                length, begin = self._varint(at, end)
                at = begin + length
            elif kind == 5:
                at += 4
            else:
                raise _Broken(f"it holds a field of the unknown kind {kind}")
            if number == 0 or at > end:
                raise _Broken("a field is longer than what it lies in")
            yield number, value, begin, at

    def text(self, begin: int, end: int) -> str:
        return self._data[begin : min(end, begin + 4096)].decode("utf-8", "replace")

    def walk(self, kind: str, start: int, end: int, depth: int) -> None:
        """Find the tensors below a message whose numbers lie elsewhere."""
        if depth > MAX_DEPTH:
            raise _Broken(f"its graphs are nested deeper than {MAX_DEPTH} parts")
        if kind == "tensor":
            self._tensor(start, end)
            return
        inside = INSIDE[kind]
        for number, _value, begin, stop in self.fields(start, end):
            if number in inside:
                self.walk(inside[number], begin, stop, depth + 1)

    def _tensor(self, start: int, end: int) -> None:
        name, said = "", {}
        for number, _value, begin, stop in self.fields(start, end):
            if number == TENSOR_NAME:
                name = self.text(begin, stop)
            elif number == EXTERNAL_DATA:
                pair = {1: "", 2: ""}
                for part, _other, first, last in self.fields(begin, stop):
                    if part in pair:
                        pair[part] = self.text(first, last)
                said[pair[1]] = pair[2]
        if said:
            try:
                reach = int(said.get("offset") or 0) + int(said.get("length") or 0)
            except ValueError:
                raise _Broken(f"the place of the tensor {name[:80]!r} is not a number") from None
            location = said.get("location", "")
            self.externals[location, reach] = External(name[:80], location, reach)
            if len(self.externals) > MAX_EXTERNALS:
                raise _Broken(f"more than {MAX_EXTERNALS} of its tensors lie in other files")


def _head(reader: _Reader, size: int) -> tuple[dict[str, int], int, str, int]:
    """A ModelProto's opsets by domain, its version, who made it, and how many graphs it has."""
    opsets: dict[str, int] = {}
    version, producer, graphs = 0, ["", ""], 0
    for number, value, begin, end in reader.fields(0, size):
        if number == 1:
            version = value
        elif number in (2, 3):
            producer[number - 2] = reader.text(begin, end)[:80]
        elif number == OPSET_IMPORT:
            domain, opset = _opset(reader, begin, end)
            opsets[domain] = opset
            if len(opsets) > MAX_OPSETS:
                raise _Broken(f"it imports more than {MAX_OPSETS} sets of operators")
        elif number == 7:
            graphs += 1
    return opsets, version, " ".join(each for each in producer if each), graphs


def _opset(reader: _Reader, begin: int, end: int) -> tuple[str, int]:
    domain, opset = "", 0
    for part, value, first, last in reader.fields(begin, end):
        if part == 1:
            domain = reader.text(first, last)[:80]
        elif part == 2:
            opset = value
    return domain, opset


def describe(path: Path) -> Description:
    """Read an ONNX file; a sentence if it is none."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            if not size:
                raise _Broken("it is empty")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                reader = _Reader(data)
                opsets, version, producer, graphs = _head(reader, size)
                reader.walk("model", 0, size, 0)
    except OSError as error:
        raise PipelineError(f"The model {path} cannot be read: {error.strerror}.") from None
    except _Broken as error:
        raise PipelineError(f"The file {path.name} is not an ONNX model: {error}.") from None
    if not graphs or not opsets:
        raise PipelineError(
            f"The file {path.name} is not an ONNX model: it has no graph or no opset."
        )
    return Description(opsets, version, producer, tuple(reader.externals.values()))

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Open Inference Protocol over HTTP: what a request asks, and the parts of its answer.

Covers the JSON form, the binary tensor extension in both directions, and compressed bodies. Needs
numpy alone; whoever calls reads and writes the JSON.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .engine import BYTES, DataError, Engine, listed, text_of

LENGTH_HEADER = "inference-header-content-length"
GOLDEN_HEADER = "x-mlops-golden"
"""With it the platform sends what a release brings, which says nothing of what clients ask."""
COMPRESS_FROM = 1400
"""Bytes of an answer from which on compressing it can save a packet."""


class ProtocolError(Exception):
    """A request is answered with a status other than 200 and a sentence."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


# -- the body ---------------------------------------------------------------------------------


def content_length(value: str | None, limit: int) -> int | None:
    """Read how long a body will be, None if the client does not say."""
    if value is None:
        return None
    if not value.isascii() or not value.isdigit():
        raise ProtocolError(400, "The header Content-Length is not a number.")
    length = int(value)
    if length > limit:
        raise too_large(limit)
    return length


def too_large(limit: int) -> ProtocolError:
    """Refuse a body for its size."""
    return ProtocolError(
        413, f"A request may be {limit / 2**20:g} MiB large, also after decompression."
    )


def encoding(value: str | None) -> str:
    """Read how a body is compressed: gzip, deflate or empty."""
    name = (value or "").strip().lower()
    if name in ("", "identity"):
        return ""
    if name in ("gzip", "x-gzip"):
        return "gzip"
    if name == "deflate":
        return "deflate"
    raise ProtocolError(
        415,
        "The body's Content-Encoding is none of gzip, deflate and identity.",
        accept_encoding="gzip, deflate",
    )


def inflate(data: bytes, name: str, limit: int) -> bytes:
    """Decompress a body and stop where it becomes larger than a request may be."""
    # deflate is zlib's format by the standard; some clients leave its frame out.
    bare = name == "deflate" and (
        len(data) < 2 or data[0] & 15 != 8 or (data[0] << 8 | data[1]) % 31
    )
    machine = zlib.decompressobj({"gzip": 31, "deflate": -15 if bare else 15}[name])
    try:
        plain = machine.decompress(data, limit + 1)
    except zlib.error:
        raise ProtocolError(400, f"The body is not {name}, as its Content-Encoding says.") from None
    if len(plain) > limit:
        raise too_large(limit)
    if not machine.eof:
        raise ProtocolError(400, f"The body ends before its {name} data do.")
    if machine.unused_data:
        raise ProtocolError(400, f"The body goes on after its {name} data.")
    return plain


def accepted(value: str | None) -> str:
    """Choose how to compress an answer, from what a client accepts."""
    offered = {}
    for part in (value or "").lower().split(","):
        name, _semicolon, rest = part.strip().partition(";")
        offered[name.strip()] = rest.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    for name in ("gzip", "deflate"):
        if offered.get(name):
            return name
    return ""


def deflate(data: bytes, name: str) -> bytes:
    """Compress an answer, quickly rather than well."""
    machine = zlib.compressobj(1, zlib.DEFLATED, {"gzip": 31, "deflate": 15}[name])
    return machine.compress(data) + machine.flush()


def split(body: bytes, header: str | None) -> tuple[memoryview, memoryview]:
    """Separate the JSON of a request from the binary tensors behind it."""
    view = memoryview(body)
    if header is None:
        return view, view[len(view) :]
    if not header.isascii() or not header.isdigit():
        raise ProtocolError(400, "The header Inference-Header-Content-Length is not a number.")
    length = int(header)
    if length > len(view):
        raise ProtocolError(
            400,
            f"The header Inference-Header-Content-Length says {length}, "
            f"the body has {len(view)} bytes.",
        )
    return view[:length], view[length:]


# -- the request ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ask:
    """What a client wants to know."""

    identifier: str
    feed: dict[str, Any]
    names: tuple[str, ...]
    binary: frozenset[str]
    """The outputs that come behind the JSON instead of in it."""


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DataError(f"{what} is not an object.")
    return value


def _strings_of(data: memoryview, name: str) -> list[str]:
    found = []
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise DataError(f"The binary strings of {name} end within a length.")
        (size,) = struct.unpack_from("<I", data, at)
        at += 4
        if at + size > len(data):
            raise DataError(f"The binary strings of {name} end within a string.")
        found.append(text_of(bytes(data[at : at + size]), name))
        at += size
    return found


def _binary(engine: Engine, name: str, datatype: Any, data: memoryview) -> Any:
    tensor = engine.input(name)
    if datatype != tensor.datatype:
        return ()  # the engine says what is wrong with it
    if tensor.datatype == BYTES:
        return _strings_of(data, name)
    dtype = np.dtype(tensor.dtype)
    if len(data) % dtype.itemsize:
        raise DataError(
            f"The binary data of {name} are {len(data)} bytes, "
            f"which is no multiple of {dtype.itemsize}."
        )
    if dtype == np.bool_:
        # Any byte but 0 is true; numpy would hand other bytes on as they are.
        return np.frombuffer(data, np.uint8) != 0
    return np.frombuffer(data, dtype.newbyteorder("<"))


def _input(engine: Engine, entry: Any, rest: memoryview) -> tuple[str, Any, int]:
    """Make the array of one input; say how many of the binary bytes it took."""
    tensor = _mapping(entry, "An input")
    name = tensor.get("name")
    if not isinstance(name, str):
        raise DataError("An input has no name.")
    parameters = _mapping(tensor.get("parameters"), f"The parameters of input {name}")
    if "shared_memory_region" in parameters:
        raise DataError("This server does not read shared memory; send the data.")
    datatype, shape = tensor.get("datatype"), tensor.get("shape")
    size = parameters.get("binary_data_size")
    if size is None:
        if "data" not in tensor:
            raise DataError(f"The input {name} has no data.")
        return name, engine.array(name, str(datatype), tensor["data"], shape), 0
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(rest):
        raise DataError(
            f"The input {name} has a binary_data_size of {size!r}; "
            f"{len(rest)} bytes are left behind the JSON."
        )
    values = _binary(engine, name, datatype, rest[:size])
    return name, engine.array(name, str(datatype), values, shape), size


def _wants_binary(parameters: Mapping[str, Any], usual: bool) -> bool:
    for word in ("classification", "shared_memory_region"):
        if parameters.get(word):
            raise DataError(f"This server does not do {word.replace('_', ' ')}.")
    return bool(parameters.get("binary_data", usual))


def decode(engine: Engine, document: Any, binary: memoryview) -> Ask:
    """Read a request; a DataError says what does not fit the model."""
    request = _mapping(document, "The request")
    inputs, outputs = request.get("inputs"), request.get("outputs") or []
    if not isinstance(inputs, list) or not isinstance(outputs, list):
        raise DataError("The request's inputs or outputs are not a list.")
    identifier = request.get("id", "")
    if not isinstance(identifier, str):
        raise DataError("The id of the request is not a string.")
    parameters = _mapping(request.get("parameters"), "The request's parameters")
    usual = _wants_binary({}, bool(parameters.get("binary_data_output")))
    feed: dict[str, Any] = {}
    for entry in inputs:
        name, values, taken = _input(engine, entry, binary)
        if name in feed:
            raise DataError(f"The input {name} stands in the request twice.")
        feed[name], binary = values, binary[taken:]
    if len(binary):
        raise DataError(f"{len(binary)} bytes behind the JSON belong to no input.")
    wanted: dict[str, bool] = {}
    for entry in outputs:
        output = _mapping(entry, "An output")
        name = output.get("name")
        if not isinstance(name, str):
            raise DataError("An output has no name.")
        of_output = _mapping(output.get("parameters"), f"The parameters of output {name}")
        wanted[name] = _wants_binary(of_output, usual)
    names = tuple(wanted or engine.outputs)
    return Ask(
        identifier, feed, names, frozenset(name for name in names if wanted.get(name, usual))
    )


# -- the answer -------------------------------------------------------------------------------


def _blob(values: Any, datatype: str) -> bytes:
    if datatype == BYTES:
        texts = [str(text).encode() for text in listed(values)]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    contiguous = np.ascontiguousarray(values)
    data: bytes = contiguous.astype(contiguous.dtype.newbyteorder("<"), copy=False).tobytes()
    return data


def _plain(values: Any, datatype: str) -> Any:
    """What the writer of JSON takes: a flat array, or a list of strings."""
    if datatype == BYTES:
        return listed(values)
    flat = np.ascontiguousarray(values).ravel()
    return flat.astype(np.float32) if datatype == "FP16" else flat


def encode(
    engine: Engine, ask: Ask, answers: Sequence[Any]
) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Write the outputs of an answer: their JSON, and what comes behind it."""
    outputs, blobs = [], []
    for name, values in zip(ask.names, answers, strict=True):
        datatype = engine.outputs[name].datatype
        output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(values.shape)}
        if name in ask.binary:
            blobs.append(_blob(values, datatype))
            output["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            output["data"] = _plain(values, datatype)
        outputs.append(output)
    return outputs, blobs


# -- what a request costs ---------------------------------------------------------------------

COST_PER_BYTE = 40
"""What a byte of JSON can take at worst: many empty lists, or objects with one member."""
COST_AT_LEAST = 128 * 1024
SMALL = 64 * 1024
"""Bytes of a body up to which a request does not wait behind large ones."""


def worst_cost(size: int) -> int:
    """Memory to set aside for a body of which only the size is known."""
    return COST_AT_LEAST + COST_PER_BYTE * size


def cost(body: bytes, length: int, strings: bool) -> int:
    """Memory that a request takes while it is answered, from what stands in it.

    The body's first bytes, as many as length says, are JSON. There a number becomes an object with
    a place in a list, beside the text and the array that are made of it. The weights are above
    what was measured with the worst body of each kind.
    """

    def count(mark: bytes) -> int:
        return body.count(mark, 0, length)

    commas = count(b",")
    # A digit alone is one of Python's own numbers; what needs an object of its own is longer.
    objects = min(commas, length // 3)
    parts = 24 * commas + 32 * objects + 120 * count(b":") + 14 * count(b'"')
    brackets = 96 * (count(b"[") + count(b"{"))
    binary = (18 if strings else 7) * (len(body) - length)
    return COST_AT_LEAST + 3 * length + parts + brackets + binary

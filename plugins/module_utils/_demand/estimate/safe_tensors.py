# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The weights in a safetensors file, from its header: https://huggingface.co/docs/safetensors."""

from __future__ import annotations

import json
from typing import BinaryIO

from ..._findings.shape import ShapeError, shown
from .weights import NOTHING, Weights, elements_of, is_whole

# The library's own limit of a safetensors header.
MOST_HEADER_BYTES = 100_000_000
SAFETENSORS_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}


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
    elements = elements_of(name, row.get("shape"))
    if (
        not isinstance(place, list)
        or len(place) != 2
        or not all(is_whole(edge) for edge in place)
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

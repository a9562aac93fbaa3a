# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files in memory, and writers of the two model formats that share nothing with the readers."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import dataclass, field
from typing import Any, BinaryIO


@dataclass
class MemoryFiles:
    """Files by path."""

    content: dict[str, bytes] = field(default_factory=dict)

    def open(self, path: str) -> BinaryIO:
        if path not in self.content:
            raise FileNotFoundError(2, "No such file or directory", path)
        return io.BytesIO(self.content[path])

    def size(self, path: str) -> int:
        if path not in self.content:
            raise FileNotFoundError(2, "No such file or directory", path)
        return len(self.content[path])

    def names(self, path: str) -> tuple[str, ...] | None:
        inside = [name for name in self.content if name.startswith(path + "/")]
        return tuple(name[len(path) + 1 :] for name in inside) if inside else None


def safetensors(header: Any, data: bytes = b"") -> bytes:
    """A safetensors file with this header."""
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def varint(value: int) -> bytes:
    """A number as Protocol Buffers write it."""
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def number(key: int, value: int) -> bytes:
    """A field that holds a number."""
    return varint(key << 3) + varint(value)


def message(key: int, *parts: bytes) -> bytes:
    """A field that holds a message, a text or bytes."""
    inside = b"".join(parts)
    return varint(key << 3 | 2) + varint(len(inside)) + inside


def tensor(shape: list[int], kind: int, *more: bytes) -> bytes:
    """The content of a TensorProto."""
    return b"".join([*(number(1, length) for length in shape), number(2, kind), *more])


def onnx(*graph: bytes) -> bytes:
    """A ModelProto with one graph."""
    return number(1, 8) + message(2, b"test") + message(7, *graph)

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a GGUF file says of its model, read from its head without loading any weights.

GGUF, version 2 and 3: four letters, the version, numbers of tensors and keys, then the keys,
each with its type and value. Everything is little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from .errors import PipelineError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
STRING, ARRAY = 8, 9
MOST_KEYS, MOST_TEXT, MOST_VALUES = 10_000, 64 * 1024 * 1024, 10_000_000
HALF = 2
"""Bytes of a number in the cache of keys and values, which engines keep in half precision."""


class _Reader:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def take(self, size: int) -> bytes:
        if size > MOST_TEXT:
            raise ValueError(f"a value of {size} bytes")
        data = self._stream.read(size)
        if len(data) < size:
            raise ValueError("it ends in its head")
        return data

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self) -> str:
        return self.take(self.number("<Q")).decode("utf-8", "replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        """One value; of a list only how long it is."""
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind == STRING:
            return self.text()
        if kind != ARRAY or depth > 2:
            raise ValueError(f"a value of the kind {kind}")
        inner, count = self.number("<I"), self.number("<Q")
        if count > MOST_VALUES:
            raise ValueError(f"a list of {count} values")
        if inner in SCALARS:
            self.take(struct.calcsize(SCALARS[inner]) * count)
        else:
            for _one in range(count):
                self.value(inner, depth + 1)
        return count


def read_keys(path: Path) -> dict[str, Any]:
    """All keys of the head; a list is the number of its values."""
    try:
        with path.open("rb") as stream:
            reader = _Reader(stream)
            if reader.take(4) != MAGIC:
                raise ValueError("it does not begin with GGUF")
            version = reader.number("<I")
            if version not in VERSIONS:
                raise ValueError(f"it is of version {version}, wanted 2 or 3")
            reader.number("<Q")
            count = reader.number("<Q")
            if count > MOST_KEYS:
                raise ValueError(f"it has {count} keys")
            found = {}
            for _one in range(count):
                key = reader.text()
                found[key] = reader.value(reader.number("<I"))
            return found
    except OSError as error:
        raise PipelineError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, struct.error) as error:
        raise PipelineError(f"{path} is no GGUF file that engines load: {error}.") from None


def described(keys: Mapping[str, Any]) -> dict[str, Any]:
    """What the platform has to know: the longest context, and what a token of it takes.

    Keys and values of attention: 2 * layers * heads of keys * size of a head * 2 bytes, as
    llama.cpp keeps them in half precision. Models that share attention among layers, or forget
    what lies outside a window, take less; this is then an upper bound.
    """
    family = str(keys.get("general.architecture", ""))
    layers, width, heads = (
        int(keys.get(f"{family}.{name}", 0))
        for name in ("block_count", "embedding_length", "attention.head_count")
    )
    own = int(keys.get(f"{family}.attention.head_count_kv", heads) or heads)
    size = width // heads if heads else 0
    key = int(keys.get(f"{family}.attention.key_length", size))
    value = int(keys.get(f"{family}.attention.value_length", size))
    return {
        "architecture": family,
        "context_tokens": int(keys.get(f"{family}.context_length", 0)),
        "token_bytes": layers * own * (key + value) * HALF,
    }

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights of a model from the head of its file: safetensors or ONNX, without their libraries.

Only what describes the tensors is read, never their data; reads are bounded, and a file that is
not what it claims to be gets a sentence.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Protocol

from ..._findings.shape import ShapeError, shown
from .onnx_tensors import External, read_onnx
from .safe_tensors import read_safetensors
from .weights import NOTHING, Weights


class Files(Protocol):
    """The files that may be asked for. Errors are OSError."""

    def open(self, path: str) -> BinaryIO:
        """The file for reading, able to seek."""

    def size(self, path: str) -> int:
        """How many bytes the file has."""

    def names(self, path: str) -> tuple[str, ...] | None:
        """What is in a directory; None if it is none."""


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

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files on a device's disk: there after a power cut, larger than the memory, grown in parts."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Callable

READ_BYTES = 1024 * 1024


def sync_directory(path: Path) -> None:
    """Have on the disk what was created, renamed or removed in a directory."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def digest_of_file(path: Path) -> str:
    """Return the digest of a file; it may be larger than the memory."""
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        while True:
            data = stream.read(READ_BYTES)
            if not data:
                return "sha256:" + hasher.hexdigest()
            hasher.update(data)


def make_directory(path: Path) -> bool:
    """Make a directory so that it is there after a power cut; say whether it was not before."""
    if path.is_dir():
        return False
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)
    return True


def files_in(place: Path) -> list[Path]:
    """The files in a directory, without links."""
    return [path for path in place.iterdir() if path.is_file() and not path.is_symlink()]


class PartialFile:
    """A file that grows over several attempts; the sink of a download."""

    def __init__(self, path: Path, count: Callable[[int], None] = lambda _size: None) -> None:
        self._path = path
        self._count = count

    def start(self, digest: hashlib._Hash) -> int:
        if not self._path.exists():
            return 0
        size = 0
        with self._path.open("rb") as stream:
            while True:
                data = stream.read(READ_BYTES)
                if not data:
                    return size
                digest.update(data)
                size += len(data)

    def write(self, data: bytes) -> None:
        self._count(len(data))
        with self._path.open("ab") as stream:
            stream.write(data)

    def restart(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions of data: files of any kind, described by a manifest that anybody can read and check."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .disk import check_room
from .errors import PipelineError
from .storage import Storage

MANIFEST = "manifest.json"
CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Entry:
    """One file of a version, or one that it was made from."""

    path: str
    size: int
    sha256: str
    version: str = ""

    def to_json(self) -> dict[str, Any]:
        """Describe the file; the store's own version only where the store has one."""
        value: dict[str, Any] = {"path": self.path, "size": self.size, "sha256": self.sha256}
        if self.version:
            value["version"] = self.version
        return value


def sha256(data: bytes) -> str:
    """Return the digest of some bytes."""
    return hashlib.sha256(data).hexdigest()


def describe(path: Path, name: str, version: str = "") -> Entry:
    """Describe a file without holding it in memory."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while part := stream.read(CHUNK):
            digest.update(part)
            size += len(part)
    return Entry(name, size, digest.hexdigest(), version)


def describe_folder(folder: Path) -> list[Entry]:
    """Describe every file of a folder; links out of it are refused."""
    entries = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise PipelineError(f"{path.relative_to(folder)} is a link; wanted a file.")
        if path.is_file():
            entries.append(describe(path, path.relative_to(folder).as_posix()))
    return entries


def plain_path(name: str, where: str) -> PurePosixPath:
    """Return a path below a folder; refuse one that leads out of it."""
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or any(part in ("", ".", "..") for part in path.parts):
        raise PipelineError(f"{where} names the file {name!r}, which lies outside of it.")
    return path


def build_manifest(
    dataset: str,
    parameters: Mapping[str, Any],
    files: Sequence[Entry],
    source: Sequence[Entry] = (),
    origin: str = "",
) -> bytes:
    """Describe a version: its files, and what they were made from. Same data, same bytes."""
    value: dict[str, Any] = {
        "dataset": dataset,
        "parameters": {name: str(each) for name, each in parameters.items()},
        "files": [each.to_json() for each in sorted(files, key=_path)],
    }
    if source or origin:
        value["origin"] = origin
        value["source"] = [each.to_json() for each in sorted(source, key=_path)]
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def _path(entry: Entry) -> str:
    return entry.path


def read_manifest(storage: Storage, version: str) -> dict[str, Any]:
    """Read the manifest of a version, which is named by the manifest's digest."""
    where = f"{storage.uri}/{version}"
    data = storage.read(f"{version}/{MANIFEST}")
    if data is None:
        raise PipelineError(f"There is no data set {where}; run the step prepare first.")
    if sha256(data) != version:
        raise PipelineError(f"The manifest of {where} was changed after the data were prepared.")
    manifest: dict[str, Any] = json.loads(data)
    return manifest


def fetch_dataset(storage: Storage, version: str, folder: Path) -> dict[str, Any]:
    """Put a version of the data into a folder; check every file against the manifest."""
    where = f"{storage.uri}/{version}"
    manifest = read_manifest(storage, version)
    check_room(folder, sum(int(each["size"]) for each in manifest["files"]), f"The data {where}")
    for entry in manifest["files"]:
        path = folder / plain_path(str(entry["path"]), f"The manifest of {where}")
        path.parent.mkdir(parents=True, exist_ok=True)
        if storage.get(f"{version}/{entry['path']}", path) is None:
            raise PipelineError(f"The file {where}/{entry['path']} is missing.")
        found = describe(path, entry["path"])
        if found.sha256 != entry["sha256"]:
            raise PipelineError(
                f"The file {where}/{entry['path']} has the sha256 {found.sha256}, "
                f"the manifest says {entry['sha256']}."
            )
    return manifest

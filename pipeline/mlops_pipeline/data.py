# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Data sets: rows as CSV, described by a manifest that anybody can read and check."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .errors import PipelineError
from .storage import Storage

MANIFEST = "manifest.json"
PARTS = ("train", "test")


@dataclass(frozen=True)
class Rows:
    """Features and labels of one part of a data set."""

    names: tuple[str, ...]
    features: list[list[float]]
    labels: list[int]


def sha256(data: bytes) -> str:
    """Return the digest of some bytes."""
    return hashlib.sha256(data).hexdigest()


def split(count: int, test_share: float, seed: int) -> dict[str, list[int]]:
    """Deal rows into parts by hash: the same on every machine and with every library version."""
    order = sorted(range(count), key=lambda row: hashlib.sha256(f"{seed}:{row}".encode()).digest())
    cut = round(count * test_share)
    return {"test": sorted(order[:cut]), "train": sorted(order[cut:])}


def to_csv(rows: Rows) -> bytes:
    """Write rows; numbers in the shortest form that reads back to the same number."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*rows.names, "label"])
    for features, label in zip(rows.features, rows.labels, strict=True):
        writer.writerow([*(repr(value) for value in features), label])
    return stream.getvalue().encode()


def from_csv(data: bytes, where: str) -> Rows:
    """Read rows, naming the line that is wrong."""
    lines = csv.reader(io.StringIO(data.decode()))
    header = next(lines, [])
    if len(header) < 2 or header[-1] != "label":
        raise PipelineError(f"{where}: the first line does not name features and a label.")
    features: list[list[float]] = []
    labels: list[int] = []
    for number, line in enumerate(lines, start=2):
        try:
            if len(line) != len(header):
                raise ValueError(f"{len(line)} fields, wanted {len(header)}")
            features.append([float(value) for value in line[:-1]])
            labels.append(int(line[-1]))
        except ValueError as error:
            raise PipelineError(f"{where}, line {number}: {error}.") from None
    return Rows(tuple(header[:-1]), features, labels)


def build_manifest(
    dataset: str, origin: str, seed: int, test_share: float, files: dict[str, bytes]
) -> bytes:
    """Describe a data set."""
    value = {
        "dataset": dataset,
        "origin": origin,
        "seed": seed,
        "test_share": test_share,
        "files": [
            {"path": name, "size": len(data), "sha256": sha256(data)}
            for name, data in sorted(files.items())
        ],
    }
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def read_dataset(
    storage: Storage, version: str, parts: Sequence[str] = PARTS
) -> tuple[dict[str, Any], dict[str, Rows]]:
    """Read a version of a data set and check every file against the manifest."""
    where = f"{storage.uri}/{version}"
    data = storage.read(f"{version}/{MANIFEST}")
    if data is None:
        raise PipelineError(f"There is no data set {where}; run the step prepare first.")
    if sha256(data) != version:
        raise PipelineError(f"The manifest of {where} was changed after the data were prepared.")
    manifest: dict[str, Any] = json.loads(data)
    found: dict[str, Rows] = {}
    for entry in manifest["files"]:
        part = entry["path"].removesuffix(".csv")
        if part not in parts:
            continue
        content = storage.read(f"{version}/{entry['path']}")
        if content is None:
            raise PipelineError(f"The file {where}/{entry['path']} is missing.")
        if sha256(content) != entry["sha256"]:
            raise PipelineError(
                f"The file {where}/{entry['path']} has the sha256 {sha256(content)}, "
                f"the manifest says {entry['sha256']}."
            )
        found[part] = from_csv(content, f"{where}/{entry['path']}")
    return manifest, found

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows as CSV: written by prepare.py, read by train.py and evaluate.py."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

INPUT = "features"


def write(path: Path, names: list[str], features: Any, labels: Any) -> None:
    """Write rows; numbers in the shortest form that reads back to the same number."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*names, "label"])
        for row, label in zip(features, labels, strict=True):
            writer.writerow([*(repr(float(value)) for value in row), int(label)])


def read(path: Path) -> tuple[list[str], Any, Any]:
    """Read rows, naming the line that is wrong."""
    import numpy as np

    with path.open(encoding="utf-8", newline="") as stream:
        lines = csv.reader(stream)
        header = next(lines, [])
        if len(header) < 2 or header[-1] != "label":
            raise SystemExit(f"{path.name}: the first line does not name features and a label.")
        features, labels = [], []
        for number, line in enumerate(lines, start=2):
            try:
                if len(line) != len(header):
                    raise ValueError(f"{len(line)} fields, wanted {len(header)}")
                features.append([float(value) for value in line[:-1]])
                labels.append(int(line[-1]))
            except ValueError as error:
                raise SystemExit(f"{path.name}, line {number}: {error}.") from None
    return (
        header[:-1],
        np.asarray(features, dtype=np.float32),
        np.asarray(labels, dtype=np.int64),
    )

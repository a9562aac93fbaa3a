# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a real data set that ships inside scikit-learn, dealt into rows to train and to test."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import rows

DATASETS = ("breast_cancer", "digits", "iris", "wine")


def split(count: int, test_share: float, seed: int) -> dict[str, list[int]]:
    """Deal rows into parts by hash: the same on every machine and with every library version."""
    order = sorted(range(count), key=lambda row: hashlib.sha256(f"{seed}:{row}".encode()).digest())
    cut = round(count * test_share)
    return {"test": sorted(order[:cut]), "train": sorted(order[cut:])}


def main() -> None:
    """Write train.csv and test.csv; say how many rows each has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--dataset", default=DATASETS[0])
    parser.add_argument("--test-share", type=float, default=0.25)
    parser.add_argument("--seed", type=float, default=17)
    options = parser.parse_args()
    if options.dataset not in DATASETS:
        raise SystemExit(
            f"Found the data set {options.dataset!r}, wanted one of {', '.join(DATASETS)}."
        )
    if not 0.05 <= options.test_share <= 0.5:
        raise SystemExit(f"Found the test_share {options.test_share}, wanted 0.05 to 0.5.")
    import numpy as np
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{options.dataset}")()
    names = [str(each).replace(" ", "_") for each in bunch.feature_names]
    # Devices compute in single precision; training on the same numbers keeps answers comparable.
    features = bunch.data.astype(np.float32)
    parts = split(len(bunch.target), options.test_share, int(options.seed))
    for part, chosen in parts.items():
        rows.write(
            options.output / f"{part}.csv",
            names,
            [features[row] for row in chosen],
            [bunch.target[row] for row in chosen],
        )
    print(json.dumps({"rows": {part: len(chosen) for part, chosen in parts.items()}}))


if __name__ == "__main__":
    main()

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write real images of handwritten digits as arrays, dealt into those to train and to test."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np


def main() -> None:
    """Write images (n, 1, 8, 8) from 0 to 1 and labels; say how many there are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--test-share", type=float, default=0.25)
    parser.add_argument("--seed", type=float, default=17)
    options = parser.parse_args()
    if not 0.05 <= options.test_share <= 0.5:
        raise SystemExit(f"Found the test_share {options.test_share}, wanted 0.05 to 0.5.")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images / 16).astype(np.float32)[:, None]
    labels = bunch.target.astype(np.int64)
    # By hash, so that the same image is in the same part on every machine.
    seed = int(options.seed)
    marks = [hashlib.sha256(f"{seed}:{row}".encode()).digest() for row in range(len(labels))]
    order = np.asarray(sorted(range(len(labels)), key=marks.__getitem__))
    cut = round(len(labels) * options.test_share)
    parts = {"test": np.sort(order[:cut]), "train": np.sort(order[cut:])}
    for part, chosen in parts.items():
        np.save(options.output / f"{part}_images.npy", images[chosen])
        np.save(options.output / f"{part}_labels.npy", labels[chosen])
    print(json.dumps({"rows": {part: len(chosen) for part, chosen in parts.items()}}))


if __name__ == "__main__":
    main()

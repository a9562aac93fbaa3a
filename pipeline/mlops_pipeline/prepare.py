# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 1: write a data set with its manifest to the object store, or find that it is there."""

from __future__ import annotations

from typing import Any

from .config import Config
from .data import MANIFEST, Rows, build_manifest, sha256, split, to_csv
from .errors import PipelineError
from .storage import open_storage
from .timing import Timings

SOURCES = ("breast_cancer", "digits", "iris", "wine")


def load_source(name: str) -> Rows:
    """Load a real data set that ships inside scikit-learn."""
    if name not in SOURCES:
        raise PipelineError(f"Found the data set {name!r}, wanted one of {', '.join(SOURCES)}.")
    import numpy as np
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    # Devices compute in single precision; training on the same numbers keeps answers comparable.
    features = bunch.data.astype(np.float32).astype(np.float64)
    return Rows(
        names=tuple(str(each).replace(" ", "_") for each in bunch.feature_names),
        features=[[float(value) for value in row] for row in features],
        labels=[int(label) for label in bunch.target],
    )


def run(config: Config, timings: Timings) -> dict[str, Any]:
    """Prepare the data; the version is the digest of the manifest."""
    options = config.options
    name = options.text("dataset", "breast_cancer")
    seed = options.count("seed", 17)
    share = options.number("test_share", 0.25)
    if not 0.05 <= share <= 0.5:
        raise PipelineError(f"Found the test_share {share}, wanted 0.05 to 0.5.")
    with timings.measure("load the source"):
        rows = load_source(name)
    parts = split(len(rows.labels), share, seed)
    files = {
        f"{part}.csv": to_csv(
            Rows(
                rows.names,
                [rows.features[row] for row in chosen],
                [rows.labels[row] for row in chosen],
            )
        )
        for part, chosen in parts.items()
    }
    manifest = build_manifest(name, f"sklearn.datasets.load_{name}", seed, share, files)
    version = sha256(manifest)
    with timings.measure("store"):
        storage = open_storage(options.text("data_uri"), config)
        changed = storage.read(f"{version}/{MANIFEST}") != manifest
        if changed:
            for path, data in files.items():
                storage.write(f"{version}/{path}", data)
            # Last: a manifest that is there means that all of it is there.
            storage.write(f"{version}/{MANIFEST}", manifest)
    return {
        "changed": changed,
        "data_uri": f"{storage.uri}/{version}",
        "data_version": version,
        "rows": {part: len(chosen) for part, chosen in parts.items()},
        "bytes": sum(len(data) for data in files.values()),
    }

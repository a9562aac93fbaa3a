# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge the ONNX model, as devices will run it, on images that it has not seen."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np


def main() -> None:
    """Print the metrics as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidate", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    import onnxruntime

    images = np.load(options.data / "test_images.npy")
    labels = np.load(options.data / "test_labels.npy")
    session = onnxruntime.InferenceSession(
        str(options.candidate / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    scores, digits = session.run(["scores", "digit"], {"image": images})
    right = digits == labels
    worst = min(float(right[labels == digit].mean()) for digit in np.unique(labels))
    metrics = {
        "accuracy": float(right.mean()),
        "worst_digit": worst,
        "confidence": float(scores.max(axis=1).mean()),
    }
    print(json.dumps({"metrics": metrics, "rows": len(labels)}))


if __name__ == "__main__":
    main()

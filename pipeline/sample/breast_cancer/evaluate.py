# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge the ONNX model, as devices will run it, on rows it has not seen."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import rows


def main() -> None:
    """Print the metrics as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidate", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    import onnxruntime
    from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

    _names, features, labels = rows.read(options.data / "test.csv")
    session = onnxruntime.InferenceSession(
        str(options.candidate / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    guessed, chances = session.run(["label", "probabilities"], {rows.INPUT: features})
    binary = chances.shape[1] == 2
    metrics = {
        "accuracy": float(accuracy_score(labels, guessed)),
        "f1": float(f1_score(labels, guessed, average="binary" if binary else "macro")),
        "roc_auc": float(
            roc_auc_score(labels, chances[:, 1])
            if binary
            else roc_auc_score(labels, chances, multi_class="ovr")
        ),
    }
    print(json.dumps({"metrics": metrics, "rows": len(labels)}))


if __name__ == "__main__":
    main()

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Train a classifier of scikit-learn; write it as ONNX with golden requests and their answers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import rows


def count(name: str, value: float) -> int:
    """Return a whole number above zero."""
    if value != int(value) or value < 1:
        raise SystemExit(f"{name}: found {value:g}, wanted 1 or more.")
    return int(value)


def build(options: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """Return the untrained model and its parameters."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    parameters: dict[str, Any]
    if options.kind == "logistic_regression":
        from sklearn.linear_model import LogisticRegression

        parameters = {"C": options.C, "max_iter": count("max_iter", options.max_iter)}
        estimator: Any = LogisticRegression(**parameters)
    elif options.kind == "random_forest":
        from sklearn.ensemble import RandomForestClassifier

        parameters = {
            "n_estimators": count("n_estimators", options.n_estimators),
            "max_depth": count("max_depth", options.max_depth),
        }
        estimator = RandomForestClassifier(**parameters, random_state=0, n_jobs=1)
    else:
        raise SystemExit(
            f"Found the model kind {options.kind!r}, wanted logistic_regression or random_forest."
        )
    return make_pipeline(StandardScaler(), estimator), {"kind": options.kind, **parameters}


def golden_cases(model: Any, features: Any) -> list[dict[str, Any]]:
    """Requests in the Open Inference Protocol, answered by the trainer's own model."""
    cases = []
    for row in features:
        one = row.reshape(1, -1)
        request = {
            "name": rows.INPUT,
            "shape": list(one.shape),
            "datatype": "FP32",
            "data": [float(value) for value in row],
        }
        expected = {
            "label": [int(model.predict(one)[0])],
            "probabilities": [float(value) for value in model.predict_proba(one)[0]],
        }
        cases.append({"request": {"inputs": [request]}, "expected": expected})
    return cases


def to_onnx(model: Any, features: Any) -> bytes:
    """Convert; give the input a name that clients can guess, as skl2onnx calls it X."""
    import skl2onnx

    converted = skl2onnx.to_onnx(
        model,
        features[:1],
        name="classifier",
        options={id(model): {"zipmap": False}},
        target_opset={"": 18, "ai.onnx.ml": 3},
    )
    graph = converted.graph
    old = graph.input[0].name
    graph.input[0].name = rows.INPUT
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name == old:
                node.input[position] = rows.INPUT
    data: bytes = converted.SerializeToString()
    return data


def main() -> None:
    """Read the data, write the candidate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--candidate", type=Path, required=True)
    parser.add_argument("--kind", default="logistic_regression")
    parser.add_argument("--C", type=float, default=1.0)
    parser.add_argument("--max-iter", type=float, default=1000)
    parser.add_argument("--n-estimators", type=float, default=50)
    parser.add_argument("--max-depth", type=float, default=8)
    parser.add_argument("--golden-cases", type=float, default=16)
    options = parser.parse_args()
    wanted = count("golden_cases", options.golden_cases)
    import numpy as np

    model, parameters = build(options)
    names, features, labels = rows.read(options.data / "train.csv")
    model.fit(features, labels)
    accuracy = float(model.score(features, labels))
    _names, unseen, _labels = rows.read(options.data / "test.csv")
    files = {
        "golden.json": {"cases": golden_cases(model, unseen[:wanted])},
        "config.json": {"input": rows.INPUT, "feature_names": names},
        "training.json": {
            "parameters": {**parameters, "train_rows": len(labels)},
            "metrics": {"train_accuracy": accuracy},
        },
    }
    (options.candidate / "model.onnx").write_bytes(to_onnx(model, features))
    # All rows: the more there are, the smaller a change that devices can tell from chance.
    everything: dict[str, Any] = {rows.INPUT: np.concatenate([features, unseen])}
    np.savez(options.candidate / "reference.npz", **everything)
    for name, value in files.items():
        (options.candidate / name).write_text(json.dumps(value, sort_keys=True))


if __name__ == "__main__":
    main()

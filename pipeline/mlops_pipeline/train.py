# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 2: train on the prepared data; log parameters, metrics, model and golden answers."""

from __future__ import annotations

import json
from typing import Any

from . import tracking
from .config import Config
from .data import Rows, read_dataset
from .errors import PipelineError
from .storage import open_storage
from .timing import Timings

INPUT = "features"


def build(options: Any) -> tuple[Any, dict[str, Any]]:
    """Return the untrained pipeline and its parameters."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    kind = options.text("kind", "logistic_regression")
    if kind == "logistic_regression":
        from sklearn.linear_model import LogisticRegression

        parameters = {
            "C": options.number("C", 1.0),
            "max_iter": options.count("max_iter", 1000),
        }
        estimator: Any = LogisticRegression(**parameters)
    elif kind == "random_forest":
        from sklearn.ensemble import RandomForestClassifier

        parameters = {
            "n_estimators": options.count("n_estimators", 50),
            "max_depth": options.count("max_depth", 8),
        }
        estimator = RandomForestClassifier(**parameters, random_state=0, n_jobs=1)
    else:
        raise PipelineError(
            f"Found the model kind {kind!r}, wanted logistic_regression or random_forest."
        )
    return make_pipeline(StandardScaler(), estimator), {"kind": kind, **parameters}


def golden_cases(model: Any, rows: Rows, count: int) -> list[dict[str, Any]]:
    """Requests in the Open Inference Protocol, answered by the trainer's own model."""
    import numpy as np

    cases = []
    for features in rows.features[:count]:
        row = np.asarray([features], dtype=np.float32)
        cases.append(
            {
                "request": {
                    "inputs": [
                        {
                            "name": INPUT,
                            "shape": [1, row.shape[1]],
                            "datatype": "FP32",
                            "data": [float(value) for value in row[0]],
                        }
                    ]
                },
                "expected": {
                    "label": [int(model.predict(row)[0])],
                    "probabilities": [float(value) for value in model.predict_proba(row)[0]],
                },
            }
        )
    return cases


def run(config: Config, timings: Timings, data_version: str) -> dict[str, Any]:
    """Train one model in one MLflow run."""
    options = config.options
    name = options.text("model_name")
    with timings.measure("read data"):
        storage = open_storage(options.text("data_uri"), config)
        manifest, parts = read_dataset(storage, data_version)
    with timings.measure("load libraries"):
        import numpy as np
        from skl2onnx import to_onnx
        from sklearn.metrics import accuracy_score

        model, parameters = build(options.section("model"))
    features = np.asarray(parts["train"].features, dtype=np.float32)
    labels = np.asarray(parts["train"].labels, dtype=np.int64)
    with timings.measure("fit"):
        model.fit(features, labels)
        accuracy = float(accuracy_score(labels, model.predict(features)))
    with timings.measure("convert to ONNX"):
        onnx_model = to_onnx(
            model,
            features[:1],
            name=name,
            options={id(model): {"zipmap": False}},
            target_opset={"": 18, "ai.onnx.ml": 3},
        )
        _rename_input(onnx_model)
        golden = {
            "tolerance": options.number("tolerance", 1e-4),
            "cases": golden_cases(model, parts["test"], options.count("golden_cases", 16)),
        }
        settings = {
            "model_name": name,
            "input": INPUT,
            "feature_names": list(parts["train"].names),
            "tolerance": golden["tolerance"],
            "data_version": data_version,
        }
    with timings.measure("load libraries"):
        mlflow = tracking.connect(config)
        from mlflow.models import infer_signature
        from mlflow.onnx import log_model
    with timings.measure("log to the registry"), tracking.sentences("log the training"):
        mlflow.set_experiment(options.text("experiment", name))
        with mlflow.start_run(tags={tracking.TAG_DATA: data_version}) as active:
            mlflow.log_params(
                {
                    **parameters,
                    "dataset": manifest["dataset"],
                    "data_version": data_version,
                    "train_rows": len(labels),
                }
            )
            mlflow.log_metric("train_accuracy", accuracy)
            info = log_model(
                onnx_model,
                name="model",
                signature=infer_signature(features[:5], model.predict_proba(features[:5])),
                pip_requirements=["onnxruntime"],
            )
            for file, value in ((tracking.GOLDEN_FILE, golden), (tracking.CONFIG_FILE, settings)):
                mlflow.log_text(
                    json.dumps(value, sort_keys=True), f"{tracking.RELEASE_FOLDER}/{file}"
                )
            run_id = active.info.run_id
    return {
        "changed": True,
        "run_id": run_id,
        "model_uri": info.model_uri,
        "parameters": parameters,
        "metrics": {"train_accuracy": accuracy},
        "golden_cases": len(golden["cases"]),
    }


def _rename_input(onnx_model: Any) -> None:
    """Give the input a name that clients can guess; skl2onnx calls it X."""
    graph = onnx_model.graph
    old = graph.input[0].name
    graph.input[0].name = INPUT
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name == old:
                node.input[position] = INPUT

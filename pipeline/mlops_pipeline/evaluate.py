# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 3: judge the ONNX model, as devices will run it, on data it has not seen."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from . import tracking
from .config import Config
from .data import read_dataset
from .errors import PipelineError
from .storage import open_storage
from .timing import Timings
from .train import INPUT


def largest_gap(found: list[float], expected: list[float]) -> float:
    """Return the largest distance between two answers; infinite if they differ in length."""
    if len(found) != len(expected):
        return float("inf")
    return max((abs(one - other) for one, other in zip(found, expected, strict=True)), default=0.0)


def judge(metrics: dict[str, float], thresholds: dict[str, float]) -> list[str]:
    """Return a sentence for each threshold that is not reached."""
    sentences = []
    for name, wanted in sorted(thresholds.items()):
        if name not in metrics:
            sentences.append(f"There is no metric {name}; known are {', '.join(sorted(metrics))}.")
        elif not metrics[name] >= wanted:
            sentences.append(f"The {name} is {metrics[name]:.4f}, wanted {wanted} or more.")
    return sentences


def fetch_release(mlflow: Any, run_id: str, folder: Path) -> dict[str, bytes]:
    """Fetch the files of a run that make a release."""
    from mlflow.artifacts import download_artifacts

    files: dict[str, bytes] = {}
    with tracking.sentences(f"read the model of run {run_id}"):
        runs = mlflow.MlflowClient()
        models = runs.search_logged_models(
            experiment_ids=[runs.get_run(run_id).info.experiment_id],
            filter_string=f"source_run_id = '{run_id}'",
        )
        if not models:
            raise PipelineError(f"The run {run_id} has logged no model; run the step train first.")
        local = download_artifacts(f"models:/{models[0].model_id}", dst_path=str(folder / "model"))
        files[tracking.MODEL_FILE] = (Path(local) / tracking.MODEL_FILE).read_bytes()
        for name in (tracking.GOLDEN_FILE, tracking.CONFIG_FILE):
            local = download_artifacts(
                run_id=run_id,
                artifact_path=f"{tracking.RELEASE_FOLDER}/{name}",
                dst_path=str(folder),
            )
            files[name] = Path(local).read_bytes()
    return files


def run(config: Config, timings: Timings, run_id: str) -> dict[str, Any]:
    """Compare with the thresholds and with the trainer's own answers; note the verdict."""
    options = config.options
    thresholds = {name: float(value) for name, value in options.get("thresholds", dict, {}).items()}
    with timings.measure("load libraries"):
        mlflow = tracking.connect(config)
        import numpy as np
        import onnxruntime
        from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
    with timings.measure("read the model"), TemporaryDirectory() as folder:
        files = fetch_release(mlflow, run_id, Path(folder))
        settings = json.loads(files[tracking.CONFIG_FILE])
    with timings.measure("read data"):
        storage = open_storage(options.text("data_uri"), config)
        _manifest, parts = read_dataset(storage, settings["data_version"], ("test",))
    with timings.measure("judge"):
        session = onnxruntime.InferenceSession(
            files[tracking.MODEL_FILE], providers=["CPUExecutionProvider"]
        )
        features = np.asarray(parts["test"].features, dtype=np.float32)
        labels = np.asarray(parts["test"].labels, dtype=np.int64)
        guessed, chances = session.run(["label", "probabilities"], {INPUT: features})
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
        golden = json.loads(files[tracking.GOLDEN_FILE])
        gap = 0.0
        for case in golden["cases"]:
            row = np.asarray([case["request"]["inputs"][0]["data"]], dtype=np.float32)
            answers = session.run(list(case["expected"]), {INPUT: row})
            for name, answer in zip(case["expected"], answers, strict=True):
                found = [float(value) for value in answer.ravel()]
                gap = max(gap, largest_gap(found, case["expected"][name]))
    problems = judge(metrics, thresholds)
    if not golden["cases"]:
        problems.append("There is no golden answer of the trainer to compare with.")
    if gap > golden["tolerance"]:
        problems.append(
            f"The ONNX model differs from the trainer's own answers by {gap:.3g}; "
            f"at most {golden['tolerance']:g} is accepted."
        )
    with timings.measure("note the verdict"), tracking.sentences("note the verdict"):
        client = mlflow.MlflowClient()
        for name, value in {**metrics, "golden_gap": gap}.items():
            client.log_metric(run_id, f"test_{name}", value)
        client.set_tag(run_id, tracking.TAG_EVALUATION, "failed" if problems else "passed")
    if problems:
        raise PipelineError(f"The model of run {run_id} is not good enough. {' '.join(problems)}")
    return {
        "changed": True,
        "run_id": run_id,
        "metrics": metrics,
        "thresholds": thresholds,
        "golden_gap": gap,
        "test_rows": len(labels),
    }

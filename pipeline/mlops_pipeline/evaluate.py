# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 3: judge the ONNX model, as devices will run it, on data it has not seen."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from . import tracking
from .candidate import Candidate, copy_plain, read_candidate
from .config import Config
from .errors import PipelineError
from .measure import measure
from .onnx_file import describe
from .timing import Timings
from .train import TYPES


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
    candidate = fetch_candidate(mlflow, run_id, folder)
    return {each.path: (candidate.folder / each.path).read_bytes() for each in candidate.files}


def fetch_candidate(mlflow: Any, run_id: str, folder: Path) -> Candidate:
    """Fetch what the step train has logged: the model's own files, and what goes with them."""
    from mlflow.artifacts import download_artifacts

    place = folder / "candidate"
    place.mkdir()
    with tracking.sentences(f"read the model of run {run_id}"):
        runs = mlflow.MlflowClient()
        models = runs.search_logged_models(
            experiment_ids=[runs.get_run(run_id).info.experiment_id],
            filter_string=f"source_run_id = '{run_id}'",
        )
        if not models:
            raise PipelineError(f"The run {run_id} has logged no model; run the step train first.")
        local = Path(
            download_artifacts(f"models:/{models[0].model_id}", dst_path=str(folder / "model"))
        )
        release = Path(
            download_artifacts(
                run_id=run_id, artifact_path=tracking.RELEASE_FOLDER, dst_path=str(folder / "run")
            )
        )
    model = describe(local / tracking.MODEL_FILE)
    for name in (tracking.MODEL_FILE, *model.files):
        copy_plain(local / name, place / name)
    for path in release.iterdir():
        copy_plain(path, place / path.name)
    return read_candidate(place)


def golden_gap(candidate: Candidate) -> float:
    """Return the largest difference of the model's answers from the trainer's own."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(candidate.folder / tracking.MODEL_FILE), providers=["CPUExecutionProvider"]
    )
    gap = 0.0
    for case in candidate.golden()["cases"]:
        feed = {
            each["name"]: np.asarray(each["data"], dtype=TYPES[each["datatype"]]).reshape(
                each["shape"]
            )
            for each in case["request"]["inputs"]
        }
        answers = session.run(list(case["expected"]), feed)
        for name, answer in zip(case["expected"], answers, strict=True):
            found = [float(value) for value in answer.ravel()]
            gap = max(gap, largest_gap(found, case["expected"][name]))
    return gap


def run(
    config: Config, timings: Timings, run_id: str, data_version: str, candidate: str
) -> dict[str, Any]:
    """Compare with the thresholds and with the trainer's own answers; note the verdict."""
    options = config.options
    thresholds = {name: float(value) for name, value in options.get("thresholds", dict, {}).items()}
    tolerance = options.number("tolerance", 1e-4)
    with timings.measure("load libraries"):
        mlflow = tracking.connect(config)
    with TemporaryDirectory(prefix="mlops-candidate-") as folder:
        with timings.measure("read the model"):
            fetched = fetch_candidate(mlflow, run_id, Path(folder))
            fetched.require(candidate, f"run {run_id}")
        with timings.measure("judge"):
            found = measure(config, fetched.folder, data_version)
            gap = golden_gap(fetched)
    metrics = found["metrics"]
    problems = judge(metrics, thresholds)
    if gap > tolerance:
        problems.append(
            f"The ONNX model differs from the trainer's own answers by {gap:.3g}; "
            f"at most {tolerance:g} is accepted."
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
        "candidate": candidate,
        "thresholds": thresholds,
        "golden_gap": gap,
        "test_rows": found["rows"],
        **found,
    }

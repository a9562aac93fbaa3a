# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 2: let the project train on the prepared data; log what came of it, byte by byte."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._release.release import (
    CONFIG_FILE,
    GOLDEN_FILE,
    MODEL_FILE,
)

from . import profile as profiles
from . import project, tracking
from .candidate import (
    PROFILE_FILE,
    Candidate,
    assemble,
    check_golden,
    check_name,
    read_mapping,
)
from .config import Config
from .data import fetch_dataset
from .errors import PipelineError
from .storage import open_storage
from .timing import Timings
from .trial import Limits

# What the project tells of the training; not part of the release.
TRAINING_FILE = "training.json"
TYPES: Mapping[str, str] = {
    "BOOL": "bool",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    **{f"INT{size}": f"int{size}" for size in (8, 16, 32, 64)},
    **{f"UINT{size}": f"uint{size}" for size in (8, 16, 32, 64)},
}


def settle(written: Path, folder: Path, config: Config, data_version: str) -> Candidate:
    """Make a candidate of what the project wrote.

    The name, the data and the tolerance are the operator's, whatever the project wrote of them.
    """
    for name, what in (
        (MODEL_FILE, "the model"),
        (GOLDEN_FILE, "requests with the trainer's own answers"),
    ):
        if not (written / name).is_file():
            raise PipelineError(
                f"The entry point train wrote no {name} ({what}) into the folder {{candidate}}."
            )
    tolerance = config.options.number("tolerance", 1e-4)
    golden = {"cases": read_mapping(written / GOLDEN_FILE).get("cases"), "tolerance": tolerance}
    described = optional(written / CONFIG_FILE)
    described.update(
        model_name=config.options.text("model_name"), tolerance=tolerance, data_version=data_version
    )
    profile = written / PROFILE_FILE
    most = Limits.of(config.options).release_max_mib
    return assemble(
        folder,
        written / MODEL_FILE,
        check_golden(golden, GOLDEN_FILE),
        described,
        profile if profile.is_file() else None,
        most,
    )


def profile_from(written: Path, config: Config) -> str:
    """Make the profile of the rows that the project has left; say where it comes from."""
    if (written / PROFILE_FILE).is_file():
        return "project"
    path = written / profiles.REFERENCE_FILE
    if not path.exists():
        return "none"
    made = profiles.make(
        written / MODEL_FILE,
        optional(written / CONFIG_FILE),
        profiles.read_rows(path),
        Limits.of(config.options),
    )
    profiles.write(written, made)
    return "made"


def optional(path: Path) -> dict[str, Any]:
    """Read a file that the project may leave out."""
    return read_mapping(path) if path.exists() else {}


def signature_of(candidate: Candidate) -> Any:
    """The inputs that MLflow shows, as the first golden request has them."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec
    from numpy import dtype

    request = candidate.golden()["cases"][0]["request"]
    specs = [
        TensorSpec(
            dtype(TYPES[each["datatype"]]) if each["datatype"] in TYPES else dtype("O"),
            (-1, *each["shape"][1:]),
            each["name"],
        )
        for each in request["inputs"]
    ]
    return ModelSignature(inputs=Schema(specs))


def log_model(mlflow: Any, run: Any, candidate: Candidate) -> str:
    """Log the exact files as a model of MLflow; nothing reads and writes them again."""
    from importlib.metadata import version

    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    client = mlflow.MlflowClient()
    logged = client.create_logged_model(
        run.info.experiment_id, name="model", source_run_id=run.info.run_id, model_type=""
    )
    described = Model(
        artifact_path="model",
        run_id=run.info.run_id,
        signature=signature_of(candidate),
        model_id=logged.model_id,
    )
    described.add_flavor("python_function", loader_module="mlflow.onnx", data=MODEL_FILE)
    described.add_flavor(
        "onnx",
        onnx_version=version("onnx"),
        data=MODEL_FILE,
        providers=["CPUExecutionProvider"],
        code=None,
    )
    with TemporaryDirectory(prefix="mlops-model-") as place:
        here = Path(place)
        for name in (MODEL_FILE, *candidate.model.files):
            shutil.copyfile(candidate.folder / name, here / name)
        (here / "requirements.txt").write_text("onnxruntime\n")
        described.save(str(here / "MLmodel"))
        client.log_model_artifacts(logged.model_id, str(here))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run.info.run_id, [LoggedModelOutput(logged.model_id, 0)])
    return str(logged.model_id)


def run(config: Config, timings: Timings, data_version: str) -> dict[str, Any]:
    """Train one model in one MLflow run."""
    options = config.options
    check_name(options.text("model_name"))
    code = project.load_project(options.text("project"), config.project_lock)
    with TemporaryDirectory(prefix="mlops-train-") as place:
        data, written = Path(place, "data"), Path(place, "written")
        data.mkdir()
        written.mkdir()
        # Loading MLflow's client takes as long as a small training; both are done at once.
        tracker = tracking.Later(config)
        with timings.measure("read data"):
            storage = open_storage(options.text("data_uri"), config)
            manifest = fetch_dataset(storage, data_version, data)
        with timings.measure("find the environment"):
            python = project.python_of(code, config.environments, config.project_python)
        parameters = {**config.parameters("train"), "data": data, "candidate": written}
        with timings.measure("run the project"):
            project.run(code, "train", parameters, python, config.limit, config.disk_mib)
        training = optional(written / TRAINING_FILE)
        metrics = project.metrics_of(training, "train") if training.get("metrics") else {}
        told = training.get("parameters") or config.parameters("train")
        with timings.measure("make the profile"):
            origin = profile_from(written, config) if (written / MODEL_FILE).is_file() else "none"
        candidate = settle(written, Path(place, "candidate"), config, data_version)
        cases = len(candidate.golden()["cases"])
        with timings.measure("load libraries"):
            mlflow = tracker.get()
        logged = {**told, "dataset": manifest["dataset"], "data_version": data_version}
        with timings.measure("log to the registry"), tracking.sentences("log the training"):
            mlflow.set_experiment(options.text("experiment", options.text("model_name")))
            with mlflow.start_run(tags=tags_of(code, data_version, candidate)) as active:
                mlflow.log_params(logged)
                if metrics:
                    mlflow.log_metrics(metrics)
                model_id = log_model(mlflow, active, candidate)
                for each in candidate.files:
                    if each.path not in (MODEL_FILE, *candidate.model.files):
                        path = candidate.folder / each.path
                        mlflow.log_artifact(str(path), tracking.RELEASE_FOLDER)
                run_id = active.info.run_id
    return {
        "changed": True,
        "candidate": candidate.digest,
        "run_id": run_id,
        "model_uri": f"models:/{model_id}",
        "project": code.name,
        "project_digest": code.digest,
        "project_commit": code.commit,
        "lock_digest": code.lock_digest,
        "parameters": told,
        "metrics": metrics,
        "golden_cases": cases,
        "profile": origin,
        "bytes": candidate.size,
    }


def tags_of(code: project.Project, data_version: str, candidate: Candidate) -> dict[str, str]:
    """What people look for in the registry; none of it is believed by a later step."""
    tags = {
        tracking.TAG_DATA: data_version,
        tracking.TAG_PROJECT: code.digest,
        tracking.TAG_COMMIT: code.commit,
        tracking.TAG_LOCK: code.lock_digest,
        tracking.TAG_CANDIDATE: candidate.digest,
    }
    return {name: value for name, value in tags.items() if value}

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Get the bytes that an earlier step has named, once, to a place where nobody changes them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._release.release import (
    CONFIG_FILE,
    GOLDEN_FILE,
    MODEL_FILE,
)

from . import tracking
from .candidate import (
    RELEASE_FOLDER,
    Candidate,
    copy_plain,
    freeze,
    read_candidate,
)
from .config import Config
from .errors import PipelineError
from .onnx_file import describe
from .source import listed_bytes
from .timing import Timings
from .trial import Limits, workplace


def has_registry(config: Config) -> bool:
    """Say whether a model registry is set up."""
    return config.options.section("mlflow").text("url", "-") != "-"


@contextlib.contextmanager
def fetched(
    config: Config,
    timings: Timings,
    digest: str,
    run_id: str = "",
    package: Path | None = None,
) -> Iterator[tuple[Candidate, Any]]:
    """Yield the candidate of that digest, and MLflow's client if there is a model registry."""
    if bool(run_id) == (package is not None):
        raise PipelineError(
            "Name the candidate's place: --package FOLDER (as the step package printed) or "
            "--run-id (as the step train printed), one of them."
        )
    mlflow = None
    if run_id or has_registry(config):
        with timings.measure("load libraries"):
            mlflow = tracking.connect(config)
    most = Limits.of(config.options).release_max_mib
    with workplace() as place:
        with timings.measure("read the model"):
            if package is not None:
                candidate = freeze(package, place / RELEASE_FOLDER, most)
                candidate.require(digest, str(package))
            else:
                candidate = download(mlflow, run_id, place, most)
                candidate.require(digest, f"run {run_id}")
        yield candidate, mlflow


def download(mlflow: Any, run_id: str, place: Path, most_mib: int) -> Candidate:
    """Fetch what the step train has logged: the model's own files, and what goes with them."""
    target, scratch = place / RELEASE_FOLDER, place.parent / "fetched"
    with tracking.sentences(f"read the model of run {run_id}"):
        runs = mlflow.MlflowClient()
        models = runs.search_logged_models(
            experiment_ids=[runs.get_run(run_id).info.experiment_id],
            filter_string=f"source_run_id = '{run_id}'",
        )
        if not models:
            raise PipelineError(f"The run {run_id} has logged no model; run the step train first.")
        names = {Path(each.path).name for each in runs.list_artifacts(run_id, RELEASE_FOLDER)}
        if not {GOLDEN_FILE, CONFIG_FILE} <= names:
            raise PipelineError(
                f"The run {run_id} holds no {RELEASE_FOLDER}/{GOLDEN_FILE} and {CONFIG_FILE}, so "
                "it was not logged by the step train. Make a candidate of its model: "
                f"python -m mlops_pipeline package runs:/{run_id}/model"
            )
        fetch = mlflow.artifacts.download_artifacts
        uris = {
            "model": f"models:/{models[0].model_id}",
            "release": f"runs:/{run_id}/{RELEASE_FOLDER}",
        }
        size = sum(listed_bytes(mlflow, uri) for uri in uris.values())
        if size > (most_mib + 64) * 2**20:
            raise PipelineError(
                f"The run {run_id} holds {size / 2**20:.0f} MiB, more than the {most_mib} MiB of "
                "a release (limits, release_max_mib)."
            )
        local = Path(fetch(uris["model"], dst_path=str(scratch / "model")))
        release = Path(
            fetch(
                run_id=run_id,
                artifact_path=RELEASE_FOLDER,
                dst_path=str(scratch / "release"),
            )
        )
    target.mkdir()
    target.chmod(0o755)
    model = describe(local / MODEL_FILE)
    for name in (MODEL_FILE, *model.files):
        copy_plain(local / Path(name).name, target / Path(name).name)
    for path in release.iterdir():
        copy_plain(path, target / path.name)
    return read_candidate(target)

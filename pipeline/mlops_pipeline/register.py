# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give a candidate its version: in the model registry, or by the operator where there is none."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

from . import tracking
from .candidate import Candidate
from .config import Config
from .errors import PipelineError

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True)
class Place:
    """Where a candidate stands."""

    version: str
    run_id: str
    created: float
    fresh: bool
    mlflow: Any = None


def version_of(
    config: Config, mlflow: Any, name: str, candidate: Candidate, run_id: str, version: str
) -> Place:
    """Return the version of a candidate; the same candidate always has the same one."""
    if mlflow is None:
        if not version:
            raise PipelineError(
                "There is no model registry in the configuration (part mlflow) to count versions; "
                "name one by --version."
            )
        if not _VERSION.fullmatch(version):
            raise PipelineError(f"Found the version {version!r}, wanted letters, digits and dots.")
        return Place(version, "", time.time(), False)
    if version:
        raise PipelineError(
            "The model registry counts versions; leave --version out, or the part mlflow of the "
            "configuration."
        )
    with tracking.sentences("register the model"):
        client = mlflow.MlflowClient()
        known = [
            each
            for each in client.search_model_versions(f"name = '{name}'")
            if each.tags.get(tracking.TAG_CANDIDATE) == candidate.digest
            or (run_id and each.run_id == run_id)
        ]
        if known:
            oldest = min(known, key=number_of)
            at = created_of(client, oldest.run_id, oldest.creation_timestamp)
            return Place(str(oldest.version), oldest.run_id or "", at, False, mlflow)
        fresh_run = run_id or log_candidate(mlflow, config, name, candidate)
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        models = client.search_logged_models(
            experiment_ids=[client.get_run(fresh_run).info.experiment_id],
            filter_string=f"source_run_id = '{fresh_run}'",
        )
        made = mlflow.register_model(f"models:/{models[0].model_id}", name)
        client.set_model_version_tag(name, made.version, tracking.TAG_CANDIDATE, candidate.digest)
        at = created_of(client, fresh_run, made.creation_timestamp)
        return Place(str(made.version), fresh_run, at, True, mlflow)


def number_of(version: Any) -> int:
    """The number of a version."""
    return int(version.version)


def created_of(client: Any, run_id: str, otherwise: float) -> float:
    """When the run began, not today: the same run always makes the same release."""
    stamp = client.get_run(run_id).info.start_time if run_id else otherwise
    return float(stamp) / 1000


def log_candidate(mlflow: Any, config: Config, name: str, candidate: Candidate) -> str:
    """Log a packaged candidate as a run with a model of MLflow, so that people find it there."""
    from .train import log_model

    mlflow.set_experiment(config.options.text("experiment", name))
    with mlflow.start_run(
        run_name=f"package {name}", tags={tracking.TAG_CANDIDATE: candidate.digest}
    ) as active:
        log_model(mlflow, active, candidate)
        for each in candidate.files:
            if each.path not in (tracking.MODEL_FILE, *candidate.model.files):
                mlflow.log_artifact(str(candidate.folder / each.path), tracking.RELEASE_FOLDER)
        return str(active.info.run_id)


def announce(place: Place, name: str, alias: str, digest: str) -> None:
    """Note the digest in the model registry and move the alias, when all else is done."""
    if place.mlflow is None:
        return
    with tracking.sentences("note the digest"):
        client = place.mlflow.MlflowClient()
        client.set_model_version_tag(name, place.version, tracking.TAG_DIGEST, digest)
        client.set_registered_model_alias(name, alias, place.version)

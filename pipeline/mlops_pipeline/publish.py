# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 4: register the model, package it as a signed OCI artifact, push it, print its digest."""

from __future__ import annotations

import io
import time
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._release.client import RegistryClient
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.module_utils._release.oci import (
    EMPTY,
    EMPTY_CONFIG,
    Descriptor,
    digest_of,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.release import (
    MEDIA_TYPES,
    build_manifest,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.signature import (
    ONNX,
    Claims,
    Expected,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.web import WebTransport

from . import tracking
from .candidate import read_candidate
from .config import Config
from .errors import PipelineError
from .evaluate import fetch_release
from .signing import last_counter, open_signer, ring_of, sign_release, signed
from .timing import Timings


def open_registry(config: Config) -> RegistryClient:
    """Open the repository that devices pull from."""
    options = config.options.section("registry")
    ca_file = options.text("ca_file", "-")
    return RegistryClient(
        options.text("url"),
        options.text("repository"),
        WebTransport("" if ca_file == "-" else ca_file, timeout=60.0),
        options.text("user"),
        config.secret("PIPELINE_REGISTRY_PASSWORD"),
        time.sleep,
    )


def register(mlflow: Any, name: str, run_id: str, alias: str) -> tuple[str, bool]:
    """Make a model version of a run, or find the one it has; return it and whether it is new."""
    client = mlflow.MlflowClient()
    found = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    fresh = not found
    if fresh:
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        models = client.search_logged_models(
            experiment_ids=[client.get_run(run_id).info.experiment_id],
            filter_string=f"source_run_id = '{run_id}'",
        )
        version = mlflow.register_model(f"models:/{models[0].model_id}", name).version
    else:
        version = found[0].version
    client.set_registered_model_alias(name, alias, version)
    return str(version), fresh


def keep_golden(path: str, data: bytes) -> None:
    """Write the golden answers where the check of the devices finds them."""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(data)
    except OSError as error:
        raise PipelineError(f"The golden answers cannot be written to {path}: {error}.") from None


def run(
    config: Config,
    timings: Timings,
    run_id: str,
    golden: str | None = None,
    candidate: str | None = None,
) -> dict[str, Any]:
    """Publish the model of a run that has passed its evaluation."""
    options = config.options
    name = options.text("model_name")
    alias = options.text("alias", "champion")
    signer = open_signer(config)
    site = options.text("site", "default")
    with timings.measure("load libraries"):
        mlflow = tracking.connect(config)
    with timings.measure("register"), tracking.sentences("register the model"):
        client = mlflow.MlflowClient()
        origin = client.get_run(run_id)
        if origin.data.tags.get(tracking.TAG_EVALUATION) != "passed":
            raise PipelineError(
                f"The run {run_id} has not passed its evaluation; run the step evaluate first."
            )
    with timings.measure("read the model"), TemporaryDirectory() as folder:
        files = fetch_release(mlflow, run_id, Path(folder))
        if candidate:
            read_candidate(Path(folder) / "candidate").require(candidate, f"run {run_id}")
    with timings.measure("register"), tracking.sentences("register the model"):
        version, fresh = register(mlflow, name, run_id, alias)
    # The time of the run, not of today: the same run always makes the same release.
    created = datetime.fromtimestamp(origin.info.start_time / 1000, timezone.utc)
    blobs = {file: Descriptor.of(MEDIA_TYPES[file], data) for file, data in files.items()}
    try:
        manifest = build_manifest(
            blobs, name, version, run_id, created.strftime("%Y-%m-%dT%H:%M:%SZ")
        ).to_bytes()
        digest = digest_of(manifest)
        moved = 0
        with timings.measure("push"):
            registry = open_registry(config)
            pushed = registry.manifest(digest) != manifest
            if pushed:
                for file, blob in blobs.items():
                    moved += registry.push_blob(blob, io.BytesIO(files[file]))
                moved += registry.push_blob(EMPTY_CONFIG, io.BytesIO(EMPTY))
                registry.push_manifest(manifest)
            registry.push_manifest(manifest, f"v{version}")
        with timings.measure("sign"):
            expected = Expected(site, registry.reference, name)
            ring = ring_of(signer, config)
            verdict = signed(registry, digest, ring, expected)
            if verdict is None:
                last = last_counter(registry, ring, expected, version)
                claims = Claims(site, name, version, ONNX, 0, "")
                sign_release(registry, digest, signer, claims, last)
    except RegistryError as error:
        raise PipelineError(str(error)) from None
    with timings.measure("register"), tracking.sentences("note the digest"):
        client.set_model_version_tag(name, version, tracking.TAG_DIGEST, digest)
    if golden:
        keep_golden(golden, files[tracking.GOLDEN_FILE])
    return {
        "changed": fresh or pushed or verdict is None,
        "digest": digest,
        "model_name": name,
        "model_version": version,
        "run_id": run_id,
        "alias": alias,
        "bytes_pushed": moved,
        "bytes": sum(len(data) for data in files.values()),
    }

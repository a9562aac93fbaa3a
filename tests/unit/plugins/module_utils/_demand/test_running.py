# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._demand.running import (
    ContainerRun,
    DatasetRun,
    JobRun,
    ServingRun,
    UserRun,
    parse_run,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import ShapeError

IMAGE = "registry.example.com/labels@sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("kind", "given", "found"),
    [
        (
            "serving",
            {"engine": "llama_cpp", "model": "tiny", "version": "3", "max_request": "8MiB"},
            ServingRun("llama_cpp", "tiny", 3, request_mib=8),
        ),
        (
            "serving",
            {"engine": "external", "url": "https://llm.example.com/v1", "health": "/health"},
            ServingRun("external", url="https://llm.example.com/v1", health="/health"),
        ),
        ("serving", {"image": IMAGE, "port": 8080}, ContainerRun(IMAGE, 8080)),
        (
            "training",
            {"command": ["python", "train.py"], "team": "vision", "time_limit": "4h"},
            JobRun(("python", "train.py"), "vision", time_limit=14_400),
        ),
        (
            "batch",
            {"command": ["prepare"], "team": "vision", "environment": {"N": 4, "DRY": True}},
            JobRun(("prepare",), "vision", environment=(("DRY", "true"), ("N", "4"))),
        ),
        (
            "user",
            {"team": "vision", "account": "anna", "idle": "90min"},
            UserRun("vision", "anna", idle=5400),
        ),
        ("dataset", {"owner": "anna", "quota": False}, DatasetRun("anna", quota=False)),
        (
            "service",
            {"image": IMAGE, "volumes": {"/srv/labels": "/data"}},
            ContainerRun(IMAGE, volumes=(("/srv/labels", "/data"),)),
        ),
    ],
)
def test_what_runs_is_read(kind: str, given: dict[str, Any], found: object) -> None:
    assert parse_run(given, kind) == found


@pytest.mark.parametrize(
    ("kind", "given", "sentence"),
    [
        ("serving", {}, "engine: is missing"),
        ("serving", {"engine": "triton"}, "engine: must be one of onnx, llama_cpp, vllm, external"),
        ("serving", {"engine": "onnx", "model": "m"}, "version: must have one of version and dig"),
        (
            "serving",
            {"engine": "onnx", "model": "m", "version": 1, "url": "https://a"},
            "url: is only for engine external; the engine is onnx",
        ),
        (
            "serving",
            {"engine": "external", "url": "https://a", "model": "m"},
            "model: is only for an engine of this site; the engine is external",
        ),
        ("serving", {"engine": "external", "url": "https://u:p@a/"}, "url: must be an address"),
        ("training", {"command": "python train.py", "team": "a"}, "command: must be a list of wo"),
        ("training", {"command": ["x"]}, "team: is missing"),
        (
            "training",
            {"command": ["x"], "team": "a", "time_limit": 5},
            "time_limit: must be a span such as 30min",
        ),
        ("user", {"team": "a", "account": "Anna B"}, "account: must be the name of a Unix account"),
        ("dataset", {"mode": 488}, "mode: must be a mode such as"),
        ("service", {"image": "labels:latest"}, "image: must be an image by digest"),
        ("service", {"image": IMAGE, "volumes": {"/srv/../etc": "/d"}}, "must be a path from the"),
        ("batch", {"command": ["x"], "team": "a", "gpus": 2}, "has the unknown key 'gpus'"),
    ],
)
def test_a_slip_of_the_pen_is_told(kind: str, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ShapeError) as told:
        parse_run(given, kind)
    assert sentence in str(told.value)


SERVED: dict[str, Any] = {"engine": "llama_cpp", "model": "m", "version": 1}
AWAY: dict[str, Any] = {"engine": "external", "url": "https://h/x"}
JOB: dict[str, Any] = {"command": ["x"], "team": "a"}


@pytest.mark.parametrize(
    ("kind", "given", "sentence"),
    [
        # What nginx would read as more than an address or a path.
        ("serving", {**AWAY, "url": "https://$host/x"}, "url: must be an address"),
        ("serving", {**AWAY, "url": "https://h/x;return"}, "url: must be an address"),
        ("serving", {**AWAY, "url": "https://h/{x}"}, "url: must be an address"),
        ("serving", {**AWAY, "url": "https://h:99999/"}, "url: has the port 99999"),
        ("serving", {**AWAY, "url": "https://h:0/"}, "url: has the port 0"),
        ("serving", {**AWAY, "health": "/a b; }"}, "health: must be the path of an address"),
        ("serving", {**AWAY, "metrics": "/a\nb"}, "metrics: must be one line"),
        ("service", {"image": IMAGE, "health": "/$x"}, "health: must be the path of an address"),
        # What a unit or a command of Slurm would read as its next line.
        ("serving", {**SERVED, "options": {"a": "1\nExecStart=b"}}, "options.a: must be one line"),
        ("training", {**JOB, "directory": "/a\nb"}, "directory: must be one line"),
        ("training", {**JOB, "mail": "a@b.c\n--uid=0"}, "mail: must be one line"),
        ("training", {**JOB, "mail": "a@b.c,x@y.z"}, "mail: must be one address"),
        ("batch", {**JOB, "environment": {"A": "x\0y"}}, "environment.A: must be a text without"),
        # What the release says whose signature was verified, and what the plan says.
        ("serving", {**SERVED, "options": {"n_ctx": 9}}, "options.n_ctx: is set by the platform"),
        (
            "serving",
            {**SERVED, "engine": "vllm", "options": {"served_model_name": "x"}},
            "options.served_model_name: is set by the platform",
        ),
        (
            "serving",
            {**SERVED, "engine": "vllm", "options": {"mod": "/srv/other"}},
            "options.mod: is set by the platform",
        ),
        # What the engine would not read.
        (
            "serving",
            {**SERVED, "engine": "onnx", "options": {"a": 1}},
            "options: is only for engine",
        ),
        (
            "serving",
            {**SERVED, "engine": "onnx", "context_tokens": 9},
            "context_tokens: is only for",
        ),
        (
            "serving",
            {**SERVED, "execution_provider": "X"},
            "is only for engine onnx; the engine is",
        ),
        (
            "serving",
            {**SERVED, "engine": "onnx", "execution_provider": "cuda"},
            "execution_provider: must be a provider of ONNX Runtime",
        ),
        ("serving", {**AWAY, "parallel": 4}, "parallel: is only for an engine of this site"),
        (
            "serving",
            {**AWAY, "url": "http://h/x", "ca_file": "/a.pem"},
            "ca_file: is only for an address with https",
        ),
    ],
)
def test_what_a_program_behind_would_read_otherwise_is_told(
    kind: str, given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ShapeError) as told:
        parse_run(given, kind)
    assert sentence in str(told.value)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("serving", {**AWAY, "url": "http://[fd00::1]:8080/v1/a-b_c.d"}),
        ("serving", {**AWAY, "url": "https://llm_1.example.com", "health": "/health?full=1"}),
        ("serving", {**SERVED, "options": {"n_batch": 64, "flash_attn": True}}),
        ("serving", {**SERVED, "engine": "vllm", "options": {"dtype": "bfloat16"}}),
        ("training", {"command": ["bash", "-c", "a\nb"], "team": "a", "account": "sam.k"}),
        ("batch", {**JOB, "mail": "sam", "environment": {"A": "x\ny"}}),
    ],
)
def test_what_can_be_meant_is_let_through(kind: str, given: dict[str, Any]) -> None:
    assert parse_run(given, kind)

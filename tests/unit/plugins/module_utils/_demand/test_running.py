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

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights of somebody else: what their head says, and what is published of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.module_utils._release.oci import Descriptor
from ansible_collections.mlops.onprem.plugins.module_utils._release.release import (
    build_manifest,
    kind_of,
    parse_release,
)
from mlops_pipeline import gguf_file, weights
from mlops_pipeline.errors import PipelineError

from tests.fixtures import random_gguf


def test_the_model_of_the_tests_is_the_same_each_time(tmp_path: Path) -> None:
    data = random_gguf.model()
    assert data == random_gguf.model()
    assert data != random_gguf.model(12)
    assert len(data) < 1_000_000


def test_the_head_says_context_and_what_a_token_takes(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(random_gguf.model())
    about = gguf_file.described(gguf_file.read_keys(path))
    # One layer, 4 heads of 16 numbers, keys and values, 2 bytes each.
    assert about == {"architecture": "llama", "context_tokens": 2048, "token_bytes": 4 * 32 * 2}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it ends in its head"),
        (b"ONNX" + b"\0" * 60, "it does not begin with GGUF"),
        (b"GGUF" + b"\1\0\0\0" + b"\0" * 60, "it is of version 1, wanted 2 or 3"),
        (b"GGUF\3\0\0\0" + b"\0" * 8 + b"\xff" * 8, "it has"),
        (random_gguf.model()[:200], "it ends in its head"),
    ],
)
def test_what_is_no_gguf_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    with pytest.raises(PipelineError, match=said):
        gguf_file.read_keys(path)


def test_a_gguf_file_is_packaged_with_its_settings_and_a_golden_request(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(random_gguf.model())
    found = weights.collect(path, None)
    assert found.kind == "gguf"
    assert json.loads(found.made["config.json"])["context_tokens"] == 2048
    files = weights.descriptors(found)
    assert sorted(files) == ["config.json", "golden.json", "model.gguf"]
    release = parse_release(build_manifest(files, "tiny", "1", "", "").to_bytes())
    assert release.kind == "gguf"


def test_a_folder_of_safetensors_travels_whole(tmp_path: Path) -> None:
    for name in ("model-00001-of-00002.safetensors", "tokenizer.json", "config.json"):
        (tmp_path / name).write_text("{}")
    found = weights.collect(tmp_path, None)
    assert found.kind == "safetensors"
    assert sorted(found.files) == [
        "config.json",
        "model-00001-of-00002.safetensors",
        "tokenizer.json",
    ]
    (tmp_path / "config.json").unlink()
    with pytest.raises(PipelineError, match="wanted the folder as it was saved, or one GGUF file"):
        weights.collect(tmp_path, None)


@pytest.mark.parametrize("cases", [{}, {"cases": []}, {"cases": [{"request": {"inputs": []}}]}])
def test_golden_requests_that_no_engine_can_be_asked_are_refused(
    tmp_path: Path, cases: dict[str, Any]
) -> None:
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    (tmp_path / "m.gguf").write_bytes(random_gguf.model())
    with pytest.raises(PipelineError, match="case"):
        weights.collect(tmp_path / "m.gguf", tmp_path / "cases.json")


class Registry:
    """A registry with one version."""

    def __init__(self, manifest: bytes | None) -> None:
        self._manifest = manifest

    def manifest(self, _reference: str) -> bytes | None:
        return self._manifest


def test_a_version_is_never_written_over(tmp_path: Path) -> None:
    made = []
    for seed in (1, 2):
        (tmp_path / "m.gguf").write_bytes(random_gguf.model(seed))
        made.append(weights.descriptors(weights.collect(tmp_path / "m.gguf", None)))
    there = weights.manifest_of(Registry(None), made[0], "tiny", "1")
    assert weights.manifest_of(Registry(there), made[0], "tiny", "1") == there
    with pytest.raises(PipelineError, match="Version 1 of tiny is in the registry with other file"):
        weights.manifest_of(Registry(there), made[1], "tiny", "1")


def test_a_release_without_a_model_is_none() -> None:
    assert kind_of(["config.json", "golden.json"]) == ""
    blob = Descriptor.of("", b"x")
    with pytest.raises(RegistryError, match=r"lacks model.onnx"):
        build_manifest({"config.json": blob, "golden.json": blob}, "tiny", "1", "", "")

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests and manifests: what is accepted, and the sentence for what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release import oci, release
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError

DIGEST = "sha256:" + "a" * 64


def manifest(**changed: Any) -> bytes:
    """A release's manifest with something changed."""
    files = {
        name: oci.Descriptor.of("", name.encode())
        for name in ("model.onnx", "config.json", "golden.json")
    }
    good = release.build_manifest(files, "demo", "3", "run7", "2026-01-01T00:00:00Z")
    return oci.canonical({**json.loads(good.to_bytes()), **changed})


def layers() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(manifest())["layers"]
    return found


def test_a_release_reads_back_as_it_was_written() -> None:
    data = manifest()
    found = release.parse_release(data)
    assert found.digest == oci.digest_of(data)
    assert (found.model_name, found.model_version, found.run_id) == ("demo", "3", "run7")
    assert sorted(found.files) == ["config.json", "golden.json", "model.onnx"]
    assert found.size == len("model.onnxconfig.jsongolden.json")


def test_the_same_release_has_the_same_digest() -> None:
    assert manifest() == manifest()


def test_tools_of_others_find_the_type_and_the_names_of_the_files() -> None:
    value = json.loads(manifest())
    assert value["artifactType"] == "application/vnd.mlops.model.v1"
    assert value["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    assert value["config"]["digest"] == oci.digest_of(b"{}")
    assert [layer["annotations"][oci.TITLE] for layer in value["layers"]] == [
        "config.json",
        "golden.json",
        "model.onnx",
    ]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"{", "this is not JSON"),
        (b"[]", "this is not an OCI image manifest"),
        (manifest(schemaVersion=1), "this is not an OCI image manifest (schemaVersion 2)."),
        (manifest(mediaType="text/plain"), "found the media type text/plain"),
        (manifest(layers=None), "the manifest has no list of layers."),
        (manifest(layers=[7]), "layer 1: found int, wanted a descriptor."),
        (
            manifest(layers=[{**layers()[0], "size": -1}]),
            "layer 1: -1 is not a size in bytes.",
        ),
        (
            manifest(layers=[{**layers()[0], "digest": "md5:7"}]),
            "layer 1: Found md5:7, wanted a digest such as sha256:",
        ),
        (
            manifest(artifactType="application/vnd.other"),
            "found an artifact of type application/vnd.other, wanted a model release",
        ),
        (
            manifest(layers=[{**layers()[0], "annotations": {oci.TITLE: "../../etc/passwd"}}]),
            "layer 1: ../../etc/passwd is not a plain file name.",
        ),
        (
            manifest(layers=[{**layers()[0], "annotations": {oci.TITLE: "manifest.json"}}]),
            "layer 1: manifest.json is not a plain file name.",
        ),
        (manifest(layers=layers() * 2), "layer 4: the file config.json is there twice."),
        (manifest(layers=layers()[:1]), "the release lacks golden.json, model.onnx."),
        (manifest(annotations={}), "the annotation org.mlops.model.name is None"),
        (
            manifest(artifactType="x\x1b]0;" * 1000),
            r"found an artifact of type 'x\x1b]0;x",
        ),
        (
            manifest(
                annotations={
                    release.MODEL_NAME: "demo",
                    release.MODEL_VERSION: "1",
                    release.RUN_ID: "a\nb",
                }
            ),
            r"the annotation org.mlops.mlflow.run_id is 'a\nb', wanted a word of at most",
        ),
        (manifest(annotations={"a": 1}), "the annotations are not a mapping of text to text."),
    ],
)
def test_other_things_are_refused_with_their_place(data: bytes, sentence: str) -> None:
    with pytest.raises(RegistryError) as refusal:
        release.parse_release(data)
    assert sentence in str(refusal.value)
    assert str(refusal.value).startswith("manifest sha256:")


@pytest.mark.parametrize("text", ["", "latest", "sha256:" + "A" * 64, DIGEST + "0", None, 7])
def test_a_tag_is_no_digest(text: Any) -> None:
    with pytest.raises(RegistryError, match="wanted a digest"):
        oci.check_digest(text)


def test_a_digest_names_a_directory() -> None:
    assert oci.hex_of(DIGEST) == "a" * 64

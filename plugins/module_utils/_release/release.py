# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release: an OCI artifact of a model, its configuration and its golden answers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from .errors import RegistryError
from .oci import (
    EMPTY_CONFIG,
    MANIFEST_TYPE,
    TITLE,
    Descriptor,
    Manifest,
    digest_of,
    parse_manifest,
    shown,
)

ARTIFACT_TYPE = "application/vnd.mlops.model.v1"
CREATED = "org.opencontainers.image.created"
MODEL_NAME = "org.mlops.model.name"
MODEL_VERSION = "org.mlops.model.version"
RUN_ID = "org.mlops.mlflow.run_id"

MODEL_FILE = "model.onnx"
GGUF_FILE = "model.gguf"
SAFETENSORS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
GOLDEN_FILE = "golden.json"
MANIFEST_FILE = "manifest.json"
MODEL_FILES = {"onnx": MODEL_FILE, "gguf": GGUF_FILE, "safetensors": SAFETENSORS_FILE}
"""The file that a release of a kind has, by the kind that its signature names."""

MEDIA_TYPES = {
    MODEL_FILE: "application/vnd.mlops.model.v1.onnx",
    CONFIG_FILE: "application/vnd.mlops.model.v1.config+json",
    GOLDEN_FILE: "application/vnd.mlops.model.v1.golden+json",
}
FURTHER_TYPES = {
    GGUF_FILE: "application/vnd.mlops.model.v1.gguf",
    SAFETENSORS_FILE: "application/vnd.mlops.model.v1.safetensors",
}
OTHER_TYPE = "application/octet-stream"
_PART = re.compile(r"model-[0-9]{5}-of-[0-9]{5}\.safetensors")

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_WORD = re.compile(r"[\x21-\x7e]{0,100}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True)
class Release:
    """What a manifest says about a release."""

    digest: str
    model_name: str
    model_version: str
    run_id: str
    created: str
    files: Mapping[str, Descriptor]

    @property
    def size(self) -> int:
        """Bytes that a device keeps for it."""
        return sum(layer.size for layer in self.files.values())

    @property
    def kind(self) -> str:
        """What kind of model it is, by its files."""
        return kind_of(self.files)


def kind_of(files: Collection[str]) -> str:
    """The kind of model that these files are; nothing where they are none.

    A large model in safetensors comes in parts, as its index names them.
    """
    for kind, name in MODEL_FILES.items():
        if name in files:
            return kind
    return "safetensors" if any(_PART.fullmatch(name) for name in files) else ""


def media_type(name: str) -> str:
    """What a file of a release is called in its manifest."""
    return {**MEDIA_TYPES, **FURTHER_TYPES}.get(name, OTHER_TYPE)


def build_manifest(
    files: Mapping[str, Descriptor],
    model_name: str,
    model_version: str,
    run_id: str,
    created: str,
) -> Manifest:
    """Describe a release. The descriptors of the files carry digest and size."""
    manifest = Manifest(
        artifact_type=ARTIFACT_TYPE,
        config=EMPTY_CONFIG,
        layers=tuple(
            Descriptor(media_type(name), blob.digest, blob.size, {TITLE: name})
            for name, blob in sorted(files.items())
        ),
        annotations={
            CREATED: created,
            MODEL_NAME: model_name,
            MODEL_VERSION: model_version,
            RUN_ID: run_id,
        },
    )
    parse_release(manifest.to_bytes())
    return manifest


def parse_release(data: bytes) -> Release:
    """Read the manifest of a release and refuse every other artifact."""
    digest = digest_of(data)
    where = f"manifest {digest[:19]}"
    manifest = parse_manifest(data, where)
    if manifest.artifact_type != ARTIFACT_TYPE:
        raise RegistryError(
            f"{where}: found an artifact of type {shown(manifest.artifact_type or MANIFEST_TYPE)}, "
            f"wanted a model release ({ARTIFACT_TYPE})."
        )
    files: dict[str, Descriptor] = {}
    for number, layer in enumerate(manifest.layers, start=1):
        name = layer.annotations.get(TITLE, "")
        if not _FILE.fullmatch(name) or name == MANIFEST_FILE:
            raise RegistryError(f"{where}, layer {number}: {shown(name)} is not a plain file name.")
        if name in files:
            raise RegistryError(f"{where}, layer {number}: the file {name} is there twice.")
        files[name] = layer
    wanted = {CONFIG_FILE, GOLDEN_FILE, *([] if kind_of(files) else [MODEL_FILE])}
    missing = sorted(wanted - set(files))
    if missing:
        raise RegistryError(f"{where}: the release lacks {', '.join(missing)}.")
    notes = manifest.annotations
    for key in (MODEL_NAME, MODEL_VERSION):
        if not _NAME.fullmatch(notes.get(key, "")):
            raise RegistryError(
                f"{where}: the annotation {key} is {shown(notes.get(key))}, wanted letters, "
                "digits, dots, dashes and underscores."
            )
    for key in (RUN_ID, CREATED):
        if not _WORD.fullmatch(notes.get(key, "")):
            raise RegistryError(
                f"{where}: the annotation {key} is {shown(notes.get(key))}, wanted a word of at "
                "most 100 letters."
            )
    return Release(
        digest=digest,
        model_name=notes[MODEL_NAME],
        model_version=notes[MODEL_VERSION],
        run_id=notes.get(RUN_ID, ""),
        created=notes.get(CREATED, ""),
        files=files,
    )

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publish weights that somebody else has trained: GGUF or safetensors, signed like every release.

Nothing is trained or judged here. An engine that serves them answers the golden requests before
anybody else may ask it; whoever signs says that these are the weights that are meant.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.module_utils._release.oci import (
    EMPTY,
    EMPTY_CONFIG,
    Descriptor,
    digest_of,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.release import (
    CONFIG_FILE,
    GGUF_FILE,
    GOLDEN_FILE,
    SAFETENSORS_FILE,
    build_manifest,
    kind_of,
    media_type,
    parse_release,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.signature import (
    Claims,
    Expected,
)

from . import gguf_file
from .candidate import check_name, describe_file, read_mapping
from .config import Config
from .errors import PipelineError
from .publish import open_registry
from .register import _VERSION
from .signing import last_counter, open_signer, ring_of, sign_release, signed
from .timing import Timings

DEFAULT_CASES = {"cases": [{"request": {"prompt": "The quick brown fox", "max_tokens": 16}}]}
MOST_FILES = 200


@dataclass(frozen=True)
class Weights:
    """The files of a release: those on the disk, and those that are made here."""

    kind: str
    files: Mapping[str, Path]
    made: Mapping[str, bytes]


def check_cases(value: Mapping[str, Any], where: str) -> None:
    """Refuse golden requests that no engine could be asked."""
    cases = value.get("cases")
    if not isinstance(cases, list) or not cases:
        raise PipelineError(f"{where}: there is no case; a release needs one request.")
    for number, case in enumerate(cases, start=1):
        request = case.get("request") if isinstance(case, Mapping) else None
        if not isinstance(request, Mapping) or not isinstance(request.get("prompt"), str):
            raise PipelineError(
                f'{where}, case {number}: wanted {{"request": {{"prompt": …, "max_tokens": 16}}, '
                '"expected": {"tokens": […]} or {"text": …}}}; expected may be left out.'
            )


def collect(source: Path, cases: Path | None) -> Weights:
    """The files of a release: one GGUF file, or a folder with safetensors as it was saved."""
    golden = read_mapping(cases) if cases else dict(DEFAULT_CASES)
    check_cases(golden, str(cases or "cases"))
    made = {GOLDEN_FILE: json.dumps(golden, sort_keys=True).encode()}
    if source.is_dir():
        files = {path.name: path for path in sorted(source.iterdir()) if path.is_file()}
        files.pop(GOLDEN_FILE, None)
        if kind_of(files) != "safetensors" or CONFIG_FILE not in files:
            raise PipelineError(
                f"{source} holds no {SAFETENSORS_FILE} with its {CONFIG_FILE}; wanted the folder "
                "as it was saved, or one GGUF file."
            )
        if len(files) > MOST_FILES:
            raise PipelineError(f"{source} has {len(files)} files, more than {MOST_FILES}.")
        return Weights("safetensors", files, made)
    about = gguf_file.described(gguf_file.read_keys(source))
    made[CONFIG_FILE] = json.dumps(about, sort_keys=True).encode()
    return Weights("gguf", {GGUF_FILE: source}, made)


def descriptors(weights: Weights) -> dict[str, Descriptor]:
    """The files as the manifest names them."""
    found = {name: Descriptor.of(media_type(name), data) for name, data in weights.made.items()}
    for name, path in weights.files.items():
        each = describe_file(path)
        found[name] = Descriptor(media_type(name), f"sha256:{each.sha256}", each.size)
    return found


def manifest_of(registry: Any, files: Mapping[str, Descriptor], name: str, version: str) -> bytes:
    """The manifest; that which is there if it is of the same files. None is written over."""
    there = registry.manifest(f"v{version}")
    if there is not None:
        old = parse_release(there)
        if {each: blob.digest for each, blob in old.files.items()} != {
            each: blob.digest for each, blob in files.items()
        }:
            raise PipelineError(
                f"Version {version} of {name} is in the registry with other files "
                f"({digest_of(there)}); publish this one under a new version."
            )
        return bytes(there)
    created = datetime.fromtimestamp(time.time(), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return bytes(build_manifest(files, name, version, "", created).to_bytes())


def push(registry: Any, weights: Weights, files: Mapping[str, Descriptor], manifest: bytes) -> int:
    """Push files and manifest unless they are there; the bytes transferred."""
    moved = 0
    for name, blob in files.items():
        if name in weights.made:
            moved += registry.push_blob(blob, io.BytesIO(weights.made[name]))
            continue
        with weights.files[name].open("rb") as stream:
            moved += registry.push_blob(blob, stream)
    registry.push_blob(EMPTY_CONFIG, io.BytesIO(EMPTY))
    registry.push_manifest(manifest)
    return moved


def run(
    config: Config, timings: Timings, source: Path, name: str, version: str, cases: Path | None
) -> dict[str, Any]:
    """Publish one version of a model."""
    check_name(name)
    if not _VERSION.fullmatch(version):
        raise PipelineError(f"Found the version {version!r}, wanted letters, digits and dots.")
    signer = open_signer(config)
    with timings.measure("look at the weights"):
        weights = collect(source, cases)
        files = descriptors(weights)
    site = config.options.text("site", "default") or "default"
    try:
        registry = open_registry(config, name)
        with timings.measure("push"):
            manifest = manifest_of(registry, files, name, version)
            digest = digest_of(manifest)
            pushed = registry.manifest(f"v{version}") != manifest
            moved = push(registry, weights, files, manifest) if pushed else 0
        with timings.measure("sign"):
            expected = Expected(site, registry.reference, name, (weights.kind,))
            ring = ring_of(signer, config)
            fresh = signed(registry, digest, ring, expected) is None
            if fresh:
                last = last_counter(registry, ring, expected, version)
                claims = Claims(site, name, version, weights.kind, 0, "")
                sign_release(registry, digest, signer, claims, last)
        if pushed:
            # Last, so that a version that is found is a signed one.
            registry.push_manifest(manifest, f"v{version}")
    except RegistryError as error:
        raise PipelineError(str(error)) from None
    return {
        "changed": pushed or fresh,
        "digest": digest,
        "model_name": name,
        "model_version": version,
        "kind": weights.kind,
        "bytes_pushed": moved,
    }

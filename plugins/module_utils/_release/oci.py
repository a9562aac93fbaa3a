# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests, descriptors and image manifests of the OCI image format, as values."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from .errors import RegistryError

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"
TITLE = "org.opencontainers.image.title"
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
MAX_LAYERS = 512
SHOWN = 80

_PLAIN = re.compile(r"[A-Za-z0-9._:/+@=-]{1,80}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def shown(value: Any) -> str:
    """Return something that others wrote as it may stand in a sentence: short, on one line."""
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return value
    text = value[: SHOWN + 1] if isinstance(value, (str, bytes)) else value
    try:
        text = repr(text)
    except (RecursionError, ValueError):
        return f"a {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def digest_of(data: bytes) -> str:
    """Return the digest of some bytes, as registries write it."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def check_digest(text: Any) -> str:
    """Return the digest, or refuse what is none."""
    if not isinstance(text, str) or not _DIGEST.fullmatch(text):
        raise RegistryError(
            f"Found {shown(text)}, wanted a digest such as sha256: followed by 64 hexadecimal "
            "digits."
        )
    return text


def hex_of(digest: str) -> str:
    """Return the part of a digest that names a directory."""
    return check_digest(digest).partition(":")[2]


def canonical(value: Any) -> bytes:
    """Write JSON so that the same value always has the same digest."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that stands twice: two readers could take two values from it."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name stands twice")
    return value


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def read_json(data: bytes, where: str) -> Any:
    """Read JSON that others wrote: also what is nested too deep ends in a sentence."""
    try:
        return json.loads(data, object_pairs_hook=_once, parse_constant=_no_constant)
    except RecursionError:
        raise RegistryError(f"{where}: this is JSON that is nested too deep.") from None
    except ValueError as error:
        raise RegistryError(f"{where}: this is not JSON ({error}).") from None


@dataclass(frozen=True)
class Descriptor:
    """A reference to a blob: what it is, its digest and its size."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the descriptor as it stands in a manifest."""
        value: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        return value

    @classmethod
    def of(cls, media_type: str, data: bytes, **annotations: str) -> Descriptor:
        """Describe some bytes."""
        return cls(media_type, digest_of(data), len(data), annotations)


EMPTY_CONFIG = Descriptor.of(EMPTY_TYPE, EMPTY)


@dataclass(frozen=True)
class Manifest:
    """An OCI image manifest."""

    artifact_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Write the manifest; the digest of these bytes is its name."""
        value: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": self.config.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }
        if self.artifact_type:
            value["artifactType"] = self.artifact_type
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        return canonical(value)


def _annotations(value: Any, where: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(
        isinstance(key, str) and isinstance(text, str) for key, text in value.items()
    ):
        raise RegistryError(f"{where}: the annotations are not a mapping of text to text.")
    return value


def _descriptor(value: Any, where: str) -> Descriptor:
    if not isinstance(value, dict):
        raise RegistryError(f"{where}: found {type(value).__name__}, wanted a descriptor.")
    media_type, size = value.get("mediaType"), value.get("size")
    if not isinstance(media_type, str):
        raise RegistryError(f"{where}: the descriptor has no mediaType.")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise RegistryError(f"{where}: {shown(size)} is not a size in bytes.")
    try:
        digest = check_digest(value.get("digest"))
    except RegistryError as error:
        raise RegistryError(f"{where}: {error}") from None
    return Descriptor(media_type, digest, size, _annotations(value.get("annotations"), where))


def parse_manifest(data: bytes, where: str = "manifest") -> Manifest:
    """Read an image manifest, naming the place where it goes wrong."""
    value = read_json(data, where)
    if not isinstance(value, dict) or value.get("schemaVersion") != 2:
        raise RegistryError(f"{where}: this is not an OCI image manifest (schemaVersion 2).")
    media_type = value.get("mediaType", MANIFEST_TYPE)
    if media_type != MANIFEST_TYPE:
        raise RegistryError(
            f"{where}: found the media type {shown(media_type)}, wanted {MANIFEST_TYPE}."
        )
    layers = value.get("layers")
    if not isinstance(layers, list):
        raise RegistryError(f"{where}: the manifest has no list of layers.")
    if len(layers) > MAX_LAYERS:
        raise RegistryError(
            f"{where}: the manifest lists {len(layers)} layers, at most {MAX_LAYERS} are read."
        )
    artifact_type = value.get("artifactType", "")
    if not isinstance(artifact_type, str):
        raise RegistryError(f"{where}: the artifactType is not text.")
    return Manifest(
        artifact_type=artifact_type,
        config=_descriptor(value.get("config"), f"{where}, config"),
        layers=tuple(
            _descriptor(layer, f"{where}, layer {number}")
            for number, layer in enumerate(layers, start=1)
        ),
        annotations=_annotations(value.get("annotations"), where),
    )

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures in cosign's layout: a "simple signing" payload beside the artifact it speaks of."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any, Callable

from .errors import RegistryError
from .oci import EMPTY_CONFIG, Descriptor, Manifest, canonical, hex_of, parse_manifest

PAYLOAD_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"

Verify = Callable[[bytes, bytes], bool]
"""Says whether a signature (second) over a payload (first) is that of the trusted key."""


def signature_tag(digest: str) -> str:
    """Return the tag under which the signatures of an artifact are found."""
    return f"sha256-{hex_of(digest)}.sig"


def build_payload(reference: str, digest: str) -> bytes:
    """Write the statement that is signed."""
    return canonical(
        {
            "critical": {
                "identity": {"docker-reference": reference},
                "image": {"docker-manifest-digest": digest},
                "type": "cosign container image signature",
            },
            "optional": {},
        }
    )


def build_signature_manifest(payload: bytes, signature: bytes) -> Manifest:
    """Describe a signature as the artifact that is stored under the signature tag."""
    layer = Descriptor.of(PAYLOAD_TYPE, payload)
    return Manifest(
        artifact_type="",
        config=EMPTY_CONFIG,
        layers=(
            Descriptor(
                layer.media_type,
                layer.digest,
                layer.size,
                {SIGNATURE: base64.b64encode(signature).decode()},
            ),
        ),
    )


def signatures(manifest: bytes) -> Iterator[tuple[Descriptor, bytes]]:
    """Yield the payload's descriptor and the signature of each entry of a signature manifest."""
    for layer in parse_manifest(manifest, "signature manifest").layers:
        if layer.media_type != PAYLOAD_TYPE:
            continue
        try:
            yield layer, base64.b64decode(layer.annotations.get(SIGNATURE, ""), validate=True)
        except binascii.Error:
            continue


def check_payload(payload: bytes, digest: str) -> None:
    """Refuse a statement, however well signed, that speaks of something else."""
    try:
        value: Any = json.loads(payload)
        found = value["critical"]["image"]["docker-manifest-digest"]
        kind = value["critical"]["type"]
    except (ValueError, KeyError, TypeError):
        raise RegistryError(f"The signature of {digest} carries no readable statement.") from None
    if kind != "cosign container image signature" or found != digest:
        raise RegistryError(f"The signature stored for {digest} speaks of {found}.")

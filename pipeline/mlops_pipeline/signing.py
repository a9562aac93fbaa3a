# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who signs releases, and how a signature gets beside a release in the registry.

A signer may hold the key, or have a program sign: then the key never comes to this machine.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from ansible_collections.mlops.onprem.plugins.module_utils._release.client import RegistryClient
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import (
    RegistryError,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.keys import KeyRing, key_id
from ansible_collections.mlops.onprem.plugins.module_utils._release.oci import (
    EMPTY,
    EMPTY_CONFIG,
    Descriptor,
    digest_of,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.signature import (
    MAX_SIGNATURE_MANIFEST_BYTES,
    PAYLOAD_TYPE,
    Claims,
    Expected,
    Verdict,
    build_payload,
    build_signature_manifest,
    judge,
    next_counter,
    read_signatures,
    signature_tag,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.statement import (
    ENVELOPE_TYPE,
    MAX_ENVELOPE_BYTES,
    Evaluation,
    Statement,
    attestation_tag,
    attestations,
    build_attestation_manifest,
    build_envelope,
    build_statement,
    find_statement,
    pae,
)

from .config import Config
from .errors import PipelineError
from .signers import open_outer, verified_by


class Signer(Protocol):
    """Signs bytes with one ECDSA key on P-256, of which the public half is known."""

    @property
    def key_id(self) -> str:
        """The id of the key, as devices know it."""

    @property
    def public_key(self) -> str:
        """The public key in PEM form."""

    def sign(self, payload: bytes) -> bytes:
        """Return the signature (DER) over the SHA-256 of the payload."""


def load_key(pem: str) -> Any:
    """Read the signing key."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (TypeError, ValueError):
        raise PipelineError(
            "The signing key is not an unencrypted private key in PEM form."
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise PipelineError("The signing key is not an elliptic curve key on P-256.")
    return key


class PemSigner:
    """Signs with a private key that this process was given."""

    def __init__(self, pem: str) -> None:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        self._key = load_key(pem)
        self.public_key: str = (
            self._key.public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )
        self.key_id = key_id(self.public_key)

    def sign(self, payload: bytes) -> bytes:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        signature: bytes = self._key.sign(payload, ec.ECDSA(hashes.SHA256()))
        return signature


def _checker(public_key: str) -> Any:
    def verify(payload: bytes, signature: bytes) -> bool:
        return verified_by(public_key, payload, signature)

    return verify


def site_ring(config: Config) -> KeyRing | None:
    """Return the keys that the site lists (``release_keys``); None where it lists none."""
    rows = config.options.get("release_keys", list, [])
    if not rows:
        return None
    try:
        data = json.dumps({"keys": rows}).encode()
        return KeyRing(KeyRing.parse(data, "release_keys").keys, _checker)
    except (TypeError, ValueError):
        raise PipelineError("release_keys: wanted a list of mappings with public_key.") from None
    except RegistryError as error:
        raise PipelineError(str(error)) from None


def ring_of(signer: Signer, config: Config | None = None) -> KeyRing:
    """Return the keys by which the controller itself judges: the site's, or the signer's own.

    A signer whose key the devices do not trust is refused before anything is signed.
    """
    ring = site_ring(config) if config is not None else None
    if ring is None:
        return KeyRing(KeyRing.of(signer.public_key).keys, _checker)
    if signer.key_id not in [key.id for key in ring.keys if not key.revoked]:
        raise PipelineError(
            f"Releases would be signed with the key {signer.key_id}, which release_keys does not "
            "list or revokes; devices would refuse them."
        )
    return ring


def open_signer(config: Config) -> Signer:
    """Return who signs: a private key that is at hand, a command, or a token."""
    if config.options.section("signing").text("kind", "key") == "key":
        return PemSigner(config.secret("PIPELINE_SIGNING_KEY"))
    return open_outer(config, site_ring(config))


def read_entries(
    registry: RegistryClient, digest: str
) -> tuple[list[Descriptor], list[tuple[bytes, bytes]]]:
    """Return the signatures stored for a release: as they are described, and as they read.

    What cannot be read is left out; a fresh signature takes its place.
    """
    try:
        found = read_signatures(registry, digest)
    except RegistryError:
        found = []
    return [layer for layer, _payload, _mark in found][::-1], [each[1:] for each in found]


def signed(
    registry: RegistryClient, digest: str, ring: KeyRing, expected: Expected | None = None
) -> Verdict | None:
    """Return the signature that counts for a release here, None if there is none."""
    entries = read_entries(registry, digest)[1]
    try:
        return judge(entries, digest, ring, expected, fresh=True)
    except RegistryError:
        return None


def last_counter(
    registry: RegistryClient, ring: KeyRing, expected: Expected, version: str, back: int = 3
) -> int:
    """Return the highest counter that the versions just before this one were signed with.

    It only matters where this clock runs behind that of the machine that signed before.
    """
    highest = 0
    newest = int(version) - 1 if version.isdigit() else 0
    for number in range(newest, max(0, newest - back), -1):
        manifest = registry.manifest(f"v{number}")
        verdict = signed(registry, digest_of(manifest), ring, expected) if manifest else None
        if verdict is not None and verdict.claims is not None:
            highest = max(highest, verdict.claims.counter)
    return highest


def sign_release(
    registry: RegistryClient,
    digest: str,
    signer: Signer,
    claims: Claims,
    last: int = 0,
    now: float | None = None,
) -> Claims:
    """Sign a release and store the signature beside those that are there; return what was signed.

    ``claims`` come with any counter and key id; both are filled in here. ``last`` is the highest
    counter of the model so far.
    """
    full = replace(
        claims,
        counter=next_counter(time.time() if now is None else now, last),
        key_id=signer.key_id,
    )
    payload = build_payload(registry.reference, digest, full)
    signature = signer.sign(payload)
    layers, _entries = read_entries(registry, digest)
    registry.push_blob(Descriptor.of(PAYLOAD_TYPE, payload), io.BytesIO(payload))
    registry.push_blob(EMPTY_CONFIG, io.BytesIO(EMPTY))
    registry.push_manifest(
        build_signature_manifest(payload, signature, layers).to_bytes(), signature_tag(digest)
    )
    return full


def read_envelopes(registry: RegistryClient, digest: str) -> tuple[list[Descriptor], list[bytes]]:
    """Return the evaluations stored for a release; what cannot be read is left out."""
    stored = registry.manifest(attestation_tag(digest), MAX_SIGNATURE_MANIFEST_BYTES)
    layers: list[Descriptor] = []
    envelopes: list[bytes] = []
    try:
        found = attestations(stored) if stored is not None else []
    except RegistryError:
        found = []
    for layer in found:
        try:
            envelopes.append(registry.small_blob(layer, MAX_ENVELOPE_BYTES))
        except RegistryError:
            continue
        layers.append(layer)
    return layers[::-1], envelopes


def attested(
    registry: RegistryClient,
    digest: str,
    files: Mapping[str, str],
    ring: KeyRing,
    named: str = "",
) -> Statement:
    """Return the evaluation of a release that is trusted here; refuse where there is none."""
    return find_statement(read_envelopes(registry, digest)[1], ring, digest, files, named)


def attest(
    registry: RegistryClient,
    digest: str,
    files: Mapping[str, str],
    signer: Signer,
    evaluation: Evaluation,
) -> str:
    """Sign the evaluation of a release and store it beside it.

    Returns the digest of the statement, which the release's own signature is to name
    (``Claims.statement``). The key id of the evaluation is filled in here.
    """
    payload = build_statement(
        registry.reference, digest, files, replace(evaluation, key_id=signer.key_id)
    )
    envelope = build_envelope(payload, [(signer.key_id, signer.sign(pae(payload)))])
    layers, _envelopes = read_envelopes(registry, digest)
    registry.push_blob(Descriptor.of(ENVELOPE_TYPE, envelope), io.BytesIO(envelope))
    registry.push_blob(EMPTY_CONFIG, io.BytesIO(EMPTY))
    registry.push_manifest(
        build_attestation_manifest(envelope, layers).to_bytes(), attestation_tag(digest)
    )
    return digest_of(payload)

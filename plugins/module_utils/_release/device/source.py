# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the releases of a model come from, and whose signature counts for them here."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable

from ..client import RegistryClient
from ..errors import MistakenError, RegistryError, UntrustedError
from ..oci import canonical, check_digest, digest_of
from ..release import Release, parse_release
from ..signature import (
    MAX_SIGNATURE_MANIFEST_BYTES,
    ONNX,
    Expected,
    Ring,
    Verdict,
    judge,
    read_signatures,
)
from ..statement import MAX_ENVELOPE_BYTES, attestation_tag, attestations, parse_envelope

Pairs = Sequence[tuple[bytes, bytes]]


def write_pairs(pairs: Pairs) -> bytes:
    """Write payloads and signatures as a file of the release."""
    return canonical(
        [
            {
                "payload": base64.b64encode(payload).decode(),
                "signature": base64.b64encode(signature).decode(),
            }
            for payload, signature in pairs
        ]
    )


def read_pairs(data: bytes) -> Pairs:
    """Read that file. Raises ValueError, KeyError or TypeError."""
    return [
        (base64.b64decode(entry["payload"]), base64.b64decode(entry["signature"]))
        for entry in json.loads(data)
    ]


@dataclass(frozen=True)
class Found:
    """A release as the registry has it, judged before a single file of it is fetched."""

    release: Release
    manifest: bytes
    signature: bytes
    verdict: Verdict
    client: RegistryClient


class Source:
    """The registry and the keys, as this device was told.

    The releases of a model lie in ``<prefix>/<model>``. In the prefix itself lie those of sites
    that had one model; what is known to be here already may come from there again.
    """

    def __init__(
        self,
        prefix: str,
        client: Callable[[str], RegistryClient],
        ring: Ring,
        site: str = "",
        kinds: tuple[str, ...] = (ONNX,),
    ) -> None:
        self._prefix = prefix
        self._client = client
        self._ring = ring
        self._site = site
        self._kinds = kinds

    def _clients(self, model: str) -> list[RegistryClient]:
        own = [self._client(f"{self._prefix}/{model}")] if model else []
        return [*own, self._client(self._prefix)]

    def judge(self, digest: str, pairs: Pairs, model: str) -> Verdict:
        """Judge the signatures of a release that is on the disk."""
        refusals: list[RegistryError] = []
        for client in self._clients(model):
            try:
                return self._judged(digest, pairs, model, client, fresh=False)
            except (MistakenError, UntrustedError) as error:
                refusals.append(error)
        raise refusals[0]

    def _judged(
        self, digest: str, pairs: Pairs, model: str, client: RegistryClient, fresh: bool
    ) -> Verdict:
        expected = Expected(self._site or None, client.reference, model or None, self._kinds)
        return judge(pairs, digest, self._ring, expected, fresh)

    def find(self, digest: str, model: str, fresh: bool) -> Found:
        """Ask the registry for a release and judge it."""
        check_digest(digest)
        first: RegistryError | None = None
        clients = self._clients(model)
        for client in clients:
            manifest = client.manifest(digest)
            if manifest is None:
                continue
            try:
                return self._found(digest, manifest, model, client, fresh)
            except (MistakenError, UntrustedError) as error:
                first = first or error
        if first is not None:
            raise first
        said = "" if model else "; name its model, if it is in a repository of its own"
        raise RegistryError(
            f"The registry holds no release {digest} in "
            f"{' or '.join(client.reference for client in clients)}{said}."
        )

    def _found(
        self, digest: str, manifest: bytes, model: str, client: RegistryClient, fresh: bool
    ) -> Found:
        pairs = [each[1:] for each in read_signatures(client, digest)]
        verdict = self._judged(digest, pairs, model, client, fresh)
        release = parse_release(manifest)
        check_model(release, model, verdict)
        return Found(release, manifest, write_pairs(pairs), verdict, client)


def check_model(release: Release, model: str, verdict: Verdict | None = None) -> None:
    """Refuse a release that is of another model than was told, or than its signature says."""
    claims = verdict.claims if verdict is not None else None
    if model and release.model_name != model:
        raise MistakenError(
            f"The release {release.digest} is one of the model {release.model_name}, "
            f"wanted {model}."
        )
    if claims is not None and claims.kind != release.kind:
        raise MistakenError(
            f"The release {release.digest} was signed as a model of the kind {claims.kind}; its "
            f"files are those of {release.kind}."
        )
    if claims is not None and (claims.model_name, claims.model_version) != (
        release.model_name,
        release.model_version,
    ):
        raise MistakenError(
            f"The release {release.digest} calls itself {release.model_name} "
            f"{release.model_version}; it was signed as {claims.model_name} "
            f"{claims.model_version}."
        )


def evaluation_of(found: Found) -> bytes:
    """The statement that the release's signature names, which needs no signature of its own then.

    Nothing where there is none, or the registry does not give it: it is served all the same.
    """
    claims = found.verdict.claims
    if claims is None or not claims.statement:
        return b""
    try:
        tag = attestation_tag(found.release.digest)
        stored = found.client.manifest(tag, MAX_SIGNATURE_MANIFEST_BYTES)
        for layer in attestations(stored) if stored is not None else []:
            payload = parse_envelope(found.client.small_blob(layer, MAX_ENVELOPE_BYTES)).payload
            if digest_of(payload) == claims.statement:
                return payload
    except RegistryError:
        return b""
    return b""

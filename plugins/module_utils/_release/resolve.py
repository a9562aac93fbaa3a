# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the version of a model to the release that its tag names, judged by the keys of the site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from .client import RegistryClient
from .device.source import Source
from .errors import RegistryError
from .oci import check_digest, digest_of
from .release import GOLDEN_FILE, Release
from .signature import Ring, Verdict

MAX_GOLDEN_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Resolved:
    """A release of the registry that a trusted key has signed, and its golden requests."""

    release: Release
    verdict: Verdict
    golden: bytes

    @property
    def counter(self) -> int:
        """The counter of the release, 0 for one that was signed before there were counters."""
        return self.verdict.claims.counter if self.verdict.claims is not None else 0


def digest_of_version(client: RegistryClient, version: str) -> str:
    """The digest of the manifest that the tag of a version names."""
    manifest = client.manifest(f"v{version}")
    if manifest is None:
        raise RegistryError(
            f"Found no version {version} in {client.reference}, wanted the tag v{version} that the "
            "step publish makes; set rollout_version to one that was published."
        )
    return digest_of(manifest)


def resolve(
    prefix: str,
    client_of: Callable[[str], RegistryClient],
    ring: Ring,
    site: str,
    model: str,
    version: str = "",
    digest: str = "",
) -> Resolved:
    """Find a release by version or digest; refuse one that no trusted key signed for this site."""
    wanted = (
        check_digest(digest)
        if digest
        else digest_of_version(client_of(f"{prefix}/{model}"), version)
    )
    found = Source(prefix, client_of, ring, site).find(wanted, model, fresh=False)
    if version and found.release.model_version != version:
        raise RegistryError(
            f"The release {wanted} is version {found.release.model_version} of {model}, wanted "
            f"{version}: leave out rollout_version or rollout_digest."
        )
    blob = found.release.files.get(GOLDEN_FILE)
    golden = b""
    if blob is not None and blob.size <= MAX_GOLDEN_BYTES:
        golden = found.client.small_blob(blob, MAX_GOLDEN_BYTES)
    return Resolved(found.release, found.verdict, golden)

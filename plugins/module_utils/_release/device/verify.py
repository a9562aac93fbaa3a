# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a release on the disk is what a trusted key has signed, and every file as it says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import DamagedError
from ..oci import digest_of
from ..release import MANIFEST_FILE, Release, parse_release
from ..signature import Verdict
from .disk import digest_of_file
from .source import Pairs, Source, check_model, read_pairs
from .store import ReleaseStore

SIGNATURE_FILE = "signature.json"


class Verifier:
    """Checks the releases of a device from scratch."""

    def __init__(self, store: ReleaseStore, source: Source) -> None:
        self._store = store
        self._source = source

    def verified(self, digest: str, model: str) -> tuple[Release, Verdict]:
        """Check manifest, signature and every file of a release on the disk."""
        release, verdict = self.trusted(digest, model)
        self._check_files(release)
        return release, verdict

    def trusted(self, digest: str, model: str) -> tuple[Release, Verdict]:
        """Check manifest and signature of a release on the disk, not its other files."""
        release, pairs = self._read(digest)
        verdict = self._source.judge(digest, pairs, model or release.model_name)
        check_model(release, model, verdict)
        return release, verdict

    def damage(self, digest: str) -> str:
        """Say what of a release on the disk is not as it was fetched; nothing where all is well."""
        try:
            release, _pairs = self._read(digest)
            self._check_files(release)
        except DamagedError as error:
            return str(error)
        if self._store.misplaced(digest):
            return f"The files in {self._store.path(digest)} have other modes or another group."
        return ""

    def _read(self, digest: str) -> tuple[Release, Pairs]:
        """The manifest of a release on the disk, of the right digest, and its signatures."""
        place = self._store.path(digest)
        try:
            manifest = (place / MANIFEST_FILE).read_bytes()
            pairs = read_pairs((place / SIGNATURE_FILE).read_bytes())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamagedError(
                f"The release in {place} cannot be read: {type(error).__name__}: {error}."
            ) from None
        if digest_of(manifest) != digest:
            raise DamagedError(
                f"The release in {place} was tampered with: its manifest has the digest "
                f"{digest_of(manifest)}."
            )
        return parse_release(manifest), pairs

    def _check_files(self, release: Release) -> None:
        place = self._store.path(release.digest)
        for name, layer in release.files.items():
            try:
                found = digest_of_file(place / name)
            except OSError as error:
                raise DamagedError(f"The file {place / name} cannot be read: {error}.") from None
            if found != layer.digest:
                raise DamagedError(
                    f"The file {place / name} was tampered with: found the digest "
                    f"{found}, the manifest says {layer.digest}."
                )


def write_metrics(path: Path, complaints: Mapping[str, str]) -> None:
    """Write the metrics that nginx hands to Prometheus."""
    name = "mlops_release_verified"
    lines = [
        f"# HELP {name} 1 where the release that a model is to serve is signed by a trusted key.",
        f"# TYPE {name} gauge",
        *(
            f'{name}{{model_name="{model}"}} {0 if complaint else 1}'
            for model, complaint in sorted(complaints.items())
        ),
    ]
    text = "\n".join(lines) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(0o644)
    fresh.replace(path)

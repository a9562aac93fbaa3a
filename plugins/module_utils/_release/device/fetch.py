# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches releases: what is here and good is kept, and a break is gone on after."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

from ..errors import DamagedError, MistakenError, RegistryError, UntrustedError
from ..release import MANIFEST_FILE, Release
from ..signature import Verdict
from .disk import PartialFile
from .source import Source, evaluation_of
from .store import ReleaseStore
from .verify import SIGNATURE_FILE, Verifier

EVALUATION_FILE = "evaluation.json"
LEFT_BYTES = 16 * 2**20  # A release does not take what journals and records of the host still need.
Check = Callable[[Release, Verdict], None]
"""Refuses what a trusted key has signed, for a reason of the one who asks for it."""


def any_release(_release: Release, _verdict: Verdict) -> None:
    """Take whatever a trusted key has signed."""


class Fetcher:
    """Brings releases from the registry into the store; counts the bytes that it moved."""

    def __init__(
        self,
        store: ReleaseStore,
        source: Source,
        verifier: Verifier,
        free: Callable[[Path], int],
    ) -> None:
        self._store = store
        self._source = source
        self._verifier = verifier
        self._free = free
        self.moved = 0

    def fresh(self, digest: str) -> bool:
        """Whether a release is new to this device, so that its signature has to say everything."""
        return not self._store.has(digest) and digest not in self._store.all_linked()

    def pull(self, digest: str, model: str, check: Check = any_release) -> int:
        """Fetch and verify a release; return the bytes transferred. Goes on after a break.

        What is here and good is kept. What is here and damaged stays until what replaces it is
        complete and verified. ``check`` may refuse what is signed, before anything is fetched.
        """
        if not self._store.has(digest):
            return self._fetch(digest, model, check)
        try:
            release, verdict = self._verifier.verified(digest, model)
        except (DamagedError, UntrustedError, MistakenError) as error:
            try:
                return self._fetch(digest, model, check)
            except RegistryError as other:
                raise type(error)(f"{error} It was left as it is: {other}") from None
        check(release, verdict)
        self._store.give(digest)
        return 0

    def _fetch(self, digest: str, model: str, check: Check) -> int:
        with self._store.fetching():
            return self._fetched(digest, model, check)

    def _fetched(self, digest: str, model: str, check: Check) -> int:
        found = self._source.find(digest, model, self.fresh(digest))
        release = found.release
        check(release, found.verdict)
        place = self._store.begin(digest)
        for name, layer in release.files.items():
            self._store.share(digest, name, layer)
        have = sum(path.stat().st_size for path in place.iterdir())
        free = self._free(place)
        if release.size - have + LEFT_BYTES > free:
            raise RegistryError(
                f"The release {digest} needs {release.size - have} bytes in {self._store.root} and "
                f"{LEFT_BYTES // 2**20} MiB have to be left for others, {free} bytes are free; "
                "keep fewer releases (model_serving_releases_kept)."
            )
        before = self.moved
        for name, layer in release.files.items():
            found.client.blob(layer, PartialFile(place / name, self._count), name)
        (place / MANIFEST_FILE).write_bytes(found.manifest)
        (place / SIGNATURE_FILE).write_bytes(found.signature)
        names = [*release.files, MANIFEST_FILE, SIGNATURE_FILE]
        evaluation = evaluation_of(found)
        if evaluation and EVALUATION_FILE not in release.files:
            (place / EVALUATION_FILE).write_bytes(evaluation)
            names.append(EVALUATION_FILE)
        if self._store.has(digest):
            self._store.replace(digest, names)
        else:
            self._store.complete(digest, names)
        return self.moved - before

    def _count(self, size: int) -> None:
        """Bytes count also where the transfer breaks off."""
        self.moved += size

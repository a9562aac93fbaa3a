# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases on a host for engines that are started with one: fetched, verified, named by path.

A device switches links and has its server load them; an engine of a workload is restarted with the
directory of another release. Fetching and judging is the same code.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from ..client import Interrupted, RegistryClient, Transport
from ..errors import DamagedError, MistakenError, RegistryError, UntrustedError
from ..oci import check_digest, digest_of
from ..release import CONFIG_FILE, MANIFEST_FILE, Release, parse_release
from ..signature import KINDS
from .device import Device
from .serving import Answers
from .settings import Settings, read_text
from .source import Source
from .store import ReleaseStore


@dataclass(frozen=True)
class Wanted:
    """A release that a workload is to have: by version, or by digest."""

    workload: str
    model: str
    version: str = ""
    digest: str = ""


@dataclass(frozen=True)
class Brought:
    """A release that is here and verified; ``moved`` bytes were fetched for it now."""

    workload: str
    digest: str
    directory: str
    kind: str
    version: str
    size: int
    config: dict[str, Any]
    moved: int

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return dict(vars(self))


class NoServing:
    """There is no server that loads by itself."""

    def look(self) -> Answers:
        return Answers({})

    def load(self, model: str) -> str:
        return f"nothing here loads {model} by itself"

    def unload(self, model: str) -> str:
        return f"nothing here lets go of {model}"

    def ask(self, model: str, question: Any) -> tuple[int, Any]:
        raise Interrupted(f"nothing here answers {question} for {model}")

    def probe(self, model: str, question: Any) -> tuple[int, Any]:
        return self.ask(model, question)


class Library:
    """The releases of a host."""

    def __init__(
        self,
        device: Device,
        source: Source,
        client: Callable[[str], RegistryClient],
        prefix: str,
    ) -> None:
        self._device = device
        self._source = source
        self._client = client
        self._prefix = prefix
        self.store = device.store

    def digest_of(self, wanted: Wanted) -> str:
        """The digest of what is wanted. What is here needs no registry: a version stays."""
        if wanted.digest:
            return check_digest(wanted.digest)
        here = [
            release.digest
            for release in self._here()
            if (release.model_name, release.model_version) == (wanted.model, wanted.version)
        ]
        if len(here) == 1:
            return here[0]
        client = self._client(f"{self._prefix}/{wanted.model}")
        manifest = client.manifest(f"v{wanted.version}")
        if manifest is None:
            raise RegistryError(
                f"{wanted.workload}: version {wanted.version} of {wanted.model} is not in the "
                f"registry ({client.reference}); publish it, or set run.version in mlops_workloads "
                "to one that is."
            )
        return digest_of(manifest)

    def _here(self) -> Sequence[Release]:
        found = []
        for digest in self.store.releases():
            try:
                data = (self.store.path(digest) / MANIFEST_FILE).read_bytes()
                found.append(parse_release(data))
            except (OSError, RegistryError):
                continue
        return found

    def lacks(self, wanted: Wanted) -> bool:
        """Whether something would be fetched; nothing is."""
        digest = self.digest_of(wanted)
        return not self.store.has(digest) or bool(self._device.damage(digest))

    def judge(self, wanted: Wanted) -> None:
        """Refuse what ``bring`` would refuse to fetch; nothing is fetched."""
        digest = self.digest_of(wanted)
        with _told(wanted):
            found = self._source.find(digest, wanted.model, not self.store.has(digest))
        _check_version(wanted, digest, found.release)

    def bring(self, wanted: Wanted) -> Brought:
        """Fetch what is not here, verify all of it, and say where it lies."""
        digest = self.digest_of(wanted)
        with _told(wanted):
            moved = self._device.pull(digest, wanted.model)
            release = self._device.verify(digest, wanted.model)
        _check_version(wanted, digest, release)
        place = self.store.path(digest)
        try:
            config = json.loads((place / CONFIG_FILE).read_bytes())
        except (OSError, ValueError) as error:
            raise DamagedError(f"{place / CONFIG_FILE} cannot be read: {error}.") from None
        return Brought(
            wanted.workload,
            digest,
            str(place),
            release.kind,
            release.model_version,
            release.size,
            config if isinstance(config, dict) else {},
            moved,
        )

    def drop_all_but(self, keep: Collection[str], dry: bool = False) -> list[str]:
        """Remove releases that no workload of this host is to have any longer."""
        gone = [digest for digest in self.store.releases() if digest not in keep]
        for digest in gone if not dry else ():
            self.store.drop(digest)
        return gone


@contextlib.contextmanager
def _told(wanted: Wanted) -> Iterator[None]:
    """Say of whom a refusal speaks, and of a signature that does not count what can be done."""
    try:
        yield
    except RegistryError as error:
        remedy = _remedy(wanted) if isinstance(error, UntrustedError) else ""
        raise type(error)(f"{wanted.workload}: {error}{remedy}") from None


def _remedy(wanted: Wanted) -> str:
    option = "version" if wanted.version else "digest"
    what = f"version {wanted.version}" if wanted.version else "the release"
    return (
        f" Publish {what} of {wanted.model} signed with a key that is trusted (make pipeline), or "
        f"set run.{option} of {wanted.workload} in mlops_workloads to one that is."
    )


def _check_version(wanted: Wanted, digest: str, release: Release) -> None:
    if wanted.version and release.model_version != wanted.version:
        raise MistakenError(
            f"{wanted.workload}: the registry has the release {digest} under version "
            f"{wanted.version} of {wanted.model}, and it was signed as version "
            f"{release.model_version}; publish the version again."
        )


def open_library(
    settings: Settings, transport: Transport, read: Callable[[str], str] = read_text
) -> Library:
    """Put it together from what the role wrote down."""
    password = read(settings.password_file).strip() if settings.user else ""

    def client(repository: str) -> RegistryClient:
        return RegistryClient(
            settings.registry_url, repository, transport, settings.user, password, time.sleep
        )

    source = Source(settings.repository, client, settings.ring(read), settings.site, KINDS)
    device = Device(ReleaseStore(Path(settings.root)), source, NoServing(), settings.keep)
    return Library(device, source, client, settings.repository)

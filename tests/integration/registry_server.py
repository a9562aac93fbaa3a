# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Debian's docker-registry on this machine, without installing it, and what a device has beside."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release.client import RegistryClient
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.serving import (
    Answers,
    Served,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.store import ReleaseStore
from ansible_collections.mlops.onprem.plugins.module_utils._release.web import WebTransport

from tests.patience import PATIENCE


@dataclass(frozen=True)
class RegistryServer:
    """A registry that runs, and where it keeps its data."""

    port: int
    data: Path

    def client(self, repository: str) -> RegistryClient:
        """Open one repository of it. Trying again needs no pause here."""
        url = f"http://127.0.0.1:{self.port}"
        return RegistryClient(url, repository, WebTransport(), "u", "p")

    def wait(self) -> None:
        """Wait until it answers."""
        url = f"http://127.0.0.1:{self.port}"
        RegistryClient(url, "none", WebTransport(), "u", "p", time.sleep).manifest("none")


class ServesCurrent:
    """A model server that serves whatever is current."""

    def __init__(self, store: ReleaseStore) -> None:
        self._store = store

    def look(self) -> Answers:
        current = {model: self._store.linked(model, "current") for model in self._store.models()}
        return Answers({model: Served(digest, model, "1") for model, digest in current.items()})

    def load(self, model: str) -> str:
        assert self._store.linked(model, "current")
        return ""

    def unload(self, model: str) -> str:
        assert not self._store.linked(model, "current")
        return ""

    def ask(self, model: str, question: Any) -> tuple[int, Any]:
        return (200 if self._store.linked(model, "current") else 404), {"echo": question}

    def probe(self, model: str, question: Any) -> tuple[int, Any]:
        return self.ask(model, question)


def find_registry(cache: Path) -> str | None:
    """Return docker-registry: installed, or unpacked from its package without installing it."""
    installed = shutil.which("docker-registry")
    if installed:
        return installed
    if shutil.which("apt-get") and shutil.which("dpkg"):
        subprocess.run(
            ["apt-get", "-qq", "download", "docker-registry"],
            cwd=cache,
            check=False,
            capture_output=True,
        )
        for package in cache.glob("docker-registry_*.deb"):
            subprocess.run(["dpkg", "-x", package, cache], check=True)
            return str(cache / "usr/bin/docker-registry")
    return None


@contextlib.contextmanager
def running(place: Path, port: int) -> Iterator[RegistryServer]:
    """Run a registry below ``place``, without accounts."""
    program = find_registry(place)
    if program is None:
        pytest.skip("docker-registry is neither installed nor to be had here")
    (place / "config.yml").write_text(
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {place}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
        "log: {level: error, accesslog: {disabled: true}}\n"
    )
    process = subprocess.Popen(
        [program, "serve", str(place / "config.yml")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = RegistryServer(port, place / "data")
    try:
        server.wait()
        yield server
    finally:
        process.terminate()
        process.wait(PATIENCE)

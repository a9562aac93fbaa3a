# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Doubles of a registry, a model server and a signing key."""

from __future__ import annotations

import re
import subprocess
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release import oci, release, signature
from ansible_collections.mlops.onprem.plugins.module_utils._release.client import (
    Interrupted,
    RegistryClient,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.device import (
    Device,
    Served,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.store import ReleaseStore

FILES = {
    "model.onnx": b"onnx" * 100,
    "config.json": b'{"tolerance": 0.0001}',
    "golden.json": b'{"cases": []}',
}


class FakeAnswer:
    """An answer that may break off after some bytes."""

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        breaks_after: int | None = None,
    ) -> None:
        self.status = status
        self.headers: Mapping[str, str] = dict(headers or {})
        self._body = body
        self._left = breaks_after

    def read(self, size: int) -> bytes:
        if self._left is not None:
            if self._left <= 0:
                raise Interrupted("connection reset")
            size = min(size, self._left)
            self._left -= size
        data, self._body = self._body[:size], self._body[size:]
        return data

    def close(self) -> None:
        return


@dataclass
class FakeRegistry:
    """A registry in memory, called as a transport is. ``faults`` are used up one a request."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    faults: list[Any] = field(default_factory=list)
    log: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    ignores_ranges: bool = False

    def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> FakeAnswer:
        path = urllib.parse.urlsplit(url)
        self.log.append((method, path.path, dict(headers)))
        breaks_after = None
        if self.faults:
            fault = self.faults.pop(0)
            if isinstance(fault, FakeAnswer):
                return fault
            if isinstance(fault, Exception):
                raise fault
            breaks_after = fault
        name = path.path.rsplit("/", 1)[-1]
        if "/uploads/" in path.path:
            return self._upload(method, path, body or b"")
        store = self.blobs if "/blobs/" in path.path else self.manifests
        if method == "PUT":
            assert body is not None
            self.manifests[name] = self.manifests[oci.digest_of(body)] = body
            return FakeAnswer(201)
        if name not in store:
            return FakeAnswer(404)
        data = store[name]
        wanted = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
        if wanted and not self.ignores_ranges:
            return FakeAnswer(206, data[int(wanted[1]) :], breaks_after=breaks_after)
        return FakeAnswer(200, b"" if method == "HEAD" else data, breaks_after=breaks_after)

    def _upload(self, method: str, path: urllib.parse.SplitResult, body: bytes) -> FakeAnswer:
        if method == "POST":
            # As behind a proxy that the registry knows nothing of.
            return FakeAnswer(
                202, headers={"location": f"http://registry:5001{path.path}7?state=a"}
            )
        self.uploads["7"] = self.uploads.get("7", b"") + body
        if method == "PATCH":
            return FakeAnswer(202, headers={"location": f"{path.path}?state=b"})
        digest = urllib.parse.parse_qs(path.query)["digest"][0]
        data = self.uploads.pop("7")
        assert oci.digest_of(data) == digest
        self.blobs[digest] = data
        return FakeAnswer(201)


@dataclass
class FakeServing:
    """A model server that loads what is current, unless it is told to refuse."""

    store: ReleaseStore
    digest: str | None = None
    refuses: dict[str, str] = field(default_factory=dict)
    silent: int = 0
    loads: int = 0

    def served(self) -> Served:
        if self.silent:
            self.silent -= 1
            raise Interrupted("connection refused")
        return Served(self.digest, "demo", "1")

    def reload(self, model_name: str) -> str:
        assert model_name == "demo"
        self.loads += 1
        current = self.store.linked("current")
        assert current is not None
        if current in self.refuses:
            return self.refuses[current]
        self.digest = current
        return ""


@dataclass
class Bench:
    """A device with its registry and its model server."""

    store: ReleaseStore
    registry: FakeRegistry
    serving: FakeServing
    client: RegistryClient
    sign: Callable[[bytes], bytes]
    device: Device

    def publish(self, version: str = "1", signed: bool = True, **changed: bytes) -> str:
        """Put a release into the registry; return its digest."""
        files = {**FILES, **{name.replace("_", "."): data for name, data in changed.items()}}
        files["config.json"] = b'{"version": "%s"}' % version.encode()
        blobs = {name: oci.Descriptor.of("", data) for name, data in files.items()}
        for data in files.values():
            self.registry.blobs[oci.digest_of(data)] = data
        manifest = release.build_manifest(blobs, "demo", version, "run", "2026-01-01T00:00:00Z")
        digest = self.client.push_manifest(manifest.to_bytes())
        if signed:
            self.sign_release(digest, digest)
        return digest

    def sign_release(self, digest: str, about: str) -> None:
        """Store a signature for a release; ``about`` is what the statement speaks of."""
        payload = signature.build_payload("registry/demo", about)
        self.registry.blobs[oci.digest_of(payload)] = payload
        stored = signature.build_signature_manifest(payload, self.sign(payload))
        self.client.push_manifest(stored.to_bytes(), signature.signature_tag(digest))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A device whose trust is a shared word instead of a key."""
    store = ReleaseStore(tmp_path)
    registry = FakeRegistry()
    serving = FakeServing(store)
    client = RegistryClient("https://registry", "models", registry, "pull", "secret")
    return Bench(
        store,
        registry,
        serving,
        client,
        lambda payload: b"signed:" + payload[-8:],
        Device(
            store,
            client,
            serving,
            lambda payload, mark: mark == b"signed:" + payload[-8:],
            keep=3,
            patience=2.0,
        ),
    )


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A private key file on P-256 and its public key."""
    path = tmp_path_factory.mktemp("keys") / "sign.key"
    subprocess.run(
        ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path],
        check=True,
        capture_output=True,
    )
    done = subprocess.run(
        ["openssl", "ec", "-in", path, "-pubout"], check=True, capture_output=True, text=True
    )
    return path, done.stdout

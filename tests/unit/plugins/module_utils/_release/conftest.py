# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Doubles of a registry, a model server and a signing key."""

from __future__ import annotations

import re
import subprocess
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release import oci, release, signature
from ansible_collections.mlops.onprem.plugins.module_utils._release.client import (
    Interrupted,
    RegistryClient,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.device import Device
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.serving import (
    Answers,
    Served,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.source import Source
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.state import Done
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.store import ReleaseStore
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import (
    RegistryError,
    RevokedError,
    UntrustedError,
)

MODEL, SITE = "demo", "site-of-the-test"
KEY, OTHER_KEY = "0123456789abcdef", "fedcba9876543210"
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
    """A model server that loads what is current, unless it is told to refuse.

    ``old`` is one that knows one model and reads the links in the root.
    """

    store: ReleaseStore
    loaded: dict[str, str] = field(default_factory=dict)
    refuses: dict[str, str] = field(default_factory=dict)
    answers: dict[str, list[float]] = field(default_factory=dict)
    silent: int = 0
    loads: int = 0
    probes: int = 0
    old: bool = False

    @property
    def digest(self) -> str | None:
        """What is served of the model that most tests are about."""
        return self.loaded.get(MODEL)

    @digest.setter
    def digest(self, value: str | None) -> None:
        self.loaded.pop(MODEL, None)
        if value is not None:
            self.loaded[MODEL] = value

    def look(self) -> Answers:
        if self.silent:
            self.silent -= 1
            raise Interrupted("connection refused")
        served = {model: Served(digest, model, "1") for model, digest in self.loaded.items()}
        if self.old:
            return Answers({}, next(iter(served.values()), Served(None)))
        return Answers(served)

    def _current(self, model: str) -> Path:
        own = self.store.root / "models" / model / "current"
        return self.store.root / "current" if self.old or not own.is_symlink() else own

    def load(self, model: str) -> str:
        self.loads += 1
        link = self._current(model)
        assert (link / "manifest.json").is_file(), f"{link} leads to no release"
        current = "sha256:" + link.readlink().name
        if current in self.refuses:
            return self.refuses[current]
        self.loaded[model] = current
        return ""

    def unload(self, model: str) -> str:
        if self._current(model).is_symlink():
            return "its release is still there"
        self.loaded.pop(model, None)
        return ""

    def ask(self, model: str, question: Any) -> tuple[int, Any]:
        """Answer with what the question itself says, unless the release is a bad one."""
        if self.silent:
            raise Interrupted("it is away")
        served = self.loaded.get(model)
        if served is None:
            return 404, {"error": "There is no model of this name here."}
        data = self.answers.get(served, question["echo"])
        return 200, {"outputs": [{"name": "y", "data": data}]}

    def probe(self, model: str, question: Any) -> tuple[int, Any]:
        """The same, counted."""
        self.probes += 1
        return self.ask(model, question)


@dataclass(frozen=True)
class FakeKey:
    """A key that is a word."""

    id: str


@dataclass
class FakeRing:
    """Keys that are words; what is signed ends with the word and the end of the payload."""

    trusted: list[str] = field(default_factory=lambda: [KEY])
    revoked: list[str] = field(default_factory=list)
    broken: str = ""

    def verify(self, payload: bytes, signature: bytes, wanted: str = "") -> FakeKey:
        if self.broken:
            raise RegistryError(self.broken)
        for key in [*self.trusted, *self.revoked]:
            if wanted in ("", key) and signature == mark(key, payload):
                if key in self.revoked:
                    raise RevokedError(f"The key {key} was revoked; sign with another key.")
                return FakeKey(key)
        raise UntrustedError("The signature was not made with a key that is trusted here.")


def mark(key: str, payload: bytes) -> bytes:
    """The signature of a key that is a word."""
    return key.encode() + payload[-8:]


@dataclass
class Bench:
    """A device with its registry and its model server."""

    store: ReleaseStore
    registry: FakeRegistry
    serving: FakeServing
    ring: FakeRing
    device: Device
    key: str = KEY
    counter: int = 0

    def release(self, digest: str, activate: bool = True, rollback: bool = False) -> Done:
        """Bring the model that most tests are about to a release."""
        return self.device.release(digest, activate, MODEL, rollback)

    def client(self, repository: str = f"models/{MODEL}") -> RegistryClient:
        """A client of one repository; they all share what the registry holds."""
        return RegistryClient("https://registry", repository, self.registry, "pull", "secret")

    def publish(
        self,
        version: str = "1",
        signed: bool = True,
        model: str = MODEL,
        old: bool = False,
        **changed: bytes,
    ) -> str:
        """Put a release into the registry; return its digest.

        ``old`` signs it as before there were claims.
        """
        files = {**FILES, **{name.replace("_", "."): data for name, data in changed.items()}}
        files["config.json"] = b'{"version": "%s"}' % version.encode()
        blobs = {name: oci.Descriptor.of("", data) for name, data in files.items()}
        for data in files.values():
            self.registry.blobs[oci.digest_of(data)] = data
        manifest = release.build_manifest(blobs, model, version, "run", "2026-01-01T00:00:00Z")
        digest = self.client().push_manifest(manifest.to_bytes())
        if signed:
            self.sign_release(digest, digest, version, model, old)
        return digest

    def sign_release(
        self,
        digest: str,
        about: str,
        version: str = "1",
        model: str = MODEL,
        old: bool = False,
        **claims: Any,
    ) -> None:
        """Store a signature for a release; ``about`` is what the statement speaks of."""
        self.counter += 1
        said = {
            "site": SITE,
            "model_name": model,
            "model_version": version,
            "kind": signature.ONNX,
            "counter": self.counter,
            "key_id": self.key,
            **claims,
        }
        repository = said.pop("repository", f"models/{said['model_name']}")
        payload = signature.build_payload(
            f"registry/{repository}", about, None if old else signature.Claims(**said)
        )
        self.registry.blobs[oci.digest_of(payload)] = payload
        stored = signature.build_signature_manifest(payload, mark(self.key, payload))
        self.client().push_manifest(stored.to_bytes(), signature.signature_tag(digest))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A device whose keys are words."""
    store = ReleaseStore(tmp_path)
    registry = FakeRegistry()
    serving = FakeServing(store)
    ring = FakeRing()

    def client(repository: str) -> RegistryClient:
        return RegistryClient("https://registry", repository, registry, "pull", "secret")

    source = Source("models", client, ring, SITE)
    return Bench(
        store,
        registry,
        serving,
        ring,
        Device(store, source, serving, keep=3, patience=2.0, metrics=tmp_path / "releases.prom"),
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

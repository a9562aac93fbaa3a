# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Somebody with every account but the signing key, against the code that devices run.

He may push to the registry, change its files in the object store, and have the controller name
any digest to devices, as that comes from MLflow. The registry is Debian's, the device code is the
one that travels to devices. Whatever he does: nothing is served that was not signed for this site,
this repository and this model, what is served stays, and every refusal is a sentence.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import io
import json
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release import client as client_module
from ansible_collections.mlops.onprem.plugins.module_utils._release import (
    oci,
    release,
    signature,
    statement,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.client import (
    RegistryClient,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.device import Device
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.source import Source
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.store import ReleaseStore
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.module_utils._release.keys import (
    KeyRing,
    TrustedKey,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.web import WebTransport
from mlops_pipeline import current, signing
from mlops_pipeline.config import Config, Section
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.timing import Timings

from tests import releases
from tests.patience import PATIENCE

from .conftest import free_port
from .registry_server import RegistryServer, ServesCurrent, running

SITE, OTHER_SITE = "plant-7", "plant-8"
MODEL, OTHER_MODEL = "iris", "flowers"
EVIL = b"this is not the model that was evaluated"
FILES = {path.name: path.read_bytes() for path in sorted(releases.FIXTURE.iterdir())}


@dataclass
class Attack:
    """A site that works, and what an attacker needs to work on it."""

    server: RegistryServer
    prefix: str
    owner: signing.PemSigner
    older: signing.PemSigner
    stranger: signing.PemSigner
    device: Device
    folder: Path
    good: str = ""
    counter: int = 1000

    @property
    def files(self) -> dict[str, bytes]:
        """Files that no other test has put into the object store."""
        return {name: data + self.prefix.encode() for name, data in FILES.items()}

    def client(self, model: str = MODEL, prefix: str = "") -> RegistryClient:
        return self.server.client(f"{prefix or self.prefix}/{model}")

    def push(
        self,
        version: str,
        changed: Mapping[str, bytes] | None = None,
        model: str = MODEL,
        repository: str = "",
    ) -> str:
        """Push a release that nobody has signed."""
        client = self.client(repository or model)
        files = {**self.files, **(changed or {})}
        blobs = {name: oci.Descriptor.of("", data) for name, data in files.items()}
        for name, data in files.items():
            client.push_blob(blobs[name], io.BytesIO(data))
        client.push_blob(oci.EMPTY_CONFIG, io.BytesIO(oci.EMPTY))
        manifest = release.build_manifest(blobs, model, version, "", "2026-01-01T00:00:00Z")
        return client.push_manifest(manifest.to_bytes())

    def sign(
        self, digest: str, version: str, signer: Any = None, model: str = MODEL, **claims: Any
    ) -> signature.Claims:
        """Sign a release, by the owner if nobody else is named."""
        self.counter += 10
        made = signature.Claims(SITE, model, version, signature.ONNX, 0, "")
        signed: signature.Claims = signing.sign_release(
            self.client(model),
            digest,
            signer or self.owner,
            replace(made, **claims),
            now=float(self.counter),
        )
        return signed

    def entry(self, payload: bytes, mark: bytes, model: str = MODEL) -> oci.Descriptor:
        """Push a payload; return how a signature manifest names it."""
        blob = oci.Descriptor.of(signature.PAYLOAD_TYPE, payload)
        self.client(model).push_blob(blob, io.BytesIO(payload))
        notes = {signature.SIGNATURE: base64.b64encode(mark).decode()}
        return replace(blob, annotations=notes)

    def put_signatures(self, digest: str, layers: list[oci.Descriptor], model: str = MODEL) -> None:
        """Replace the signatures of a release."""
        manifest = oci.Manifest("", oci.EMPTY_CONFIG, tuple(layers))
        client = self.client(model)
        client.push_blob(oci.EMPTY_CONFIG, io.BytesIO(oci.EMPTY))
        client.push_manifest(manifest.to_bytes(), signature.signature_tag(digest))

    def stored(self, digest: str, model: str = MODEL) -> list[oci.Descriptor]:
        """The signatures of a release as they are described."""
        layers: list[oci.Descriptor] = signing.read_entries(self.client(model), digest)[0]
        return layers

    def in_object_store(self, digest: str) -> Path:
        """The file that holds a blob or a manifest of the registry."""
        name = digest.partition(":")[2]
        return self.server.data / f"docker/registry/v2/blobs/sha256/{name[:2]}/{name}/data"

    def refused(self, digest: str, *wanted: str, model: str = MODEL, **options: Any) -> str:
        """Have the device take a release: it refuses with a sentence, and serves what it served."""
        before = self.device.wanted(model)
        with pytest.raises(RegistryError) as refusal:
            self.device.release(digest, model=model, **options)
        said = str(refusal.value)
        for text in wanted:
            assert text in said
        assert len(said) < 700
        assert said.isprintable(), repr(said)
        assert said.endswith("."), said
        assert self.device.wanted(model) == before
        assert self.device.look().of(model).digest == before
        return said


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with running(tmp_path_factory.mktemp("registry"), free_port()) as started:
        yield started


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> list[signing.PemSigner]:
    place = tmp_path_factory.mktemp("keys")
    paths = [releases.fresh_key(place / name) for name in ("owner", "older", "stranger")]
    return [signing.PemSigner(path.read_text()) for path in paths]


@pytest.fixture
def attack(
    server: RegistryServer, signers: list[signing.PemSigner], tmp_path: Path, request: Any
) -> Attack:
    """A device that serves a good release, in repositories of its own."""
    name = hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    owner, older, stranger = signers
    ring = KeyRing(
        [
            TrustedKey(owner.key_id, owner.public_key),
            TrustedKey(older.key_id, older.public_key, revoked=True),
        ]
    )
    (tmp_path / "device").mkdir()
    store = ReleaseStore(tmp_path / "device")
    prefix = f"models-{name}"
    device = Device(
        store, Source(prefix, server.client, ring, SITE), ServesCurrent(store), keep=3, patience=1.0
    )
    found = Attack(server, prefix, owner, older, stranger, device, tmp_path)
    found.good = found.push("1")
    found.sign(found.good, "1")
    assert device.release(found.good, model=MODEL).after.served.digest == found.good
    return found


# -- who signs ------------------------------------------------------------------------------


def test_bytes_that_nobody_signed(attack: Attack) -> None:
    attack.refused(attack.push("2", {"model.onnx": EVIL}), "is not signed")


def test_a_key_of_his_own(attack: Attack) -> None:
    digest = attack.push("2", {"model.onnx": EVIL})
    attack.sign(digest, "2", attack.stranger)
    attack.refused(digest, f"The key {attack.stranger.key_id} is not known here")


def test_a_key_of_his_own_that_calls_itself_ours(attack: Attack) -> None:
    digest = attack.push("2", {"model.onnx": EVIL})
    claims = signature.Claims(SITE, MODEL, "2", signature.ONNX, 9999, attack.owner.key_id)
    payload = signature.build_payload(attack.client().reference, digest, claims)
    attack.put_signatures(digest, [attack.entry(payload, attack.stranger.sign(payload))])
    attack.refused(digest, "was not made with a key that is trusted here")


def test_a_key_that_was_revoked(attack: Attack) -> None:
    digest = attack.push("2")
    attack.sign(digest, "2", attack.older)
    attack.refused(digest, f"The key {attack.older.key_id} was revoked")


def test_a_key_that_is_revoked_while_its_release_is_served(attack: Attack) -> None:
    gone = TrustedKey(attack.owner.key_id, attack.owner.public_key, revoked=True)
    attack.device._source._ring = KeyRing([gone])
    assert "was revoked" in attack.device.complaints()[MODEL]
    assert any("was revoked" in said for said in attack.device.guard())
    assert attack.device.look().of(MODEL).digest is None


# -- what is signed -------------------------------------------------------------------------


def test_the_signature_of_another_release(attack: Attack) -> None:
    digest = attack.push("2", {"model.onnx": EVIL})
    attack.put_signatures(digest, attack.stored(attack.good))
    attack.refused(digest, f"speaks of {attack.good}")


def test_another_model_of_the_same_site(attack: Attack) -> None:
    other = attack.push("1", model=OTHER_MODEL)
    attack.sign(other, "1", model=OTHER_MODEL)
    # As it is, under its own name: the controller was made to name its digest.
    attack.refused(other, "The registry holds no release")
    # Copied into the repository of the model, with its signature.
    assert attack.push("1", model=OTHER_MODEL, repository=MODEL) == other
    payload, mark = signing.read_entries(attack.client(OTHER_MODEL), other)[1][0]
    attack.put_signatures(other, [attack.entry(payload, mark)])
    attack.refused(other, OTHER_MODEL)


def test_another_model_that_calls_itself_ours(attack: Attack) -> None:
    """He makes the manifest anew with our name; the signature of the old one does not fit."""
    other = attack.push("1", {"config.json": b'{"other": 1}'}, model=OTHER_MODEL)
    attack.sign(other, "1", model=OTHER_MODEL)
    renamed = attack.push("1", {"config.json": b'{"other": 1}'})
    payload, mark = signing.read_entries(attack.client(OTHER_MODEL), other)[1][0]
    attack.put_signatures(renamed, [attack.entry(payload, mark)])
    attack.refused(renamed, f"speaks of {other}")


def test_a_release_of_another_site(attack: Attack) -> None:
    digest = attack.push("2")
    attack.sign(digest, "2", site=OTHER_SITE)
    attack.refused(digest, f"for the site {OTHER_SITE}, wanted {SITE}")


def test_a_release_of_another_repository(attack: Attack) -> None:
    digest = attack.push("2")
    claims = signature.Claims(SITE, MODEL, "2", signature.ONNX, 9999, attack.owner.key_id)
    payload = signature.build_payload("127.0.0.1:1/trials/iris", digest, claims)
    attack.put_signatures(digest, [attack.entry(payload, attack.owner.sign(payload))])
    attack.refused(digest, "for the repository trials/iris")


def test_another_kind_of_model(attack: Attack) -> None:
    digest = attack.push("2")
    attack.sign(digest, "2", kind="gguf")
    attack.refused(digest, "of the kind gguf; served here: onnx")


def test_a_manifest_that_is_named_otherwise_than_it_was_signed(attack: Attack) -> None:
    digest = attack.push("2")
    attack.sign(digest, "7")
    attack.refused(digest, "2", "7")


def test_an_older_release_played_again(attack: Attack) -> None:
    newer = attack.push("2", {"config.json": b"better"})
    attack.sign(newer, "2")
    attack.device.release(newer, model=MODEL)
    attack.refused(attack.good, "going back has to be asked for")
    done = attack.device.release(attack.good, model=MODEL, rollback=True)
    assert done.after.served.digest == attack.good


def test_an_older_release_under_a_newer_tag(attack: Attack) -> None:
    newer = attack.push("2", {"config.json": b"better"})
    attack.sign(newer, "2")
    manifest = attack.client().manifest(attack.good)
    assert manifest is not None
    attack.client().push_manifest(manifest, "v2")
    # Devices go by digests, tags mean nothing to them.
    assert attack.device.release(newer, model=MODEL).after.served.digest == newer


def test_a_signature_from_before_there_were_claims(attack: Attack) -> None:
    digest = attack.push("2")
    payload = signature.build_payload(attack.client().reference, digest)
    attack.put_signatures(digest, [attack.entry(payload, attack.owner.sign(payload))])
    attack.refused(digest, "does not say for which site and model it was made")


def test_claims_changed_after_signing(attack: Attack) -> None:
    older = attack.good
    newer = attack.push("2", {"config.json": b"better"})
    attack.sign(newer, "2")
    attack.device.release(newer, model=MODEL)
    payload, mark = signing.read_entries(attack.client(), older)[1][0]
    value = json.loads(payload)
    value["optional"][signature.COUNTER] = 99_999
    attack.put_signatures(older, [attack.entry(json.dumps(value).encode(), mark)])
    # A device that kept the release has its signature, too; one that did not asks the registry.
    attack.device.store.switch(MODEL, "previous", None)
    attack.device.store.drop(older)
    attack.refused(older, "was not made with a key that is trusted here")


def test_a_name_that_stands_twice_in_the_claims(attack: Attack) -> None:
    digest = attack.push("2")
    claims = signature.Claims(OTHER_SITE, MODEL, "2", signature.ONNX, 9999, attack.owner.key_id)
    payload = signature.build_payload(attack.client().reference, digest, claims)
    name = json.dumps(signature.SITE).encode()
    twice = payload.replace(name, name + b':"' + SITE.encode() + b'",' + name)
    attack.put_signatures(digest, [attack.entry(twice, attack.owner.sign(twice))])
    attack.refused(digest, "carries no readable statement")


# -- bytes in the object store --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *[(name, "other bytes") for name in sorted(FILES)],
        *[("model.onnx", how) for how in ("longer", "shorter", "gone")],
    ],
)
def test_a_file_changed_in_the_object_store(attack: Attack, name: str, how: str) -> None:
    data = b"2" + attack.files[name]
    digest = attack.push("2", {name: data})
    attack.sign(digest, "2")
    path = attack.in_object_store(oci.digest_of(data))
    if how == "gone":
        path.unlink()
    else:
        spoilt = {"other bytes": EVIL.ljust(len(data)), "longer": data + EVIL}.get(how, data[:-1])
        path.write_bytes(spoilt[: len(data)] if how == "other bytes" else spoilt)
    attack.refused(digest, name)


def test_a_manifest_changed_in_the_object_store(attack: Attack) -> None:
    digest = attack.push("2")
    attack.sign(digest, "2")
    other = attack.push("3", {"model.onnx": EVIL})
    path = attack.in_object_store(digest)
    path.write_bytes(attack.in_object_store(other).read_bytes())
    attack.refused(digest, digest)


def test_everything_of_the_registry_is_gone(attack: Attack) -> None:
    newer = attack.push("2", {"config.json": b"better"})
    attack.sign(newer, "2")
    attack.device.release(newer, model=MODEL)
    for digest in (attack.good, newer):
        attack.in_object_store(digest).unlink()
    # What is here is here: also the way back.
    assert not attack.device.release(newer, model=MODEL).done.needed
    done = attack.device.release(attack.good, model=MODEL, rollback=True)
    assert (done.after.served.digest, done.moved) == (attack.good, 0)


def test_the_signature_is_taken_away(attack: Attack) -> None:
    digest = attack.push("2")
    attack.sign(digest, "2")
    attack.put_signatures(digest, [])
    attack.refused(digest, "is not signed")
    # What is served was verified, and its signature is on the disk.
    attack.put_signatures(attack.good, [])
    assert not attack.device.release(attack.good, model=MODEL).done.needed
    assert attack.device.complaints()[MODEL] == ""


# -- too much, too slow, too strange --------------------------------------------------------


def memory(work: Callable[[], Any]) -> float:
    """The most MiB that something holds at a time."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def test_a_hundred_signatures_of_four_mebibytes(attack: Attack) -> None:
    digest = attack.push("2")
    large = attack.entry(b" " * (4 * 2**20), b"mark")
    attack.put_signatures(digest, [large] * 100)
    assert memory(lambda: attack.refused(digest, "is not signed")) < 16
    small = attack.entry(b"{}", b"mark")
    attack.put_signatures(digest, [small] * 100)
    assert memory(lambda: attack.refused(digest, "not made with a key that is trusted")) < 16


def test_a_signature_manifest_of_four_mebibytes(attack: Attack) -> None:
    digest = attack.push("2")
    attack.sign(digest, "2")
    attack.put_signatures(digest, [attack.entry(b"{}", b"mark")] * 15_000)
    assert memory(lambda: attack.refused(digest, "is larger than 65536 bytes")) < 16


def test_bad_signatures_beside_a_good_one(attack: Attack) -> None:
    digest = attack.push("2")
    attack.sign(digest, "2")
    (good,) = attack.stored(digest)
    deep = attack.entry(b"[" * 16_000, b"mark")
    large = attack.entry(b" " * 20_000, b"mark")
    attack.put_signatures(digest, [good, large, large, deep, attack.entry(b"{}", b"x")])
    assert attack.device.release(digest, model=MODEL).after.served.digest == digest


def test_a_payload_that_is_gone_beside_a_good_one(attack: Attack) -> None:
    digest = attack.push("2")
    attack.sign(digest, "2")
    (good,) = attack.stored(digest)
    bad = attack.entry(b'{"gone": 1}', b"mark")
    attack.put_signatures(digest, [good, bad])
    attack.in_object_store(bad.digest).unlink()
    assert attack.device.release(digest, model=MODEL).after.served.digest == digest


def push_raw(attack: Attack, value: Any) -> str:
    """Push a manifest that nobody of ours would write, signed by the owner all the same."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    digest = attack.client().push_manifest(data)
    attack.sign(digest, "2")
    return digest


def document(attack: Attack, **changed: Any) -> dict[str, Any]:
    """A manifest of files that the registry has, changed as asked."""
    attack.push("2")
    files = attack.files.items()
    rows = [oci.Descriptor.of("a/b", data, **{oci.TITLE: name}) for name, data in files]
    notes = {release.MODEL_NAME: MODEL, release.MODEL_VERSION: "2"}
    manifest = oci.Manifest(release.ARTIFACT_TYPE, oci.EMPTY_CONFIG, tuple(rows), notes)
    value: dict[str, Any] = json.loads(manifest.to_bytes())
    return {**value, **changed}


@pytest.mark.parametrize(
    "name",
    ["../../etc/cron.d/x", "/etc/passwd", "a/b", ".hidden", "..", "x" * 101, "a\nb", "\x1b]0;x"],
)
def test_poisoned_names_of_files(attack: Attack, name: str) -> None:
    value = document(attack)
    value["layers"][0]["annotations"][oci.TITLE] = name
    attack.refused(push_raw(attack, value), "is not a plain file name")
    assert sorted(path.name for path in attack.folder.iterdir()) == ["device"]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"annotations": {release.MODEL_NAME: "../x", release.MODEL_VERSION: "2"}}, "../x"),
        ({"annotations": {release.MODEL_NAME: "\x1b[2J", release.MODEL_VERSION: "2"}}, "x1b"),
        ({"artifactType": "application/vnd.other"}, "found an artifact of type"),
        ({"artifactType": "x\x1b]0;y\x07" * 1000}, "found an artifact of type"),
    ],
    ids=["path", "escape", "another artifact", "a poisoned type"],
)
def test_poisoned_manifests(attack: Attack, changed: dict[str, Any], sentence: str) -> None:
    attack.refused(push_raw(attack, document(attack, **changed)), sentence)


class Proxy:
    """Somebody in the place of the registry: passes on what he does not answer himself."""

    def __init__(self, port: int, answers: Callable[[str], Iterator[bytes] | None]) -> None:
        self._real = port
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._stop = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while not self._stop.is_set():
                peer, _address = self._listener.accept()
                threading.Thread(target=self._talk, args=(peer,), daemon=True).start()

    def _talk(self, peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            asked = peer.recv(65536)
            pieces = self._answers(asked.split(b" ")[1].decode())
            if pieces is None:
                with socket.create_connection(("127.0.0.1", self._real)) as real:
                    real.sendall(asked.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1))
                    while data := real.recv(65536):
                        peer.sendall(data)
                return
            for piece in pieces:
                if self._stop.is_set():
                    return
                peer.sendall(piece)

    def close(self) -> None:
        self._stop.set()
        self._listener.close()


def through(
    attack: Attack, answers: Callable[[str], Iterator[bytes] | None], digest: str, *wanted: str
) -> float:
    """Have the device ask through somebody; return how long it took to refuse."""
    proxy = Proxy(attack.server.port, answers)
    real = attack.device._source._client

    def client(repository: str) -> RegistryClient:
        url = f"http://127.0.0.1:{proxy.port}"
        return RegistryClient(url, repository, WebTransport(timeout=1.0), "u", "p")

    attack.device._source._client = client
    started = time.monotonic()
    try:
        attack.refused(digest, *wanted)
        return time.monotonic() - started
    finally:
        attack.device._source._client = real
        proxy.close()


def drip(head: bytes, piece: bytes = b"x") -> Iterator[bytes]:
    yield head
    while True:
        time.sleep(0.02)
        yield piece


def flood(head: bytes) -> Iterator[bytes]:
    yield head
    while True:
        yield b"x" * 65536


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("part", ["/manifests/sha256:", ".sig", "/blobs/"])
@pytest.mark.parametrize("how", ["slow body", "slow headers", "endless", "silent"])
def test_a_registry_that_is_slow_or_endless(
    attack: Attack, monkeypatch: pytest.MonkeyPatch, part: str, how: str
) -> None:
    digest = attack.push("2", {"config.json": b"better"})
    attack.sign(digest, "2")

    def answers(path: str) -> Iterator[bytes] | None:
        if part not in path or (part.startswith("/manifests") and path.endswith(".sig")):
            return None
        if how == "slow body":
            return drip(OK + b"content-length: 400\r\n\r\n")
        if how == "slow headers":
            return drip(OK + b"x-header: ")
        if how == "silent":
            return iter([])
        return flood(OK + b"\r\n")

    took: list[float] = []
    with monkeypatch.context() as patched:
        patched.setattr(client_module.Deadline, "__init__", short_deadline)
        peak = memory(lambda: took.append(through(attack, answers, digest)))
    assert took[0] < PATIENCE
    assert peak < 32
    # The lock is free again, and the device takes the release from the real registry.
    assert attack.device.release(digest, model=MODEL).after.served.digest == digest


def short_deadline(self: Any, size: int, clock: Any = time.monotonic, **_options: Any) -> None:
    """A deadline of a second instead of a minute; the rest is as it is."""
    self._clock, self._started, self._seconds = (
        clock,
        clock(),
        1.0 + size / client_module.LEAST_RATE,
    )


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"[" * 200_000, "tampered with"),
        (b'{"schemaVersion":2}', "tampered with"),
        (b"", "tampered with"),
    ],
    ids=["deep", "another manifest", "nothing"],
)
def test_a_registry_that_answers_something_else(attack: Attack, body: bytes, sentence: str) -> None:
    digest = attack.push("2")
    attack.sign(digest, "2")

    def answers(path: str) -> Iterator[bytes] | None:
        if f"/manifests/{digest}" not in path:
            return None
        return iter([OK + b"content-length: %d\r\n\r\n" % len(body), body])

    through(attack, answers, digest, sentence)


def test_a_signature_manifest_that_is_nested_too_deep(attack: Attack) -> None:
    digest = attack.push("2")
    attack.sign(digest, "2")

    def answers(path: str) -> Iterator[bytes] | None:
        deep = b"[" * 60_000
        head = OK + b"content-length: %d\r\n\r\n" % len(deep)
        return iter([head, deep]) if path.endswith(".sig") else None

    through(attack, answers, digest, "nested too deep")


@pytest.mark.parametrize("location", ["http://192.0.2.1/x", "https://r:99999/", "//[", "\x1b]0;x"])
def test_a_registry_that_sends_elsewhere(attack: Attack, location: str) -> None:
    digest = attack.push("2")
    attack.sign(digest, "2")

    def answers(path: str) -> Iterator[bytes] | None:
        if "/blobs/" not in path:
            return None
        return iter(
            [f"HTTP/1.1 307 X\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n".encode()]
        )

    through(attack, answers, digest)


# -- the evaluation -------------------------------------------------------------------------

EVALUATION = releases.EVALUATION


@dataclass
class Judged:
    """A release whose evaluation is signed, and the names of its files."""

    digest: str
    files: dict[str, str]
    named: str


@pytest.fixture
def judged(attack: Attack) -> Judged:
    files = {name: oci.digest_of(data) for name, data in attack.files.items()}
    digest = attack.push("2")
    named = signing.attest(attack.client(), digest, files, attack.owner, EVALUATION)
    attack.sign(digest, "2", statement=named)
    return Judged(digest, files, named)


def evaluation_refused(attack: Attack, judged: Judged, wanted: str) -> None:
    with pytest.raises(RegistryError) as refusal:
        signing.attested(
            attack.client(),
            judged.digest,
            judged.files,
            signing.ring_of(attack.owner),
            judged.named,
        )
    assert wanted in str(refusal.value)
    assert str(refusal.value).endswith(".")


def put_evaluation(attack: Attack, judged: Judged, envelope: bytes) -> None:
    blob = oci.Descriptor.of(statement.ENVELOPE_TYPE, envelope)
    attack.client().push_blob(blob, io.BytesIO(envelope))
    attack.client().push_manifest(
        statement.build_attestation_manifest(envelope).to_bytes(),
        statement.attestation_tag(judged.digest),
    )


def test_the_evaluation_that_is_good(attack: Attack, judged: Judged) -> None:
    ring = signing.ring_of(attack.owner)
    found = signing.attested(attack.client(), judged.digest, judged.files, ring, judged.named)
    assert found.evaluation.metrics == {"accuracy": 0.95}


def test_an_evaluation_with_better_figures(attack: Attack, judged: Judged) -> None:
    (envelope,) = signing.read_envelopes(attack.client(), judged.digest)[1]
    value = json.loads(envelope)
    better = base64.b64decode(value["payload"]).replace(b"0.95", b"0.99")
    value["payload"] = base64.b64encode(better).decode()
    put_evaluation(attack, judged, json.dumps(value).encode())
    evaluation_refused(attack, judged, "is not the one that its signature names")
    judged.named = ""
    evaluation_refused(attack, judged, "was not made with a key that is trusted here")


def test_an_evaluation_signed_by_himself(attack: Attack, judged: Judged) -> None:
    put_evaluation(attack, judged, b"{}")
    signing.attest(attack.client(), judged.digest, judged.files, attack.stranger, EVALUATION)
    judged.named = ""
    evaluation_refused(attack, judged, "is not known here")


def test_the_evaluation_of_another_release(attack: Attack, judged: Judged) -> None:
    other = attack.push("3", {"model.onnx": EVIL})
    files = {**judged.files, "model.onnx": oci.digest_of(EVIL)}
    envelope = signing.read_envelopes(attack.client(), judged.digest)[1][0]
    stolen = Judged(other, files, "")
    put_evaluation(attack, stolen, envelope)
    evaluation_refused(attack, stolen, f"speaks of {judged.digest}")


def test_the_evaluation_is_taken_away(attack: Attack, judged: Judged) -> None:
    attack.client().push_manifest(
        oci.Manifest("", oci.EMPTY_CONFIG, ()).to_bytes(),
        statement.attestation_tag(judged.digest),
    )
    evaluation_refused(attack, judged, "No evaluation is stored")


# -- what the model registry says -----------------------------------------------------------


@dataclass
class Registrar:
    """A model registry of his: it answers what he likes."""

    attack: Attack
    url: str = ""
    body: bytes = b""

    def names(self, digest: str, **changed: Any) -> None:
        """Have it name a digest as the release of the model."""
        version = {
            "version": "2",
            "run_id": "0f1e",
            "tags": [{"key": "mlops.release_digest", "value": digest}],
            **changed,
        }
        self.body = json.dumps({"model_version": version}).encode()

    def ask(self) -> dict[str, Any]:
        """Look for the last release, as a run of the pipeline does before it trains."""
        owner = self.attack.owner
        value = {
            "model_name": MODEL,
            "site": SITE,
            "mlflow": {"url": self.url},
            "registry": {
                "url": f"http://127.0.0.1:{self.attack.server.port}",
                "repository": self.attack.prefix,
                "user": "push",
            },
            "release_keys": [{"public_key": owner.public_key}],
        }
        config = Config(Section(value, "config.json"), {"PIPELINE_REGISTRY_PASSWORD": "p"})
        golden = str(self.attack.folder / "golden.json")
        found: dict[str, Any] = current.run(config, Timings(), golden)
        return found

    def refused(self, wanted: str) -> None:
        with pytest.raises(PipelineError) as refusal:
            self.ask()
        said = str(refusal.value)
        assert len(said) < 1200
        assert said.isprintable(), repr(said)
        assert wanted in said
        assert not (self.attack.folder / "golden.json").exists()


@pytest.fixture
def registrar(attack: Attack) -> Iterator[Registrar]:
    found = Registrar(attack)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(found.body)

        def log_message(self, *_anything: Any) -> None:
            return

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    found.url = f"http://127.0.0.1:{listener.server_address[1]}"
    yield found
    listener.shutdown()
    listener.server_close()


def test_the_controller_takes_what_was_published(registrar: Registrar, judged: Judged) -> None:
    registrar.names(judged.digest)
    assert registrar.ask()["digest"] == judged.digest
    assert (registrar.attack.folder / "golden.json").read_bytes().startswith(b"{")


def test_the_controller_is_told_of_a_release_that_nobody_signed(registrar: Registrar) -> None:
    registrar.names(registrar.attack.push("2", {"model.onnx": EVIL}))
    registrar.refused("is not signed")


def test_the_controller_is_told_of_a_release_of_his_own(registrar: Registrar) -> None:
    digest = registrar.attack.push("2", {"model.onnx": EVIL})
    registrar.attack.sign(digest, "2", registrar.attack.stranger)
    registrar.names(digest)
    registrar.refused("is not known here")


def test_the_controller_is_told_of_another_site_s_release(registrar: Registrar) -> None:
    digest = registrar.attack.push("2")
    registrar.attack.sign(digest, "2", site=OTHER_SITE)
    registrar.names(digest)
    registrar.refused(f"for the site {OTHER_SITE}")


def test_the_controller_is_told_of_another_model(registrar: Registrar) -> None:
    other = registrar.attack.push("1", model=OTHER_MODEL, repository=MODEL)
    registrar.names(other)
    registrar.refused(f"it is one of {OTHER_MODEL}")


def test_the_controller_asks_for_the_evaluation(registrar: Registrar, judged: Judged) -> None:
    test_the_evaluation_is_taken_away(registrar.attack, judged)
    registrar.names(judged.digest)
    registrar.refused("No evaluation is stored")


def test_a_model_registry_that_talks_nonsense(registrar: Registrar) -> None:
    for digest in ("x", "sha256:../..", "\x1b]0;x\x07", "latest"):
        registrar.names(digest)
        registrar.refused("wanted a digest")
    registrar.names("", tags=7)
    assert registrar.ask()["digest"] is None
    for body in (b"[" * 100_000, b"", b"7", b'{"message": "\\u001b]0;x"}', b'{"model_version": 7}'):
        registrar.body = body
        registrar.refused("did not let us look for the last release")


def test_a_model_registry_that_never_ends(registrar: Registrar) -> None:
    registrar.body = b"x" * (200 * 2**20)
    assert memory(lambda: registrar.refused("is larger than 1048576 bytes")) < 32

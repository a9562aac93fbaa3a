# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The client against Debian's docker-registry; the checks against devices that do not behave."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release import oci
from ansible_collections.mlops.onprem.plugins.module_utils._release.client import RegistryClient
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.device import Device
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.disk import PartialFile
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.source import Source
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.store import ReleaseStore
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.module_utils._release.keys import KeyRing
from ansible_collections.mlops.onprem.plugins.module_utils._release.web import WebTransport
from ansible_collections.mlops.onprem.plugins.modules import (
    inference_check,
    metrics_check,
    pipeline_report,
)

from tests import releases

from .conftest import free_port
from .registry_server import ServesCurrent, running

RunModule = Callable[..., dict[str, Any]]
GOLDEN = releases.FIXTURE / "golden.json"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RegistryClient, Path]]:
    """A registry of its own, and where it keeps its data."""
    with running(tmp_path_factory.mktemp("registry"), free_port()) as server:
        yield server.client("models"), server.data


@pytest.fixture
def device(
    registry: tuple[RegistryClient, Path], tmp_path: Path
) -> tuple[Device, releases.Publisher]:
    """A device that trusts one key, and one who publishes with it."""
    signer = releases.Signer(releases.fresh_key(tmp_path / "sign.key"))
    root = tmp_path / "device"
    root.mkdir()
    store = ReleaseStore(root)
    address = "http://" + registry[0].reference.partition("/")[0]

    def client_of(repository: str) -> RegistryClient:
        return RegistryClient(address, repository, WebTransport(), "u", "p", time.sleep)

    source = Source("models", client_of, KeyRing.of(signer.public_key), releases.SITE)
    return (
        Device(store, source, ServesCurrent(store), keep=3, patience=1.0),
        releases.Publisher(lambda model: client_of(f"models/{model}"), signer),
    )


def test_a_blob_travels_in_chunks_and_comes_back_in_parts(
    registry: tuple[RegistryClient, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = registry[0]
    data = bytes(range(256)) * 40000
    blob = oci.Descriptor.of("", data)
    monkeypatch.setattr(
        "ansible_collections.mlops.onprem.plugins.module_utils._release.client.CHUNK_BYTES",
        3_000_000,
    )
    assert client.push_blob(blob, io.BytesIO(data)) == len(data)
    assert client.push_blob(blob, io.BytesIO(data)) == 0
    (tmp_path / "part").write_bytes(data[:7_000_000])
    assert client.blob(blob, PartialFile(tmp_path / "part")) == len(data) - 7_000_000
    assert (
        hashlib.sha256((tmp_path / "part").read_bytes()).digest() == hashlib.sha256(data).digest()
    )


def test_good_releases_are_accepted_and_every_bad_one_is_refused(
    device: tuple[Device, releases.Publisher], registry: tuple[RegistryClient, Path], tmp_path: Path
) -> None:
    subject, publisher = device
    stranger = releases.Signer(releases.fresh_key(tmp_path / "stranger.key"))
    digests = releases.publish_all(publisher, stranger)
    spoilt = hashlib.sha256(b'{"tolerance": 0.5}').hexdigest()
    blob = registry[1] / f"docker/registry/v2/blobs/sha256/{spoilt[:2]}/{spoilt}/data"
    blob.write_bytes(b'{"tolerance": 9.9}')
    for name in ("good", "better"):
        done = subject.release(digests[name], model=releases.MODEL)
        assert done.after.current == digests[name]
    other = subject.release(digests["flowers"], model=releases.OTHER_MODEL)
    assert other.after.current == digests["flowers"]
    for name, sentence in {
        "unsigned": f"The release {digests['unsigned']} is not signed.",
        "stranger": "is not known here; known are",
        "borrowed": f"speaks of {digests['good']}",
        "misnamed": "was signed for the model flowers, wanted iris",
        "tampered": "The file config.json was tampered with: found the digest sha256:",
    }.items():
        with pytest.raises(RegistryError) as refusal:
            subject.release(digests[name], model=releases.MODEL)
        assert sentence in str(refusal.value)
        assert subject.wanted(releases.MODEL) == digests["better"]
    with pytest.raises(RegistryError, match="going back has to be asked for"):
        subject.release(digests["good"], model=releases.MODEL)
    assert subject.remove(releases.OTHER_MODEL)
    assert subject.store.models() == [releases.MODEL]


class Edge(http.server.BaseHTTPRequestHandler):
    """A device that answers as it is told."""

    digest = "sha256:" + "a" * 64
    golden = json.loads(GOLDEN.read_text())
    wrong = 0.0

    def _send(self, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self._send({"digest": self.digest, "versions": ["1"]})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        case = next(each for each in self.golden["cases"] if each["request"] == request)
        outputs = [
            {"name": name, "data": [value + self.wrong for value in values]}
            for name, values in case["expected"].items()
        ]
        self._send({"outputs": outputs})

    def log_message(self, *_anything: Any) -> None:
        return


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address of a device and its CA."""
    place = tmp_path_factory.mktemp("edge")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out crt -days 2"
    names = ["-subj", "/CN=edge", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*command.split(), *names],
        cwd=place,
        check=True,
        capture_output=True,
    )
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Edge)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "crt", place / "key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_address[1]}", str(place / "crt")
    server.shutdown()


@pytest.fixture
def ask(run_module: RunModule, edge: tuple[str, str]) -> Callable[..., dict[str, Any]]:
    """Check one device; return what was found."""

    def check(**changed: Any) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "devices": [{"name": "edge3", "url": edge[0]}],
            "digest": Edge.digest,
            "model_name": "iris",
            "model_version": "1",
            "golden": str(GOLDEN),
            "ca_file": edge[1],
            "requests": 5,
            **changed,
        }
        (found,) = run_module(inference_check, **arguments)["devices"]
        return dict(found)

    return check


def test_a_device_that_answers_as_the_trainer_passes(ask: Callable[..., dict[str, Any]]) -> None:
    found = ask()
    assert found["ok"], found
    assert (found["answers"], found["requests"]) == (3, 8)
    assert 0 < found["p50_ms"] <= found["p95_ms"]


def test_what_is_wrong_with_a_device_is_a_sentence_and_fails_the_check(
    ask: Callable[..., dict[str, Any]],
    run_module: RunModule,
    tmp_path: Path,
    edge: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    closed_port: int,
) -> None:
    def failed(sentence: str, **changed: Any) -> None:
        found = ask(**changed)
        assert not found["ok"]
        assert sentence in found["error"]
        report = run_module(
            pipeline_report,
            models=[{"name": "iris", "steps": {}, "devices": [found]}],
            path=str(tmp_path / "reports"),
        )
        assert report["verdict"] == "fail"
        assert sentence in "\n".join(report["failures"])
        assert json.loads((tmp_path / "reports/latest.json").read_text())["verdict"] == "fail"

    silent = f"https://127.0.0.1:{closed_port}"
    failed(
        f"edge3 does not answer at {silent}: connection refused.",
        devices=[{"name": "edge3", "url": silent}],
    )
    value = json.loads(GOLDEN.read_text())
    del value["cases"][1]["expected"]
    (tmp_path / "golden.json").write_text(json.dumps(value))
    failed("The golden answer to request 2 of 3 is missing", golden=str(tmp_path / "golden.json"))
    failed("The golden answers are missing: there is no file", golden="/nowhere/golden.json")
    served = f"edge3 serves the release {Edge.digest} of iris, wanted sha256:b"
    failed(served, digest="sha256:" + "b" * 64)
    failed("wanted 7.", model_version="7")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout /dev/null -subj /CN=other"
    other = subprocess.run(
        command.split(),
        check=True,
        capture_output=True,
    )
    (tmp_path / "other.crt").write_bytes(other.stdout)
    failed("The certificate of edge3", ca_file=str(tmp_path / "other.crt"))
    monkeypatch.setattr(Edge, "wrong", 0.01)
    failed("edge3: 3 of 3 answers are not the trainer's (request 1 differs by up to 0.01")


def test_a_prometheus_that_does_not_answer_is_said(
    run_module: RunModule, edge: tuple[str, str], closed_port: int
) -> None:
    found = run_module(
        metrics_check,
        url=f"https://127.0.0.1:{closed_port}/prometheus",
        ca_file=edge[1],
        models=[
            {
                "digest": Edge.digest,
                "model_name": "iris",
                "model_version": "1",
                "devices": ["edge3"],
                "requests": 8,
            }
        ],
        timeout=1,
    )
    assert "does not answer" in found["error"]

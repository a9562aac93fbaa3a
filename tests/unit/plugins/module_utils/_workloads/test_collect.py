# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What jobs left on a node reaches the bucket, once, and nothing that is not theirs does."""

from __future__ import annotations

import datetime
import io
import os
import pwd
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._workloads import store
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.collect import collect
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.store import (
    Bucket,
    Readable,
    StoreError,
    headers,
    put,
)
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

NOW = 1_796_000_000.0
LATER = 4_000_000_000.0


class Store:
    """Takes files and remembers them."""

    def __init__(self, fails: str = "") -> None:
        self.taken: dict[str, bytes] = {}
        self.times = 0
        self.fails = fails

    def __call__(self, key: str, content: Readable, size: int) -> None:
        if self.fails and self.fails in key:
            raise StoreError("is full")
        self.taken[key] = content.read()
        self.times += 1
        assert len(self.taken[key]) == size


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "nightly.7.log").write_text("hello\n")
    (tmp_path / "nightly.7.result" / "deep").mkdir(parents=True)
    (tmp_path / "nightly.7.result" / "model.bin").write_bytes(b"weights")
    (tmp_path / "nightly.7.result" / "deep" / "a b.txt").write_text("x")
    (tmp_path / "notes.txt").write_text("of nobody")
    return tmp_path


def me() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def test_logs_and_results_are_put_once_and_again_when_they_change(folder: Path) -> None:
    bucket = Store()
    known, wrong = collect(str(folder), {}, bucket, LATER)
    base = f"jobs/nightly/7-{me()}"
    assert wrong == []
    assert bucket.taken == {
        f"{base}/log": b"hello\n",
        f"{base}/result/model.bin": b"weights",
        f"{base}/result/deep/a b.txt": b"x",
    }
    assert collect(str(folder), known, bucket, LATER) == (known, [])
    assert bucket.times == 3
    (folder / "nightly.7.log").write_text("hello\nworld\n")
    collect(str(folder), known, bucket, LATER)
    assert bucket.taken[f"{base}/log"] == b"hello\nworld\n"
    assert bucket.times == 4


def test_a_result_that_is_being_written_waits(folder: Path) -> None:
    bucket = Store()
    written = (folder / "nightly.7.result" / "model.bin").stat().st_mtime
    known, _wrong = collect(str(folder), {}, bucket, written + 1)
    assert [key.rpartition("/")[2] for key in known] == ["log"]


def test_links_and_files_of_others_are_not_followed(folder: Path) -> None:
    (folder / "nightly.7.result" / "secret").symlink_to("/etc/passwd")
    (folder / "nightly.7.result" / "all").symlink_to("/etc")
    (folder / "fake.8.log").symlink_to("/etc/passwd")
    (folder / "chat.9.log").write_text("x")
    (folder / "chat.9.result").symlink_to("/etc")
    bucket = Store()
    collect(str(folder), {}, bucket, LATER)
    names = {key.split("/", 3)[-1] for key in bucket.taken}
    assert names == {"log", "result/model.bin", "result/deep/a b.txt"}
    assert not [key for key in bucket.taken if "fake" in key]


def test_what_does_not_reach_the_store_is_told_and_tried_again(folder: Path) -> None:
    known, wrong = collect(str(folder), {}, Store(fails="model.bin"), LATER)
    assert len(wrong) == 1
    assert "model.bin: is full" in wrong[0]
    again = Store()
    collect(str(folder), known, again, LATER)
    assert [key.rpartition("/")[2] for key in again.taken] == ["model.bin"]


@pytest.mark.parametrize("key", ["jobs/a/7-anna/log", "jobs/a/7-anna/result/a b+ü.txt"])
@pytest.mark.parametrize("endpoint", ["https://s3.example.com:8443", "https://s3.example.com/rgw"])
def test_the_signature_is_that_of_the_sdk(
    key: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Bucket(endpoint, "mlops-jobs", "AKIA", "secret", "eu-central-1")
    day = datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc)
    ours = headers(bucket, key, NOW)
    request = AWSRequest(
        "PUT", bucket.endpoint.split("/rgw")[0] + store.path_of(bucket, key), headers={}
    )
    signer = S3SigV4Auth(Credentials("AKIA", "secret"), "s3", "eu-central-1")
    request.headers["X-Amz-Content-SHA256"] = store.UNSIGNED
    request.context.update(timestamp=day.strftime("%Y%m%dT%H%M%SZ"), payload_signing_enabled=False)
    request.headers["X-Amz-Date"] = request.context["timestamp"]
    monkeypatch.setattr(signer, "payload", lambda _request: store.UNSIGNED)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    signature = signer.signature(text, request)
    assert ours["authorization"].endswith(f"Signature={signature}")


class _Server(BaseHTTPRequestHandler):
    taken: dict[str, bytes] = {}  # noqa: RUF012
    status = 200

    def do_PUT(self) -> None:
        size = int(self.headers["content-length"])
        self.taken[self.path] = self.rfile.read(size)
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(b"<Error><Code>AccessDenied</Code></Error>" if self.status != 200 else b"")

    def log_message(self, *_args: object) -> None:
        """Nobody listens."""


@pytest.fixture
def server() -> Iterator[str]:
    found = HTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{found.server_port}"
    found.shutdown()
    found.server_close()


def test_a_file_reaches_a_server_and_a_refusal_is_a_sentence(server: str) -> None:
    bucket = Bucket(server, "mlops-jobs", "AKIA", "secret")
    _Server.status = 200
    put(bucket, "jobs/a b", io.BytesIO(b"12345"), 5)
    assert _Server.taken["/mlops-jobs/jobs/a%20b"] == b"12345"
    _Server.status = 403
    with pytest.raises(
        StoreError, match=r"does not take jobs/x into mlops-jobs: 403 .*AccessDenied"
    ):
        put(bucket, "jobs/x", io.BytesIO(b""), 0)
    _Server.status = 200
    with pytest.raises(StoreError, match="cannot be reached"):
        put(Bucket("http://127.0.0.1:9", "b", "a", "s"), "k", io.BytesIO(b""), 0)

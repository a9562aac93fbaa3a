# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transport against servers that are slow, endless or talk nonsense."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release.client import (
    Deadline,
    Interrupted,
    RegistryClient,
    read_all,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.module_utils._release.oci import Descriptor
from ansible_collections.mlops.onprem.plugins.module_utils._release.web import WebTransport

from tests.patience import PATIENCE

from .conftest import FakeAnswer, FakeRegistry

Behave = Callable[[socket.socket], None]
Serve = Callable[[Behave], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server that reads a request and then does as it is told; return its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    behaviour: list[Behave] = []

    def talk(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            behaviour[0](connection)

    def run() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _address = listener.accept()
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

    threading.Thread(target=run, daemon=True).start()

    def start(behave: Behave) -> str:
        behaviour.append(behave)
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    listener.close()


def drip(before: bytes, piece: bytes, stop: threading.Event) -> Behave:
    def behave(connection: socket.socket) -> None:
        connection.sendall(before)
        while not stop.wait(0.02):
            connection.sendall(piece)

    return behave


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_an_answer_is_read(serve: Serve) -> None:
    url = serve(lambda peer: peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
    answer = WebTransport()("GET", url, {})
    assert (answer.status, answer.headers["content-length"]) == (200, "5")
    assert read_all(answer, 5, "read") == b"hello"


def test_chunks_are_read(serve: Serve) -> None:
    body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    url = serve(lambda peer: peer.sendall(body))
    assert read_all(WebTransport()("GET", url, {}), 5, "read") == b"abcde"


def test_a_large_body_is_sent(serve: Serve) -> None:
    got: list[int] = []

    def behave(peer: socket.socket) -> None:
        total = 0
        while total < 1_000_000:
            total += len(peer.recv(65536))
        got.append(total)
        peer.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    assert WebTransport()("PUT", serve(behave), {}, b"x" * 1_100_000).status == 201
    assert got[0] >= 1_000_000


@pytest.mark.parametrize(
    ("before", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"[:1]),
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\nx: ", b"y"),
    ],
    ids=["headers", "nothing", "one header"],
)
def test_headers_that_drip_end_in_time(
    serve: Serve, stop: threading.Event, before: bytes, piece: bytes
) -> None:
    url = serve(drip(before, piece, stop))
    started = time.monotonic()
    with pytest.raises(Interrupted):
        WebTransport(timeout=0.4)("GET", url, {})
    assert time.monotonic() - started < PATIENCE


def test_a_chunk_length_that_drips_ends_in_time(serve: Serve, stop: threading.Event) -> None:
    url = serve(drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0", stop))
    started = time.monotonic()
    answer = WebTransport(timeout=5)("GET", url, {})
    with pytest.raises(Interrupted, match=r"timed out|takes too long"):
        read_all(answer, 100, "read")
    assert time.monotonic() - started < PATIENCE


def test_a_body_that_drips_ends_in_time(serve: Serve, stop: threading.Event) -> None:
    url = serve(drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x", stop))
    answer = WebTransport()("GET", url, {})
    started = time.monotonic()
    with pytest.raises(RegistryError, match=r"It takes too long to read it: \d+ bytes came in"):
        read_all(answer, 2000, "read it", Deadline(0, patience=0.3))
    assert time.monotonic() - started < PATIENCE


def test_an_endless_body_is_cut_at_its_limit(serve: Serve) -> None:
    def endless(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            peer.sendall(b"x" * 65536)

    answer = WebTransport()("GET", serve(endless), {})
    with pytest.raises(RegistryError, match="The answer to read it is larger than 1000 bytes"):
        read_all(answer, 1000, "read it")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
    ],
    ids=["nothing", "another protocol", "no status", "many headers", "a long header"],
)
def test_nonsense_is_an_interruption(serve: Serve, answer: bytes) -> None:
    with pytest.raises(Interrupted):
        WebTransport()("GET", serve(lambda peer: peer.sendall(answer)), {})


def test_a_chunk_length_that_is_none_is_an_interruption(serve: Serve) -> None:
    body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    answer = WebTransport()("GET", serve(lambda peer: peer.sendall(body)), {})
    with pytest.raises(Interrupted):
        read_all(answer, 100, "read")


def test_without_tls_only_this_machine_is_asked() -> None:
    with pytest.raises(RegistryError, match="is without TLS; wanted https"):
        WebTransport()("GET", "http://192.0.2.1/", {})


class Clock:
    """A clock that goes on at each look."""

    def __init__(self, step: float) -> None:
        self._step = step
        self._now = 0.0

    def __call__(self) -> float:
        self._now += self._step
        return self._now


class Slow(FakeAnswer):
    """An answer of one byte at a time."""

    def read(self, size: int) -> bytes:
        return super().read(min(size, 1))


@pytest.mark.parametrize("what", ["manifest", "blob"])
def test_a_registry_that_sends_a_byte_now_and_then_is_given_up(what: str) -> None:
    data = b"x" * 40
    blob = Descriptor.of("", data)

    registry = FakeRegistry(faults=[Slow(200, data)])
    client = RegistryClient("https://r", "models/demo", registry, clock=Clock(10.0))
    with pytest.raises(RegistryError, match=r"It takes too long to read .* wanted all in 60 s"):
        client.manifest("v1") if what == "manifest" else client.small_blob(blob)


def test_a_large_file_may_take_its_time() -> None:
    data = b"x" * 4_000_000
    blob = Descriptor.of("", data)
    registry = FakeRegistry(blobs={blob.digest: data})
    # 16 pieces, each ten seconds after the other: slow, but more than the least rate.
    client = RegistryClient("https://r", "models/demo", registry, clock=Clock(10.0))
    assert client.small_blob(blob) == data


@pytest.mark.parametrize("location", ["https://r:99999/x", "https://[::1/x", "//[/"])
def test_a_redirect_to_no_address_is_refused(location: str) -> None:
    registry = FakeRegistry(faults=[FakeAnswer(307, headers={"location": location})])
    client = RegistryClient("https://r", "models/demo", registry)
    with pytest.raises(RegistryError, match=r"sends us to .*, which is no address"):
        client.manifest("v1")


def test_a_manifest_may_be_limited_further() -> None:
    registry = FakeRegistry(manifests={"v1": b"x" * 1001})
    client = RegistryClient("https://r", "models/demo", registry)
    with pytest.raises(RegistryError, match="is larger than 1000 bytes"):
        client.manifest("v1", limit=1000)

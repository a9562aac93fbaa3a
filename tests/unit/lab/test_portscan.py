"""The scan tells TLS from anything else, on real sockets of this machine."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.infra import portscan
from tests.patience import PATIENCE


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Listen on a free port; every connection goes to the given function."""
    listeners = []

    def start(answer: Callable[[socket.socket], None]) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def accept() -> None:
            while True:
                try:
                    connection, _peer = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        answer(connection)
                    except OSError:
                        continue

        threading.Thread(target=accept, daemon=True).start()
        return int(listener.getsockname()[1])

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_open_ports_are_found_among_closed_ones(serve: Callable[..., int]) -> None:
    port = serve(lambda _connection: None)
    assert list(portscan.open_ports("127.0.0.1", range(port, port + 1), PATIENCE)) == [port]


def test_a_service_without_tls_is_told_by_its_first_words(serve: Callable[..., int]) -> None:
    port = serve(lambda connection: connection.sendall(b"220 hello\r\n"))
    assert portscan.speaks_tls("127.0.0.1", port, PATIENCE) is False
    assert portscan.first_words("127.0.0.1", port, PATIENCE) == "220 hello"


def test_a_service_with_tls_is_told_by_its_protocol(
    serve: Callable[..., int], tmp_path: Path
) -> None:
    key, certificate = tmp_path / "key", tmp_path / "crt"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-subj", "/CN=x", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(1)

    assert portscan.speaks_tls("127.0.0.1", serve(answer), PATIENCE) == "TLSv1.3"

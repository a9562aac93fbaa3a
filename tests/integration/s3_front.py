# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Something with TLS on the port of an S3 endpoint: a misbehaving server, or a proxy before S3."""

from __future__ import annotations

import contextlib
import http.client
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.unit.plugins.module_utils._trust.companies import authority, leaf

XML = "application/xml"
Answer = tuple[int, str, bytes]
"""Status, content type and body."""


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


Rule = Callable[[Request], "Answer | None"]
"""An answer of the front's own, or ``None`` to hand the request on."""


@dataclass
class Front:
    """Where it listens, and what was asked of it."""

    endpoint: str
    ca_file: str
    asked: list[Request] = field(default_factory=list)

    def methods(self) -> list[str]:
        """The methods of all requests."""
        return [request.method for request in self.asked]


class Hang(Exception):
    """Say nothing until the front ends."""


class Close(Exception):
    """Close the connection without an answer."""


def error(code: str, status: int = 403) -> Answer:
    """S3's own error."""
    text = f'<?xml version="1.0"?>\n<Error><Code>{code}</Code><Message>no</Message></Error>'
    return status, XML, text.encode()


def page(status: int, title: str = "Welcome") -> Answer:
    """What a web server answers that is no S3."""
    return status, "text/html", f"<!DOCTYPE html><html><h1>{title}</h1></html>".encode()


@contextlib.contextmanager
def front(folder: Path, rule: Rule, behind: dict[str, Any] | None = None) -> Iterator[Front]:
    """Serve until the end of the block; what the rule leaves goes to the server behind."""
    root = authority("Front CA")
    shown = leaf(root, ["127.0.0.1", "localhost"])
    for name, text in (("ca", root.pem), ("chain", shown.pem), ("key", shown.key)):
        (folder / f"{name}.pem").write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    over = threading.Event()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Clients that go away are no news."""

    server = Server(("127.0.0.1", 0), None)  # type: ignore[arg-type]
    seen = Front(f"https://127.0.0.1:{server.server_address[1]}", str(folder / "ca.pem"))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            self.request = context.wrap_socket(self.request, server_side=True)
            super().setup()

        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

        def handle_expect_100(self) -> bool:
            return True

        def answer(self) -> None:
            self.close_connection = True
            request = Request(self.command, self.path, dict(self.headers.items()))
            if request.headers.get("Expect"):
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = self.rfile.read(int(request.headers.get("Content-Length", 0)))
            request = Request(self.command, self.path, request.headers, body)
            seen.asked.append(request)
            try:
                said = rule(request)
            except Hang:
                over.wait(60)
                return
            except Close:
                return
            if said is None:
                self.hand_on(request)
                return
            status, kind, text = said
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Location", f"{seen.endpoint}/elsewhere")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        def hand_on(self, request: Request) -> None:
            status, headers, text = hand_on(request, behind or {})
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815

    server.RequestHandlerClass = Handler
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


def hand_on(request: Request, behind: dict[str, Any]) -> tuple[int, list[tuple[str, str]], bytes]:
    """What the server behind answers to the request as it is."""
    place = urlsplit(behind["endpoint"])
    context = ssl.create_default_context(cafile=behind["ca_file"])
    connection = http.client.HTTPSConnection(
        str(place.hostname), place.port, context=context, timeout=30
    )
    with contextlib.closing(connection):
        headers = {name: text for name, text in request.headers.items() if name != "Expect"}
        connection.request(request.method, request.path, request.body, headers)
        answer = connection.getresponse()
        return answer.status, answer.getheaders(), answer.read()

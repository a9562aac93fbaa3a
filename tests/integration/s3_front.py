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

from tests.patience import PATIENCE
from tests.unit.plugins.module_utils._trust.companies import authority, leaf

XML = "application/xml"
OWN_HEADERS = ("content-length", "transfer-encoding", "connection")
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


class _Server(socketserver.ThreadingTCPServer):
    """Listens, and knows what its handler is to say."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, context: ssl.SSLContext, rule: Rule, behind: dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.context, self.rule, self.behind = context, rule, behind
        self.endpoint = f"https://127.0.0.1:{self.server_address[1]}"
        self.asked: list[Request] = []
        self.over = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are no news."""


class _Handler(BaseHTTPRequestHandler):
    """Answers by the rule, or hands the request on."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        self.request = self.server.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""

    def handle_expect_100(self) -> bool:
        return True

    def answer(self) -> None:
        self.close_connection = True
        headers = dict(self.headers.items())
        if headers.get("Expect"):
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self.rfile.read(int(headers.get("Content-Length", 0)))
        request = Request(self.command, self.path, headers, body)
        self.server.asked.append(request)
        try:
            said = self.server.rule(request)
        except Hang:
            self.server.over.wait(3600)
            return
        except Close:
            return
        if said is None:
            status, given, text = hand_on(request, self.server.behind)
            self.say(status, [pair for pair in given if pair[0].lower() not in OWN_HEADERS], text)
            return
        status, kind, text = said
        elsewhere = f"{self.server.endpoint}/elsewhere"
        self.say(status, [("Content-Type", kind), ("Location", elsewhere)], text)

    def say(self, status: int, headers: list[tuple[str, str]], text: bytes) -> None:
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(text)))):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815


@contextlib.contextmanager
def front(folder: Path, rule: Rule, behind: dict[str, Any] | None = None) -> Iterator[Front]:
    """Serve until the end of the block; what the rule leaves goes to the server behind."""
    root = authority("Front CA")
    shown = leaf(root, ["127.0.0.1", "localhost"])
    for name, text in (("ca", root.pem), ("chain", shown.pem), ("key", shown.key)):
        (folder / f"{name}.pem").write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    server = _Server(context, rule, behind or {})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield Front(server.endpoint, str(folder / "ca.pem"), server.asked)
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join(timeout=PATIENCE)


def hand_on(request: Request, behind: dict[str, Any]) -> tuple[int, list[tuple[str, str]], bytes]:
    """What the server behind answers to the request as it is."""
    place = urlsplit(behind["endpoint"])
    context = ssl.create_default_context(cafile=behind["ca_file"])
    connection = http.client.HTTPSConnection(
        str(place.hostname), place.port, context=context, timeout=PATIENCE
    )
    with contextlib.closing(connection):
        headers = {name: text for name, text in request.headers.items() if name != "Expect"}
        connection.request(request.method, request.path, request.body, headers)
        answer = connection.getresponse()
        return answer.status, answer.getheaders(), answer.read()

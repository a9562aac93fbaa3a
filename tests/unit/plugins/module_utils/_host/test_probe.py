# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""A question to a host is answered by nothing, or by a sentence that says what is wrong."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._host import probe
from ansible_collections.mlops.onprem.plugins.module_utils._host.errors import HostError

from tests.patience import PATIENCE

TARGETS = {
    "data": {
        "activeTargets": [
            {"labels": {"job": "node", "host": "cam1"}, "health": "up", "lastError": ""},
            {"labels": {"job": "node", "host": "cam2"}, "lastError": "context deadline  exceeded"},
            {"labels": {"job": "nginx", "host": "cam1"}, "lastError": "connection refused"},
        ]
    },
    "failure": "The file model.onnx has another digest.",
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/mine") and self.headers["Authorization"] != "Basic bWU6cA==":
            self.send_error(401)
            return
        self.send_response(200 if self.path in ("/ok", "/why", "/mine/ok") else 503)
        self.end_headers()
        if self.path == "/why":
            self.wfile.write(json.dumps(TARGETS).encode())
            return
        self.wfile.write(b"all is well" if self.path == "/ok" else b"not yet")

    def log_message(self, *_words: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_good_answers_say_nothing(server: str, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("hello")
    path.chmod(0o640)
    for check in (
        {"url": f"http://{server}/ok", "contains": "well"},
        {"url": f"http://{server}/no", "status": [503]},
        {"tcp": server},
        {"file": str(path), "mode": "0640", "contains": "hello"},
        {"command": ["true"]},
    ):
        assert probe.ask(check, PATIENCE) == ""


class SocketServer(HTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)

    def get_request(self) -> tuple[socket.socket, Any]:
        return self.socket.accept()[0], ("", 0)


def test_a_socket_is_asked_in_place_of_the_address(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    check = {"url": "http://localhost/ok", "socket": path, "contains": "well"}
    nothing = probe.ask(check, PATIENCE)
    assert nothing == f"http://localhost/ok at {path} does not answer (No such file or directory)"
    assert probe.remedy_of(check) == f"see on the host who listens: ss -lxp src {path}"
    httpd = SocketServer(path, Handler)  # type: ignore[arg-type]
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    try:
        assert probe.ask(check, PATIENCE) == ""
        assert "answers 503" in probe.ask({**check, "url": "http://localhost/no"}, PATIENCE)
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


def test_an_account_is_shown_with_the_password_of_a_file(server: str, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("p\n")
    check = {"url": f"http://{server}/mine/ok", "user": "me", "password_file": str(path)}
    assert probe.ask(check, 5) == ""
    assert "answers 401" in probe.ask({"url": check["url"]}, 5)
    path.write_text("q\n")
    assert "answers 401" in probe.ask(check, 5)
    path.unlink()
    # As in check mode, where the role has not placed it yet.
    said = f"the password of me cannot be read from {path} (No such file or directory)"
    assert probe.ask(check, 5) == said


def test_bad_answers_are_sentences(server: str, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("hello")
    path.chmod(0o644)
    port = free_port()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"url": f"http://{server}/no"}, f"http://{server}/no answers 503 instead of 200: not yet"),
        (
            {"url": f"http://{server}/ok", "contains": "bad"},
            f"http://{server}/ok answers without the text 'bad'",
        ),
        (
            {"url": f"http://127.0.0.1:{port}/"},
            f"http://127.0.0.1:{port}/ does not answer (Connection refused)",
        ),
        ({"tcp": f"127.0.0.1:{port}"}, f"nothing answers on 127.0.0.1:{port} (Connection refused)"),
        ({"file": str(path), "mode": "0640"}, f"{path} has mode 0644 instead of 0640"),
        ({"file": "/nonexistent"}, "/nonexistent cannot be read (No such file or directory)"),
        ({"command": ["false"]}, "false ended with 1: "),
        (
            {"command": ["no-such-program"]},
            "no-such-program ended with 127: no-such-program is not installed",
        ),
    ]
    for check, sentence in cases:
        assert probe.ask(check, PATIENCE) == sentence


@pytest.mark.parametrize("check", [{}, {"tcp": "a:1", "file": "/x"}])
def test_a_check_asks_exactly_one_thing(check: dict[str, Any]) -> None:
    with pytest.raises(HostError, match="A check asks exactly one of"):
        probe.question_of(check)


@pytest.mark.parametrize("address", ["localhost", ":80", "localhost:http"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(HostError, match="is not an address like"):
        probe.address_of(address)


def test_asking_ends_at_the_deadline() -> None:
    began = time.monotonic()
    wrong = probe.ask_until({"tcp": f"127.0.0.1:{free_port()}"}, began + 0.5)
    assert "nothing answers" in wrong
    assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ({"say": "failure"}, ": The file model.onnx has another digest."),
        ({"say": "lastError", "where": {"host": "cam2"}}, ": context deadline exceeded"),
        ({"say": "lastError", "where": {"host": "cam1", "job": "nginx"}}, ": connection refused"),
        ({"say": "lastError", "where": {"host": "cam1", "job": "node"}}, ""),
        ({"say": "lastError", "where": {"host": "cam9"}}, ""),
        ({"say": "nothing"}, ""),
    ],
)
def test_a_reason_that_somebody_else_knows_is_told(
    server: str, source: dict[str, Any], reason: str
) -> None:
    check = {"tcp": "127.0.0.1:1", "because": {"url": f"http://{server}/why", **source}}
    assert probe.explained(check, "down", {}) == "down" + reason


@pytest.mark.parametrize("path", ["/ok", "/no"])
def test_a_reason_that_cannot_be_had_takes_nothing_away(server: str, path: str) -> None:
    because = {"url": f"http://{server}{path}", "say": "failure"}
    assert probe.explained({"tcp": "a:1", "because": because}, "down", {}) == "down"
    because["url"] = f"http://127.0.0.1:{free_port()}/"
    assert probe.explained({"tcp": "a:1", "because": because}, "down", {}) == "down"


def test_a_reason_is_asked_for_once(server: str) -> None:
    url = f"http://{server}/why"
    asked = {url: '{"failure": "as was said"}'}
    check = {"tcp": "a:1", "because": {"url": url, "say": "failure"}}
    assert probe.explained(check, "down", asked) == "down: as was said"


@pytest.mark.parametrize(
    ("check", "remedy"),
    [
        ({"unit": "x.service"}, "read journalctl -u x.service -n 50"),
        ({"tcp": "127.0.0.1:9093"}, "see on the host who listens: ss -ltnp sport = :9093"),
        ({"url": "https://a/b"}, "see on the host who listens: ss -ltnp sport = :443"),
        ({"url": "http://a:81/b"}, "see on the host who listens: ss -ltnp sport = :81"),
        ({"file": "/a"}, "run the site again, which puts it back"),
        ({"command": ["a", "b"]}, "run it on the host: a b"),
        ({"url": "http://a", "remedy": "open port 9443"}, "open port 9443"),
    ],
)
def test_every_sentence_has_its_title_and_its_remedy(check: dict[str, Any], remedy: str) -> None:
    assert probe.sentence({**check, "title": "this"}, "down.") == f"this: down; {remedy}."
    assert probe.sentence(check, "down") == f"down; {remedy}."


def test_a_text_that_is_missing_is_said_in_other_words(server: str) -> None:
    words = {"contains": "__name__", "otherwise": "Prometheus does not get it"}
    for check in (
        {"url": f"http://{server}/ok"},
        {"command": ["echo", "x"]},
    ):
        assert probe.ask({**check, **words}, PATIENCE) == "Prometheus does not get it"

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls over a socket: what arrives, and what is said where the registry does not do as asked."""

from __future__ import annotations

import base64
import json
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._people.errors import PeopleError
from ansible_collections.mlops.onprem.plugins.module_utils._people.registry import (
    API,
    API3,
    Call,
    Plan,
    State,
    Wanted,
)
from ansible_collections.mlops.onprem.plugins.module_utils._people.socket_api import (
    Api,
    UnreachableError,
)

SECRET = "a-secret-of-anna"


class Registry(ThreadingMixIn, UnixStreamServer):
    """Answers what it is told to by path, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self, place: Path) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[tuple[str, str, str, str, Any]] = []
        super().__init__(str(place), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Registry

    def answer(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size)) if size else None
        account = base64.b64decode(self.headers["Authorization"].split()[1]).decode()
        who = self.headers["X-Real-IP"]
        self.server.asked.append((self.command, self.path, account, who, body))
        status, said = self.server.answers.get(self.path, (200, {}))
        text = (said if isinstance(said, str) else json.dumps(said)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

    def address_string(self) -> str:
        return "socket"

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def registry() -> Iterator[Registry]:
    # The path of a socket may have 107 characters.
    with tempfile.TemporaryDirectory() as place, Registry(Path(place, "s")) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


def api(server: Registry) -> Api:
    return Api(str(server.server_address), "admin", "of admin")


def test_a_role_is_named_by_the_number_that_it_gets_on_the_way(registry: Registry) -> None:
    registry.answers[f"{API3}/roles/create"] = (200, {"role": {"id": 7, "name": "mlops-people"}})
    plan = Plan(
        (
            Call("add the role", "POST", f"{API3}/roles/create", {"name": "mlops-people"}),
            Call("give it", "POST", f"{API3}/roles/assign", {"username": "anna"}, "mlops-people"),
        )
    )
    api(registry).apply(plan, State())
    assert registry.asked[1] == (
        "POST",
        f"{API3}/roles/assign",
        "admin:of admin",
        "site",
        {"username": "anna", "role_id": 7},
    )


@pytest.mark.parametrize(("status", "right"), [(200, True), (401, False), (429, False)])
def test_each_person_is_tried_by_himself(registry: Registry, status: int, right: bool) -> None:
    registry.answers[f"{API}/users/current"] = (status, {})
    assert api(registry).right(Wanted("anna", "viewer", SECRET)) is right
    assert registry.asked[0][2:4] == (f"anna:{SECRET}", "site-anna")


def test_what_could_not_be_done_is_said_without_a_password(registry: Registry) -> None:
    registry.answers[f"{API}/users/create"] = (400, "too\nshort")
    body = {"username": "anna", "password": SECRET}
    plan = Plan((Call("add the account anna", "POST", f"{API}/users/create", body),))
    with pytest.raises(PeopleError) as said:
        api(registry).apply(plan, State())
    assert "could not add the account anna: 400 too short; see that" in str(said.value)
    assert SECRET not in str(said.value)


@pytest.mark.parametrize(
    ("status", "answer", "sentence"),
    [
        (
            500,
            "broken",
            "The model registry does not answer /mlflow/api/2.0/mlflow/users/list: 500",
        ),
        (200, "<html>", "The model registry answers /mlflow/api/2.0/mlflow/users/list with '<html"),
    ],
)
def test_an_answer_that_is_none_is_a_sentence(
    registry: Registry, status: int, answer: str, sentence: str
) -> None:
    registry.answers[f"{API}/users/list"] = (status, answer)
    with pytest.raises(PeopleError) as said:
        api(registry).state()
    assert str(said.value).startswith(sentence)


def test_a_person_whose_password_cannot_be_tried_is_a_sentence(registry: Registry) -> None:
    registry.answers[f"{API}/users/current"] = (503, "busy")
    with pytest.raises(PeopleError, match="The model registry answers 503 for anna: busy"):
        api(registry).right(Wanted("anna", "viewer", SECRET))


def test_a_registry_that_is_not_there_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="Nobody listens at"):
        Api(str(tmp_path / "none"), "admin", "x").state()

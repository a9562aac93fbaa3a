# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model server of the device, asked over loopback."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..client import Interrupted, Transport
from .disk import READ_BYTES

MOST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Served:
    """What the model server says it serves of one model."""

    digest: str | None
    model_name: str = ""
    model_version: str = ""
    failure: str = ""


@dataclass(frozen=True)
class Answers:
    """What the model server says it serves, by model.

    ``only`` is what a server of version 0.3 or older says, which knows one model.
    """

    models: Mapping[str, Served]
    only: Served | None = None

    def of(self, model: str) -> Served:
        """What is served of a model."""
        return self.only or self.models.get(model) or Served(None)


class Serving(Protocol):
    """The model server of the device."""

    def look(self) -> Answers:
        """May raise ``Interrupted`` when the server does not answer."""

    def load(self, model: str) -> str:
        """Serve what is current of a model; return why that did not work, or nothing."""

    def unload(self, model: str) -> str:
        """Let go of a model; return why that did not work, or nothing."""

    def ask(self, model: str, question: Any) -> tuple[int, Any]:
        """Ask a model one question of the protocol: the HTTP status and what came."""

    def probe(self, model: str, question: Any) -> tuple[int, Any]:
        """The same, and the server counts it as a request of a client."""


def _served(value: Any) -> Served:
    given = value if isinstance(value, dict) else {}
    said = {name: str(given.get(name) or "") for name in ("model_name", "model_version", "failure")}
    digest = given.get("digest")
    return Served(digest if isinstance(digest, str) else None, **said)


class HttpServing:
    """The model server behind its address."""

    def __init__(self, url: str, transport: Transport) -> None:
        self._url = url.rstrip("/")
        self._transport = transport

    def _ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        headers = {"accept": "application/json"}
        if body:
            headers["content-type"] = "application/json"
        answer = self._transport(
            method, self._url + path, headers, body if method == "POST" else None
        )
        data = b""
        while len(data) <= MOST_BYTES:
            part = answer.read(READ_BYTES)
            if not part:
                break
            data += part
        answer.close()
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = {}
        return answer.status, value if isinstance(value, dict) else {}

    def look(self) -> Answers:
        status, value = self._ask("GET", "/release")
        if status != 200:
            raise Interrupted(f"HTTP {status}")
        models = value.get("models")
        if not isinstance(models, dict):
            return Answers({}, _served(value))
        return Answers(
            {name: _served({"model_name": name, **entry}) for name, entry in models.items()}
        )

    def load(self, model: str) -> str:
        status, value = self._ask("POST", f"/v2/repository/models/{model}/load")
        if status == 200:
            return ""
        try:
            reason = self.look().of(model).failure
        except Interrupted:
            reason = ""
        return reason or str(value.get("error") or f"the model server answered HTTP {status}")

    def unload(self, model: str) -> str:
        status, value = self._ask("POST", f"/v2/repository/models/{model}/unload")
        # One that it does not know is one that it does not serve.
        if status in (200, 404):
            return ""
        return str(value.get("error") or f"the model server answered HTTP {status}")

    def probe(self, model: str, question: Any) -> tuple[int, Any]:
        # Counted as a client's request is, and nobody has to say who asks.
        body = json.dumps(question).encode()
        status, value = self._ask("POST", f"/v2/repository/models/{model}/probe", body)
        if status in (404, 405):
            # A server of an earlier version has none.
            return self._ask("POST", f"/v2/models/{model}/infer", body)
        return status, value

    def ask(self, model: str, question: Any) -> tuple[int, Any]:
        # The server's way for the device itself: nobody has to say who asks, and nothing counts.
        body = json.dumps(question).encode()
        status, value = self._ask("POST", f"/v2/repository/models/{model}/infer", body)
        if status in (404, 405):
            # A server of an earlier version has none.
            return self._ask("POST", f"/v2/models/{model}/infer", body)
        return status, value

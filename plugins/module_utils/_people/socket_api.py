# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MLflow's API over the socket of a worker, which nobody but nginx and root reaches."""

from __future__ import annotations

import base64
import http.client
import json
import socket
from collections.abc import Mapping
from typing import Any

from . import registry
from .errors import PeopleError

TIMEOUT = 60.0
SEE = "see that the model registry runs, with journalctl -u 'mlops-mlflow*' -n 50"


class UnreachableError(PeopleError):
    """Nobody listens: the registry does not run, or is not installed yet."""


class SocketConnection(http.client.HTTPConnection):
    """HTTP over a socket of this host."""

    def __init__(self, path: str) -> None:
        super().__init__("127.0.0.1", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self._path)


class Api:
    """The registry, asked by one account."""

    def __init__(self, path: str, account: str, password: str) -> None:
        self._path = path
        self._account = account
        self._password = password

    def state(self) -> registry.State:
        """All accounts and roles."""
        return registry.parse_state(
            self._answer("GET", f"{registry.API}/users/list"),
            self._answer("GET", f"{registry.API3}/roles/list"),
        )

    def right(self, one: registry.Wanted) -> bool:
        """Whether the account has this password.

        The registry bounds how often an address may be wrong; each person counts for himself.
        """
        status, said = self._ask(
            "GET",
            f"{registry.API}/users/current",
            account=(one.name, one.password),
            address=f"site-{one.name}",
        )
        if status not in (200, 401, 429):
            raise PeopleError(f"The model registry answers {status} for {one.name}: {said}; {SEE}.")
        return status == 200

    def apply(self, plan: registry.Plan, state: registry.State) -> None:
        """Make the calls of a plan; what a role's number is turns out on the way."""
        numbers = {name: role.number for name, role in state.roles.items()}
        for call in plan.calls:
            body = dict(call.body)
            if call.role:
                body["role_id"] = numbers[call.role]
            answer = self._answer(call.method, call.path, body, call.text)
            if call.path.endswith("/roles/create"):
                numbers[str(body["name"])] = int(answer["role"]["id"])

    def _answer(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, what: str = ""
    ) -> Any:
        status, said = self._ask(method, path, body)
        if status != 200:
            doing = f"could not {what}" if what else f"does not answer {path}"
            raise PeopleError(f"The model registry {doing}: {status} {said}; {SEE}.")
        try:
            return json.loads(said) if said.strip() else {}
        except ValueError:
            raise PeopleError(f"The model registry answers {path} with {said[:80]!r}.") from None

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        account: tuple[str, str] | None = None,
        address: str = "site",
    ) -> tuple[int, str]:
        name, password = account or (self._account, self._password)
        words = base64.b64encode(f"{name}:{password}".encode()).decode()
        headers = {"Authorization": f"Basic {words}", "X-Real-IP": address}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        connection = SocketConnection(self._path)
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise UnreachableError(f"Nobody listens at {self._path}: {error}; {SEE}.") from error
        except (OSError, http.client.HTTPException) as error:
            raise PeopleError(f"The model registry does not answer: {error}; {SEE}.") from error
        finally:
            connection.close()
        return answer.status, text if answer.status == 200 else " ".join(text.split())[:300]

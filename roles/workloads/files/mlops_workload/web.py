# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP over a unix socket, as the engines of a host answer."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

MOST_BYTES = 16 * 1024 * 1024


class Unanswered(Exception):
    """Nobody answered, or not in HTTP; reads as the end of a sentence."""


class UnixConnection(http.client.HTTPConnection):
    """A connection to a socket of this host."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(
    path: str, method: str, url: str, body: Any = None, timeout: float = 10.0
) -> tuple[int, bytes]:
    """The status and the answer of an engine, up to 16 MiB of it."""
    connection = UnixConnection(path, timeout)
    try:
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"} if data else {}
        connection.request(method, url, data, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(MOST_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise Unanswered(f"{url} of {path}: {type(error).__name__}: {error}") from None
    finally:
        connection.close()


def ask_json(
    path: str, method: str, url: str, body: Any = None, timeout: float = 10.0
) -> tuple[int, Any]:
    """The same of an answer in JSON; nothing where it is none."""
    status, data = ask(path, method, url, body, timeout)
    try:
        return status, json.loads(data)
    except (ValueError, RecursionError):
        return status, None

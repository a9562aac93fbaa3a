# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP over TLS with a named CA file: the transport used outside tests."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any, cast

from .client import LEAST_RATE, Interrupted
from .errors import RegistryError

PIECE_BYTES = 64 * 1024


class _Reader(io.RawIOBase):
    """What comes in of one connection, until a point in time and not until the next byte."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock = sock
        self.until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(_left(self.until))
        return self._sock.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            self._sock.close()
        super().close()


class _Socket:
    """The part of a socket that ``http.client`` uses, with a deadline for all of it."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock = sock
        self._until = until
        self.reader: _Reader | None = None

    def sendall(self, data: Any) -> None:
        view = memoryview(data)
        for start in range(0, len(view), PIECE_BYTES):
            self._sock.settimeout(_left(self._until))
            self._sock.sendall(view[start : start + PIECE_BYTES])

    def makefile(self, *_mode: Any, **_options: Any) -> io.BufferedReader:
        self.reader = _Reader(self._sock, self._until)
        return io.BufferedReader(self.reader)

    def close(self) -> None:
        # Once there is an answer, the answer holds the connection.
        if self.reader is None:
            self._sock.close()


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("the answer takes too long")
    return left


class WebAnswer:
    """The answer of one request on its own connection."""

    def __init__(
        self,
        connection: http.client.HTTPConnection,
        answer: http.client.HTTPResponse,
        reader: _Reader | None,
        timeout: float,
    ) -> None:
        self._connection = connection
        self._answer = answer
        self._reader = reader
        self._timeout = timeout
        self.status = answer.status
        self.headers: Mapping[str, str] = {
            name.lower(): value for name, value in answer.getheaders()
        }

    def read(self, size: int) -> bytes:
        """Return what is there, at most so many bytes: whoever asks looks at the clock between."""
        try:
            if self._reader is not None:
                self._reader.until = time.monotonic() + self._timeout
            return self._answer.read1(size)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Interrupted(str(error) or type(error).__name__) from None

    def close(self) -> None:
        self._answer.close()
        self._connection.close()


class WebTransport:
    """Sends requests. Plain HTTP only to this machine itself.

    ``timeout`` is the time until the headers of an answer are there, beside what sending takes,
    and the time that one piece of the body may take.
    """

    def __init__(self, ca_file: str = "", timeout: float = 30.0) -> None:
        self._timeout = timeout
        try:
            self._context = ssl.create_default_context(cafile=ca_file or None)
        except (OSError, ssl.SSLError) as error:
            raise RegistryError(f"The CA file {ca_file} cannot be read: {error}.") from None

    def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> WebAnswer:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                host, parts.port or 443, timeout=self._timeout, context=self._context
            )
        elif host in ("127.0.0.1", "::1", "localhost"):
            connection = http.client.HTTPConnection(host, parts.port or 80, timeout=self._timeout)
        else:
            raise RegistryError(f"The address {url} is without TLS; wanted https.")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        until = time.monotonic() + self._timeout + len(body or b"") / LEAST_RATE
        try:
            connection.connect()
            timed = _Socket(connection.sock, until)
            connection.sock = cast(socket.socket, timed)
            connection.request(method, path, body=body, headers=dict(headers))
            answer = connection.getresponse()
            return WebAnswer(connection, answer, timed.reader, self._timeout)
        except ssl.SSLCertVerificationError as error:
            connection.close()
            raise RegistryError(
                f"The certificate of {parts.netloc} is not accepted: {error.verify_message}."
            ) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            raise Interrupted(str(error) or type(error).__name__) from None

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP over TLS with a named CA file: the transport used outside tests."""

from __future__ import annotations

import http.client
import ssl
import urllib.parse
from collections.abc import Mapping

from .client import Interrupted
from .errors import RegistryError


class WebAnswer:
    """The answer of one request on its own connection."""

    def __init__(
        self, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse
    ) -> None:
        self._connection = connection
        self._answer = answer
        self.status = answer.status
        self.headers: Mapping[str, str] = {
            name.lower(): value for name, value in answer.getheaders()
        }

    def read(self, size: int) -> bytes:
        try:
            return self._answer.read(size)
        except (OSError, http.client.HTTPException) as error:
            raise Interrupted(str(error) or type(error).__name__) from None

    def close(self) -> None:
        self._connection.close()


class WebTransport:
    """Sends requests. Plain HTTP only to this machine itself."""

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
        try:
            connection.request(method, path, body=body, headers=dict(headers))
            return WebAnswer(connection, connection.getresponse())
        except ssl.SSLCertVerificationError as error:
            connection.close()
            raise RegistryError(
                f"The certificate of {parts.netloc} is not accepted: {error.verify_message}."
            ) from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Interrupted(str(error) or type(error).__name__) from None

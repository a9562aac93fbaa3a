# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway as a device that fetches its orders sees it: one connection for each contact."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Callable

from ..client import Interrupted
from ..errors import RegistryError

FLEET_FILE = "/etc/mlops/model_serving/fleet.json"
MAX_STATE_BYTES = 16 * 1024
CONTACT_SECONDS = 120.0
PIECE = 64 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class FleetSettings:
    """Where this device fetches its orders, and who it is.

    ``name`` is that in its certificate. ``device_class`` is what kind of machine it is, measured
    where it is empty. ``root_file`` is the root document that a person brought, with its
    signatures beside it. ``directory`` is where it remembers what it believed and what came of it.
    ``idle_seconds`` is how often it asks before a channel says it.
    """

    gateway: str
    name: str
    site: str
    ring: str
    ca_file: str
    certificate_file: str
    key_file: str
    root_file: str
    directory: str
    device_class: str = ""
    idle_seconds: float = 300.0

    @classmethod
    def parse(cls, data: bytes, where: str) -> FleetSettings:
        """Read the settings, naming what is wrong with them."""
        try:
            value: Any = json.loads(data)
        except ValueError as error:
            raise RegistryError(f"{where}: this is not JSON ({error}).") from None
        if not isinstance(value, dict):
            raise RegistryError(f"{where}: wanted a mapping.")
        fields: dict[str, Any] = {}
        for name in cls.__annotations__:
            if name == "idle_seconds":
                fields[name] = _seconds(value.get(name, 300.0), where)
                continue
            found = value.get(name, "")
            if not isinstance(found, str) or (not found and name != "device_class"):
                raise RegistryError(f"{where}: {name} is missing or not text.")
            fields[name] = found
        for name in ("name", "ring"):
            if not _NAME.fullmatch(fields[name]):
                raise RegistryError(
                    f"{where}: found the {name} {fields[name]!r}, wanted letters, digits, dots, "
                    "dashes and underscores."
                )
        if urllib.parse.urlsplit(fields["gateway"]).scheme != "https":
            raise RegistryError(f"{where}: found the gateway {fields['gateway']!r}, wanted https.")
        return cls(**fields)


def _seconds(found: Any, where: str) -> float:
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not 5 <= found <= 86400:
        raise RegistryError(
            f"{where}: found the idle_seconds {found!r}, wanted a number from 5 to 86400."
        )
    return float(found)


@dataclass(frozen=True)
class Page:
    """What the gateway answered. ``tag`` is empty where the page may still change under it."""

    status: int
    body: bytes = b""
    tag: str = ""


def strong_tag(headers: Mapping[str, str]) -> str:
    """The entity tag, if the page was older than a second when it was handed out.

    nginx makes the tag of the second and the size, so a page that was replaced within the same
    second has the same one (RFC 9110, section 8.8.2.2, says the same of dates).
    """
    try:
        handed = parsedate_to_datetime(headers["date"])
        changed = parsedate_to_datetime(headers["last-modified"])
        return headers["etag"] if (handed - changed).total_seconds() > 1 else ""
    except (KeyError, TypeError, ValueError):
        return ""


class Contact:
    """One connection to the gateway, for all that one poll has to ask and to tell."""

    def __init__(self, connection: http.client.HTTPSConnection, base: str, where: str) -> None:
        self._connection = connection
        self._base = base
        self._where = where

    def get(self, path: str, limit: int, tag: str = "") -> Page:
        """Fetch a page of at most so many bytes."""
        return self._ask("GET", path, {"If-None-Match": tag} if tag else {}, None, limit)

    def put(self, path: str, body: bytes) -> Page:
        """Leave a page."""
        return self._ask("PUT", path, {"Content-Type": "application/json"}, body, PIECE)

    def _ask(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None, limit: int
    ) -> Page:
        try:
            self._connection.request(method, self._base + path, body, headers)
            answer = self._connection.getresponse()
            data = answer.read(limit + 1)
            if len(data) > limit:
                raise RegistryError(f"The page {path} of {self._where} is over {limit} bytes.")
            answer.read()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Interrupted(str(error) or type(error).__name__) from None
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Page(answer.status, data, strong_tag(found))


class Gateway:
    """The gateway, with the certificate of this device."""

    def __init__(self, settings: FleetSettings, timeout: float = 30.0) -> None:
        self._settings = settings
        self._timeout = timeout
        self._context: ssl.SSLContext | None = None
        self._stamp: tuple[tuple[int, int], ...] = ()
        self._session: ssl.SSLSession | None = None

    def _fresh(self) -> ssl.SSLContext:
        """The context, read anew where a file has changed: certificates are renewed.

        While none has, the session of the contact before is taken up again. That spares the gateway
        half of what a connection costs it.
        """
        one = self._settings
        files = (one.ca_file, one.certificate_file, one.key_file)
        try:
            stamp = tuple((os.stat(file).st_mtime_ns, os.stat(file).st_ino) for file in files)
            if self._context is None or stamp != self._stamp:
                context = ssl.create_default_context(cafile=one.ca_file)
                context.load_cert_chain(one.certificate_file, one.key_file)
                self._context, self._stamp, self._session = context, stamp, None
        except (OSError, ssl.SSLError) as error:
            raise RegistryError(
                f"The certificate {one.certificate_file}, its key or {one.ca_file} cannot be "
                f"read: {error}."
            ) from None
        return self._context

    @contextlib.contextmanager
    def contact(self) -> Iterator[Contact]:
        """Connect. Whoever is at the other end can keep us for so long and no longer."""
        parts = urllib.parse.urlsplit(self._settings.gateway)
        host, port = parts.hostname or "", parts.port or 443
        context = self._fresh()
        line: ssl.SSLSocket | None = None
        try:
            plain = socket.create_connection((host, port), self._timeout)
            try:
                line = context.wrap_socket(plain, server_hostname=host, session=self._session)
            finally:
                if line is None:
                    plain.close()
        except ssl.SSLCertVerificationError as error:
            raise RegistryError(
                f"The certificate of {parts.netloc} is not accepted: {error.verify_message}."
            ) from None
        except (OSError, ValueError) as error:
            self._session = None
            raise Interrupted(str(error) or type(error).__name__) from None
        connection = http.client.HTTPSConnection(host, port, timeout=self._timeout, context=context)
        connection.sock = line
        end = threading.Timer(CONTACT_SECONDS, _cut, [line])
        end.daemon = True
        end.start()
        try:
            yield Contact(connection, parts.path.rstrip("/"), parts.netloc)
            self._session = line.session
        finally:
            end.cancel()
            connection.close()


def _cut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def expiry_of(certificate_file: str, run: Callable[[list[str]], str]) -> float:
    """When a certificate ends, in seconds since the epoch; 0 where that cannot be told."""
    said = run(["openssl", "x509", "-noout", "-enddate", "-in", certificate_file])
    try:
        return float(ssl.cert_time_to_seconds(said.partition("=")[2].strip()))
    except ValueError:
        return 0.0

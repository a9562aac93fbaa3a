# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alertmanagers of the company that our Prometheus sends its alerts to, beside our own.

They stay as they are: nothing is written to them, and what is sent ends when we cease to send it.
Format: prometheus.io/docs/prometheus/latest/configuration (alertmanager_config).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .._findings.shape import ShapeError, each, field, known_keys, mapping, optional, text

VARIABLE = "monitoring_existing_alertmanagers"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Alertmanager:
    """One of them; ``password`` and ``token`` are secrets and stand in files of their own."""

    scheme: str
    host: str
    port: int
    path: str
    ca_file: str = ""
    user: str = ""
    password: str = ""
    token: str = ""

    def secret(self, number: int) -> dict[str, str]:
        """The file that the configuration names, by name, with its content."""
        kept = self.token or self.password
        return {f"existing_alertmanager{number}.secret": kept} if kept else {}

    @property
    def url(self) -> str:
        """Its address, with the path."""
        place = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{place}:{self.port}{self.path}"

    def asked(self, secret_file: str) -> dict[str, str]:
        """How the monitoring host asks it itself, for M(mlops.onprem.alert_test)."""
        found = {"url": self.url, "user": self.user, "ca_file": self.ca_file}
        found["secret_file"] = secret_file if self.user or self.token else ""
        return found

    def config(self, secret_file: str) -> dict[str, Any]:
        """The entry of ``alerting.alertmanagers``."""
        place = f"[{self.host}]" if ":" in self.host else self.host
        found: dict[str, Any] = {
            "scheme": self.scheme,
            "static_configs": [{"targets": [f"{place}:{self.port}"]}],
        }
        if self.path:
            found["path_prefix"] = self.path
        if self.ca_file:
            found["tls_config"] = {"ca_file": self.ca_file}
        if self.token:
            found["authorization"] = {"type": "Bearer", "credentials_file": secret_file}
        if self.user:
            found["basic_auth"] = {"username": self.user, "password_file": secret_file}
        return found


def alertmanagers_of(value: object) -> tuple[Alertmanager, ...]:
    """The company's Alertmanagers; a ShapeError says what is wrong, without a secret."""
    try:
        return each(value or [], _alertmanager)
    except ShapeError as error:
        raise error.within(VARIABLE) from None


def _alertmanager(value: object) -> Alertmanager:
    given = mapping(value)
    known_keys(given, ("url", "ca_file", "user", "password", "token"))
    scheme, host, port, path = field(given, "url", _url)
    words = {
        name: optional(given, name, text, "") for name in ("ca_file", "user", "password", "token")
    }
    if bool(words["user"]) != bool(words["password"]):
        raise ShapeError("has a user without a password, or a password without a user")
    if words["user"] and words["token"]:
        raise ShapeError("has a user and a token; Prometheus shows one of them")
    if scheme == "http" and (words["user"] or words["token"]) and host not in LOOPBACK:
        raise ShapeError("a password or token does not go over the network without TLS", "url")
    return Alertmanager(scheme, host, port, path, **words)


def _url(value: object) -> tuple[str, str, int, str]:
    said = text(value)
    try:
        parts = urlsplit(said)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise ShapeError("must be a URL with http or https") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ShapeError("must be a URL with http or https")
    if parts.username or parts.query or parts.fragment:
        raise ShapeError("must be an address and a path alone; an account is user and password")
    return parts.scheme, parts.hostname, port, parts.path.rstrip("/")


def told(value: object, directory: str) -> dict[str, Any]:
    """What Prometheus is told: ``problems``, or ``configuration`` and ``secrets``.

    ``asked`` is how each is asked itself.
    """
    try:
        found = alertmanagers_of(value)
    except ShapeError as error:
        return {"problems": [str(error)], "configuration": [], "secrets": {}, "asked": []}
    secrets: dict[str, str] = {}
    configured, asked = [], []
    for number, one in enumerate(found):
        own: Mapping[str, str] = one.secret(number)
        secrets.update(own)
        file = f"{directory}/{next(iter(own), '')}"
        configured.append(one.config(file))
        asked.append(one.asked(file))
    return {"problems": [], "configuration": configured, "secrets": secrets, "asked": asked}


def goes(value: object) -> list[tuple[str, str, int]]:
    """Where the monitoring host has to get through: variable, address and port, if all is right."""
    try:
        return [(VARIABLE, one.host, one.port) for one in alertmanagers_of(value)]
    except ShapeError:
        return []

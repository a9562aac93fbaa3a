# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alertmanager's receivers, made of a mail server and webhooks as people write them.

Formats: prometheus.io/docs/alerting/latest/configuration (email_config, webhook_config). Implicit
TLS is what Alertmanager takes for port 465 and for no other, STARTTLS what it takes elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .._findings.shape import (
    ShapeError,
    each,
    field,
    items,
    known_keys,
    mapping,
    optional,
    shown,
    text,
    whole,
)

IMPLICIT_TLS_PORT = 465
PORTS: Mapping[str, int] = {"starttls": 587, "tls": IMPLICIT_TLS_PORT, "none": 25}
MAIL = "monitoring_alert_mail"
WEBHOOKS = "monitoring_alert_webhooks"
HEARTBEAT = "monitoring_alert_heartbeat"
SITE, BEAT = "site", "heartbeat"
WATCHDOG, TEST = "Watchdog", "NotificationTest"
ADDRESS = re.compile(r"[^@\s,]+@[^@\s,]+")
UNSEEN = re.compile(r"[\x00-\x1f\x7f]")
SERVER = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9.])?|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]+")


@dataclass(frozen=True)
class Mail:
    """A mail server and who is told; ``password_file`` is on the monitoring host."""

    to: tuple[str, ...]
    sender: str
    server: str
    port: int
    security: str = "starttls"
    user: str = ""
    ca_file: str = ""
    server_name: str = ""

    def config(self, password_file: str) -> dict[str, Any]:
        """The entry of ``email_configs``."""
        found: dict[str, Any] = {
            "to": ", ".join(self.to),
            "from": self.sender,
            "smarthost": f"[{self.server}]:{self.port}"
            if ":" in self.server
            else f"{self.server}:{self.port}",
            "require_tls": self.security == "starttls",
            "send_resolved": True,
            "headers": {"Subject": '{{ template "mlops.subject" . }}'},
            "text": '{{ template "mlops.text" . }}',
            "html": '{{ template "mlops.html" . }}',
        }
        if self.user:
            found.update(auth_username=self.user, auth_password_file=password_file)
        tls = {"ca_file": self.ca_file, "server_name": self.server_name}
        if any(tls.values()):
            found["tls_config"] = {key: value for key, value in tls.items() if value}
        return found


@dataclass(frozen=True)
class Webhook:
    """An address that takes alerts as Alertmanager posts them."""

    url: str
    ca_file: str = ""
    token: bool = False

    def config(self, token_file: str) -> dict[str, Any]:
        """The entry of ``webhook_configs``."""
        found: dict[str, Any] = {"url": self.url, "send_resolved": True}
        http: dict[str, Any] = {}
        if self.token:
            http["authorization"] = {"type": "Bearer", "credentials_file": token_file}
        if self.ca_file:
            http["tls_config"] = {"ca_file": self.ca_file}
        return {**found, "http_config": http} if http else found


def mail_of(value: object) -> Mail | None:
    """The mail server of the site; a ShapeError says what is wrong."""
    if value is None or value == {}:
        return None
    try:
        return _mail(value)
    except ShapeError as error:
        raise error.within(MAIL) from None


def _mail(value: object) -> Mail:
    given = mapping(value)
    names = ("to", "from", "server", "port", "security", "user", "ca_file", "server_name")
    known_keys(given, names)
    security = optional(given, "security", _security, "starttls")
    port = optional(given, "port", _port, PORTS[security])
    if (security == "tls") != (port == IMPLICIT_TLS_PORT):
        raise ShapeError(
            f"security is {security} on port {port}; Alertmanager speaks TLS from the first byte on"
            f" port {IMPLICIT_TLS_PORT} and there alone, so use that port with security tls, or"
            " security starttls with another"
        )
    user = optional(given, "user", text, "")
    if user and security == "none":
        raise ShapeError("a user's password does not go over the network without TLS", "security")
    return Mail(
        field(given, "to", _addresses),
        field(given, "from", _address),
        field(given, "server", _server),
        port,
        security,
        user,
        optional(given, "ca_file", text, ""),
        optional(given, "server_name", text, ""),
    )


def _security(value: object) -> str:
    if value not in PORTS:
        raise ShapeError(f"must be one of {', '.join(PORTS)}, but is {shown(value)}")
    return str(value)


def _port(value: object) -> int:
    found = whole(value)
    if not 0 < found < 65536:
        raise ShapeError(f"must be a port from 1 to 65535, but is {shown(value)}")
    return found


def _server(value: object) -> str:
    said = text(value)
    name, _colon, port = said.rpartition(":")
    if name and ":" not in name and port.isdigit():
        raise ShapeError(f"is {shown(said)}; write {name} alone, and port: {port} beside it")
    if not SERVER.fullmatch(said):
        raise ShapeError(f"must be a name or an address, but is {shown(said)}")
    return said


def _address(value: object) -> str:
    said = text(value)
    # A line more would be a header of every mail, and no mail server takes it.
    if UNSEEN.search(said) or not ADDRESS.search(said):
        raise ShapeError(f"must be an address such as ops@example.com, but is {shown(said)}")
    return said


def _addresses(value: object) -> tuple[str, ...]:
    found = each([value] if isinstance(value, str) else items(value), _address)
    if not found:
        raise ShapeError("must have at least one address")
    return found


def webhooks_of(value: object) -> tuple[Webhook, ...]:
    """The webhooks of the site; a ShapeError says what is wrong, without an address."""
    if value is None:
        return ()
    try:
        return each(value, _webhook)
    except ShapeError as error:
        raise error.within(WEBHOOKS) from None


def _webhook(value: object) -> Webhook:
    given = mapping(value)
    known_keys(given, ("url", "token", "ca_file"))
    return Webhook(
        field(given, "url", _url),
        optional(given, "ca_file", text, ""),
        bool(given.get("token")),
    )


def _url(value: object) -> str:
    said = text(value)
    try:
        parts = urlsplit(said)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        right = right and not re.search(r"\s", said)
    except ValueError:
        right = False
    if not right:
        raise ShapeError("must be a URL with http or https")
    return said


def problems(mail: object, password: str, webhooks: object, heartbeat: object) -> list[str]:
    """What is wrong with what people wrote, each as a part of a sentence."""
    found = []
    try:
        server = mail_of(mail)
        if server and server.user and not password:
            found.append(f"{MAIL}.user is set and monitoring_alert_mail_password is not")
    except ShapeError as error:
        found.append(str(error))
    try:
        webhooks_of(webhooks)
    except ShapeError as error:
        found.append(str(error))
    try:
        if heartbeat:
            _url(heartbeat)
    except ShapeError as error:
        found.append(str(error.within(HEARTBEAT)))
    return found


def goes(mail: object, webhooks: object, heartbeat: object) -> list[tuple[str, str, int]]:
    """Where the monitoring host has to get through: variable, address and port, if all is right."""
    if problems(mail, "given", webhooks, heartbeat):
        return []
    server = mail_of(mail)
    found = [(MAIL, server.server, server.port)] if server else []
    urls = [(WEBHOOKS, hook.url) for hook in webhooks_of(webhooks)]
    urls += [(HEARTBEAT, str(heartbeat))] if heartbeat else []
    for variable, url in urls:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        found.append((variable, str(parts.hostname), port))
    return found


def configuration(
    given: Mapping[str, Any],
    mail: object,
    webhooks: object,
    heartbeat: str,
    directory: str,
) -> dict[str, Any]:
    """Alertmanager's configuration.

    ``given`` is a receiver as Alertmanager has it, which stays as it is; ``directory`` holds the
    templates of mails and the files with passwords and tokens.
    """
    beat = [{"url": heartbeat, "send_resolved": False}] if heartbeat else []
    return {
        "templates": [f"{directory}/mail.tmpl"],
        "route": {
            "receiver": SITE,
            "group_by": ["alertname", "host"],
            "group_wait": "30s",
            "group_interval": "5m",
            "repeat_interval": "12h",
            "routes": [
                # Something outside waits for it: no mail, and a beat each minute.
                {
                    "receiver": BEAT,
                    "matchers": [f'alertname="{WATCHDOG}"'],
                    "group_wait": "0s",
                    "group_interval": "1m",
                    "repeat_interval": "1m",
                },
                # A test is sent at once, each for itself.
                {
                    "receiver": SITE,
                    "matchers": [f'alertname="{TEST}"'],
                    "group_by": ["..."],
                    "group_wait": "0s",
                },
            ],
        },
        "receivers": [
            {"name": SITE, **_receiver(given, mail, webhooks, directory)},
            {"name": BEAT, **({"webhook_configs": beat} if beat else {})},
        ],
        # A host that does not answer explains why nothing on it does, and so does its certificate.
        "inhibit_rules": [
            {
                "source_matchers": ['alertname=~"HostUnreachable|HostNeverSeen"'],
                "target_matchers": ['alertname=~"TargetDown|ServiceDown"'],
                "equal": ["host"],
            },
            {
                "source_matchers": ['alertname="CertificateExpired"'],
                "target_matchers": ['alertname=~"HostUnreachable|TargetDown|ServiceDown"'],
                "equal": ["host"],
            },
        ],
    }


def _receiver(
    given: Mapping[str, Any], mail: object, webhooks: object, secrets: str
) -> dict[str, Any]:
    """What was written for Alertmanager itself, then the mail server and the webhooks."""
    found: dict[str, Any] = {key: value for key, value in given.items() if key != "name"}
    server = mail_of(mail)
    if server:
        entry = server.config(f"{secrets}/mail.password")
        found["email_configs"] = [*(found.get("email_configs") or []), entry]
    hooks = webhooks_of(webhooks)
    if hooks:
        entries = [hook.config(f"{secrets}/webhook{at}.token") for at, hook in enumerate(hooks)]
        found["webhook_configs"] = [*(found.get("webhook_configs") or []), *entries]
    return found


def deliveries(configured: Mapping[str, Any]) -> dict[str, int]:
    """How many servers take each alert of the site, by integration of Alertmanager."""
    (site,) = [one for one in configured["receivers"] if one["name"] == SITE]
    return {key[: -len("_configs")]: len(site[key]) for key in site if key.endswith("_configs")}


def secrets(password: str, webhooks: object) -> dict[str, str]:
    """The files that the configuration names, by name, with their contents."""
    found = {"mail.password": password} if password else {}
    for at, hook in enumerate(items(webhooks or [])):
        token = mapping(hook).get("token")
        if token:
            found[f"webhook{at}.token"] = str(token)
    return found

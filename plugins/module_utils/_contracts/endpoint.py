# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From an address to a verified TLS connection, saying precisely where the way ends."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable

from .._findings.finding import Finding
from .._findings.sentence import one_line
from .client_certificate import ClientCertificate, of_login, show
from .contract import Contract

DAY = 86400
_EXPIRED, _NOT_YET, _NAME, _ADDRESS = 10, 9, 62, 64
_NO_ISSUER_ABOVE = 2
_OF_SYSTEMS = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")


def authorities_of_the_system() -> str:
    """The file with the authorities that this machine trusts; empty if there is none."""
    known = ssl.get_default_verify_paths()
    candidates = (known.cafile or "", *_OF_SYSTEMS)
    return next((path for path in candidates if path and os.path.isfile(path)), "")


@dataclass(frozen=True)
class Endpoint:
    host: str
    port: int
    ca_file: str
    verify_name: bool = True
    user: str = ""
    """Who logs in, where that is somebody else than the one of a login."""
    certificates: tuple[ClientCertificate, ...] = ()

    def certificate_of(self, login: str) -> ClientCertificate | None:
        """What a login shows to a server that asks for a certificate."""
        return of_login(self.certificates, login)

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def authorities(self) -> str:
        return self.ca_file or "the certificate authorities of this controller"


@dataclass(frozen=True)
class Certificate:
    protocol: str
    valid_until: float


@dataclass(frozen=True)
class Dialled:
    """Either a certificate that was verified, or the finding that says why there is none."""

    certificate: Certificate | None
    finding: Finding | None


Connect = Callable[[Endpoint], socket.socket]
Greet = Callable[[Contract, Endpoint, socket.socket], "Finding | None"]
"""What a protocol says before TLS begins; a finding if the answer ends the way."""


# Documented in the fragment ``database_server``; each kind adds its own port.
SERVER: dict[str, Any] = {
    "host": {"type": "str", "required": True},
    "ca_file": {"type": "path", "default": ""},
    "sslmode": {"type": "str", "choices": ["verify-full", "verify-ca"], "default": "verify-full"},
    "user": {"type": "str", "required": True},
    "timeout": {"type": "int", "default": 10},
}


def endpoint_of(
    params: Mapping[str, Any], certificates: tuple[ClientCertificate, ...] = ()
) -> Endpoint:
    """The server of a database as the options of a module name it."""
    return Endpoint(
        params["host"],
        params["port"],
        params["ca_file"],
        params["sslmode"] == "verify-full",
        params["user"],
        certificates,
    )


_HOST = re.compile(r"^[^\s/@,=]+$")


def wrong_host(contract: Contract, host: str, remedy: str) -> Finding | None:
    """What is no name of a server, which a client library would take for a list or a socket.

    ``remedy`` is for a name that is not given.
    """
    wanted = "the name or address of the server"
    if not host.strip():
        return contract.failed("settings", f"{contract.name_variable} is empty", wanted, remedy)
    name, port = host.rpartition(":")[::2]
    if port.isdigit() and name and ":" not in name:
        place = contract.address_variables
        return contract.failed(
            "settings",
            f"{contract.name_variable} is {host!r}, which has a port in it",
            f"{wanted} alone, as in its certificate",
            f"write {name} and {port} apart, in {place}",
        )
    if _HOST.match(host):
        return None
    return contract.failed(
        "settings",
        f"{contract.name_variable} is {host!r}",
        f"{wanted} alone, as in its certificate",
        f"correct {contract.address_variables}",
    )


def verifying(endpoint: Endpoint, login: str = "") -> ssl.SSLContext:
    """How an endpoint is verified, and what the login shows to it.

    OSError or SSLError if files cannot be read.
    """
    context = ssl.create_default_context(cafile=endpoint.ca_file or None)
    context.check_hostname = endpoint.verify_name
    # As libpq and botocore judge. Python's own wishes differ from version to version: 3.13 takes
    # a chain without root, and refuses authorities without key identifiers.
    context.verify_flags = ssl.VERIFY_X509_TRUSTED_FIRST
    show(context, endpoint.certificate_of(login or endpoint.user))
    return context


def dial(
    contract: Contract, endpoint: Endpoint, connect: Connect, greet: Greet | None = None
) -> Dialled:
    """Connect, begin TLS, verify; ``connect`` opens the socket."""
    try:
        sock = connect(endpoint)
    except OSError as error:
        return Dialled(None, _unreachable(contract, endpoint, error))
    try:
        context = verifying(endpoint)
    except (OSError, ssl.SSLError) as error:
        sock.close()
        return Dialled(
            None,
            contract.failed(
                "tls",
                f"no certificate authority in {endpoint.ca_file}: {_reason(error)}",
                "a PEM file with the authority that signed the server's certificate",
                f"set {contract.variable('ca_file')} to that file",
            ),
        )
    with sock:
        try:
            wrong = greet(contract, endpoint, sock) if greet else None
            if wrong:
                return Dialled(None, wrong)
            with context.wrap_socket(sock, server_hostname=endpoint.host) as tls:
                held = tls.getpeercert() or {}
                until = float(ssl.cert_time_to_seconds(str(held["notAfter"])))
                seen = Certificate(tls.version() or "TLS", until)
                _say_goodbye(tls)
                return Dialled(seen, None)
        except ssl.SSLError as error:
            return Dialled(None, _untrusted(contract, endpoint, error))
        except OSError as error:
            return Dialled(
                None,
                contract.failed(
                    "tls",
                    f"the connection ended while TLS was being set up: {_reason(error)}",
                    "a TLS connection",
                    "look at the server's log and at proxies between",
                ),
            )


def _say_goodbye(tls: ssl.SSLSocket) -> None:
    """End TLS in order, so that the server has no reset connection to put in its log."""
    with contextlib.suppress(OSError, ValueError):
        tls.settimeout(1)
        tls.unwrap()


def judge_certificate(
    contract: Contract, endpoint: Endpoint, certificate: Certificate, now: float
) -> Finding:
    days = int((certificate.valid_until - now) // DAY)
    found = f"{certificate.protocol}, certificate verified, valid for {days} more days"
    wanted = f"TLS 1.2 or newer, certificate verified against {endpoint.authorities}"
    if days < 14:
        return contract.warned(
            "tls", found, f"{wanted}, valid for 14 days at least", "renew the server's certificate"
        )
    return contract.passed("tls", found, wanted)


def judge_clock(
    contract: Contract, skew_seconds: float, warn_seconds: float, fail_seconds: float
) -> Finding:
    """``skew_seconds`` is the server's clock minus the controller's."""
    off = abs(skew_seconds)
    direction = "ahead of" if skew_seconds > 0 else "behind"
    if off <= warn_seconds:
        return contract.passed(
            "clock",
            f"less than {warn_seconds:g} s from the controller's clock",
            f"at most {warn_seconds:g} s",
        )
    found = f"a clock {_span(off)} {direction} the controller's"
    remedy = "synchronise both clocks with one time server (chrony or systemd-timesyncd)"
    if off <= fail_seconds:
        return contract.warned("clock", found, f"at most {warn_seconds:g} s", remedy)
    return contract.failed("clock", found, f"at most {_span(fail_seconds)}", remedy)


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _unreachable(contract: Contract, endpoint: Endpoint, error: OSError) -> Finding:
    place = contract.address_variables
    if isinstance(error, socket.gaierror):
        found, remedy = (
            f"no address for the name {endpoint.host}",
            f"set {contract.name_variable} to a name that the controller can resolve",
        )
    elif isinstance(error, ConnectionRefusedError):
        found, remedy = (
            f"port {endpoint.port} of {endpoint.host} is closed (connection refused)",
            f"start the server, or correct {place}",
        )
    elif isinstance(error, (socket.timeout, TimeoutError)):
        found, remedy = (
            f"no answer from {endpoint.host} port {endpoint.port} in time",
            f"correct {place}, or let the controller through the firewall",
        )
    else:
        found, remedy = (
            f"{endpoint.host} port {endpoint.port} cannot be reached: {_reason(error)}",
            f"correct {place}, or mend the network",
        )
    return contract.failed("reachable", found, f"an open port at {endpoint.address}", remedy)


def _untrusted(contract: Contract, endpoint: Endpoint, error: ssl.SSLError) -> Finding:
    wanted = f"a certificate for {endpoint.host}, verified against {endpoint.authorities}"
    ca_file = contract.variable("ca_file")
    code = getattr(error, "verify_code", None)
    if code == _EXPIRED:
        found, remedy = "a certificate that has expired", "renew the server's certificate"
    elif code == _NOT_YET:
        found, remedy = (
            "a certificate that is not valid yet",
            "compare the clocks of the server and the controller",
        )
    elif code in (_NAME, _ADDRESS):
        found, remedy = (
            f"a certificate for another name than {endpoint.host}",
            f"set {contract.name_variable} to a name in the certificate, or have this name added",
        )
    elif code == _NO_ISSUER_ABOVE:
        found, remedy = (
            f"a certificate whose authority has no root above it in {endpoint.authorities}",
            f"add the root, and every authority between, to the PEM file in {ca_file}",
        )
    elif code is not None:
        said = one_line(getattr(error, "verify_message", "")) or "not trusted"
        found, remedy = (
            f"a certificate that cannot be verified ({said})",
            f"set {ca_file} to the PEM file of the authority that signed it",
        )
    else:
        found, remedy = (
            f"no TLS connection ({_reason(error)})",
            "let the server offer TLS 1.2 or newer on this port",
        )
        wanted = "TLS 1.2 or newer"
    return contract.failed("tls", found, wanted, remedy)


def _reason(error: OSError) -> str:
    return one_line(getattr(error, "reason", None) or error.strerror or error or "closed").lower()

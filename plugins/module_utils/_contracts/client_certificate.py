# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates with which the platform shows itself to a server that asks for one.

The files lie on the controller. What is wrong with them is told before anything is connected, in
the words of a person: a client library says it late, and at every login again.
"""

from __future__ import annotations

import os
import ssl
import stat
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .._findings.finding import Finding
from .contract import Contract

CRYPTOGRAPHY_ERROR: str | None = None
try:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError:
    CRYPTOGRAPHY_ERROR = traceback.format_exc()

VARIABLE = "client_certificates"
WARN_DAYS = 14
_DAY = 86400
_WANTED = "a client certificate with its key, valid now, that the client library can read"


@dataclass(frozen=True)
class ClientCertificate:
    """The files of one certificate; without ``login`` it is that of every other login."""

    certificate_file: str
    key_file: str
    login: str = ""

    def __repr__(self) -> str:
        return f"ClientCertificate({self.certificate_file!r}, {self.login!r})"


# Documented in the fragment ``postgresql_account``.
OPTIONS: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "login": {"type": "str", "default": ""},
        "certificate_file": {"type": "path", "required": True},
        "key_file": {"type": "path", "required": True, "no_log": False},
    },
}


def client_certificates_of(entries: Iterable[Mapping[str, Any]]) -> tuple[ClientCertificate, ...]:
    """The certificates as the option of a module names them."""
    return tuple(
        ClientCertificate(entry["certificate_file"], entry["key_file"], entry["login"])
        for entry in entries
    )


def of_login(certificates: Iterable[ClientCertificate], login: str) -> ClientCertificate | None:
    """The certificate of a login: its own, else the one for every other login."""
    by_login = {one.login: one for one in certificates}
    return by_login.get(login) or by_login.get("")


def show(context: ssl.SSLContext, certificate: ClientCertificate | None) -> None:
    """Let a connection show the certificate. SSLError or OSError if the files do not do."""
    if certificate:
        context.load_cert_chain(
            certificate.certificate_file, certificate.key_file, password=_no_passphrase
        )


def _no_passphrase() -> str:
    """Without it OpenSSL would ask the terminal."""
    return ""


class _Wrong(Exception):
    """What is found and what to do."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found)
        self.found, self.remedy = found, remedy


def judge_client_certificates(
    contract: Contract, certificates: Iterable[ClientCertificate], now: datetime
) -> list[Finding]:
    """One finding for each certificate; a failure ends the way to the server."""
    variable = contract.variable(VARIABLE)
    seen: set[str] = set()
    findings = []
    for one in certificates:
        try:
            if one.login in seen:
                whose = f"the login {one.login}" if one.login else "every other login"
                raise _Wrong(f"{variable} has two certificates for {whose}", f"correct {variable}")
            seen.add(one.login)
            findings.append(_judged(contract, one, now))
        except _Wrong as wrong:
            findings.append(
                contract.failed("client_certificate", wrong.found, _WANTED, wrong.remedy)
            )
    return findings


def _judged(contract: Contract, one: ClientCertificate, now: datetime) -> Finding:
    leaf = _leaf(contract, one.certificate_file)
    key = _key(contract, one.key_file)
    if _public(leaf) != _public(key):
        raise _Wrong(
            f"the key in {one.key_file} does not belong to the certificate in "
            f"{one.certificate_file}, whose first one is for {name_of(leaf)}",
            f"name the two files that belong together in {contract.variable(VARIABLE)}, the "
            "client's certificate before those of its authorities",
        )
    _check_use(one, leaf)
    left = (leaf.not_valid_after_utc - now).total_seconds() / _DAY
    if leaf.not_valid_before_utc > now:
        raise _Wrong(
            f"the client certificate {one.certificate_file} is not valid before "
            f"{leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC",
            "wait until then, or compare the clock of the controller",
        )
    if left <= 0:
        raise _Wrong(
            f"the client certificate {one.certificate_file} of {name_of(leaf)} ended on "
            f"{leaf.not_valid_after_utc:%Y-%m-%d}",
            "renew it, put the new one into the same files, and run again",
        )
    found = f"client certificate of {name_of(leaf)}, valid for {int(left)} more days"
    if left < WARN_DAYS:
        return contract.warned(
            "client_certificate",
            found,
            f"{_WANTED}, for {WARN_DAYS} days at least",
            f"renew it, put the new one into {one.certificate_file} and {one.key_file}, and run "
            "the playbook mlops.onprem.site, which carries it to the hosts",
        )
    return contract.passed("client_certificate", found, _WANTED)


def _leaf(contract: Contract, path: str) -> Any:
    text = _read(contract, path, "client certificate")
    try:
        return x509.load_pem_x509_certificates(text)[0]
    except (ValueError, IndexError):
        raise _Wrong(
            f"{path} is no certificate in PEM form",
            f"set certificate_file in {contract.variable(VARIABLE)} to a file that begins with "
            "-----BEGIN CERTIFICATE-----",
        ) from None


def _key(contract: Contract, path: str) -> Any:
    text = _read(contract, path, "key of the client certificate")
    _check_mode(path)
    if text.startswith(b"$ANSIBLE_VAULT"):
        raise _Wrong(
            f"{path} is encrypted by ansible-vault, which client libraries cannot read",
            f"keep it decrypted with mode 0600: ansible-vault decrypt {path}",
        )
    try:
        return serialization.load_pem_private_key(text, password=None)
    except TypeError:
        raise _Wrong(
            f"the key {path} is protected by a passphrase, which services could not be asked for",
            f"openssl pkey -in {path} -out NEW, chmod 0600 NEW, and name that file in "
            f"{contract.variable(VARIABLE)}",
        ) from None
    except ValueError:
        raise _Wrong(
            f"{path} is no private key in PEM form",
            f"set key_file in {contract.variable(VARIABLE)} to a file that begins with "
            "-----BEGIN PRIVATE KEY-----",
        ) from None


def _read(contract: Contract, path: str, what: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        said = (error.strerror or "it cannot be read").lower()
        raise _Wrong(
            f"the {what} {path} cannot be read on the controller ({said})",
            f"correct {contract.variable(VARIABLE)}, or let the user of the controller read it",
        ) from None


def _check_mode(path: str) -> None:
    """As libpq does: nobody else may read it, but a group that root gave it to."""
    found = os.stat(path)
    allowed = 0o740 if found.st_uid == 0 else 0o700
    mode = stat.S_IMODE(found.st_mode)
    if mode & ~allowed:
        raise _Wrong(
            f"the key {path} has mode {mode:04o}, so others than its owner may read it, and client "
            "libraries refuse it",
            f"chmod 0600 {path}",
        )


def _check_use(one: ClientCertificate, leaf: Any) -> None:
    try:
        uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & {*uses}:
        raise _Wrong(
            f"the certificate {one.certificate_file} of {name_of(leaf)} is not for clients "
            "(extended key usage)",
            "have one issued with the extended key usage clientAuth",
        )


def _public(holder: Any) -> bytes:
    return bytes(
        holder.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def name_of(certificate: Any) -> str:
    """Whom a certificate is for, as a server compares it: the common name, else the subject."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string() or "nobody"


def shown_name(certificate: ClientCertificate | None) -> str:
    """Whom the certificate of a login is for; empty without one."""
    if certificate is None:
        return ""
    try:
        with open(certificate.certificate_file, "rb") as stream:
            return name_of(x509.load_pem_x509_certificates(stream.read())[0])
    except (OSError, ValueError, IndexError):
        return certificate.certificate_file

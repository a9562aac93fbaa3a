# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Authorities as companies have them, with each property that may be missing or odd."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.now(timezone.utc)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True)
class Holder:
    """A certificate with its key."""

    certificate: Any
    private: Any

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()  # type: ignore[no-any-return]

    @property
    def key(self) -> str:
        return pem_of(self.private)


def pem_of(private: Any) -> str:
    """A private key in PEM."""
    return private.private_bytes(  # type: ignore[no-any-return]
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _base(
    name: str, private: Any, issuer: Holder | None, begin: float, end: float
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=begin))
        .not_valid_after(NOW + timedelta(days=end))
    )


def _named_by(issuer: Holder) -> x509.AuthorityKeyIdentifier:
    try:
        own = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.private.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)


def authority(
    name: str,
    issuer: Holder | None = None,
    *,
    identifier: bytes | None = b"",
    usage: bool = True,
    path_length: int | None = None,
    constraints: x509.NameConstraints | None = None,
    begin: float = -1,
    end: float = 3650,
    private: Any = None,
) -> Holder:
    """An authority. ``identifier`` empty is made of the key, ``None`` leaves it out."""
    private = private or ec.generate_private_key(ec.SECP256R1())
    builder = _base(name, private, issuer, begin, end).add_extension(
        x509.BasicConstraints(ca=True, path_length=path_length), critical=True
    )
    if usage:
        builder = builder.add_extension(_usage(authority=True), critical=True)
    if identifier is not None:
        own = (
            x509.SubjectKeyIdentifier(identifier)
            if identifier
            else x509.SubjectKeyIdentifier.from_public_key(private.public_key())
        )
        builder = builder.add_extension(own, critical=False)
    if issuer:
        builder = builder.add_extension(_named_by(issuer), critical=False)
    if constraints:
        builder = builder.add_extension(constraints, critical=True)
    signer = issuer.private if issuer else private
    return Holder(builder.sign(signer, hashes.SHA256()), private)


def leaf(
    issuer: Holder,
    names: Sequence[str],
    *,
    purposes: Sequence[Any] = (SERVER, CLIENT),
    begin: float = -1,
    end: float = 397,
) -> Holder:
    """A certificate of a host for DNS names and addresses."""
    private = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _base(names[0], private, issuer, begin, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), False)
        .add_extension(_named_by(issuer), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), False)
    )
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(purposes)), critical=False)
    return Holder(builder.sign(issuer.private, hashes.SHA256()), private)


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)

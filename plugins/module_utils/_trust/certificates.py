# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate authority, the certificates it issues, and when they are due again."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .._findings.errors import PlatformError

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError as error:
    CRYPTOGRAPHY_ERROR: ImportError | None = error
else:
    CRYPTOGRAPHY_ERROR = None

# Clocks of hosts differ a little; a new certificate has to be valid on all of them at once.
BACKDATED = timedelta(hours=1)
LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
BLOCK = re.compile(
    r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----", re.MULTILINE
)


class TrustError(PlatformError):
    """Raised as a sentence that is shown to people."""


@dataclass(frozen=True)
class Names:
    """What a host is reached by."""

    common_name: str
    dns: tuple[str, ...]
    addresses: tuple[str, ...]

    @property
    def text(self) -> str:
        return ", ".join((*self.dns, *self.addresses))


def names_of(common_name: str, others: Iterable[str]) -> Names:
    """Sort names into DNS names and addresses; what can be neither is only the common name."""
    dns: list[str] = []
    addresses: list[str] = []
    for name in (common_name, *others):
        try:
            addresses.append(str(ipaddress.ip_address(name)))
        except ValueError:
            if name and all(LABEL.fullmatch(label) for label in name.split(".")):
                dns.append(name.lower())
    return Names(common_name[:64], tuple(dict.fromkeys(dns)), tuple(dict.fromkeys(addresses)))


@dataclass(frozen=True)
class Authority:
    """Who issues: its certificate first, then those above it, and its key if we hold it."""

    chain: tuple[Any, ...]
    key: Any = None

    @property
    def certificate(self) -> Any:
        return self.chain[0]

    @property
    def pem(self) -> str:
        return to_pem(self.chain)


def parse_certificates(text: str, where: str) -> tuple[Any, ...]:
    """Every certificate in a PEM text, which must hold at least one."""
    blocks = BLOCK.findall(text)
    if not blocks:
        raise TrustError(f"{where} holds no certificate in PEM form")
    try:
        return tuple(x509.load_pem_x509_certificate(block.encode()) for block in blocks)
    except ValueError as error:
        raise TrustError(f"{where} holds a certificate that cannot be read: {error}") from error


def parse_key(text: str, where: str) -> Any:
    """A private key without passphrase."""
    try:
        return serialization.load_pem_private_key(text.encode(), password=None)
    except (TypeError, ValueError) as error:
        raise TrustError(f"{where} is not a private key in PEM form without passphrase") from error


def to_pem(certificates: Iterable[Any]) -> str:
    return "".join(
        certificate.public_bytes(serialization.Encoding.PEM).decode()
        for certificate in certificates
    )


def public_bytes(key: Any) -> bytes:
    return bytes(
        key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def public_half(text: str, where: str) -> str:
    """The public half of a private key, both as PEM."""
    return str(
        parse_key(text, where)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def belongs(certificate: Any, key: Any) -> bool:
    """Whether the certificate is for that private key."""
    return public_bytes(certificate.public_key()) == public_bytes(key.public_key())


def is_authority(certificate: Any) -> bool:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return False
    return bool(constraints.value.ca)


def signed_by(certificate: Any, issuer: Any) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def load_authority(certificate: str, key: str | None, where: str) -> Authority:
    """The authority in PEM texts, after checking that they fit together."""
    chain = parse_certificates(certificate, where)
    if not is_authority(chain[0]):
        raise TrustError(
            f"the first certificate in {where} is not that of an authority "
            "(basic constraints CA is not set)"
        )
    if key is None:
        return Authority(chain)
    private = parse_key(key, f"the key of the authority in {where}")
    if not belongs(chain[0], private):
        raise TrustError(f"the key of the authority does not belong to the certificate in {where}")
    return Authority(chain, private)


def _digest(key: Any) -> Any:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _usage(**used: bool) -> Any:
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: used.get(name, False) for name in every})


def _identifier_of(issuer: Any) -> Any:
    """The issuer's key identifier as it names it itself; there is more than one way to make one."""
    try:
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _named_issuer(certificate: Any) -> bytes | None:
    """The key identifier of the issuer that a certificate names."""
    try:
        named = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    except x509.ExtensionNotFound:
        return None
    return bytes(named.key_identifier or b"")


def new_authority(key: str, common_name: str, now: datetime, days: int) -> Authority:
    """An authority that signed itself. The same key and name continue an earlier one."""
    private = parse_key(key, "the key of the authority")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False
        )
        .sign(private, _digest(private))
    )
    return Authority((certificate,), private)


def issue(request: str, authority: Authority, names: Names, now: datetime, days: int) -> str:
    """Sign a host's request: the certificate and those above it, but not the root.

    Nothing but the public key is taken from the request; what the certificate says is ours.
    """
    if authority.key is None:
        raise TrustError(
            "there is no key of the authority to sign with; set trust_ca_key, "
            "or give each host its certificate by trust_host_certificate_file"
        )
    asked = x509.load_pem_x509_csr(request.encode())
    if not asked.is_signature_valid:
        raise TrustError(f"the certificate request of {names.common_name} is not signed rightly")
    issuer = authority.certificate
    end = min(now + timedelta(days=days), issuer.not_valid_after_utc)
    usage = _usage(
        digital_signature=True,
        key_encipherment=isinstance(asked.public_key(), rsa.RSAPublicKey),
    )
    alternatives = [
        *(x509.DNSName(name) for name in names.dns),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in names.addresses),
    ]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names.common_name)]))
        .issuer_name(issuer.subject)
        .public_key(asked.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - BACKDATED, issuer.not_valid_before_utc))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .add_extension(_identifier_of(issuer), critical=False)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(asked.public_key()), critical=False
        )
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    leaf = builder.sign(authority.key, _digest(authority.key))
    return to_pem((leaf, *above(authority.chain)))


def throwaway_request(common_name: str) -> tuple[str, str]:
    """A request for a fresh key, and that key, both in PEM."""
    private = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .sign(private, hashes.SHA256())
    )
    key = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return request.public_bytes(serialization.Encoding.PEM).decode(), key.decode()


def above(chain: Sequence[Any]) -> tuple[Any, ...]:
    """The intermediate certificates of a chain: those that did not sign themselves."""
    return tuple(one for one in chain if one.issuer != one.subject)


def names_in(certificate: Any) -> frozenset[str]:
    """The DNS names and addresses a certificate is good for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(
        (
            *(str(name).lower() for name in found.get_values_for_type(x509.DNSName)),
            *(str(address) for address in found.get_values_for_type(x509.IPAddress)),
        )
    )


def holds(certificate: Any, name: str) -> bool:
    """Whether the certificate is good for a name, by itself or by a wildcard for one label."""
    known = names_in(certificate)
    _first, dot, rest = name.lower().partition(".")
    return name.lower() in known or bool(dot and f"*.{rest}" in known and not _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def why_renew(
    certificate: str | None,
    request: str,
    authority: Authority,
    names: Names,
    now: datetime,
    renew_days: int,
) -> tuple[str, ...]:
    """The reasons to issue a certificate anew; none if it can stay."""
    if not certificate:
        return ("there is none yet",)
    try:
        leaf = parse_certificates(certificate, "host.crt")[0]
    except TrustError:
        return ("it cannot be read",)
    reasons = []
    asked = x509.load_pem_x509_csr(request.encode())
    if public_bytes(leaf.public_key()) != public_bytes(asked.public_key()):
        reasons.append("it belongs to another key")
    if not signed_by(leaf, authority.certificate):
        reasons.append("another authority issued it")
    elif _named_issuer(leaf) != _identifier_of(authority.certificate).key_identifier:
        reasons.append("it names its authority by an identifier that the authority does not bear")
    if names_in(leaf) != frozenset((*names.dns, *names.addresses)):
        reasons.append(f"the host is now reached by {names.text}")
    if leaf.not_valid_before_utc > now:
        reasons.append(f"it is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
    left = (leaf.not_valid_after_utc - now).total_seconds() / 86400
    if left < renew_days:
        reasons.append(f"it is valid for {left:.0f} days only, less than {renew_days}")
    return tuple(reasons)


def summary(certificate: str | None) -> str:
    """A certificate in a few lines, for differences."""
    if not certificate:
        return ""
    try:
        leaf = parse_certificates(certificate, "host.crt")[0]
    except TrustError as error:
        return f"{error}\n"
    return (
        f"issued to: {leaf.subject.rfc4514_string()}\n"
        f"issued by: {leaf.issuer.rfc4514_string()}\n"
        f"names: {', '.join(sorted(names_in(leaf)))}\n"
        f"valid until: {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC\n"
    )


def bundle(*texts: tuple[str, str]) -> str:
    """Every certificate of the texts once, each below its name. A text is (content, where)."""
    found: dict[bytes, Any] = {}
    for content, where in texts:
        for certificate in parse_certificates(content, where):
            found.setdefault(certificate.public_bytes(serialization.Encoding.DER), certificate)
    return "".join(
        f"# {certificate.subject.rfc4514_string()}\n{to_pem((certificate,))}"
        for certificate in found.values()
    )


def up_to_the_root(chain: Sequence[Any], others: Iterable[Any]) -> tuple[Any, ...]:
    """The authority and those above it; what its file lacks is looked for among the others."""
    found = list(chain)
    pool = [one for one in others if one not in found]
    while found[-1].issuer != found[-1].subject:
        issuers = [one for one in pool if is_authority(one) and signed_by(found[-1], one)]
        if not issuers:
            break
        found.append(issuers[0])
        pool.remove(issuers[0])
    return tuple(found)


def check_given(
    certificate: str,
    key: str,
    names: Names,
    now: datetime,
    renew_days: int | None,
    address: str = "",
) -> tuple[tuple[str, str], ...]:
    """What is wrong with a certificate that was issued elsewhere, as (severity, found).

    Without ``renew_days`` its end does not matter, as the host renews it by itself. Others reach
    the host by ``address``, so that one has to be in it.
    """
    leaf = parse_certificates(certificate, "the certificate of the host")[0]
    private = parse_key(key, "the key of the host")
    wrong = []
    if not belongs(leaf, private):
        wrong.append(("fail", "a certificate that belongs to another key"))
    wanted = (*names.dns, *names.addresses)
    missing = [name for name in wanted if not holds(leaf, name)]
    if missing and len(missing) == len(wanted):
        wrong.append(
            ("fail", f"a certificate for {', '.join(sorted(names_in(leaf))) or 'no name'}")
        )
    elif address and not holds(leaf, address):
        wrong.append(("fail", f"a certificate that lacks {address}, by which others reach it"))
    elif missing:
        wrong.append(("warn", f"a certificate that lacks {', '.join(missing)}"))
    if renew_days is None:
        return tuple(wrong)
    left = (leaf.not_valid_after_utc - now).total_seconds() / 86400
    if left <= 0:
        wrong.append(("fail", f"a certificate that ended on {leaf.not_valid_after_utc:%Y-%m-%d}"))
    elif left < renew_days:
        wrong.append(("warn", f"a certificate that ends in {left:.0f} days"))
    return tuple(wrong)

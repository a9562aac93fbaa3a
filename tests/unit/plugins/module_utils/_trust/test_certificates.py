# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Certificates are issued for the right names, and issued anew when there is a reason."""

from __future__ import annotations

import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._trust import certificates as trust
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime(2026, 5, 4, 12, tzinfo=timezone.utc)
NAMES = trust.names_of("edge1", ["192.0.2.7", "edge1.example.com"])


def new_key() -> str:
    """A fresh ECDSA P-256 key."""
    return (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode()
    )


def request(key: str, name: str = "edge1") -> str:
    private = serialization.load_pem_private_key(key.encode(), None)
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .sign(private, hashes.SHA256())  # type: ignore[arg-type]
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )


@pytest.fixture(scope="module")
def authority() -> trust.Authority:
    return trust.new_authority(new_key(), "Example CA", NOW, 3650)


@pytest.fixture(scope="module")
def host_key() -> str:
    return new_key()


@pytest.fixture(scope="module")
def issued(authority: trust.Authority, host_key: str) -> str:
    return trust.issue(request(host_key), authority, NAMES, NOW, 397)


@pytest.mark.parametrize(
    ("given", "dns", "addresses"),
    [
        (["ctl1"], ("ctl1",), ()),
        (["ctl1", "10.0.0.3"], ("ctl1",), ("10.0.0.3",)),
        (["10.0.0.3", "10.0.0.3"], (), ("10.0.0.3",)),
        (["fd00::1"], (), ("fd00::1",)),
        (["GPU.Example.com"], ("gpu.example.com",), ()),
        (["edge_1", ""], (), ()),
    ],
)
def test_names_are_sorted(
    given: list[str], dns: tuple[str, ...], addresses: tuple[str, ...]
) -> None:
    names = trust.names_of(given[0], given[1:])
    assert (names.dns, names.addresses) == (dns, addresses)


def test_a_certificate_is_for_the_names_of_its_host(issued: str) -> None:
    leaf = trust.parse_certificates(issued, "test")[0]
    assert trust.names_in(leaf) == {"edge1", "192.0.2.7", "edge1.example.com"}


def test_a_request_decides_nothing_but_the_key(authority: trust.Authority, host_key: str) -> None:
    """A host that asks for another host's name, or to be an authority, gets its own certificate."""
    private = serialization.load_pem_private_key(host_key.encode(), None)
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ctl1")]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("ctl1")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())  # type: ignore[arg-type]
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )
    leaf = trust.parse_certificates(trust.issue(greedy, authority, NAMES, NOW, 397), "test")[0]
    assert trust.names_in(leaf) == {"edge1", "192.0.2.7", "edge1.example.com"}
    assert leaf.subject.rfc4514_string() == "CN=edge1"
    assert not trust.is_authority(leaf)


def test_openssl_accepts_the_certificate(
    tmp_path: Path, authority: trust.Authority, issued: str
) -> None:
    (tmp_path / "ca.crt").write_text(authority.pem)
    (tmp_path / "host.crt").write_text(issued)
    verify = "openssl verify -x509_strict -no_check_time -verify_ip 192.0.2.7 -CAfile ca.crt"
    for purpose in ("sslserver", "sslclient"):
        verdict = subprocess.run(
            [*verify.split(), "-purpose", purpose, "host.crt"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert verdict.stdout == "host.crt: OK\n", verdict.stderr


def test_a_good_certificate_stays(authority: trust.Authority, host_key: str, issued: str) -> None:
    assert trust.why_renew(issued, request(host_key), authority, NAMES, NOW, 60) == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("missing", "there is none yet"),
        ("damaged", "it cannot be read"),
        ("key", "it belongs to another key"),
        ("authority", "another authority issued it"),
        ("names", "the host is now reached by edge1, 192.0.2.8"),
        ("age", "it is valid for 59 days only, less than 60"),
        ("clock", "it is not valid before 2026-05-04 11:00 UTC"),
    ],
)
def test_a_certificate_is_renewed_for_a_reason(
    authority: trust.Authority, host_key: str, issued: str, change: str, reason: str
) -> None:
    certificate = {"missing": "", "damaged": "x"}.get(change, issued)
    key = new_key() if change == "key" else host_key
    issuer = (
        trust.new_authority(new_key(), "Example CA", NOW, 3650)
        if change == "authority"
        else authority
    )
    names = trust.names_of("edge1", ["192.0.2.8"]) if change == "names" else NAMES
    now = {"age": NOW + timedelta(days=338), "clock": NOW - timedelta(days=2)}.get(change, NOW)
    assert trust.why_renew(certificate, request(key), issuer, names, now, 60) == (reason,)


def test_a_renewed_authority_vouches_for_what_it_issued_before(
    host_key: str,
) -> None:
    key = new_key()
    old = trust.new_authority(key, "Example CA", NOW, 400)
    issued = trust.issue(request(host_key), old, NAMES, NOW, 397)
    new = trust.new_authority(key, "Example CA", NOW + timedelta(days=30), 3650)
    assert trust.why_renew(issued, request(host_key), new, NAMES, NOW, 60) == ()


def test_no_certificate_outlives_its_authority(host_key: str) -> None:
    short = trust.new_authority(new_key(), "Example CA", NOW, 100)
    leaf = trust.parse_certificates(trust.issue(request(host_key), short, NAMES, NOW, 397), "test")[
        0
    ]
    assert leaf.not_valid_after_utc == short.certificate.not_valid_after_utc


def test_the_key_of_another_authority_is_refused(authority: trust.Authority) -> None:
    with pytest.raises(trust.TrustError, match=r"does not belong to the certificate in ca\.crt"):
        trust.load_authority(authority.pem, new_key(), "ca.crt")


def test_a_host_certificate_is_no_authority(issued: str) -> None:
    with pytest.raises(trust.TrustError, match="is not that of an authority"):
        trust.load_authority(issued, None, "ca.crt")


def test_signing_without_a_key_says_what_to_set(authority: trust.Authority, host_key: str) -> None:
    with pytest.raises(trust.TrustError, match="set trust_ca_key"):
        trust.issue(request(host_key), trust.Authority(authority.chain), NAMES, NOW, 397)


def test_the_bundle_holds_each_authority_once(authority: trust.Authority) -> None:
    other = trust.new_authority(new_key(), "Company CA", NOW, 3650)
    text = trust.bundle((authority.pem, "a"), (authority.pem + other.pem, "b"))
    assert text.count("BEGIN CERTIFICATE") == 2
    assert "# CN=Example CA\n" in text
    assert "# CN=Company CA\n" in text


def test_a_file_without_certificates_is_named() -> None:
    with pytest.raises(trust.TrustError, match=r"company\.pem holds no certificate in PEM form"):
        trust.bundle(("nothing", "company.pem"))


@pytest.mark.parametrize(
    ("names", "days", "found"),
    [
        (["edge1", "192.0.2.7"], 0, ()),
        (["edge1", "192.0.2.9"], 0, (("warn", "a certificate that lacks 192.0.2.9"),)),
        (
            ["edge9"],
            0,
            (("fail", "a certificate for 192.0.2.7, edge1, edge1.example.com"),),
        ),
        (["edge1"], 380, (("warn", "a certificate that ends in 17 days"),)),
        (["edge1"], 400, (("fail", "a certificate that ended on 2027-06-05"),)),
    ],
)
def test_a_certificate_issued_elsewhere_is_judged(
    host_key: str, issued: str, names: list[str], days: int, found: tuple[tuple[str, str], ...]
) -> None:
    asked = trust.names_of(names[0], names[1:])
    now = NOW + timedelta(days=days)
    assert trust.check_given(issued, host_key, asked, now, 60) == found


def test_a_certificate_with_a_foreign_key_fails(issued: str) -> None:
    assert trust.check_given(issued, new_key(), NAMES, NOW, 60) == (
        ("fail", "a certificate that belongs to another key"),
    )

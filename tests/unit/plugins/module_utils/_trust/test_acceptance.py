# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an authority issues is accepted by every client, or it is said before anything changes."""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._trust import certificates as trust
from ansible_collections.mlops.onprem.plugins.module_utils._trust.acceptance import (
    refusal_of,
    trial_refusal,
)
from cryptography import x509

from tests.unit.plugins.module_utils._trust.companies import (
    CLIENT,
    NOW,
    SERVER,
    Holder,
    authority,
    leaf,
)

NAMES = trust.names_of("edge1", ["10.0.0.5", "edge1.corp.example"])
INSIDE = x509.NameConstraints(
    [
        x509.DNSName("corp.example"),
        x509.IPAddress(ipaddress.ip_network("192.168.0.0/16")),
    ],
    None,
)
ROOT = authority("Company root")
OTHER = authority("Another root")


def load(*chain: Holder) -> trust.Authority:
    pem = "".join(holder.pem for holder in chain)
    return trust.load_authority(pem, chain[0].key, "company.pem")


def trial(issuer: trust.Authority, names: trust.Names = NAMES, extra: str = "") -> str:
    bundle = trust.bundle((issuer.pem + extra, "bundle"))
    return trial_refusal(bundle, issuer, names, NOW, 397)


@pytest.mark.parametrize(
    "identifier",
    [b"", bytes(range(20)), bytes(range(32)), b"\x01", None],
    ids=["of the key", "20 bytes", "as SHA-256", "one byte", "none"],
)
def test_the_authority_is_named_as_it_names_itself(
    tmp_path: Path, identifier: bytes | None
) -> None:
    """openssl finds the issuer by the identifier that the certificate names."""
    issuer = load(authority("Issuing", ROOT, identifier=identifier), ROOT)
    request, _key = trust.throwaway_request("edge1")
    (tmp_path / "ca.crt").write_text(issuer.pem)
    (tmp_path / "host.crt").write_text(trust.issue(request, issuer, NAMES, NOW, 397))
    verdict = subprocess.run(
        ["openssl", "verify", "-CAfile", "ca.crt", "-untrusted", "host.crt", "host.crt"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert verdict.stdout == "host.crt: OK\n", verdict.stderr
    if identifier is not None:
        assert trial(issuer) == ""


@pytest.mark.parametrize("identifier", [b"given by somebody", b"\x01", b"i" * 32])
def test_a_certificate_that_names_its_authority_wrongly_is_renewed(identifier: bytes) -> None:
    own = authority("Own", identifier=identifier)
    request, _key = trust.throwaway_request("edge1")
    usual = load(authority("Own", private=own.private))
    before = trust.issue(request, usual, NAMES, NOW, 397)
    assert trust.why_renew(before, request, load(own), NAMES, NOW, 60) == (
        "it names its authority by an identifier that the authority does not bear",
    )
    after = trust.issue(request, load(own), NAMES, NOW, 397)
    assert trust.why_renew(after, request, load(own), NAMES, NOW, 60) == ()


@pytest.mark.parametrize(
    ("chain", "extra", "said"),
    [
        ([authority("I", ROOT)], "", "the root above the authority is missing"),
        ([authority("I", ROOT)], OTHER.pem, "the root above the authority is missing"),
        ([authority("I", ROOT, constraints=INSIDE), ROOT], "", "does not allow these names"),
        ([authority("I", ROOT, usage=False), ROOT], "", "Python 3.13 and newer refuse it"),
        ([authority("R", usage=False)], "", "Python 3.13 and newer refuse it"),
        ([authority("I", ROOT, begin=1), ROOT], "", "not valid yet"),
        ([authority("I", ROOT, begin=-9, end=-1), ROOT], "", "no certificate can be issued"),
        ([authority("I", authority("R", end=-0.5, begin=-9))], "", "root above"),
    ],
    ids=[
        "issuing only",
        "unrelated root",
        "constraints",
        "no usage",
        "root without usage",
        "future",
        "expired",
        "old root not given",
    ],
)
def test_an_authority_whose_certificates_are_refused(
    chain: list[Holder], extra: str, said: str
) -> None:
    issuer = load(*chain)
    try:
        refused = trial(issuer, extra=extra)
    except trust.TrustError as error:
        refused = str(error)
    assert said in refused


def test_an_authority_below_one_that_allows_none() -> None:
    narrow = authority("Narrow", ROOT, path_length=0)
    issuer = load(authority("Below", narrow), narrow, ROOT)
    assert "path length" in trial(issuer)


@pytest.mark.parametrize(
    "chain",
    [
        [authority("Root that issues")],
        [authority("I", ROOT), ROOT],
        [authority("I", ROOT, identifier=b"i" * 20), ROOT],
        [authority("I", ROOT, path_length=0), ROOT],
    ],
)
def test_a_good_authority_is_accepted(chain: list[Holder]) -> None:
    assert trial(load(*chain)) == ""


def test_names_inside_the_constraints_are_accepted() -> None:
    issuer = load(authority("I", ROOT, constraints=INSIDE), ROOT)
    inside = trust.names_of("edge1.corp.example", ["192.168.7.5"])
    assert trial(issuer, inside) == ""


ISSUING = authority("Issuing", ROOT)


@pytest.mark.parametrize(
    ("given", "between", "said"),
    [
        (leaf(OTHER, ["edge1"]), "", "nothing that the platform trusts issued it"),
        (leaf(ISSUING, ["edge1"]), "", "an authority between is missing"),
        (leaf(ROOT, ["edge1"], begin=1), "", "not valid yet"),
        (leaf(ROOT, ["edge1"], begin=-9, end=-1), "", "has expired"),
        (leaf(ROOT, ["edge1"], purposes=[SERVER]), "", "both to servers and to clients"),
        (leaf(ROOT, ["edge1"], purposes=[CLIENT]), "", "both to servers and to clients"),
        (leaf(ISSUING, ["edge1"]), ISSUING.pem, ""),
        (leaf(ROOT, ["*.corp.example"]), "", ""),
        (leaf(ROOT, ["edge1"], purposes=[]), "", ""),
    ],
)
def test_a_certificate_that_was_given(given: Holder, between: str, said: str) -> None:
    refused = refusal_of(ROOT.pem, given.pem + between, given.key)
    assert said in refused
    assert bool(refused) is bool(said)


@pytest.mark.parametrize(
    ("names", "asked", "found"),
    [
        (["*.corp.example"], ["edge1.corp.example"], ()),
        (["*.CORP.example", "10.0.0.5"], ["edge1.corp.example", "10.0.0.5"], ()),
        (["*.corp.example"], ["a.edge1.corp.example"], ("fail",)),
        (["*.corp.example"], ["corp.example"], ("fail",)),
        (["*.0.0.5"], ["10.0.0.5"], ("fail",)),
    ],
)
def test_a_wildcard_is_good_for_one_label(
    names: list[str], asked: list[str], found: tuple[str, ...]
) -> None:
    given = leaf(ROOT, names)
    wanted = trust.names_of(asked[0], asked[1:])
    wrong = trust.check_given(given.pem, given.key, wanted, NOW, 60)
    assert tuple(severity for severity, _text in wrong) == found


@pytest.mark.parametrize(("address", "severity"), [("10.0.0.5", "fail"), ("edge1", "warn")])
def test_the_name_that_others_use_has_to_be_in_it(address: str, severity: str) -> None:
    given = leaf(ROOT, ["edge1"])
    wanted = trust.names_of("edge1", ["10.0.0.5"])
    wrong = trust.check_given(given.pem, given.key, wanted, NOW, 60, address)
    assert [row[0] for row in wrong] == [severity]
    assert "10.0.0.5" in wrong[0][1]


def test_openssl_is_there_to_judge() -> None:
    assert shutil.which("openssl")

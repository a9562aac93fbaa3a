# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A subject is written as OpenSSL, and so nginx, writes it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._trust.certificates import (
    TrustError,
    parse_certificates,
)
from ansible_collections.mlops.onprem.plugins.module_utils._trust.subjects import (
    of_common_name,
    subject_of,
)


def certificate(folder: Path, subject: str) -> Path:
    """A certificate that OpenSSL made for a subject."""
    path = folder / "made.pem"
    made = ["-keyout", str(folder / "made.key"), "-out", str(path)]
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -utf8"
    subprocess.run(
        [*command.split(), "-multivalue-rdn", "-subj", subject, *made],
        check=True,
        capture_output=True,
    )
    return path


def as_openssl(path: Path) -> str:
    command = ["openssl", "x509", "-in", str(path), "-noout", "-subject", "-nameopt", "RFC2253"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return said.strip().removeprefix("subject=").strip(" ")


SUBJECTS = [
    "/CN=ctl1",
    "/O=x,CN=ctl1/CN=intern-laptop",
    '/C=DE/ST=Bayern/L=Hof/O=Firma "A" + B <x>/OU=IT/CN=prometheus.example.com',
    "/DC=example/DC=lan/CN=Zürich; Werk 1",
    "/O=#1 GmbH/CN=a=b",
    "/O=Firma/OU=IT+CN=two",
    "/CN=a/emailAddress=ops@example.com/serialNumber=7",
]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_it_is_written_as_openssl_writes_it(tmp_path: Path, subject: str) -> None:
    path = certificate(tmp_path, subject)
    (one,) = parse_certificates(path.read_text(), "made.pem")
    assert subject_of(one) == as_openssl(path)


def test_a_part_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    (one,) = parse_certificates(
        certificate(tmp_path, "/CN=a/businessCategory=b").read_text(), "made.pem"
    )
    with pytest.raises(TrustError, match=r"2\.5\.4\.15"):
        subject_of(one)


@pytest.mark.parametrize("name", ["ctl1", "Werk 1", "a,b", "x" * 70, "übung"])
def test_a_common_name_is_written_alike(tmp_path: Path, name: str) -> None:
    path = certificate(tmp_path, f"/CN={name[:64]}")
    assert of_common_name(name) == as_openssl(path)

"""Certificates of clients, made on the controller for a test and issued by whom it wants."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.infra.outside import SITE, ca_bundle, secret
from tests.patience import PATIENCE


@dataclass(frozen=True)
class Issuer:
    """An authority: its certificate and its key, in files of the controller."""

    certificate: Path
    key: Path


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


def platform(folder: Path) -> Issuer:
    """The authority of the site that the scenarios pretend to be."""
    key = folder / "platform.key"
    key.write_text(secret("trust_ca_key"))
    return Issuer(SITE / ".state/ca.crt", key)


def company(folder: Path) -> Issuer:
    """An authority of the company's."""
    made = Issuer(folder / "company.crt", folder / "company.key")
    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-days", "2", "-subj", "/O=Company/CN=Company root"),
        *("-keyout", made.key, "-out", made.certificate),
    )
    return made


def status(folder: Path, issuer: Issuer, subject: str, url: str) -> int:
    """What a server answers to a client on the controller whose certificate has that subject."""
    key, request, certificate = (folder / f"client.{end}" for end in ("key", "csr", "crt"))
    openssl(
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-utf8"),
        *("-subj", subject, "-keyout", key, "-out", request),
    )
    openssl(
        *("x509", "-req", "-in", request, "-days", "1", "-CA", issuer.certificate),
        *("-CAkey", issuer.key, "-out", certificate),
    )
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(
            url, verify=ca_bundle(), cert=(str(certificate), str(key)), timeout=PATIENCE
        )
    return answer.status_code

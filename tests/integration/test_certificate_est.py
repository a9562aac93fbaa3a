# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example of trust_renewal_command in roles/trust/README.md, run against a server of EST.

The server does what RFC 7030 asks of one that renews (section 4.2.2): it knows a client by the
certificate that is to be renewed, takes a request in DER and base64 and nothing else, wants subject
and names to be those of that certificate, and answers the new one alone, as PKCS #7 in base64 with
lines of MIME.
"""

from __future__ import annotations

import base64
import binascii
import re
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.onprem.plugins.module_utils._trust import certificates as trust
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs7

from tests.unit.plugins.module_utils._trust.companies import leaf
from tests.unit.roles.test_trust_renewal import ISSUING, NAMES, ROOT, Host, host_of

README = Path(__file__).resolve().parents[2] / "roles/trust/README.md"
PLACE = "/.well-known/est/simplereenroll"


def example() -> list[str]:
    """The words of the command, as the page has them."""
    blocks = re.findall(r"^```yaml\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    found = [text for text in blocks if "trust_renewal_command" in text]
    assert len(found) == 1
    words: list[str] = yaml.safe_load(found[0])["trust_renewal_command"]
    return words


class NotAccepted(Exception):
    """Why the server does not renew."""


def names_of(owner: Any) -> tuple[Any, Any]:
    """Subject and alternative names of a certificate or a request."""
    names = owner.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return owner.subject, {str(each) for each in names}


def renewed(body: bytes, kind: str, shown: bytes, days: int) -> bytes:
    """Answer a request of whoever has shown a certificate."""
    if kind != "application/pkcs10":
        raise NotAccepted(f"the request is {kind}")
    try:
        der = base64.b64decode(body.replace(b"\r", b"").replace(b"\n", b""), validate=True)
        asked = x509.load_der_x509_csr(der)
    except (binascii.Error, ValueError) as error:
        raise NotAccepted(f"no PKCS #10 in base64: {error}") from None
    held = x509.load_der_x509_certificate(shown)
    if not asked.is_signature_valid or names_of(asked) != names_of(held):
        raise NotAccepted("the request is for somebody else than the client")
    pem = asked.public_bytes(serialization.Encoding.PEM).decode()
    found = trust.load_authority(ISSUING.pem, ISSUING.key, "issuing")
    said = trust.names_of(NAMES[0], NAMES[1:])
    chain = trust.issue(pem, found, said, datetime.now(timezone.utc), days)
    fresh = list(trust.parse_certificates(chain, "answer")[:1])
    answer = pkcs7.serialize_certificates(fresh, serialization.Encoding.DER)
    return base64.encodebytes(answer).replace(b"\n", b"\r\n")


@dataclass
class Est:
    """The server, and what it did not accept."""

    port: int = 0
    days: int = 397
    refused: list[str] = field(default_factory=list)
    given: int = 0

    def handler(self) -> type[BaseHTTPRequestHandler]:
        est = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                shown = self.connection.getpeercert(True)
                try:
                    if self.path != PLACE:
                        raise NotAccepted(f"nothing is at {self.path}")
                    answer = renewed(body, self.headers["Content-Type"], shown, est.days)
                except NotAccepted as error:
                    est.refused.append(str(error))
                    self.send_error(400, str(error))
                    return
                est.given += 1
                self.send_response(200)
                self.send_header("Content-Type", "application/pkcs7-mime; smime-type=certs-only")
                self.send_header("Content-Transfer-Encoding", "base64")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_words: object) -> None:
                pass

        return Handler


@pytest.fixture(name="est")
def _est(tmp_path: Path) -> Iterator[Est]:
    own = leaf(ISSUING, ["localhost", "127.0.0.1"])
    (tmp_path / "est.pem").write_text(own.pem + ISSUING.pem)
    (tmp_path / "est.key").write_text(own.key)
    (tmp_path / "roots.pem").write_text(ROOT.pem)
    context = ssl.create_default_context(
        ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "roots.pem")
    )
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tmp_path / "est.pem", tmp_path / "est.key")
    est = Est()
    server = ThreadingHTTPServer(("127.0.0.1", 0), est.handler())
    server.socket = context.wrap_socket(server.socket, server_side=True)
    est.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield est
    server.shutdown()
    server.server_close()
    thread.join()


Renew = Callable[[Host], "subprocess.CompletedProcess[str]"]


@pytest.fixture(name="renew")
def _renew(est: Est) -> Renew:
    def run(host: Host) -> subprocess.CompletedProcess[str]:
        def put(word: str) -> str:
            # The authority of the page's site issues the certificates, so hosts trust it by name.
            word = word.replace("/etc/mlops/tls", str(host.folder))
            return word.replace("pki.example.com", f"127.0.0.1:{est.port}")

        words = example()
        assert any("https://pki.example.com" in word for word in words)
        return host.renew(*(put(word) for word in words))

    return run


def host_due(folder: Path, end: float) -> Host:
    host = host_of(folder, ISSUING, end)
    (host.folder / "ca.crt").write_text(ISSUING.pem + ROOT.pem)
    (host.folder / "authority.crt").write_text(ISSUING.pem + ROOT.pem)
    return host


def test_the_example_renews(est: Est, renew: Renew, tmp_path: Path) -> None:
    host = host_due(tmp_path / "tls", 10)
    done = renew(host)
    assert (done.returncode, done.stderr, est.refused) == (0, "", [])
    (fresh,) = trust.parse_certificates(host.certificate, "host.crt")
    assert trust.names_in(fresh) == frozenset(NAMES)
    assert trust.belongs(fresh, trust.parse_key(host.key, "host.key"))
    left = fresh.not_valid_after_utc - datetime.now(timezone.utc)
    assert left.days >= 390
    # The renewed one is what the server knows the host by, the next time.
    est.days = 30
    (host.folder / "host.crt").write_text(host.certificate)
    assert renew(host).returncode == 0
    assert est.given == 1


def test_what_the_server_says_is_the_sentence(est: Est, renew: Renew, tmp_path: Path) -> None:
    host = host_due(tmp_path / "tls", 10)
    est.days = 30
    host.refuses(renew(host), "The answer is valid for fewer than 60 days")
    stranger = leaf(ISSUING, ["edge2", "10.0.0.6"], end=10)
    (host.folder / "host.crt").write_text(stranger.pem)
    (host.folder / "host.key").write_text(stranger.key)
    host.given = stranger.pem
    host.refuses(renew(host), r"sh ended with \d+: curl: \(22\) .*400")
    assert est.refused == ["the request is for somebody else than the client"]


def test_one_that_has_ended_can_no_longer_ask(est: Est, renew: Renew, tmp_path: Path) -> None:
    host = host_due(tmp_path / "tls", -0.5)
    host.refuses(renew(host), r"sh ended with \d+: curl: \(\d+\) .*")
    assert est.given == 0

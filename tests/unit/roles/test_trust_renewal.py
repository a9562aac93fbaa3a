# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host renews its certificate by a command of the company's, and believes no answer as such."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import yaml
from ansible_collections.mlops.onprem.plugins.module_utils._trust import certificates as trust

from tests.unit.plugins.module_utils._trust.companies import Holder, authority, leaf

ROLES = Path(__file__).resolve().parents[3] / "roles"
PROGRAM = ROLES / "trust/files/mlops_certificate.py"
NAMES = ("edge1", "10.0.0.5", "edge1.example.com")
ROOT, STRANGER = authority("Company root"), authority("Another root")
ISSUING = authority("Issuing", ROOT)
# Signs a request as a company's service would: what the answer says is decided by its own words.
SIGN = """
import sys
from datetime import datetime, timezone
from pathlib import Path
from ansible_collections.mlops.onprem.plugins.module_utils._trust import certificates as trust
here, days, *names = sys.argv[1:]
asked = sys.stdin.read()
Path(here, "asked.pem").write_text(asked)
chain, key = Path(here, "issuing.pem").read_text(), Path(here, "issuing.key").read_text()
found = trust.load_authority(chain, key, "issuing.pem")
now, said = datetime.now(timezone.utc), trust.names_of(names[0], names[1:])
print("signed for you:", trust.issue(asked, found, said, now, int(days)))
"""


@dataclass
class Host:
    """The folder of a host whose certificate ends soon."""

    folder: Path
    key: str
    given: str

    def renew(self, *command: object) -> subprocess.CompletedProcess[str]:
        names = [f"--name={name}" for name in NAMES]
        return subprocess.run(
            [
                *(sys.executable, str(PROGRAM), f"--folder={self.folder}", "--days=60"),
                *(*names, "--", *map(str, command)),
            ],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def sign(self, days: int = 397, *names: str) -> subprocess.CompletedProcess[str]:
        return self.renew(sys.executable, "-c", SIGN, self.folder, days, *(names or NAMES))

    @property
    def certificate(self) -> str:
        return (self.folder / "host.crt").read_text()

    def refuses(self, done: subprocess.CompletedProcess[str], sentence: str) -> None:
        assert done.returncode == 1
        said = done.stderr.removeprefix("The certificate of this host is due and was not renewed: ")
        assert re.search(sentence, said), said
        assert "Traceback" not in done.stderr
        assert self.certificate == self.given


def host_of(folder: Path, issuer: Holder, end: float) -> Host:
    folder.mkdir()
    held = leaf(issuer, NAMES, end=end)
    for name, text in {
        "host.key": held.key,
        "host.crt": held.pem + ISSUING.pem,
        "ca.crt": ROOT.pem,
        "authority.crt": ROOT.pem,
        "issuing.pem": ISSUING.pem + ROOT.pem,
        "issuing.key": ISSUING.key,
    }.items():
        (folder / name).write_text(text)
    return Host(folder, held.key, held.pem + ISSUING.pem)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return host_of(tmp_path / "tls", ISSUING, 10)


def test_a_certificate_that_is_due_is_renewed_for_the_same_key(host: Host) -> None:
    (host.folder / "host.crt").chmod(0o604)
    done = host.sign()
    assert (done.returncode, done.stderr) == (0, "")
    leaf_now, issuing = trust.parse_certificates(host.certificate, "host.crt")
    assert trust.belongs(leaf_now, trust.parse_key(host.key, "host.key"))
    assert trust.names_in(leaf_now) == frozenset(NAMES)
    assert leaf_now.not_valid_after_utc > datetime.now(timezone.utc) + timedelta(days=390)
    assert issuing == ISSUING.certificate
    assert (host.folder / "host.crt").stat().st_mode & 0o777 == 0o604
    asked = (host.folder / "asked.pem").read_text()
    words = ["openssl", "req", "-noout", "-text", "-verify"]
    shown = subprocess.run(words, input=asked, capture_output=True, text=True, check=True).stdout
    assert "DNS:edge1, IP Address:10.0.0.5, DNS:edge1.example.com" in shown
    # The next look finds nothing to do, and asks nobody.
    assert host.renew("/nonexistent").returncode == 0


def test_one_that_ended_is_renewed_too(tmp_path: Path) -> None:
    host = host_of(tmp_path / "tls", ISSUING, -0.5)
    assert host.sign().returncode == 0
    assert host.certificate != host.given


def test_nobody_is_asked_before_it_is_due(tmp_path: Path) -> None:
    host = host_of(tmp_path / "tls", ISSUING, 61)
    assert host.renew("/nonexistent").returncode == 0
    assert host.certificate == host.given


def test_an_answer_that_does_not_fit_is_refused(host: Host) -> None:
    host.refuses(host.sign(30), "valid for fewer than 60 days")
    host.refuses(host.sign(397, "edge2", *NAMES[1:]), "for the subject CN=edge2, wanted CN=edge1")
    host.refuses(host.sign(397, *NAMES[:2]), r"not for edge1\.example\.com, by which")
    host.refuses(host.sign(397, "edge1", "edge1.example.com"), r"not for 10\.0\.0\.5, by which")


def test_an_answer_for_another_key_is_refused(host: Host) -> None:
    (host.folder / "other.pem").write_text(leaf(ISSUING, NAMES).pem + ISSUING.pem)
    host.refuses(host.renew("cat", host.folder / "other.pem"), "for another key than that of this")


def test_an_answer_of_an_authority_that_nobody_trusts_is_refused(host: Host) -> None:
    for name, text in (("issuing.pem", STRANGER.pem), ("issuing.key", STRANGER.key)):
        (host.folder / name).write_text(text)
    host.refuses(host.sign(), r"not accepted by .*/ca\.crt: ")
    # As a server it would be believed, as a client nowhere.
    (host.folder / "ca.crt").write_text(ROOT.pem + STRANGER.pem)
    host.refuses(host.sign(), r"not accepted by .*/authority\.crt: ")


def test_what_is_no_answer_is_a_sentence(host: Host) -> None:
    host.refuses(host.renew("/nonexistent/sign"), "cannot be run: No such file")
    failing = "printf 'no\\033]0;x right' >&2; exit 3"
    host.refuses(host.renew("sh", "-c", failing), r"sh ended with 3: no\?\]0;x right\.")
    host.refuses(host.renew("true"), "holds no certificate in PEM form")
    host.refuses(host.renew("head", "-c", "70000", "/dev/zero"), "has more than 64 KiB")
    damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
    host.refuses(host.renew("echo", damaged), "openssl x509 ended with 1")


def test_services_that_read_the_certificate_once_are_told() -> None:
    wanted = set()
    for path in ROLES.glob("*/tasks/*.yml"):
        for task in yaml.safe_load(path.read_text(encoding="utf-8")) or ():
            service = task.get("mlops.onprem.host_service") or {}
            files = [*(service.get("reload_on") or ()), *(service.get("restart_on") or ())]
            if "/etc/mlops/tls/host.crt" in files:
                wanted.add(f"{service['name']}.service")
    told = yaml.safe_load((ROLES / "trust/vars/main.yml").read_text(encoding="utf-8"))
    assert set(told["__trust_readers"]) == wanted

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The company's own database servers, as they stood before anybody thought of our platform."""

from __future__ import annotations

import json
import secrets
import tempfile
from pathlib import Path
from typing import Any

from .errors import LabError
from .machine import Machine
from .state import State, write_private
from .topology import MARIADB, POSTGRESQL, Host, Topology

_LAB = Path(__file__).resolve().parents[1]
_PROGRAMS = {POSTGRESQL: _LAB / "company_db", MARIADB: _LAB / "company_mariadb"}
# What the company hands over goes beside each other.
_PAGES = {POSTGRESQL: "company.yml", MARIADB: "company_mariadb.yml"}
_LOADER = (
    "import json,sys; payload=json.loads(sys.stdin.readline()); "
    "exec(compile(sys.stdin.read(),'company_db','exec'))"
)
_ACCOUNTS = ("erp_app", "erp_report", "hr_app", "platform_dba")
_YEARS = "7300"


class CompanyDatabase:
    def __init__(self, topology: Topology, host: Host, state: State, machine: Machine) -> None:
        self.topology = topology
        self.host = host
        self.state = state
        self.machine = machine
        self._directory = state.directory / "company"
        self.ca = state.directory / "company-ca.crt"

    def prepare(self) -> bool:
        """Install and fill the server if that has not been done; hand over what we may know."""
        passwords = self._passwords()
        payload: dict[str, object] = {
            "address": self.host.ip,
            "network": str(self.topology.network),
            "passwords": passwords,
            **self._certificate(),
        }
        self._hand_over(passwords["platform_dba"])
        return "prepared" in self._run("prepare.py", payload)

    def fingerprint(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._run("fingerprint.py", {}))
        return answer

    def _run(self, program: str, payload: dict[str, Any]) -> str:
        """Program and data travel on standard input: no secret is ever an argument."""
        page = _PROGRAMS[self.host.kind] / program
        text = json.dumps(payload) + "\n" + page.read_text(encoding="utf-8")
        remote = f'python3 -c "{_LOADER}"'
        done = self.machine.run(
            [*self.state.ssh_command(self.host), remote], data=text.encode(), check=False
        )
        if done.code != 0:
            raise LabError(f"{program} failed on {self.host.name}: {done.err.strip()}")
        return done.out

    def _passwords(self) -> dict[str, str]:
        path = self._directory / "passwords.json"
        known: dict[str, str] = {}
        if path.exists():
            known = json.loads(path.read_text(encoding="utf-8"))
        for account in _ACCOUNTS:
            known.setdefault(account, secrets.token_urlsafe(24))
        write_private(path, json.dumps(known, indent=1) + "\n")
        return known

    def _hand_over(self, password: str) -> None:
        """What the company tells the people of the platform, and nothing more."""
        path = self.topology.inventory / "group_vars" / "all" / _PAGES[self.host.kind]
        if path.exists() and path.read_text(encoding="utf-8").startswith("$ANSIBLE_VAULT"):
            return
        role = "metadata_db" if self.host.kind == POSTGRESQL else "accounting_db"
        values: dict[str, object] = {
            f"{role}_mode": "existing",
            f"{role}_host": self.host.ip,
            f"{role}_port": 5432 if self.host.kind == POSTGRESQL else 3306,
            f"{role}_ca_file": str(self.ca),
            f"{role}_admin_user": "platform_dba",
            f"{role}_admin_password": password,
            **({"metadata_db_admin_database": "postgres"} if role == "metadata_db" else {}),
            "trust_extra_ca_files": [str(self.ca)],
        }
        lines = ["---", "# Handed over by the company; written by extensions/lab/lab.py."]
        lines += [f"{name}: {json.dumps(value)}" for name, value in values.items()]
        write_private(path, "\n".join(lines) + "\n")

    def _certificate(self) -> dict[str, str]:
        """The company's CA and a certificate of the server, each made once."""
        directory = self._directory
        directory.mkdir(parents=True, exist_ok=True)
        authority, server = directory / "ca", directory / f"server-{self.host.ip}"
        if not self.ca.exists():
            self._sign(authority, "/O=Example Company/CN=Example Company Root CA", _CA_EXTENSIONS)
            write_private(self.ca, authority.with_suffix(".crt").read_text(encoding="utf-8"), 0o644)
            for old in directory.glob("server-*"):
                old.unlink()
        certificate = server.parent / f"{server.name}.crt"
        if not certificate.exists():
            names = f"DNS:{self.host.name},DNS:{self.host.name}.company.test,IP:{self.host.ip}"
            extensions = f"{_SERVER_EXTENSIONS}subjectAltName=critical,{names}\n"
            subject = f"/O=Example Company/CN={self.host.name}"
            self._sign(server, subject, extensions, authority)
        key = server.parent / f"{server.name}.key"
        return {
            "certificate": certificate.read_text(encoding="utf-8"),
            "key": key.read_text(encoding="utf-8"),
        }

    def _sign(self, stem: Path, subject: str, extensions: str, by: Path | None = None) -> None:
        """The certificate is renamed last: a pair is either whole or made again."""
        key = stem.parent / f"{stem.name}.key"
        certificate = stem.parent / f"{stem.name}.crt"
        run = self.machine.run
        with tempfile.TemporaryDirectory(dir=stem.parent) as scratch:
            new = Path(scratch)
            curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
            run(["openssl", "genpkey", *curve, "-out", str(new / "key")])
            (new / "extensions").write_text(extensions, encoding="utf-8")
            request = ["openssl", "req", "-new", "-key", str(new / "key"), "-subj", subject]
            run([*request, "-out", str(new / "request")])
            signer = ["-signkey", str(new / "key")]
            if by is not None:
                signer = ["-CA", str(by.with_suffix(".crt")), "-CAkey", str(by.with_suffix(".key"))]
                signer += ["-CAcreateserial", "-CAserial", str(new / "serial")]
            command = ["openssl", "x509", "-req", "-in", str(new / "request"), *signer]
            command += ["-days", _YEARS, "-sha256", "-extfile", str(new / "extensions")]
            run([*command, "-out", str(new / "certificate")])
            (new / "key").chmod(0o600)
            (new / "key").replace(key)
            (new / "certificate").replace(certificate)


_CA_EXTENSIONS = """\
basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign
subjectKeyIdentifier=hash
"""
_SERVER_EXTENSIONS = """\
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
"""


def compare(before: dict[str, Any], after: dict[str, Any], prefix: str = "") -> list[str]:
    """Where two fingerprints differ, as paths with both values."""
    if isinstance(before, dict) and isinstance(after, dict):
        lines = []
        for key in sorted(set(before) | set(after)):
            place = f"{prefix}.{key}" if prefix else key
            lines += compare(before.get(key), after.get(key), place)  # type: ignore[arg-type]
        return lines
    return [] if before == after else [f"{prefix}: {before!r} -> {after!r}"]

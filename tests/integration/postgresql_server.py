# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""A PostgreSQL server of a company, on this machine and for one test session."""

from __future__ import annotations

import datetime
import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey


def newest_programs() -> Path | None:
    """Where Debian keeps the programs of the newest PostgreSQL server that is installed."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(found, key=lambda path: int(path.parent.name), default=None)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(
    subject: str, key: Key, issuer: str, issuer_key: Key, days: tuple[int, int], names: list[Any]
) -> bytes:
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=not names, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@dataclass
class PostgresqlServer:
    place: Path
    programs: Path
    port: int

    @property
    def ca_file(self) -> str:
        return str(self.place / "ca.crt")

    @property
    def log(self) -> str:
        return (self.place / "log").read_text(errors="replace")

    @property
    def account(self) -> dict[str, Any]:
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "ca_file": self.ca_file,
            "user": "dba",
            "password": "dba-secret",
            "site": "test",
            "site_id": "7d0c1f5e88a94b21",
        }

    def create(self) -> None:
        """Certificates, a cluster, and what the company keeps in it."""
        self.place.mkdir(parents=True)
        self._write_certificates()
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            for path in (self.place, *self.place.iterdir()):
                os.chown(path, user.pw_uid, user.pw_gid)
        self._run(
            "initdb",
            f"--pgdata={self.place / 'data'}",
            "--username=postgres",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        )
        with (self.place / "data/postgresql.conf").open("a") as stream:
            stream.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\n"
                f"unix_socket_directories = '{self.place}'\nfsync = off\nlog_statement = all\n"
                f"ssl = on\nssl_cert_file = '{self.place}/server.crt'\n"
                f"ssl_key_file = '{self.place}/server.key'\n"
            )
        self._run(
            "pg_ctl", f"--pgdata={self.place / 'data'}", f"--log={self.place / 'log'}", "start"
        )
        self.sql(
            "ALTER ROLE postgres PASSWORD 'postgres-secret'",
            "CREATE ROLE dba LOGIN CREATEDB CREATEROLE PASSWORD 'dba-secret'",
            "CREATE ROLE clerk LOGIN PASSWORD 'clerk-secret'",
            "CREATE ROLE company LOGIN PASSWORD 'company-secret'",
            "CREATE DATABASE company OWNER company",
        )

    def stop(self) -> None:
        if (self.place / "data/postmaster.pid").exists():
            self._run("pg_ctl", f"--pgdata={self.place / 'data'}", "--mode=immediate", "stop")
        shutil.rmtree(self.place, ignore_errors=True)

    def sql(self, *statements: str, database: str = "postgres") -> list[Any]:
        """Run statements as the company's superuser; return the rows of the last one."""
        with psycopg.connect(
            host=str(self.place), port=self.port, user="postgres", dbname=database, autocommit=True
        ) as connection:
            rows: list[Any] = []
            for statement in statements:
                cursor = connection.execute(statement)
                rows = cursor.fetchall() if cursor.description else []
            return rows

    @contextmanager
    def presenting(self, which: str) -> Iterator[None]:
        """Let the server show C(expired) or C(other) instead of its certificate for a while."""
        file, usual = self.place / f"{which}.crt", self.place / "server.crt"
        self._show(f"ALTER SYSTEM SET ssl_cert_file = '{file}'", file)
        try:
            yield
        finally:
            self._show("ALTER SYSTEM RESET ssl_cert_file", usual)

    def _show(self, statement: str, file: Path) -> None:
        self.sql(statement, "SELECT pg_reload_conf()")
        deadline = time.monotonic() + 10
        while self.sql("SHOW ssl_cert_file") != [(str(file),)]:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def fingerprint(self) -> list[Any]:
        """Everything of the company that the platform must leave as it is."""
        ours = "('mlflow', 'mlflow_auth', 'mlops_monitoring')"
        return [
            self.sql(f"SELECT * FROM pg_authid WHERE rolname NOT IN {ours} ORDER BY oid"),
            self.sql(
                "SELECT oid, datname, datdba, datacl, datconnlimit FROM pg_database "
                f"WHERE datname NOT IN {ours} ORDER BY oid"
            ),
            self.sql(
                "SELECT m.member::regrole::text, m.roleid::regrole::text FROM pg_auth_members m "
                f"WHERE m.roleid::regrole::text NOT IN {ours} "
                f"AND m.member::regrole::text NOT IN {ours} ORDER BY 1, 2"
            ),
            self.sql("SELECT name, setting FROM pg_settings WHERE source <> 'session' ORDER BY 1"),
        ]

    def _run(self, program: str, *arguments: str) -> None:
        # The server refuses to run as root.
        user = "postgres" if os.geteuid() == 0 else None
        subprocess.run(
            [str(self.programs / program), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
            user=user,
            group=user,
        )

    def _write_certificates(self) -> None:
        keys = [ec.generate_private_key(ec.SECP256R1()) for _key in range(3)]
        ca, stranger, server = keys
        here = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        there = [x509.DNSName("database.example.com")]
        files = {
            "ca.crt": certificate("Company CA", ca, "Company CA", ca, (-1, 365), []),
            "stranger.crt": certificate("Stranger", stranger, "Stranger", stranger, (-1, 365), []),
            "server.crt": certificate("db", server, "Company CA", ca, (-1, 90), here),
            "expired.crt": certificate("db", server, "Company CA", ca, (-90, -1), here),
            "other.crt": certificate("db", server, "Company CA", ca, (-1, 90), there),
            "server.key": server.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        }
        for file, content in files.items():
            path = self.place / file
            path.write_bytes(content)
            path.chmod(0o600 if file.endswith(".key") else 0o644)

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
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.patience import PATIENCE

Key = ec.EllipticCurvePrivateKey


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


def somebody() -> str:
    """Who runs servers here: they refuse to run as root."""
    return next(
        user for user in ("postgres", "nobody") if user in {u.pw_name for u in pwd.getpwall()}
    )


def as_somebody() -> dict[str, Any]:
    """Arguments for a program that refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam(somebody())
    return {"user": user.pw_uid, "group": user.pw_gid}


def give_away(*paths: Path) -> None:
    """Let these paths belong to who runs servers here."""
    if os.geteuid() == 0:
        user = pwd.getpwnam(somebody())
        for path in paths:
            os.chown(path, user.pw_uid, user.pw_gid)


@dataclass
class PostgresqlServer:
    place: Path
    programs: Path
    port: int
    encoding: str = "UTF8"
    environment: dict[str, str] = field(default_factory=dict)

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
        give_away(self.place, *self.place.iterdir())
        self._run(
            "initdb",
            f"--pgdata={self.place / 'data'}",
            "--username=postgres",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            f"--encoding={self.encoding}",
            f"--locale={'C.UTF-8' if self.encoding == 'UTF8' else 'C'}",
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
        self.sql(
            "CREATE TABLE accounts (id int, name text)",
            "INSERT INTO accounts SELECT n, md5(n::text) FROM generate_series(1, 100) n",
            "ALTER TABLE accounts OWNER TO company",
            database="company",
        )

    def stop(self) -> None:
        if (self.place / "data/postmaster.pid").exists():
            self._run("pg_ctl", f"--pgdata={self.place / 'data'}", "--mode=immediate", "stop")
        shutil.rmtree(self.place, ignore_errors=True)

    def sql(self, *statements: str, database: str = "postgres", encoding: str = "") -> list[Any]:
        """Run statements as the company's superuser; return the rows of the last one."""
        with psycopg.connect(
            host=str(self.place),
            port=self.port,
            user="postgres",
            dbname=database,
            autocommit=True,
            client_encoding=encoding or "utf8",
        ) as connection:
            rows: list[Any] = []
            for statement in statements:
                cursor = connection.execute(statement)
                rows = cursor.fetchall() if cursor.description else []
            return rows

    @contextmanager
    def presenting(self, which: str) -> Iterator[None]:
        """Let the server show C(expired) or C(other) instead of its certificate for a while."""
        with self.setting("ssl_cert_file", str(self.place / f"{which}.crt")):
            yield

    @contextmanager
    def setting(self, setting: str, value: str) -> Iterator[None]:
        """Run with another setting for a while."""
        self.sql(f"ALTER SYSTEM SET {setting} = '{value}'")
        self.reload()
        assert self.sql(f"SHOW {setting}") == [(value,)]
        try:
            yield
        finally:
            self.sql(f"ALTER SYSTEM RESET {setting}")
            self.reload()

    def fingerprint(self) -> list[Any]:
        """Everything of the company that the platform must leave as it is."""
        # Whatever bears a name of ours or a mark, and is not one of the company's on purpose.
        ours = "('mlflow', 'mlflow_auth', 'mlops_monitoring')"
        questions = (
            f"SELECT * FROM pg_authid WHERE rolname NOT IN {ours} ORDER BY oid",
            "SELECT oid, datname, datdba, encoding, datallowconn, datacl, datconnlimit "
            f"FROM pg_database WHERE datname NOT IN {ours} ORDER BY oid",
            "SELECT m.member::regrole::text, m.roleid::regrole::text, admin_option "
            f"FROM pg_auth_members m WHERE m.roleid::regrole::text NOT IN {ours} "
            f"AND m.member::regrole::text NOT IN {ours} ORDER BY 1, 2",
            "SELECT d.* FROM pg_shdescription d WHERE d.objoid NOT IN "
            f"(SELECT oid FROM pg_authid WHERE rolname IN {ours} "
            f"UNION SELECT oid FROM pg_database WHERE datname IN {ours}) ORDER BY 1, 2",
            "SELECT * FROM pg_db_role_setting ORDER BY 1, 2",
            "SELECT * FROM pg_tablespace ORDER BY oid",
            "SELECT name, setting FROM pg_settings WHERE source <> 'session' "
            "AND name <> 'client_encoding' ORDER BY 1",
            "SELECT objid::text FROM pg_locks WHERE locktype = 'advisory'",
        )
        inside = (
            "SELECT oid, relname, relacl, relowner FROM pg_class WHERE relnamespace = "
            "'public'::regnamespace ORDER BY oid",
            "SELECT * FROM accounts ORDER BY id",
        )
        found = [self.sql(question, encoding="sql_ascii") for question in questions]
        found += [
            self.sql(question, database="company", encoding="sql_ascii") for question in inside
        ]
        return [*found, (self.place / "data/pg_hba.conf").read_text()]

    def hba(self, *lines: str) -> None:
        """Let these lines say who may log in how, after what the superuser needs."""
        self.write_hba("".join(f"{line}\n" for line in ("local all all trust", *lines)))
        assert self.sql("SELECT error FROM pg_hba_file_rules WHERE error IS NOT NULL") == []

    def write_hba(self, text: str) -> None:
        (self.place / "data/pg_hba.conf").write_text(text)
        self.reload()

    def reload(self) -> None:
        """Have the configuration read again, and wait until new sessions begin with it."""
        before = self.sql("SELECT pg_conf_load_time()")
        self.sql("SELECT pg_reload_conf()")
        deadline = time.monotonic() + PATIENCE
        while self.sql("SELECT pg_conf_load_time()") == before:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self.programs / program), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", **self.environment},
            **as_somebody(),
        )

    def _write_certificates(self) -> None:
        keys = [ec.generate_private_key(ec.SECP256R1()) for _key in range(4)]
        ca, stranger, server, issuing = keys
        here = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        there = [x509.DNSName("database.example.com")]
        files = {
            "ca.crt": certificate("Company CA", ca, "Company CA", ca, (-1, 365), []),
            "stranger.crt": certificate("Stranger", stranger, "Stranger", stranger, (-1, 365), []),
            "server.crt": certificate("db", server, "Company CA", ca, (-1, 90), here),
            "expired.crt": certificate("db", server, "Company CA", ca, (-90, -1), here),
            "other.crt": certificate("db", server, "Company CA", ca, (-1, 90), there),
            "issuing.crt": certificate("Issuing CA", issuing, "Company CA", ca, (-1, 365), []),
            "issued.crt": certificate("db", server, "Issuing CA", issuing, (-1, 90), here)
            + certificate("Issuing CA", issuing, "Company CA", ca, (-1, 365), []),
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

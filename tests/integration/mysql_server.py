# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""A MariaDB server of a company, on this machine and for one test session."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pymysql
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.patience import PATIENCE

from .debian_programs import archives, start_through_loader, unpack
from .postgresql_server import certificate

RELEASES = {"10.11": "bookworm", "11.8": "trixie"}
PACKAGES = ["mariadb-server-core", "mariadb-client-core"]
SYSTEM_TABLES = ("system_tables", "performance_tables", "system_tables_data")
SITE_ID = "7d0c1f5e88a94b21"
OURS = ("slurm_acct_db", "slurm")


def unpacked(version: str, place: Path) -> Path:
    """The root below which the programs of this version are; skips where there are none."""
    root = place / RELEASES[version]
    unpack(archives(RELEASES[version], PACKAGES, f"{RELEASES[version]}-mariadb"), root)
    start_through_loader(root / "usr/sbin/mariadbd", root)
    return root


@dataclass
class MysqlServer:
    """A server with TLS, two accounts of a DBA and what the company keeps."""

    place: Path
    root: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    options: list[str] = field(default_factory=list)

    @property
    def share(self) -> Path:
        places = (self.root / "usr/share" / name for name in ("mariadb", "mysql"))
        return next(place for place in places if list(place.glob("m*_system_tables.sql")))

    @property
    def ca_file(self) -> str:
        return str(self.place / "ca.crt")

    @property
    def log(self) -> str:
        return (self.place / "log").read_text(errors="replace")

    @property
    def queries(self) -> str:
        """Everything that anybody has ever asked the server."""
        return (self.place / "queries").read_text(errors="replace")

    @property
    def account(self) -> dict[str, Any]:
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "ca_file": self.ca_file,
            "user": "dba",
            "password": "dba-secret",
            "site": "test",
            "site_id": SITE_ID,
        }

    def create(self) -> None:
        self.place.mkdir(parents=True)
        self._write_certificates()
        (self.place / "data").mkdir()
        script = "CREATE DATABASE mysql;\nUSE mysql;\n" + "\n".join(
            next(self.share.glob(f"m*_{name}.sql")).read_text(encoding="utf-8")
            for name in SYSTEM_TABLES
        )
        done = subprocess.run(
            [*self._command(), "--bootstrap", "--innodb-log-file-size=8M", "--skip-networking"],
            input=script.encode(),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
        self.start()
        self.sql(
            "DELETE FROM mysql.global_priv WHERE User <> 'root' AND User <> 'mariadb.sys'",
            "FLUSH PRIVILEGES",
            "CREATE USER dba@'%' IDENTIFIED BY 'dba-secret' REQUIRE SSL",
            "GRANT CREATE USER ON *.* TO dba@'%'",
            "GRANT SELECT ON mysql.* TO dba@'%'",
            "GRANT ALL PRIVILEGES ON `slurm\\_acct\\_db`.* TO dba@'%' WITH GRANT OPTION",
            "CREATE USER clerk@'%' IDENTIFIED BY 'clerk-secret'",
            "CREATE USER chief@'%' IDENTIFIED BY 'chief-secret'",
            "GRANT ALL PRIVILEGES ON *.* TO chief@'%' WITH GRANT OPTION",
            "CREATE DATABASE company",
            "CREATE TABLE company.accounts (id int PRIMARY KEY, name varchar(64))",
            "INSERT INTO company.accounts VALUES (1, 'one'), (2, 'zwei'), (3, 'trois')",
            "GRANT SELECT ON company.* TO clerk@'%'",
        )

    def start(self, *options: str) -> None:
        """Start, and wait until it answers."""
        self.options = list(options)
        command = [
            *self._command(),
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            f"--ssl-ca={self.place / 'ca.crt'}",
            f"--ssl-cert={self.place / 'server.crt'}",
            f"--ssl-key={self.place / 'server.key'}",
            f"--general-log-file={self.place / 'queries'}",
            "--general-log",
            "--innodb-buffer-pool-size=32M",
            "--innodb-flush-log-at-trx-commit=0",
            *options,
        ]
        with (self.place / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
        deadline = time.monotonic() + PATIENCE
        while True:
            assert self.process.poll() is None, self.log[-2000:]
            assert time.monotonic() < deadline, self.log[-2000:]
            try:
                self.sql("SELECT 1")
                return
            except pymysql.Error:
                time.sleep(0.05)

    def halt(self) -> None:
        """End the server and keep what it has."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE)

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)
        shutil.rmtree(self.place, ignore_errors=True)

    @contextmanager
    def started_with(self, *options: str) -> Iterator[None]:
        """Run with other options for a while."""
        self.halt()
        self.start(*options)
        try:
            yield
        finally:
            self.halt()
            self.start()

    @contextmanager
    def setting(self, name: str, value: str) -> Iterator[None]:
        """Run with another setting for a while."""
        ((before,),) = self.sql(f"SELECT @@global.{name}")
        self.sql(f"SET GLOBAL {name} = {value}")
        try:
            yield
        finally:
            self.sql(f"SET GLOBAL {name} = {before!r}")

    def sql(self, *statements: str) -> list[Any]:
        """Run statements as the company's root; return the rows of the last one."""
        connection = pymysql.connect(
            unix_socket=str(self.place / "socket"), user="root", autocommit=True
        )
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return [tuple(row) for row in cursor.fetchall()]
        finally:
            connection.close()

    def fingerprint(self) -> list[Any]:
        """Everything of the company that the platform must leave as it is."""
        ours = "('slurm_acct_db', 'slurm')"
        questions = (
            f"SELECT Host, User, Priv FROM mysql.global_priv WHERE User NOT IN {ours} ORDER BY 2",
            f"SELECT * FROM mysql.db WHERE User NOT IN {ours} ORDER BY 1, 2, 3",
            "SELECT * FROM mysql.tables_priv ORDER BY 1, 2, 3, 4",
            "SELECT * FROM mysql.procs_priv ORDER BY 1, 2, 3, 4",
            "SELECT * FROM mysql.roles_mapping ORDER BY 1, 2, 3",
            f"SELECT * FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN {ours} ORDER BY 2",
            "SELECT * FROM company.accounts ORDER BY 1",
            "SHOW CREATE TABLE company.accounts",
            "SELECT VARIABLE_NAME, VARIABLE_VALUE FROM information_schema.GLOBAL_VARIABLES "
            "WHERE VARIABLE_NAME NOT LIKE 'GTID%' AND VARIABLE_NAME <> 'TIMESTAMP' ORDER BY 1",
        )
        return [self.sql(question) for question in questions]

    def _command(self) -> list[str]:
        user = ["--user=root"] if os.geteuid() == 0 else []
        plugins = next((self.root / "usr/lib").glob("mysql/plugin"), self.root)
        return [
            str(self.root / "usr/sbin/mariadbd"),
            "--no-defaults",
            *user,
            f"--datadir={self.place / 'data'}",
            f"--socket={self.place / 'socket'}",
            f"--pid-file={self.place / 'pid'}",
            f"--plugin-dir={plugins}",
            f"--lc-messages-dir={self.share}",
            f"--character-sets-dir={self.share / 'charsets'}",
        ]

    def _write_certificates(self) -> None:
        keys = [ec.generate_private_key(ec.SECP256R1()) for _key in range(3)]
        ca, stranger, server = keys
        here = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        files = {
            "ca.crt": certificate("Company CA", ca, "Company CA", ca, (-1, 365), []),
            "stranger.crt": certificate("Stranger", stranger, "Stranger", stranger, (-1, 365), []),
            "server.crt": certificate("db", server, "Company CA", ca, (-1, 90), here),
            "expired.crt": certificate("db", server, "Company CA", ca, (-90, -1), here),
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

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way to speak to a PostgreSQL server: settings of libpq, and refusals without secrets."""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from ..._findings.sentence import one_line
from ..client_certificate import OPTIONS as CERTIFICATES
from ..client_certificate import ClientCertificate, client_certificates_of
from ..endpoint import SERVER, Endpoint, authorities_of_the_system
from ..marks import Site
from .dialogue import WELCOME, ask
from .judge import site_of
from .login import Login, Refusal, Refused
from .read import Reader

PSYCOPG_ERROR: str | None = None
try:
    import psycopg
except ImportError:
    PSYCOPG_ERROR = traceback.format_exc()

Rows = list[tuple[Any, ...]]

# Documented in the fragment ``postgresql_account``.
_DATABASE: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "owner": {"type": "str", "required": True},
    "password": {"type": "str", "required": True, "no_log": True},
    "connection_limit": {"type": "int", "required": True},
    "extra_databases": {"type": "list", "elements": "str", "default": []},
    "monitoring": {"type": "bool", "default": False},
}

OPTIONS: dict[str, Any] = {
    **SERVER,
    "port": {"type": "int", "default": 5432},
    "password": {"type": "str", "required": True, "no_log": True},
    "database": {"type": "str", "default": "postgres"},
    "site": {"type": "str", "required": True},
    "site_id": {"type": "str", "default": ""},
    "adopt_named_marks": {"type": "bool", "default": False},
    "databases": {"type": "list", "elements": "dict", "default": [], "options": _DATABASE},
    "client_certificates": CERTIFICATES,
}


def site_named(params: dict[str, Any]) -> Site:
    """The site as the options of a module name it. Raises DatabaseError for a wrong identity."""
    return site_of(params["site"], params["site_id"], params["adopt_named_marks"])


def certificates_named(params: dict[str, Any]) -> tuple[ClientCertificate, ...]:
    """The client certificates as the options of a module name them."""
    return client_certificates_of(params["client_certificates"])


def connection_arguments(endpoint: Endpoint, login: Login, timeout: int) -> dict[str, Any]:
    """Arguments of libpq. What it would look for in files of the user's is named out of the way.

    No options are sent at the start: a connection pooler refuses them.
    """
    shown = endpoint.certificate_of(login.user)
    return {
        "host": endpoint.host,
        "port": endpoint.port,
        "user": login.user,
        "password": login.password,
        "dbname": login.database,
        "sslmode": "verify-full" if endpoint.verify_name else "verify-ca",
        "sslrootcert": endpoint.ca_file or authorities_of_the_system() or "system",
        "sslcert": shown.certificate_file if shown else _NOWHERE,
        "sslkey": shown.key_file if shown else _NOWHERE,
        "sslcrl": _NOWHERE,
        "passfile": _NOWHERE,
        "gssencmode": "disable",
        "connect_timeout": timeout,
        "client_encoding": "utf8",
        "application_name": "mlops.onprem",
    }


_NOWHERE = "/nonexistent/mlops.onprem"
_LIMITS = (
    "SET {local}statement_timeout = '60s'",
    "SET {local}idle_in_transaction_session_timeout = '60s'",
)
# Names and comments of others may be in any encoding, or in none: they come as bytes.
_AS_THEY_ARE = "SET LOCAL client_encoding = 'SQL_ASCII'"


def forget_environment() -> None:
    """Let no variable of the user's reach libpq: every one of its own begins with PG."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def _connect(
    endpoint: Endpoint, login: Login, timeout: int, autocommit: bool, again: bool = True
) -> psycopg.Connection[Any]:
    forget_environment()
    try:
        return psycopg.connect(
            **connection_arguments(endpoint, login, timeout),
            autocommit=autocommit,
            prepare_threshold=None,
        )
    except psycopg.errors.ConnectionTimeout as error:
        raise Refused(str(error), refusal=Refusal(outcome="silent")) from None
    except (psycopg.Error, ValueError) as error:
        refusal = ask(endpoint, login, timeout)
        if again and refusal.outcome == WELCOME:
            return _connect(endpoint, login, timeout, autocommit, again=False)
        raise Refused(str(error), refusal=refusal) from None


def _is_pooled(connection: psycopg.Connection[Any]) -> bool:
    """A pooler hands out numbers of its own, instead of that of the server's process."""
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return row is not None and row[0] != connection.info.backend_pid


def _rows(connection: psycopg.Connection[Any], sql: str, values: Sequence[Any]) -> Rows:
    connection.execute(_AS_THEY_ARE)
    return [tuple(map(_text, row)) for row in connection.execute(sql, values or None).fetchall()]


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


@contextlib.contextmanager
def reading(endpoint: Endpoint, login: Login, timeout: int) -> Iterator[Reader]:
    """Log in to read only; ends with the block."""
    with _refusals(), _connect(endpoint, login, timeout, autocommit=False) as connection:
        connection.read_only = True
        for setting in _LIMITS:
            connection.execute(setting.format(local="LOCAL "))
        pooled = _is_pooled(connection)
        yield Reader(lambda sql, values: _rows(connection, sql, values), pooled)


class Session:
    """A login in which every statement stands by itself; refusals are those of ``read``.

    Behind a pooler nothing may be set for longer than a transaction: somebody else has the
    connection next.
    """

    def __init__(self, endpoint: Endpoint, login: Login, timeout: int) -> None:
        self.connection = _connect(endpoint, login, timeout, autocommit=True)
        try:
            with _refusals():
                self.pooled = _is_pooled(self.connection)
                if not self.pooled:
                    for setting in _LIMITS:
                        self.connection.execute(setting.format(local=""))
        except Refused:
            self.connection.close()
            raise

    def query(self, sql: str, values: Sequence[Any]) -> Rows:
        """The rows of a question."""
        with _refusals(), self.connection.transaction():
            return _rows(self.connection, sql, values)

    def execute(self, statements: Sequence[str], atomic: bool = False) -> None:
        """Run statements, in one transaction if they are to count only together."""
        with _refusals(), self.connection.transaction() if atomic else contextlib.nullcontext():
            for statement in statements:
                self.connection.execute(statement)

    def close(self) -> None:
        """Log out."""
        self.connection.close()


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        words = said(error)
        raise Refused(str(error), words, Refusal(error.sqlstate or "", words)) from None


def said(error: psycopg.Error) -> str:
    """The server's words without the statement, which may hold a verifier."""
    parts = [error.diag.message_primary, error.diag.message_detail, error.diag.message_hint]
    words = [part for part in parts if part]
    return one_line(" ".join(words) if words else error) or type(error).__name__

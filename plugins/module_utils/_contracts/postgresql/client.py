# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way to speak to a PostgreSQL server: settings of libpq, and refusals without secrets."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from ..._findings.sentence import one_line
from ..endpoint import Endpoint
from .judge import Login, site_of
from .marks import Site
from .read import Query, Refused

PSYCOPG_ERROR: str | None = None
try:
    import psycopg
except ImportError:
    PSYCOPG_ERROR = traceback.format_exc()

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
    "host": {"type": "str", "required": True},
    "port": {"type": "int", "default": 5432},
    "ca_file": {"type": "path", "default": ""},
    "sslmode": {"type": "str", "choices": ["verify-full", "verify-ca"], "default": "verify-full"},
    "user": {"type": "str", "required": True},
    "password": {"type": "str", "required": True, "no_log": True},
    "database": {"type": "str", "default": "postgres"},
    "site": {"type": "str", "required": True},
    "site_id": {"type": "str", "default": ""},
    "adopt_named_marks": {"type": "bool", "default": False},
    "databases": {"type": "list", "elements": "dict", "default": [], "options": _DATABASE},
    "timeout": {"type": "int", "default": 10},
}


def endpoint_of(params: dict[str, Any]) -> Endpoint:
    """The server as the options of a module name it."""
    return Endpoint(
        params["host"], params["port"], params["ca_file"], params["sslmode"] == "verify-full"
    )


def site_named(params: dict[str, Any]) -> Site:
    """The site as the options of a module name it. Raises DatabaseError for a wrong identity."""
    return site_of(params["site"], params["site_id"], params["adopt_named_marks"])


def connection_arguments(endpoint: Endpoint, login: Login, timeout: int) -> dict[str, Any]:
    """Arguments of libpq. Everything that the environment could change is written out."""
    return {
        "host": endpoint.host,
        "port": endpoint.port,
        "user": login.user,
        "password": login.password,
        "dbname": login.database,
        "sslmode": "verify-full" if endpoint.verify_name else "verify-ca",
        "sslrootcert": endpoint.ca_file or "system",
        "gssencmode": "disable",
        "connect_timeout": timeout,
        "application_name": "mlops.onprem",
        "options": "-c statement_timeout=60s -c idle_in_transaction_session_timeout=60s",
    }


@contextlib.contextmanager
def reading(endpoint: Endpoint, login: Login, timeout: int) -> Iterator[Query]:
    """Log in to read only; ends with the block."""
    try:
        with psycopg.connect(**connection_arguments(endpoint, login, timeout)) as connection:
            connection.read_only = True
            yield lambda sql, values: connection.execute(sql, values or None).fetchall()
    except psycopg.Error as error:
        raise Refused(str(error), said(error)) from None


class Session:
    """A login in which every statement stands by itself; refusals are those of ``read``."""

    def __init__(self, endpoint: Endpoint, login: Login, timeout: int) -> None:
        arguments = connection_arguments(endpoint, login, timeout)
        with _refusals():
            self.connection = psycopg.connect(**arguments, autocommit=True)

    def query(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The rows of a question."""
        with _refusals():
            return self.connection.execute(sql, values or None).fetchall()

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
        raise Refused(str(error), said(error)) from None


def said(error: psycopg.Error) -> str:
    """The server's words without the statement, which may hold a verifier."""
    parts = [error.diag.message_primary, error.diag.message_detail, error.diag.message_hint]
    return one_line(" ".join(part for part in parts if part)) or type(error).__name__

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way to speak to a MariaDB or MySQL server: always over TLS, refusals without secrets."""

from __future__ import annotations

import contextlib
import ssl
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from ..._findings.sentence import one_line
from ..endpoint import SERVER, Endpoint, verifying
from .login import PLUGIN_LIBRARY, PLUGIN_OLD, PLUGIN_UNKNOWN, Login, Refusal, Refused
from .read import Reader

PYMYSQL_ERROR: str | None = None
try:
    import pymysql
except ImportError:
    PYMYSQL_ERROR = traceback.format_exc()

Rows = list[tuple[Any, ...]]

# Documented in the fragment ``mysql_account``.
_DATABASE: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "owner": {"type": "str", "required": True},
    "password": {"type": "str", "required": True, "no_log": True},
    "connection_limit": {"type": "int", "required": True},
    "account_host": {"type": "str", "default": "%"},
    "tables": {"type": "list", "elements": "str", "default": []},
}
OPTIONS: dict[str, Any] = {
    **SERVER,
    "port": {"type": "int", "default": 3306},
    "password": {"type": "str", "required": True, "no_log": True},
    "site": {"type": "str", "required": True},
    "site_id": {"type": "str", "required": True},
    "databases": {"type": "list", "elements": "dict", "default": [], "options": _DATABASE},
}
_LIMITS = ("SET SESSION lock_wait_timeout = 30", "SET SESSION innodb_lock_wait_timeout = 30")
_LIMIT_OF_MARIADB = "SET SESSION max_statement_time = 60"


def _connect(endpoint: Endpoint, login: Login, timeout: int) -> Any:
    """Log in. No file of the user's is read, and the password is sent over TLS or not at all."""
    try:
        return pymysql.connect(
            host=endpoint.host,
            port=endpoint.port,
            user=login.user,
            password=login.password,
            database=login.database or None,
            ssl=verifying(endpoint),
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=timeout,
            read_timeout=max(timeout, 90),
            write_timeout=timeout,
            program_name="mlops.onprem",
            local_infile=False,
        )
    except pymysql.MySQLError as error:
        raise Refused(refusal_of(error)) from None
    except RuntimeError as error:  # a kind of login for which the library lacks another one
        raise Refused(Refusal(said=one_line(error), method="ed25519")) from None
    except (OSError, ssl.SSLError, ValueError) as error:
        raise Refused(Refusal(said=one_line(error))) from None


def refusal_of(error: Exception) -> Refusal:
    """The number of an error, and its words. What a server is asked never stands in them whole."""
    numbers = [one for one in error.args if isinstance(one, int)]
    words = [one for one in error.args if isinstance(one, str)]
    code = numbers[0] if numbers else 0
    method = ""
    if code in (PLUGIN_UNKNOWN, PLUGIN_OLD, PLUGIN_LIBRARY):
        quoted = words[0].split("'") if words else []
        method = quoted[1] if len(quoted) > 1 else "a method that is not known here"
    return Refusal(code, one_line(words[0] if words else error), method)


def _thread_differs(connection: Any) -> bool:
    """A proxy hands out numbers of its own, instead of that of the server's thread."""
    rows = _rows(connection, "SELECT CONNECTION_ID()", ())
    return bool(int(rows[0][0]) != int(connection.thread_id()))


def _rows(connection: Any, sql: str, values: Sequence[Any]) -> Rows:
    with connection.cursor() as cursor:
        cursor.execute(sql, tuple(values))
        return [tuple(map(_text, row)) for row in cursor.fetchall()]


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


@contextlib.contextmanager
def reading(endpoint: Endpoint, login: Login, timeout: int) -> Iterator[Reader]:
    """Log in to read only; ends with the block."""
    session = Session(endpoint, login, timeout)
    try:
        with _refusals():
            _rows(session.connection, "SET SESSION TRANSACTION READ ONLY", ())
        yield Reader(session.query, session.proxied)
    finally:
        session.close()


class Session:
    """A login in which every statement stands by itself."""

    def __init__(self, endpoint: Endpoint, login: Login, timeout: int) -> None:
        self.connection = _connect(endpoint, login, timeout)
        try:
            with _refusals():
                for setting in _LIMITS:
                    _rows(self.connection, setting, ())
                if "MariaDB" in str(self.connection.get_server_info()):
                    _rows(self.connection, _LIMIT_OF_MARIADB, ())
                self.proxied = _thread_differs(self.connection)
        except Refused:
            self.close()
            raise

    def query(self, sql: str, values: Sequence[Any]) -> Rows:
        """The rows of a question."""
        with _refusals():
            return _rows(self.connection, sql, values)

    def execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        """Run one statement."""
        with _refusals():
            _rows(self.connection, statement, values)

    def close(self) -> None:
        """Log out."""
        with contextlib.suppress(pymysql.MySQLError, OSError):
            self.connection.close()


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except pymysql.MySQLError as error:
        raise Refused(refusal_of(error)) from None
    except (OSError, UnicodeError) as error:
        raise Refused(Refusal(said=one_line(error))) from None

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wanted of a MariaDB or MySQL server, and what was seen on it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..._findings.errors import PlatformError
from ..marks import IDENTITY, Site

MARKS = "mlops_onprem"
"""The table in each of our databases that says whose it is."""
RIGHTS = (
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "DROP",
    "ALTER",
    "INDEX",
    "CREATE ROUTINE",
    "ALTER ROUTINE",
    "EXECUTE",
    "CREATE TEMPORARY TABLES",
    "REFERENCES",
)
"""What an owner gets on its own database and nowhere else. slurmdbd makes and alters its tables and
procedures (plugins/accounting_storage/mysql); it neither locks tables nor lends rights."""


_NAME = re.compile(r"^[a-z_][a-z0-9_]{0,62}$")
_HOST_OF_ACCOUNT = re.compile(r"^[0-9A-Za-z._:%/-]{1,60}$")


_SYSTEM = ("mysql", "sys", "information_schema", "performance_schema")
MIB = 1 << 20


class DatabaseError(PlatformError):
    """A sentence for the person who runs the site."""


def site_of(name: str, identity: str) -> Site:
    """The site whose marks count. Raises DatabaseError for what is no identity."""
    if not IDENTITY.match(identity):
        raise DatabaseError(
            f"accounting_db_site_id: {identity!r} is not an identity of 8 to 64 letters, digits, "
            "- and _; leave it out, so that the site makes its own."
        )
    return Site(name, identity)


@dataclass(frozen=True)
class Consumer:
    """An account that logs in, with the database that it has for itself."""

    owner: str
    password: str
    database: str
    connection_limit: int
    account_host: str = "%"
    tables: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Consumer({self.account!r}, {self.database!r})"

    @property
    def account(self) -> str:
        return f"{self.owner}@{self.account_host}"


def consumers_of(entries: list[dict[str, object]]) -> tuple[Consumer, ...]:
    """Read ``accounting_db_databases``; every database has an account of its own."""
    found: list[Consumer] = []
    for number, entry in enumerate(entries, start=1):
        where = f"accounting_db_databases, entry {number}"
        tables = entry.get("tables")
        one = Consumer(
            owner=str(entry["owner"]),
            password=str(entry["password"]),
            database=str(entry["name"]),
            connection_limit=int(str(entry.get("connection_limit") or 0)),
            account_host=str(entry.get("account_host") or "%"),
            tables=tuple(map(str, tables)) if isinstance(tables, (list, tuple)) else (),
        )
        _refuse_wrong(where, one)
        if any(one.database == other.database for other in found):
            raise DatabaseError(f"{where}: database {one.database} is already in another entry.")
        if any(one.owner == other.owner for other in found):
            raise DatabaseError(
                f"{where}: {one.owner} owns a database already; give this one another owner."
            )
        found.append(one)
    return tuple(found)


def _refuse_wrong(where: str, one: Consumer) -> None:
    for name in (one.database, one.owner):
        if not _NAME.match(name) or name in _SYSTEM:
            raise DatabaseError(
                f"{where}: {name!r} is not a name of at most 63 lower case letters, digits and "
                "underscores, or is one of the server's own."
            )
    if not _HOST_OF_ACCOUNT.match(one.account_host):
        raise DatabaseError(
            f"{where}: account_host {one.account_host!r} is not a host, an address or a pattern "
            "of them with %."
        )
    if not one.password:
        raise DatabaseError(f"{where}: the password of {one.owner} is empty.")
    if one.connection_limit < 1:
        raise DatabaseError(f"{where}: connection_limit of {one.owner} is not a positive number.")


@dataclass(frozen=True)
class Grant:
    """Rights of an account on ``scope``: ``*`` for the server, else a pattern of databases."""

    scope: str
    privileges: frozenset[str]
    grantable: bool = False

    def covers(self, database: str) -> bool:
        return self.scope == "*" or bool(re.match(_like(self.scope), database))

    @property
    def exact(self) -> str:
        """The one database that is meant, empty for more than one."""
        if self.scope == "*" or re.search(r"(?<!\\)%", self.scope):
            return ""
        return self.scope.replace("\\", "")


def _like(pattern: str) -> str:
    parts = re.split(r"(\\.|%|_)", pattern)
    known = {"%": ".*", "_": "."}
    return "".join(known.get(part, re.escape(part.lstrip("\\"))) for part in parts) + r"\Z"


@dataclass(frozen=True)
class Account:
    """The account that the platform was given, and the rights of its roles with its own."""

    name: str
    grants: tuple[Grant, ...] = ()
    sees_accounts: bool = False

    def lacks(self, wanted: frozenset[str], database: str = "", grantable: bool = False) -> bool:
        """Whether a right is missing on the server, or on a database."""
        held: set[str] = set()
        for grant in self.grants:
            fits = grant.covers(database) if database else grant.scope == "*"
            if fits and (grant.grantable or not grantable):
                held |= grant.privileges
        return not wanted <= held


@dataclass(frozen=True)
class AccountSeen:
    """An account of the server, and what it may do where."""

    user: str
    host: str
    plugin: str = ""
    stored: str = ""
    encrypted: bool = False
    connection_limit: int = 0
    locked: bool = False
    grants: tuple[Grant, ...] = ()
    elsewhere: tuple[str, ...] = ()
    """Words for rights on tables, routines and roles beside those in ``grants``."""

    @property
    def name(self) -> str:
        return f"{self.user}@{self.host}"


@dataclass(frozen=True)
class Thing:
    """Something in a database: a table, a view, a routine, a trigger or an event."""

    kind: str
    name: str
    definer: str = ""


@dataclass(frozen=True)
class DatabaseSeen:
    """A database that is wanted, or that bears a mark."""

    name: str
    comment: str = ""
    """Of the database itself, which MariaDB keeps."""
    mark: str = ""
    """Of the table ``MARKS`` in it."""
    accounts: Mapping[str, str] = field(default_factory=dict)
    """By account that the site made for it: what its stored password was then."""
    things: tuple[Thing, ...] = ()
    guests: tuple[str, ...] = ()
    """Accounts that have rights on this very database."""
    referenced_by: tuple[str, ...] = ()
    """Tables of other databases with foreign keys to it."""

    def proves(self, site: Site) -> bool:
        return site.proves(self.name, self.mark)

    def unfinished(self, site: Site) -> bool:
        """Made by this site and not yet marked, which only a killed run leaves behind."""
        return not self.mark and not self.things and site.proves(self.name, self.comment)


@dataclass(frozen=True)
class Server:
    version: str
    mariadb: bool
    account: Account
    settings: Mapping[str, str] = field(default_factory=dict)
    clock_skew: float = 0.0
    room_mib: int | None = None
    accounts: tuple[AccountSeen, ...] = ()
    databases: tuple[DatabaseSeen, ...] = ()
    proxied: bool = False
    checks_passwords: bool = False
    """Whether a plugin looks at new passwords, which then have to be told in the clear."""

    @property
    def number(self) -> tuple[int, int]:
        digits = re.findall(r"\d+", self.version)
        return (int(digits[0]), int(digits[1])) if len(digits) > 1 else (0, 0)

    @property
    def kind(self) -> str:
        if "TiDB" in self.version:
            return "TiDB"
        return "MariaDB" if self.mariadb else "MySQL"

    def whole(self, name: str) -> int | None:
        """A setting that is a number."""
        value = self.settings.get(name, "")
        return int(value) if value.isdigit() else None

    def on(self, name: str) -> bool:
        return self.settings.get(name, "OFF").upper() not in ("OFF", "0", "")

    def database(self, name: str) -> DatabaseSeen | None:
        return next((seen for seen in self.databases if seen.name == name), None)

    def seen_account(self, consumer: Consumer) -> AccountSeen | None:
        return next((seen for seen in self.accounts if seen.name == consumer.account), None)


def quoted_account(account: str) -> str:
    """An account as statements want it."""
    user, _at, host = account.rpartition("@")
    return f"'{user}'@'{host}'"

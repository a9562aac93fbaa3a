# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wanted of a MariaDB or MySQL server, what was seen on it, and what to say of both."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from ..._findings.errors import PlatformError
from ..._findings.finding import FAIL, Finding
from ..._findings.sentence import count, listing
from ..contract import Contract
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
MARIADB, MYSQL = (10, 5), (8, 0)
"""Slurm 24.11 runs on older servers too; these are the oldest that their makers still mend, and
MariaDB keeps comments on databases since 10.5."""
_NAME = re.compile(r"^[a-z_][a-z0-9_]{0,62}$")
_HOST_OF_ACCOUNT = re.compile(r"^[0-9A-Za-z._:%/-]{1,60}$")
_HOST = re.compile(r"^[^\s/@,=]+$")
_SYSTEM = ("mysql", "sys", "information_schema", "performance_schema")
MIB = 1 << 20


class DatabaseError(PlatformError):
    """A sentence for the person who runs the site."""


# -- what is wanted ---------------------------------------------------------------------------


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


# -- what was seen ----------------------------------------------------------------------------


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


def wrong_address(contract: Contract, host: str) -> Finding | None:
    """What is no name of a server."""
    wanted = "the name or address of the server"
    remedy = (
        f"set {contract.name_variable}, or put a host into the group accounting_db, which then "
        "runs a MariaDB of the platform's own"
    )
    if not host.strip():
        return contract.failed("settings", f"{contract.name_variable} is empty", wanted, remedy)
    if _HOST.match(host):
        return None
    return contract.failed(
        "settings",
        f"{contract.name_variable} is {host!r}",
        f"{wanted} alone, as in its certificate",
        f"correct {contract.address_variables}",
    )


# -- what follows -----------------------------------------------------------------------------


def judge(
    contract: Contract, server: Server, consumers: tuple[Consumer, ...], conflicts: list[Finding]
) -> list[Finding]:
    """Findings about a server that could be logged in to. ``conflicts`` are those of names."""
    findings = [_judge_version(contract, server)]
    if findings[0].severity == FAIL:
        return findings
    findings.append(_judge_writable(contract, server))
    if findings[-1].severity == FAIL:
        return findings
    rights = judge_rights(contract, server, consumers)
    findings.append(rights)
    if rights.severity != FAIL:
        findings += conflicts or [_names(contract, server, consumers)]
        findings += _judge_nameless(contract, server, consumers)
    findings.append(_judge_connections(contract, server, consumers))
    findings += [
        _judge_setting(contract, server, *wanted)
        for wanted in SETTINGS
        if wanted[0] in server.settings
    ]
    findings += _judge_switches(contract, server)
    findings += _judge_galera(contract, server)
    findings.append(_judge_room(contract, server))
    if server.proxied:
        findings.append(_judge_proxy(contract))
    return findings


def _judge_version(contract: Contract, server: Server) -> Finding:
    found = f"{server.kind} {server.version}"
    wanted = f"MariaDB {_dotted(MARIADB)} or newer, or MySQL {_dotted(MYSQL)} or newer"
    if server.kind != "TiDB" and server.number >= (MARIADB if server.mariadb else MYSQL):
        return contract.passed("version", found, wanted)
    return contract.failed(
        "version",
        found,
        wanted,
        f"set {contract.name_variable} to another server, or put a host into the group "
        "accounting_db",
    )


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _judge_writable(contract: Contract, server: Server) -> Finding:
    wanted = "a server that takes writes"
    for name in ("read_only", "super_read_only", "innodb_read_only"):
        if server.on(name):
            return contract.failed(
                "writable",
                f"a server that is read-only ({name} = {server.settings[name]}), as a replica is",
                wanted,
                f"set {contract.name_variable} to the primary",
            )
    return contract.passed("writable", "a server that takes writes", wanted)


def judge_rights(contract: Contract, server: Server, consumers: tuple[Consumer, ...]) -> Finding:
    """Whether the account may make accounts, see them, and own and lend these databases."""
    account = server.account
    names = [one.database for one in consumers]
    ask: list[str] = []
    if account.lacks(frozenset({"CREATE USER"})):
        ask.append(f"GRANT CREATE USER ON *.* TO {_quoted(account.name)}")
    if not account.sees_accounts:
        ask.append(f"GRANT SELECT ON mysql.* TO {_quoted(account.name)}")
    ask += [
        f"GRANT ALL PRIVILEGES ON {escaped(name)}.* TO {_quoted(account.name)} WITH GRANT OPTION"
        for name in names
        if account.lacks(frozenset(RIGHTS), name, grantable=True)
    ]
    wanted = "CREATE USER, sight of accounts, and every right on " + (
        listing(names) or "its databases"
    )
    if not ask:
        return contract.passed("rights", f"{account.name} with these rights", wanted)
    return contract.failed(
        "rights",
        f"{account.name} lacks some of its rights",
        wanted,
        f"ask for: {'; '.join(ask)}; or set {contract.variable('admin_user')} to another account",
    )


def _quoted(account: str) -> str:
    user, _at, host = account.rpartition("@")
    return f"'{user}'@'{host}'"


def escaped(database: str) -> str:
    """The name as GRANT wants it, which takes _ for any letter."""
    return "`" + database.replace("_", "\\_") + "`"


def _names(contract: Contract, server: Server, consumers: tuple[Consumer, ...]) -> Finding:
    names = [one.database for one in consumers]
    existing = [name for name in names if server.database(name)]
    new = [name for name in names if name not in existing]
    parts = []
    if new:
        parts.append(f"{listing(new)} free to be created")
    if existing:
        parts.append(f"{listing(existing)} already made by this site")
    found = "; ".join(parts) or "no database asked for"
    return contract.passed("names", found, "names that nobody else uses")


def _judge_nameless(
    contract: Contract, server: Server, consumers: tuple[Consumer, ...]
) -> list[Finding]:
    """An account without a name takes every login from its host before ``'slurm'@'%'`` does."""
    found = [
        seen.host
        for seen in server.accounts
        if not seen.user and seen.host not in ("localhost", "127.0.0.1", "::1")
    ]
    if not found or not consumers:
        return []
    return [
        contract.warned(
            "nameless",
            f"an account without a name for connections from {listing(found)}",
            f"no account that takes logins meant for {listing(one.account for one in consumers)}",
            f"ask for: DROP USER ''@'{found[0]}'",
        )
    ]


def _judge_connections(
    contract: Contract, server: Server, consumers: tuple[Consumer, ...]
) -> Finding:
    maximum = server.whole("max_connections") or 0
    used = server.whole("Threads_connected") or 0
    free = max(0, maximum - used)
    pools = sum(one.connection_limit for one in consumers)
    found = f"{count(free, 'free connection')} ({maximum} at most, {used} in use)"
    wanted = (
        f"{pools + 1} for {listing(one.owner for one in consumers) or 'nobody'} and one of ours"
    )
    if free > pools:
        return contract.passed("connections", found, wanted)
    say = contract.failed if free < FEW_CONNECTIONS else contract.warned
    remedy = (
        "raise max_connections on the server, or lower connection_limit in accounting_db_databases"
    )
    return say("connections", found, wanted, remedy)


FEW_CONNECTIONS = 10
"""Below these slurmdbd cannot serve a controller and a few people at once."""

_IN_MEMORY = "the tables of jobs then stay in memory"
_LONG_WRITE = "an upgrade of Slurm is one long write"
_LONG_WAIT = "a rollup or a purge of accounts takes long"
Setting = tuple[str, str, int, int, str]
SETTINGS: tuple[Setting, ...] = (
    (
        "innodb_buffer_pool_size",
        "buffer_pool",
        512 * MIB,
        1024 * MIB,
        _IN_MEMORY,
    ),
    (
        "innodb_log_file_size",
        "redo_log",
        32 * MIB,
        64 * MIB,
        _LONG_WRITE,
    ),
    (
        "innodb_redo_log_capacity",
        "redo_log",
        32 * MIB,
        64 * MIB,
        _LONG_WRITE,
    ),
    (
        "innodb_lock_wait_timeout",
        "lock_wait",
        450,
        900,
        _LONG_WAIT,
    ),
    ("max_allowed_packet", "packet", 16 * MIB, 16 * MIB, "the script of a job is one packet"),
)
"""A setting, the check, what slurmdbd complains below (half of what it recommends, in
_check_database_variables of accounting_storage_mysql.c), what its documentation recommends
(doc/html/accounting.shtml), and why."""


def _judge_setting(
    contract: Contract, server: Server, name: str, check: str, least: int, better: int, why: str
) -> Finding:
    held = server.whole(name) or 0
    wanted = f"at least {_sized(least)}, better {_sized(better)}, as {why}"
    if held >= least:
        return contract.passed(check, f"{name} = {_sized(held)}", wanted)
    remedy = f"ask the server's owner for: SET GLOBAL {name} = {better}, and to keep it"
    if name == "innodb_log_file_size":
        remedy = f"ask the server's owner to set {name} = {_sized(better)}"
    return contract.warned(check, f"{name} = {_sized(held)}", wanted, remedy)


def _sized(number: int) -> str:
    return f"{number // MIB} MiB" if number >= MIB else str(number)


def _judge_switches(contract: Contract, server: Server) -> list[Finding]:
    found: list[Finding] = []
    if "innodb_snapshot_isolation" in server.settings:
        wanted = "OFF, as what writes the accounts does not try again after error 1020"
        if server.on("innodb_snapshot_isolation"):
            found.append(
                contract.warned(
                    "snapshot_isolation",
                    "innodb_snapshot_isolation = ON",
                    wanted,
                    "ask the server's owner for: SET GLOBAL innodb_snapshot_isolation = OFF, and "
                    "to keep it",
                )
            )
        else:
            found.append(
                contract.passed("snapshot_isolation", "innodb_snapshot_isolation = OFF", wanted)
            )
    names = server.settings.get("lower_case_table_names", "0")
    if names == "2":
        found.append(
            contract.warned(
                "table_names",
                "lower_case_table_names = 2, as on a file system that knows no case",
                "0 or 1",
                "put the accounts on a server on Linux",
            )
        )
    else:
        found.append(contract.passed("table_names", f"lower_case_table_names = {names}", "0 or 1"))
    if server.checks_passwords:
        found.append(
            contract.warned(
                "password_check",
                "a plugin that checks new passwords (strict_password_validation = ON)",
                "passwords that the server only ever sees hashed",
                "nothing to do: the password is told to the server in the clear, over TLS, and may "
                "stand in its general log",
            )
        )
    return found


def _judge_galera(contract: Contract, server: Server) -> list[Finding]:
    if not server.on("wsrep_on"):
        return []
    ready = server.settings.get("wsrep_ready", "OFF").upper() == "ON"
    part = server.settings.get("wsrep_cluster_status", "unknown")
    found = f"a node of a Galera cluster ({part}, {'ready' if ready else 'not ready'})"
    wanted = "a node that is ready, in the primary part of its cluster"
    if ready and part.lower() == "primary":
        return [contract.passed("galera", found, wanted)]
    remedy = f"set {contract.name_variable} to another node, or mend the cluster"
    return [contract.failed("galera", found, wanted, remedy)]


LEAST_ROOM_MIB = 2048
"""A job with its steps takes about 2 KiB, so this holds some 500,000 of them and the redo log."""


def _judge_room(contract: Contract, server: Server) -> Finding:
    wanted = f"{LEAST_ROOM_MIB} MiB free for the accounts"
    if server.room_mib is None:
        return contract.passed(
            "room", "a server that does not tell its free room (it has no plugin DISKS)", wanted
        )
    found = f"{server.room_mib} MiB free"
    if server.room_mib >= LEAST_ROOM_MIB:
        return contract.passed("room", found, wanted)
    return contract.warned("room", found, wanted, "make room on the server's disk")


def _judge_proxy(contract: Contract) -> Finding:
    return contract.warned(
        "proxy",
        "a proxy such as MaxScale or ProxySQL, and not the server itself",
        "the server itself",
        f"set {contract.address_variables} to the server; a proxy has to let the new account in "
        "too, and must not send reads elsewhere",
    )


# -- whose it is ------------------------------------------------------------------------------

_RENAME = "set accounting_db_prefix, or choose another name in accounting_db_databases"


def conflicts_of(
    contract: Contract,
    server: Server,
    consumers: tuple[Consumer, ...],
    site: Site,
    ours: frozenset[str],
) -> list[Finding]:
    """The names that somebody else uses; ``ours`` are the accounts that the site made."""
    wanted = f"a name that is free, or was made by site {site.name}"
    found: list[Finding] = []
    for one in consumers:
        seen = server.database(one.database)
        if seen and not seen.proves(site) and not seen.unfinished(site):
            found.append(contract.failed("names", *_taken(seen, site, wanted)))
        for account in server.accounts:
            if account.user == one.owner and account.name not in ours:
                found.append(
                    contract.failed(
                        "names",
                        f"account {account.name} exists and was not made by this site, or its "
                        "password is not the one that this site gave it",
                        wanted,
                        f"{_RENAME} for the owner; if this very site made it, ask for: "
                        f"DROP USER {_quoted(account.name)}, and run again",
                    )
                )
    return found


def _taken(seen: DatabaseSeen, site: Site, wanted: str) -> tuple[str, str, str]:
    if seen.mark:
        whose = site.whose(seen.mark)
        return f"database {seen.name} exists and {whose}", wanted, f"{_RENAME}{_lost(seen, site)}"
    if not seen.things:
        return (
            f"database {seen.name} exists, is empty, and does not say who made it",
            wanted,
            f"{_RENAME}; if a run of this site that was killed left it, ask for: "
            f"DROP DATABASE {seen.name}",
        )
    return f"database {seen.name} exists and was not made by this site", wanted, _RENAME


def _lost(seen: DatabaseSeen, site: Site) -> str:
    identity = site.namesake(seen.mark)
    if not identity:
        return ""
    return (
        ", or, if this very site made it and its identity was lost, "
        f"set accounting_db_site_id: {identity}"
    )


def strangers_in(seen: DatabaseSeen, consumer: Consumer | None, ours: frozenset[str]) -> list[str]:
    """Words for everything in a database of ours that somebody else has put there, or uses."""
    patterns = consumer.tables if consumer else ()
    found = [
        f"{thing.kind} {thing.name}"
        for thing in seen.things
        if thing.name != MARKS
        and (
            (thing.definer and thing.definer not in ours)
            or (
                thing.kind == "table"
                and patterns
                and not any(fnmatchcase(thing.name, pattern) for pattern in patterns)
            )
        )
    ]
    found += [f"rights of {guest}" for guest in seen.guests if guest not in ours]
    return found + [f"foreign keys of {table}" for table in seen.referenced_by]


def beyond(account: AccountSeen, databases: frozenset[str]) -> list[str]:
    """Words for rights that an account of ours has outside its own databases."""
    found = [
        "rights on " + ("the whole server" if grant.scope == "*" else grant.scope.replace("\\", ""))
        for grant in account.grants
        if grant.privileges - {"USAGE"} and grant.exact not in databases
    ]
    return [*found, *account.elsewhere]

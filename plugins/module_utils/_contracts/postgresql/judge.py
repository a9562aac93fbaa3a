# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wanted of a PostgreSQL server, what was seen on it, and what to say of both."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..._findings.errors import PlatformError
from ..._findings.finding import FAIL, Finding
from ..._findings.sentence import count, listing
from ..contract import Contract
from ..endpoint import wrong_host
from ..marks import IDENTITY, Site

OLDEST_MAJOR = 14
_NAME = re.compile(r"^[a-z_][a-z0-9_]{0,62}$")


class DatabaseError(PlatformError):
    """A sentence for the person who runs the site."""


# -- what is wanted ---------------------------------------------------------------------------


def site_of(name: str, identity: str, adopt_named: bool) -> Site:
    """The site whose marks count. Raises DatabaseError for what is no identity."""
    if identity and not IDENTITY.match(identity):
        raise DatabaseError(
            f"metadata_db_site_id: {identity!r} is not an identity of 8 to 64 letters, digits, "
            "- and _; leave it out, so that the site makes its own."
        )
    return Site(name, identity, adopt_named)


@dataclass(frozen=True)
class Consumer:
    """A role that logs in, with the databases that it owns."""

    owner: str
    password: str
    databases: tuple[str, ...]
    connection_limit: int
    monitoring: bool = False

    def __repr__(self) -> str:
        return f"Consumer({self.owner!r}, databases={self.databases!r})"


def consumers_of(entries: list[dict[str, object]]) -> tuple[Consumer, ...]:
    """Read ``metadata_db_databases``; entries of one owner become one consumer."""
    found: dict[str, Consumer] = {}
    seen: dict[str, str] = {}
    for number, entry in enumerate(entries, start=1):
        where = f"metadata_db_databases, entry {number}"
        owner, password = str(entry["owner"]), str(entry["password"])
        names = [str(entry["name"])]
        extra = entry.get("extra_databases")
        if isinstance(extra, (list, tuple)):
            names += [str(name) for name in extra]
        for name in [owner, *names]:
            if not _NAME.match(name) or name.startswith("pg_"):
                raise DatabaseError(
                    f"{where}: {name!r} is not a name of at most 63 lower case letters, digits "
                    "and underscores that does not begin with pg_."
                )
        if not password:
            raise DatabaseError(f"{where}: the password of {owner} is empty.")
        for name in names:
            if name in seen:
                raise DatabaseError(f"{where}: database {name} is already in entry {seen[name]}.")
            seen[name] = str(number)
        limit = int(str(entry.get("connection_limit") or 0))
        if limit < 1:
            raise DatabaseError(f"{where}: connection_limit of {owner} is not a positive number.")
        before = found.get(owner)
        if before and before.password != password:
            raise DatabaseError(f"{where}: {owner} has another password in an earlier entry.")
        found[owner] = Consumer(
            owner,
            password,
            (before.databases if before else ()) + tuple(names),
            (before.connection_limit if before else 0) + limit,
            bool(entry.get("monitoring")) or bool(before and before.monitoring),
        )
    return tuple(found.values())


# -- what was seen ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Account:
    """The account that the platform was given, usually a DBA's."""

    name: str
    superuser: bool = False
    createdb: bool = False
    createrole: bool = False
    may_grant_monitoring: bool = False
    login: str = ""
    """Who logged in, if a setting of that role makes it act as another."""


@dataclass(frozen=True)
class RoleSeen:
    name: str
    comment: str = ""
    connection_limit: int = -1
    login: bool = True
    monitoring: bool = False
    administered: bool = True
    lent: bool = False
    expired: bool = False


@dataclass(frozen=True)
class Use:
    """A database in which a role owns something or has rights."""

    role: str
    database: str


@dataclass(frozen=True)
class DatabaseSeen:
    name: str
    owner: str
    comment: str = ""
    public_connect: bool = True
    open: bool = True

    @property
    def unfinished(self) -> bool:
        """Created closed and not yet marked, which only a run that was killed leaves behind."""
        return not self.open and not self.comment


@dataclass(frozen=True)
class Connections:
    maximum: int
    reserved: int
    used_by_others: int

    @property
    def free(self) -> int:
        return max(0, self.maximum - self.reserved - self.used_by_others)


@dataclass(frozen=True)
class Server:
    version_number: int
    version: str
    account: Account
    connections: Connections
    encoding: str = "UTF8"
    locale: str = ""
    standby: bool = False
    read_only: bool = False
    clock_skew: float = 0.0
    roles: tuple[RoleSeen, ...] = ()
    databases: tuple[DatabaseSeen, ...] = ()
    pooled: bool = False
    uses: tuple[Use, ...] = ()

    @property
    def major(self) -> int:
        return self.version_number // 10000

    def role(self, name: str) -> RoleSeen | None:
        return next((role for role in self.roles if role.name == name), None)

    def database(self, name: str) -> DatabaseSeen | None:
        return next((seen for seen in self.databases if seen.name == name), None)


def wrong_address(contract: Contract, host: str) -> Finding | None:
    """What is no name of a server, which libpq would take for a list, a socket or settings."""
    remedy = f"set {contract.name_variable}, or {contract.variable('mode')}: managed"
    return wrong_host(contract, host, remedy)


# -- what follows -----------------------------------------------------------------------------


def judge(
    contract: Contract,
    server: Server,
    consumers: tuple[Consumer, ...],
    site: Site,
    oldest_major: int = OLDEST_MAJOR,
) -> list[Finding]:
    """Findings about a server that could be logged in to."""
    findings = [_judge_version(contract, server, oldest_major)]
    if findings[0].severity == FAIL:
        return findings
    findings.append(_judge_writable(contract, server))
    if findings[-1].severity == FAIL:
        return findings
    findings += [
        _judge_rights(contract, server, consumers, site),
        *_judge_names(contract, server, consumers, site),
        _judge_connections(contract, server, consumers),
        _judge_encoding(contract, server),
    ]
    if server.pooled:
        findings.append(_judge_pooler(contract))
    if any(consumer.monitoring for consumer in consumers):
        findings.append(_judge_monitoring(contract, server, consumers))
    return findings


def _judge_version(contract: Contract, server: Server, oldest_major: int) -> Finding:
    found, wanted = f"PostgreSQL {server.version}", f"PostgreSQL {oldest_major} or newer"
    if server.major >= oldest_major:
        return contract.passed("version", found, wanted)
    return contract.failed(
        "version",
        found,
        wanted,
        f"set {contract.name_variable} to a newer server, or {contract.variable('mode')}: managed",
    )


def _judge_writable(contract: Contract, server: Server) -> Finding:
    wanted = "a server that takes writes"
    if server.standby:
        return contract.failed(
            "writable",
            "a standby that replays another server",
            wanted,
            f"set {contract.name_variable} to the primary",
        )
    if server.read_only:
        return contract.failed(
            "writable",
            f"transactions of {server.account.name} are read-only by default",
            wanted,
            "ask the server's owner to set default_transaction_read_only = off for this role",
        )
    return contract.passed("writable", "a primary that takes writes", wanted)


def _judge_rights(
    contract: Contract, server: Server, consumers: tuple[Consumer, ...], site: Site
) -> Finding:
    account = server.account
    lacking = []
    new_databases = any(server.database(n) is None for c in consumers for n in c.databases)
    if not account.superuser:
        if new_databases and not account.createdb:
            lacking.append("CREATEDB")
        if not account.createrole:
            lacking.append("CREATEROLE")
    held = (
        "SUPERUSER"
        if account.superuser
        else listing(
            [
                right
                for right, has in (
                    ("CREATEDB", account.createdb),
                    ("CREATEROLE", account.createrole),
                )
                if has
            ]
        )
    )
    wanted = "CREATEDB and CREATEROLE"
    if lacking:
        return _lacks(contract, account, lacking, wanted)
    return of_another_account(contract, server, site) or contract.passed(
        "rights", f"{account.name} with {held}", wanted
    )


def _lacks(contract: Contract, account: Account, lacking: list[str], wanted: str) -> Finding:
    found = f"{account.name} lacks {listing(lacking)}"
    back = ""
    if account.login:
        found = f"{account.login} acts as {account.name} (its setting role), which lacks " + (
            listing(lacking)
        )
        back = f"ALTER ROLE {account.login} RESET role, or for: "
    return contract.failed(
        "rights",
        found,
        wanted,
        f"ask for: {back}ALTER ROLE {account.name} {' '.join(lacking)}, "
        f"or set {contract.variable('admin_user')} to another account",
    )


def of_another_account(contract: Contract, server: Server, site: Site) -> Finding | None:
    """Roles of this site that the account may not alter, as another account created them."""
    account = server.account
    strangers = [
        role.name
        for role in server.roles
        if site.owns(role.name, role.comment) and not role.administered
    ]
    if not strangers or account.superuser:
        return None
    return contract.failed(
        "rights",
        f"{account.name} may not alter {listing(strangers)}, "
        "which another account created for this site",
        f"the account that created {listing(strangers)}, or admin option on it",
        f"set {contract.variable('admin_user')} to that account, or ask for: "
        f"GRANT {', '.join(strangers)} TO {account.name} WITH ADMIN OPTION",
    )


def _judge_names(
    contract: Contract, server: Server, consumers: tuple[Consumer, ...], site: Site
) -> list[Finding]:
    conflicts = conflicts_of(contract, server, consumers, site)
    if conflicts:
        return conflicts
    names = [name for consumer in consumers for name in consumer.databases]
    existing = [name for name in names if server.database(name)]
    new = [name for name in names if name not in existing]
    parts = []
    if new:
        parts.append(f"{listing(new)} free to be created")
    if existing:
        parts.append(f"{listing(existing)} already made by this site")
    return [
        contract.passed(
            "names",
            "; ".join(parts) or "no database asked for",
            "names that nobody else uses",
        )
    ]


def conflicts_of(
    contract: Contract, server: Server, consumers: tuple[Consumer, ...], site: Site
) -> list[Finding]:
    """The names that somebody else uses."""
    wanted = f"a name that is free, or was made by site {site.name}"
    return [
        contract.failed("names", text, wanted, remedy)
        for consumer in consumers
        for text, remedy in (
            *_conflicts_of_role(server.role(consumer.owner), site),
            *(
                conflict
                for name in consumer.databases
                for conflict in _conflicts_of_database(server, consumer, name, site)
            ),
        )
    ]


_RENAME = "choose another name in metadata_db_databases"
_PREFIX = "or set metadata_db_prefix"
Conflict = tuple[str, str]
"""What is found, and what to do."""


def _conflicts_of_role(role: RoleSeen | None, site: Site) -> list[Conflict]:
    if role is None or site.owns(role.name, role.comment):
        return []
    found = f"role {role.name} exists and {site.whose(role.comment)}"
    return [(found, f"{_RENAME} for the owner, {_PREFIX}{_way_back(site, role.comment)}")]


def _conflicts_of_database(
    server: Server, consumer: Consumer, name: str, site: Site
) -> list[Conflict]:
    seen = server.database(name)
    if seen is None:
        return []
    owner = server.role(seen.owner)
    ours = owner is not None and site.owns(owner.name, owner.comment)
    if seen.owner != consumer.owner and ours:
        found = f"database {name} of this site is owned by {seen.owner}"
        return [(found, f"set the owner of {name} in metadata_db_databases to {seen.owner}")]
    if seen.owner != consumer.owner:
        found = f"database {name} exists and is owned by {seen.owner}"
        return [(found, f"{_RENAME}, {_PREFIX}")]
    if not ours or marked(server, seen, site) or seen.unfinished:
        return []
    found = (
        f"database {name} is owned by {seen.owner}, but does not bear the mark of this site: "
        "it was made anew, or its comment was changed"
    )
    return [(found, f"{_RENAME}, {_PREFIX}, or, if the site is to have it, {marking(site, name)}")]


def _way_back(site: Site, comment: str) -> str:
    """What else helps if the site itself is meant: its identity was lost, or never written."""
    if site.names(comment):
        return (
            ", or, if this very site made it with release 0.2.0, "
            "set metadata_db_adopt_named_marks: true for one run"
        )
    identity = site.namesake(comment)
    if not identity:
        return ""
    return (
        ", or, if this very site made it and its identity was lost, "
        f"set metadata_db_site_id: {identity}"
    )


def marked(server: Server, seen: DatabaseSeen, site: Site) -> bool:
    """Whether the site made a database: it says so, and a role of the site owns it."""
    owner = server.role(seen.owner)
    if owner is None or not site.owns(owner.name, owner.comment):
        return False
    proved = site.proves(owner.name, owner.comment)
    return site.owns(seen.name, seen.comment) or (proved and site.names(seen.comment))


def marking(site: Site, database: str) -> str:
    """How the owner of a server tells a site that a database is its own."""
    return f"ask for: COMMENT ON DATABASE {database} IS '{site.mark(database)}'"


def _judge_connections(
    contract: Contract, server: Server, consumers: tuple[Consumer, ...]
) -> Finding:
    seen = server.connections
    pools = sum(consumer.connection_limit for consumer in consumers)
    found = (
        f"{count(seen.free, 'free connection')} ({seen.maximum} at most, {seen.reserved} reserved, "
        f"{seen.used_by_others} in use by others)"
    )
    wanted = f"{pools + 1} for the pools of {listing(c.owner for c in consumers)} and one of ours"
    if seen.free > pools:
        return contract.passed("connections", found, wanted)
    return contract.failed(
        "connections",
        found,
        wanted,
        "raise max_connections on the server, or lower connection_limit in metadata_db_databases",
    )


def _judge_encoding(contract: Contract, server: Server) -> Finding:
    locale = f" with {server.locale}" if server.locale else ""
    if server.encoding == "UTF8":
        return contract.passed("encoding", f"UTF8{locale}", "UTF8")
    return contract.warned(
        "encoding",
        f"{server.encoding}{locale} as the server's own encoding",
        "UTF8",
        "nothing to do: our databases are created as UTF8, and sort by code point",
    )


def _judge_pooler(contract: Contract) -> Finding:
    return contract.warned(
        "pooler",
        "a connection pooler such as pgbouncer, and not the server itself",
        "the server itself",
        f"set {contract.address_variables} to the server; a pooler has to let the new roles in to "
        "the new databases too, and its own pool counts besides max_connections",
    )


def _judge_monitoring(
    contract: Contract, server: Server, consumers: tuple[Consumer, ...]
) -> Finding:
    names = [consumer.owner for consumer in consumers if consumer.monitoring]
    already = all(bool(role and role.monitoring) for role in map(server.role, names))
    wanted = f"pg_monitor for {listing(names)}"
    account = server.account
    if already or account.superuser or account.may_grant_monitoring:
        return contract.passed("monitoring", "pg_monitor can be granted", wanted)
    return contract.warned(
        "monitoring",
        f"{account.name} may not grant pg_monitor",
        wanted,
        f"ask for: GRANT pg_monitor TO {account.name} WITH ADMIN OPTION; "
        "without it the metrics lack the sessions and queries of other roles",
    )

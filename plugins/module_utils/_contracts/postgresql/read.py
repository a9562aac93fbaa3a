# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look through a PostgreSQL server, over logins that are handed in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Callable

from ..._findings.finding import Finding
from ..contract import Contract
from ..endpoint import judge_clock
from ..marks import Site
from .judge import (
    Account,
    Connections,
    Consumer,
    DatabaseSeen,
    RoleSeen,
    Server,
    Use,
    judge,
)
from .login import (
    NOT_AUTHORISED,
    Login,
    Refusal,
    Refused,
    Whose,
    judge_login,
)

Query = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]


@dataclass(frozen=True)
class Reader:
    """A login for questions; ``pooled`` if a connection pooler stands between."""

    query: Query
    pooled: bool = False


Connect = Callable[[Login], AbstractContextManager[Reader]]
"""Logs in for reading; may raise ``Refused``, as may every question."""

_FIRST_WITH_GRANTED_ADMIN = 160000

_BASICS = """
SELECT current_setting('server_version_num')::int, current_setting('server_version'),
       pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on',
       current_setting('max_connections')::int,
       current_setting('superuser_reserved_connections')::int
         + coalesce(current_setting('reserved_connections', true), '0')::int,
       r.rolname, r.rolsuper, r.rolcreatedb, r.rolcreaterole,
       pg_has_role(current_user, 'pg_monitor', 'MEMBER WITH ADMIN OPTION'),
       (SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'template0'),
       (SELECT datcollate FROM pg_database WHERE datname = 'template0'),
       extract(epoch FROM clock_timestamp())::float8, session_user
  FROM pg_roles r WHERE r.rolname = current_user
"""
_ROLES = """
SELECT r.rolname, coalesce(shobj_description(r.oid, 'pg_authid'), ''), r.rolconnlimit,
       r.rolcanlogin, pg_has_role(r.oid, 'pg_monitor', 'MEMBER'),
       pg_has_role(current_user, r.oid, 'MEMBER WITH ADMIN OPTION'),
       EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles me ON me.oid = m.member
                WHERE m.roleid = r.oid AND me.rolname = current_user
                  AND (%s OR m.grantor = me.oid)),
       coalesce(r.rolvaliduntil < clock_timestamp(), false)
  FROM pg_roles r
 WHERE r.rolname = ANY(%s)
    OR shobj_description(r.oid, 'pg_authid') LIKE 'Made by mlops.onprem for site %%'
 ORDER BY r.rolname
"""
_DATABASES = """
SELECT d.datname, pg_get_userbyid(d.datdba), coalesce(shobj_description(d.oid, 'pg_database'), ''),
       has_database_privilege('public', d.oid, 'CONNECT')
         OR has_database_privilege('public', d.oid, 'TEMPORARY'),
       d.datallowconn
  FROM pg_database d
 WHERE d.datname = ANY(%s)
    OR shobj_description(d.oid, 'pg_database') LIKE 'Made by mlops.onprem for site %%'
    OR shobj_description(d.datdba, 'pg_authid') LIKE 'Made by mlops.onprem for site %%'
 ORDER BY d.datname
"""
_USES = """
SELECT DISTINCT r.rolname, d.datname
  FROM pg_shdepend s
  JOIN pg_roles r ON s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid
  JOIN pg_database d
    ON d.oid = CASE WHEN s.classid = 'pg_database'::regclass THEN s.objid ELSE s.dbid END
 WHERE shobj_description(r.oid, 'pg_authid') LIKE 'Made by mlops.onprem for site %'
 ORDER BY 1, 2
"""
_IN_USE = """
SELECT count(*) FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
 WHERE a.datid IS NOT NULL AND a.usesysid IS NOT NULL AND a.pid <> pg_backend_pid()
   AND NOT coalesce(r.rolname = ANY(%s), false)
"""
ROUND_TRIP = """
SELECT current_user, has_database_privilege(current_database(), 'CREATE'),
       has_schema_privilege('public', 'CREATE')
"""


Knock = Callable[[Login], Refusal]
"""Asks for a login to hear how it is refused."""

OF_CONSUMER = Whose(
    "its password in metadata_db_databases",
    "the role",
    "run the playbook mlops.onprem.site again, which makes what is missing",
)


def whose_account(contract: Contract) -> Whose:
    """How the settings of the account are called."""
    return Whose(
        contract.variable("admin_password"),
        contract.variable("admin_user"),
        f"set {contract.variable('admin_database')} to a database that exists and lets it in",
    )


def look_as_account(
    contract: Contract,
    login: Login,
    consumers: tuple[Consumer, ...],
    site: Site,
    wanted: dict[str, Any],
    connect: Connect,
    clock: Callable[[], float],
) -> tuple[Server | None, list[Finding]]:
    """Whether the account can make or keep the databases of the consumers."""
    try:
        with connect(login) as reader:
            server = read_server(reader.query, consumers, clock, reader.pooled)
    except Refused as error:
        return None, [judge_login(contract, login, error, whose_account(contract))]
    skew = wanted["max_clock_skew"]
    return server, [
        contract.passed("login", f"logged in as {login.user}", f"a login as {login.user}"),
        *judge(contract, server, consumers, site, wanted["min_version"]),
        judge_clock(contract, server.clock_skew, min(5, skew), skew),
    ]


def look_at_the_rules(
    contract: Contract, consumers: Iterable[Consumer], server: Server, knock: Knock
) -> list[Finding]:
    """Whom the server's rules will turn away once its role is made.

    The rules are looked at before the role is, so they can be asked before there is one.
    """
    there = {role.name for role in server.roles}
    findings = []
    for consumer in consumers:
        if consumer.owner in there or server.pooled:
            continue
        login = Login(consumer.owner, consumer.password, consumer.databases[0])
        refusal = knock(login)
        if _by_rule(refusal):
            refused = Refused(refusal.said, refusal=refusal)
            findings.append(judge_login(contract, login, refused, OF_CONSUMER))
    return findings


def _by_rule(refusal: Refusal) -> bool:
    by_name = refusal.sqlstate == NOT_AUTHORISED and refusal.routine == "ClientAuthentication"
    by_certificate = refusal.certificate and not refusal.method
    return bool(by_name or (by_certificate and refusal.routine == "auth_failed")) or (
        refusal.outcome == "certificate"
    )


def look_as_consumers(
    contract: Contract, consumers: Iterable[Consumer], connect: Connect
) -> list[Finding]:
    """Whether each owner can work in each of its databases."""
    return [
        _look_as_consumer(contract, consumer, database, connect)
        for consumer in consumers
        for database in consumer.databases
    ]


def _look_as_consumer(
    contract: Contract, consumer: Consumer, database: str, connect: Connect
) -> Finding:
    login = Login(consumer.owner, consumer.password, database)
    try:
        with connect(login) as reader:
            rows = reader.query(ROUND_TRIP, ())
    except Refused as error:
        return judge_login(contract, login, error, OF_CONSUMER)
    text = f"a login as {consumer.owner} to database {database} that may create tables"
    if rows and rows[0][1] and rows[0][2]:
        return contract.passed("login", f"logged in as {consumer.owner}", text)
    return contract.failed(
        "login",
        f"{consumer.owner} may not create tables in {database}",
        text,
        f"make {consumer.owner} the owner of {database} again",
    )


def read_server(
    query: Query,
    consumers: tuple[Consumer, ...],
    clock: Callable[[], float],
    pooled: bool = False,
) -> Server:
    """Everything in five questions that any account may ask."""
    owners = [consumer.owner for consumer in consumers]
    names = [name for consumer in consumers for name in consumer.databases]
    before = clock()
    basics = query(_BASICS, ())[0]
    now = (before + clock()) / 2
    number, createrole = int(basics[0]), bool(basics[9])
    old = number < _FIRST_WITH_GRANTED_ADMIN
    account = Account(
        name=str(basics[6]),
        superuser=bool(basics[7]),
        createdb=bool(basics[8]),
        createrole=createrole,
        may_grant_monitoring=bool(basics[10]) or (old and createrole),
        login="" if basics[14] == basics[6] else str(basics[14]),
    )
    roles = tuple(
        RoleSeen(
            name=str(name),
            comment=str(comment),
            connection_limit=int(limit),
            login=bool(login),
            monitoring=bool(monitoring),
            administered=bool(administered) or (old and createrole),
            lent=bool(lent) and not account.superuser,
            expired=bool(expired),
        )
        for name, comment, limit, login, monitoring, administered, lent, expired in query(
            _ROLES, (old, owners)
        )
    )
    return Server(
        version_number=number,
        version=str(basics[1]).split(" ", maxsplit=1)[0],
        account=account,
        connections=Connections(
            maximum=int(basics[4]),
            reserved=int(basics[5]),
            used_by_others=int(query(_IN_USE, (owners,))[0][0]),
        ),
        encoding=str(basics[11]),
        locale=str(basics[12]),
        standby=bool(basics[2]),
        read_only=bool(basics[3]),
        clock_skew=float(basics[13]) - now,
        pooled=pooled,
        roles=roles,
        databases=tuple(
            DatabaseSeen(str(name), str(owner), str(comment), bool(public), bool(open_))
            for name, owner, comment, public, open_ in query(_DATABASES, (names,))
        ),
        uses=tuple(Use(str(role), str(database)) for role, database in query(_USES, ())),
    )

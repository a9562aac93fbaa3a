# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look through a MariaDB or MySQL server, over logins that are handed in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Callable

from ..._findings.finding import Finding
from ..._findings.sentence import listing
from ..contract import Contract
from ..endpoint import judge_clock
from ..marks import START, Site
from .judge import escaped, judge
from .login import Login, Refused, Whose, judge_login
from .owned import Holds, accounts_of
from .server import (
    MARKS,
    RIGHTS,
    Account,
    AccountSeen,
    Consumer,
    DatabaseSeen,
    Grant,
    Server,
    Thing,
)
from .strangers import conflicts_of

Query = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]


@dataclass(frozen=True)
class Reader:
    """A login for questions; ``proxied`` if a proxy stands between."""

    query: Query
    proxied: bool = False


Connect = Callable[[Login], AbstractContextManager[Reader]]
"""Logs in for reading; may raise ``Refused``, as may every question."""

_SETTINGS = (
    "innodb_buffer_pool_size",
    "innodb_log_file_size",
    "innodb_redo_log_capacity",
    "innodb_lock_wait_timeout",
    "innodb_snapshot_isolation",
    "innodb_read_only",
    "max_allowed_packet",
    "max_connections",
    "lower_case_table_names",
    "read_only",
    "super_read_only",
    "strict_password_validation",
    "wsrep_on",
    "datadir",
)
_STATUS = ("Threads_connected", "wsrep_ready", "wsrep_cluster_status")

_WHO = "SELECT CURRENT_USER(), VERSION(), UNIX_TIMESTAMP(), @@version_comment"
_VARIABLES = "SHOW GLOBAL VARIABLES WHERE Variable_name IN %s"
_STATE = "SHOW GLOBAL STATUS WHERE Variable_name IN %s"
_ROLES = "SELECT ROLE_NAME FROM information_schema.ENABLED_ROLES WHERE ROLE_NAME IS NOT NULL"
_ON_SERVER = """
SELECT GRANTEE, '*', PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.USER_PRIVILEGES
 WHERE GRANTEE IN %s
"""
_ON_DATABASES = """
SELECT GRANTEE, TABLE_SCHEMA, PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.SCHEMA_PRIVILEGES
 WHERE GRANTEE IN %s
"""
_ON_TABLES = """
SELECT DISTINCT GRANTEE, TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLE_PRIVILEGES
 WHERE GRANTEE IN %s OR TABLE_SCHEMA IN %s
UNION
SELECT DISTINCT GRANTEE, TABLE_SCHEMA, TABLE_NAME FROM information_schema.COLUMN_PRIVILEGES
 WHERE GRANTEE IN %s OR TABLE_SCHEMA IN %s
"""
_ON_ROUTINES = "SELECT User, Host, Db, Routine_name FROM mysql.procs_priv"
_GUESTS = """
SELECT DISTINCT GRANTEE, TABLE_SCHEMA FROM information_schema.SCHEMA_PRIVILEGES
 WHERE TABLE_SCHEMA IN %s AND IS_GRANTABLE = 'NO'
"""
_MEMBERS_OF_MARIADB = "SELECT User, Host, Role FROM mysql.roles_mapping WHERE User <> ''"
_MEMBERS_OF_MYSQL = "SELECT TO_USER, TO_HOST, FROM_USER FROM mysql.role_edges"
_ACCOUNTS_OF_MARIADB = (
    "SELECT User, Host, Priv FROM mysql.global_priv WHERE User = '' OR User IN %s"
)
_ACCOUNTS_OF_MYSQL = """
SELECT User, Host, plugin, authentication_string, ssl_type, max_user_connections, account_locked
  FROM mysql.user WHERE User = '' OR User IN %s
"""
_MARKED = f"""
SELECT TABLE_SCHEMA, TABLE_COMMENT FROM information_schema.TABLES
 WHERE TABLE_NAME = '{MARKS}' AND TABLE_COMMENT LIKE '{START}%%'
"""  # noqa: S608
_DATABASES = (
    "SELECT SCHEMA_NAME, {comment} FROM information_schema.SCHEMATA WHERE SCHEMA_NAME IN %s"
)
_THINGS = """
SELECT TABLE_SCHEMA, IF(TABLE_TYPE = 'BASE TABLE', 'table', 'view'), TABLE_NAME, ''
  FROM information_schema.TABLES WHERE TABLE_SCHEMA IN %s AND TABLE_TYPE <> 'VIEW'
UNION ALL SELECT TABLE_SCHEMA, 'view', TABLE_NAME, DEFINER
  FROM information_schema.VIEWS WHERE TABLE_SCHEMA IN %s
UNION ALL SELECT ROUTINE_SCHEMA, LOWER(ROUTINE_TYPE), ROUTINE_NAME, DEFINER
  FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA IN %s
UNION ALL SELECT TRIGGER_SCHEMA, 'trigger', TRIGGER_NAME, DEFINER
  FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA IN %s
UNION ALL SELECT EVENT_SCHEMA, 'event', EVENT_NAME, DEFINER
  FROM information_schema.EVENTS WHERE EVENT_SCHEMA IN %s
"""
_MADE = "SELECT account, password_sum FROM {database}.`mlops_onprem`"
_REFERENCES = """
SELECT DISTINCT REFERENCED_TABLE_SCHEMA, CONCAT(TABLE_SCHEMA, '.', TABLE_NAME)
  FROM information_schema.KEY_COLUMN_USAGE
 WHERE REFERENCED_TABLE_SCHEMA IN %s AND TABLE_SCHEMA <> REFERENCED_TABLE_SCHEMA
"""
_PLUGINS = """
SELECT PLUGIN_NAME, PLUGIN_TYPE FROM information_schema.PLUGINS
 WHERE PLUGIN_STATUS = 'ACTIVE'
   AND (PLUGIN_NAME = 'DISKS' OR PLUGIN_TYPE = 'PASSWORD VALIDATION')
"""
_DISKS = "SELECT Path, Available FROM information_schema.DISKS"
OF_CONSUMER = Whose("its password in accounting_db_databases", "the account")
_NOTHING = ("",)


def whose_account(contract: Contract) -> Whose:
    """How the settings of the account are called."""
    return Whose(contract.variable("admin_password"), contract.variable("admin_user"))


def look_as_account(
    contract: Contract,
    login: Login,
    consumers: tuple[Consumer, ...],
    site: Site,
    max_clock_skew: float,
    connect: Connect,
    holds: Holds,
    clock: Callable[[], float],
) -> tuple[Server | None, list[Finding]]:
    """Whether the account can make or keep the databases of the consumers."""
    whose = whose_account(contract)
    try:
        with connect(login) as reader:
            server = read_server(reader.query, consumers, site, clock, reader.proxied)
    except Refused as error:
        return None, [judge_login(contract, login, error, whose)]
    ours = accounts_of(server, consumers, site, holds)
    conflicts = conflicts_of(contract, server, consumers, site, ours)
    return server, [
        contract.passed("login", f"logged in as {login.user}", f"a login as {login.user}"),
        *judge(contract, server, consumers, conflicts),
        judge_clock(contract, server.clock_skew, min(5, max_clock_skew), max_clock_skew),
    ]


def look_as_consumers(
    contract: Contract, consumers: Iterable[Consumer], connect: Connect
) -> list[Finding]:
    """Whether each owner can work in its database."""
    return [_look_as_consumer(contract, consumer, connect) for consumer in consumers]


def _look_as_consumer(contract: Contract, consumer: Consumer, connect: Connect) -> Finding:
    login = Login(consumer.owner, consumer.password, consumer.database)
    wanted = f"a login as {consumer.owner} to database {consumer.database} with every right there"
    try:
        with connect(login) as reader:
            account = _account(reader.query)
    except Refused as error:
        if consumer.account_host != "%" and not _from_here(error):
            found = f"{consumer.account} may only log in from there, so it was not tried from here"
            return contract.passed("login", found, wanted)
        return judge_login(contract, login, error, OF_CONSUMER)
    lacking = [right for right in RIGHTS if account.lacks(frozenset({right}), consumer.database)]
    if not lacking:
        return contract.passed("login", f"logged in as {consumer.owner}", wanted)
    return contract.failed(
        "login",
        f"{consumer.owner} lacks {listing(lacking)} on {consumer.database}",
        wanted,
        f"ask for: GRANT {', '.join(lacking)} ON {escaped(consumer.database)}.* TO {account.name}",
    )


def _from_here(error: Refused) -> bool:
    """Whether the answer is about more than where the login came from."""
    return error.refusal.code not in (1045, 1130, 1698)


def read_server(
    query: Query,
    consumers: tuple[Consumer, ...],
    site: Site,
    clock: Callable[[], float],
    proxied: bool = False,
    removing: bool = False,
) -> Server:
    """Everything that is asked of a server; ``removing`` also looks who depends on a database."""
    before = clock()
    who = query(_WHO, ())[0]
    now = (before + clock()) / 2
    mariadb = "MariaDB" in str(who[1])
    account = _account(query)
    settings = {str(name): str(value) for name, value in query(_VARIABLES, (_SETTINGS,))}
    settings |= {str(name): str(value) for name, value in query(_STATE, (_STATUS,))}
    plugins = {str(name): str(kind) for name, kind in query(_PLUGINS, ())}
    strict = settings.get("strict_password_validation", "OFF").upper() not in ("OFF", "0")
    databases = (
        _databases(query, consumers, site, mariadb, removing) if account.sees_accounts else ()
    )
    users = {one.owner for one in consumers}
    users |= {name.rpartition("@")[0] for seen in databases for name in seen.accounts}
    return Server(
        version=str(who[1]),
        mariadb=mariadb,
        account=account,
        settings=settings,
        # UNIX_TIMESTAMP knows whole seconds, cut off.
        clock_skew=float(who[2]) + 0.5 - now,
        room_mib=_room(query, settings.get("datadir", "/")) if "DISKS" in plugins else None,
        accounts=_accounts(query, sorted(users), mariadb) if account.sees_accounts else (),
        databases=databases,
        proxied=proxied or any(name in str(who[3]) for name in ("ProxySQL", "MaxScale")),
        checks_passwords=mariadb and strict and "PASSWORD VALIDATION" in plugins.values(),
    )


def _account(query: Query) -> Account:
    """Who is logged in, with the rights of the account and of the roles that it acts in."""
    name = str(query("SELECT CURRENT_USER()", ())[0][0])
    try:
        roles = [str(row[0]) for row in query(_ROLES, ())]
    except Refused:  # MySQL before 8.0.19 has no such table
        roles = []
    grantees = (grantee(name), *(form for role in roles for form in _forms_of_role(role)))
    found = _grants(query, grantees)
    held = Account(name, tuple(one for grants in found.values() for one in grants))
    sees = not held.lacks(frozenset({"SELECT"}), "mysql")
    return Account(held.name, held.grants, sees)


def grantee(account: str) -> str:
    """An account as information_schema writes it."""
    user, _at, host = account.rpartition("@")
    return f"'{user}'@'{host}'"


def _forms_of_role(role: str) -> tuple[str, ...]:
    return (f"'{role}'@''", f"'{role}'", f"'{role}'@'%'", role)


def account_named(written: str) -> str:
    """The account that information_schema writes this way."""
    user, _at, host = written.rpartition("@")
    return f"{user[1:-1]}@{host[1:-1]}" if user else written.strip("'")


def _grants(query: Query, grantees: Sequence[str]) -> dict[str, tuple[Grant, ...]]:
    rows = [*query(_ON_SERVER, (grantees,)), *query(_ON_DATABASES, (grantees,))]
    found: dict[tuple[str, str, bool], set[str]] = {}
    for who, scope, privilege, grantable in rows:
        key = (str(who), str(scope), str(grantable).upper() == "YES")
        found.setdefault(key, set()).add(str(privilege).upper())
    by: dict[str, tuple[Grant, ...]] = {}
    for (who, scope, may_lend), privileges in sorted(found.items()):
        grant = Grant(scope, frozenset(privileges), may_lend)
        by[account_named(who)] = (*by.get(account_named(who), ()), grant)
    return by


def _accounts(query: Query, users: Sequence[str], mariadb: bool) -> tuple[AccountSeen, ...]:
    of_kind = _accounts_of_mariadb if mariadb else _accounts_of_mysql
    basic = of_kind(query, tuple(users) or _NOTHING)
    named = [one for one in basic if one.user]
    names = tuple(grantee(one.name) for one in named) or _NOTHING
    grants = _grants(query, names)
    elsewhere = _elsewhere(query, names, mariadb)
    return tuple(
        AccountSeen(
            one.user,
            one.host,
            one.plugin,
            one.stored,
            one.encrypted,
            one.connection_limit,
            one.locked,
            grants.get(one.name, ()),
            tuple(elsewhere.get(one.name, ())),
        )
        for one in basic
    )


def _accounts_of_mariadb(query: Query, users: Sequence[str]) -> list[AccountSeen]:
    found = []
    for user, host, text in query(_ACCOUNTS_OF_MARIADB, (users,)):
        held = json.loads(str(text) or "{}")
        if held.get("is_role"):
            continue
        found.append(
            AccountSeen(
                str(user),
                str(host),
                plugin=str(held.get("plugin", "")),
                stored=str(held.get("authentication_string", "")),
                encrypted=int(held.get("ssl_type", 0)) > 0,
                connection_limit=int(held.get("max_user_connections", 0)),
                locked=bool(held.get("account_locked", False)),
            )
        )
    return found


def _accounts_of_mysql(query: Query, users: Sequence[str]) -> list[AccountSeen]:
    return [
        AccountSeen(
            str(user),
            str(host),
            plugin=str(plugin),
            stored=str(stored),
            encrypted=bool(str(ssl_type)),
            connection_limit=int(limit),
            locked=str(locked).upper() == "Y",
        )
        for user, host, plugin, stored, ssl_type, limit, locked in query(
            _ACCOUNTS_OF_MYSQL, (users,)
        )
    ]


def _elsewhere(query: Query, names: Sequence[str], mariadb: bool) -> dict[str, list[str]]:
    """Words for rights of accounts on tables, routines and roles."""
    found: dict[str, list[str]] = {}
    for who, database, table in query(_ON_TABLES, (names, _NOTHING, names, _NOTHING)):
        found.setdefault(account_named(str(who)), []).append(f"rights on {database}.{table}")
    members = _MEMBERS_OF_MARIADB if mariadb else _MEMBERS_OF_MYSQL
    for user, host, role in query(members, ()):
        found.setdefault(f"{user}@{host}", []).append(f"the role {role}")
    return found


def _databases(
    query: Query, consumers: tuple[Consumer, ...], site: Site, mariadb: bool, removing: bool
) -> tuple[DatabaseSeen, ...]:
    marks = {str(name): str(comment) for name, comment in query(_MARKED, ())}
    names = tuple(sorted({*marks, *(one.database for one in consumers)})) or _NOTHING
    comment = "SCHEMA_COMMENT" if mariadb else "''"
    rows = query(_DATABASES.format(comment=comment), (names,))
    things: dict[str, list[Thing]] = {}
    for database, kind, name, definer in query(_THINGS, (names,) * 5):
        things.setdefault(str(database), []).append(Thing(str(kind), str(name), str(definer)))
    guests = _guests(query, names)
    references: dict[str, list[str]] = {}
    for database, table in query(_REFERENCES, (names,)) if removing else ():
        references.setdefault(str(database), []).append(str(table))
    found = []
    for row in rows:
        name = str(row[0])
        mark = marks.get(name, "")
        made = query(_MADE.format(database=quoted(name)), ()) if site.proves(name, mark) else []
        found.append(
            DatabaseSeen(
                name,
                comment=str(row[1]),
                mark=mark,
                accounts={str(account): str(stored) for account, stored in made},
                things=tuple(things.get(name, ())),
                guests=tuple(sorted(guests.get(name, ()))),
                referenced_by=tuple(references.get(name, ())),
            )
        )
    return tuple(found)


def _guests(query: Query, names: Sequence[str]) -> dict[str, set[str]]:
    """Accounts with rights on these very databases, or on something in them.

    Who may lend its rights looks after a database, and does not use it.
    """
    written = {name.replace("_", "\\_"): name for name in names} | {name: name for name in names}
    found: dict[str, set[str]] = {}
    for who, scope in query(_GUESTS, (tuple(written),)):
        found.setdefault(written[str(scope)], set()).add(account_named(str(who)))
    for who, database, _table in query(_ON_TABLES, (_NOTHING, names, _NOTHING, names)):
        found.setdefault(str(database), set()).add(account_named(str(who)))
    for user, host, database, _routine in query(_ON_ROUTINES, ()):
        if str(database) in names:
            found.setdefault(str(database), set()).add(f"{user}@{host}")
    return found


def quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _room(query: Query, directory: str) -> int | None:
    """Free room where the server keeps its data, in MiB; None where it does not say."""
    try:
        rows = [(str(path), int(free)) for path, free in query(_DISKS, ())]
    except (Refused, ValueError):
        return None
    around = [row for row in rows if directory.startswith(row[0])]
    return max(around, key=lambda row: len(row[0]))[1] // 1024 if around else None

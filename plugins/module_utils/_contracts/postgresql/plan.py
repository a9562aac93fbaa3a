# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do at a PostgreSQL server: steps that touch only what the site made.

Ownership is told by comments on the server itself. A role is created in one transaction with its
comment; a database is created with such a role as its owner in one statement. So whatever moment
a run is killed at, everything made by the site can be told from everything that is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from ..._findings.sentence import count, listing
from ..contract import Contract
from .judge import Consumer, DatabaseError, RoleSeen, Server, conflicts_of, mark


@dataclass(frozen=True)
class Step:
    """One change: its text for people, and statements that belong into one transaction if atomic.

    ``quiet`` steps are means to another step and no change by themselves.
    """

    text: str
    statements: tuple[str, ...]
    atomic: bool = True
    quiet: bool = False

    def __repr__(self) -> str:
        return f"Step({self.text!r})"


PasswordHolds = Callable[[Consumer], bool]
MakeVerifier = Callable[[str], str]


def plan_present(
    contract: Contract,
    server: Server,
    consumers: tuple[Consumer, ...],
    site: str,
    password_holds: PasswordHolds,
    make_verifier: MakeVerifier,
) -> tuple[Step, ...]:
    """Steps from what is there to what is wanted. Raises DatabaseError when a name is taken."""
    conflicts = conflicts_of(contract, server, consumers, site)
    if conflicts:
        raise DatabaseError(" ".join(finding.sentence for finding in conflicts))
    roles: list[Step] = []
    databases: list[Step] = []
    acting: list[str] = []
    lent: list[str] = []
    for consumer in consumers:
        role = server.role(consumer.owner)
        roles += _role_steps(server, consumer, role, site, password_holds, make_verifier)
        steps = _database_steps(server, consumer, site)
        databases += steps
        if steps:
            acting.append(consumer.owner)
        if role and role.lent:
            lent.append(consumer.owner)
    return (
        *roles,
        *_acting(server, acting),
        *databases,
        *_giving_back(server, acting, lent),
    )


def plan_absent(server: Server, site: str, wanted: tuple[str, ...]) -> tuple[Step, ...]:
    """Drop what carries this site's mark, and the databases in ``wanted`` that its roles own."""
    ours = mark(site)
    roles = [role.name for role in server.roles if role.comment == ours]
    owned = [seen for seen in server.databases if seen.owner in roles]
    drop = [seen for seen in owned if seen.comment == ours or seen.name in wanted]
    left = [seen for seen in owned if seen not in drop]
    if left:
        raise DatabaseError(
            f"Database {left[0].name} is owned by {left[0].owner}, but was not made by site "
            f"{site}: give it to another role first, with "
            f"ALTER DATABASE {quote(left[0].name)} OWNER TO."
        )
    return (
        *(_acting(server, roles) if drop else ()),
        *(
            Step(
                f"drop database {seen.name}",
                (f"DROP DATABASE IF EXISTS {quote(seen.name)} WITH (FORCE)",),
                atomic=False,
            )
            for seen in drop
        ),
        *(Step(f"drop role {name}", (f"DROP ROLE IF EXISTS {quote(name)}",)) for name in roles),
    )


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    escaped = text.replace("'", "''")
    return f" E'{escaped}'".replace("\\", "\\\\") if "\\" in text else f"'{escaped}'"


def _role_steps(
    server: Server,
    consumer: Consumer,
    role: RoleSeen | None,
    site: str,
    password_holds: PasswordHolds,
    make_verifier: MakeVerifier,
) -> list[Step]:
    name = quote(consumer.owner)
    limit = consumer.connection_limit
    steps = []
    if role is None:
        secret = literal(make_verifier(consumer.password))
        steps.append(
            Step(
                f"create role {consumer.owner} (at most {count(limit, 'connection')})",
                (
                    f"CREATE ROLE {name} LOGIN CONNECTION LIMIT {limit} PASSWORD {secret}",
                    f"COMMENT ON ROLE {name} IS {literal(mark(site))}",
                ),
            )
        )
    else:
        if role.connection_limit != limit:
            steps.append(
                Step(
                    f"change connection limit of {consumer.owner} "
                    f"from {role.connection_limit} to {limit}",
                    (f"ALTER ROLE {name} CONNECTION LIMIT {limit}",),
                )
            )
        if not role.login:
            steps.append(Step(f"let {consumer.owner} log in", (f"ALTER ROLE {name} LOGIN",)))
        if not role.login or not password_holds(consumer):
            secret = literal(make_verifier(consumer.password))
            steps.append(
                Step(
                    f"set password of {consumer.owner}",
                    (f"ALTER ROLE {name} PASSWORD {secret}",),
                )
            )
    account = server.account
    if (
        consumer.monitoring
        and not (role and role.monitoring)
        and (account.superuser or account.may_grant_monitoring)
    ):
        steps.append(
            Step(f"grant pg_monitor to {consumer.owner}", (f"GRANT pg_monitor TO {name}",))
        )
    return steps


def _database_steps(server: Server, consumer: Consumer, site: str) -> list[Step]:
    steps = []
    owner = quote(consumer.owner)
    for database in consumer.databases:
        seen = server.database(database)
        name = quote(database)
        if seen is None:
            locale = "" if server.encoding == "UTF8" else " LC_COLLATE 'C' LC_CTYPE 'C'"
            steps.append(
                Step(
                    f"create database {database} owned by {consumer.owner}",
                    (
                        f"CREATE DATABASE {name} OWNER {owner} "
                        f"TEMPLATE template0 ENCODING 'UTF8'{locale}",
                    ),
                    atomic=False,
                )
            )
        if seen is None or seen.comment != mark(site):
            steps.append(
                Step(
                    f"mark database {database} as made by this site",
                    (f"COMMENT ON DATABASE {name} IS {literal(mark(site))}",),
                )
            )
        if seen is None or seen.public_connect:
            steps.append(
                Step(
                    f"close database {database} to other roles",
                    (
                        f"SET LOCAL ROLE {owner}",
                        f"REVOKE ALL ON DATABASE {name} FROM PUBLIC",
                    ),
                )
            )
    return steps


def _acting(server: Server, roles: list[str]) -> tuple[Step, ...]:
    """Let a DBA without superuser rights act as the owners, for as long as it is needed."""
    if server.account.superuser or not roles:
        return ()
    how = " WITH INHERIT TRUE, SET TRUE" if server.major >= 16 else ""
    owners = ", ".join(map(quote, roles))
    return (
        Step(
            f"act as {listing(roles)}",
            (f"GRANT {owners} TO CURRENT_USER{how}",),
            quiet=True,
        ),
    )


def _giving_back(server: Server, acting: list[str], lent: list[str]) -> tuple[Step, ...]:
    if server.account.superuser:
        return ()
    back = sorted({*acting, *lent})
    if not back:
        return ()
    owners = ", ".join(map(quote, back))
    return (
        Step(
            f"end acting as {listing(back)}",
            (f"REVOKE {owners} FROM CURRENT_USER",),
            quiet=bool(acting),
        ),
    )

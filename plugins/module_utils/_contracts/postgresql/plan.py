# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do at a PostgreSQL server: steps that touch only what the site made.

Ownership is told by comments on the server itself, see ``marks``. A role is created in one
transaction with its comment; a database is created closed, with such a role as its owner, and is
opened in one transaction with its comment. So whatever moment a run is killed at, everything made
by the site can be told from everything that is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from ..._findings.sentence import count, listing
from ..contract import Contract
from ..marks import Site
from .judge import (
    Consumer,
    DatabaseError,
    DatabaseSeen,
    RoleSeen,
    Server,
    conflicts_of,
    marked,
    marking,
    of_another_account,
)


@dataclass(frozen=True)
class Step:
    """One change: its text for people, and statements that belong into one transaction if atomic.

    ``quiet`` steps are means to another step and no change by themselves. ``undo`` is what a run
    that fails later has to take back, each statement by itself.
    """

    text: str
    statements: tuple[str, ...]
    atomic: bool = True
    quiet: bool = False
    undo: tuple[str, ...] = ()
    drops: str = ""
    """The database that is dropped."""

    def __repr__(self) -> str:
        return f"Step({self.text!r})"


PasswordHolds = Callable[[Consumer], bool]
MakeVerifier = Callable[[str], str]


def plan_present(
    contract: Contract,
    server: Server,
    consumers: tuple[Consumer, ...],
    site: Site,
    password_holds: PasswordHolds,
    make_verifier: MakeVerifier,
) -> tuple[Step, ...]:
    """Steps from what is there to what is wanted. Raises DatabaseError when a name is taken."""
    conflicts = conflicts_of(contract, server, consumers, site)
    stranger = of_another_account(contract, server, site)
    if conflicts or stranger:
        found = [*conflicts, *([stranger] if stranger else [])]
        raise DatabaseError(" ".join(finding.sentence for finding in found))
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


def plan_absent(
    contract: Contract,
    server: Server,
    consumers: tuple[Consumer, ...],
    site: Site,
    password_holds: PasswordHolds,
) -> tuple[Step, ...]:
    """Drop what bears this site's mark, and nothing that only bears its name.

    Raises:
        DatabaseError: Something of the site's roles is not the site's, or the account may not.
    """
    roles = roles_to_drop(server, consumers, site)
    _prove(server, consumers, roles, site, password_holds)
    owned = [seen for seen in server.databases if seen.owner in roles]
    wanted = {name for consumer in consumers for name in consumer.databases}
    drop = [
        seen
        for seen in owned
        if marked(server, seen, site) or (seen.unfinished and seen.name in wanted)
    ]
    _refuse_to_drop(contract, server, site, roles, [seen for seen in owned if seen not in drop])
    _refuse_if_used(server, roles, [seen.name for seen in drop])
    return (
        *(_acting(server, roles) if drop else ()),
        *(
            Step(
                f"drop database {seen.name}",
                (f"DROP DATABASE IF EXISTS {quote(seen.name)} WITH (FORCE)",),
                atomic=False,
                drops=seen.name,
            )
            for seen in drop
        ),
        *(Step(f"drop role {name}", (f"DROP ROLE IF EXISTS {quote(name)}",)) for name in roles),
    )


def roles_to_drop(server: Server, consumers: tuple[Consumer, ...], site: Site) -> list[str]:
    """The site's roles. Where only a name says so, it must also be one that the site uses."""
    used = {consumer.owner for consumer in consumers}
    used |= {seen.owner for seen in server.databases if site.owns(seen.name, seen.comment)}
    return [
        role.name
        for role in server.roles
        if site.owns(role.name, role.comment)
        and (site.proves(role.name, role.comment) or role.name in used)
    ]


def left_alone(server: Server, consumers: tuple[Consumer, ...], site: Site) -> list[str]:
    """Sentences about what speaks of this site and is not taken for its own."""
    roles = roles_to_drop(server, consumers, site)
    return [
        *(
            f"role {role.name} is left as it is: it {site.whose(role.comment)}"
            for role in server.roles
            if site.concerns(role.comment) and role.name not in roles
        ),
        *(
            f"database {seen.name} is left as it is: it is owned by {seen.owner}, and its comment "
            "speaks of this site"
            for seen in server.databases
            if site.concerns(seen.comment) and seen.owner not in roles
        ),
    ]


def _prove(
    server: Server,
    consumers: tuple[Consumer, ...],
    roles: list[str],
    site: Site,
    password_holds: PasswordHolds,
) -> None:
    """A name is no proof: who made a role that bears only the name knows its password."""
    for consumer in consumers:
        role = server.role(consumer.owner)
        only_named = role and role.name in roles and not site.proves(role.name, role.comment)
        if role and only_named and not password_holds(consumer):
            raise DatabaseError(not_known(site, role.name))


def not_known(site: Site, role: str) -> str:
    """A role that bears the name of the site, whose password is another."""
    return (
        f"Role {role} bears the name of site {site.name}, but not its password: another site of "
        "this name may have made it. Restore the secrets of the site that did; if it is this one, "
        f"ask for: COMMENT ON ROLE {role} IS '{site.mark(role)}'"
        + ("." if site.identity else ", with metadata_db_site_id set.")
    )


def _refuse_to_drop(
    contract: Contract, server: Server, site: Site, roles: list[str], left: list[DatabaseSeen]
) -> None:
    if left:
        name = left[0].name
        raise DatabaseError(
            f"Database {name} is owned by {left[0].owner}, but was not made by site {site.name}, "
            f"or has lost its mark: give it to another role first, with "
            f"ALTER DATABASE {quote(name)} OWNER TO, or, if it is to go too, {marking(site, name)}."
        )
    stranger = of_another_account(contract, server, site)
    if roles and stranger:
        raise DatabaseError(stranger.sentence)


def _refuse_if_used(server: Server, roles: list[str], dropped: list[str]) -> None:
    """A role that something elsewhere depends on cannot go; known before anything is dropped."""
    for use in server.uses:
        if use.role in roles and use.database not in dropped:
            raise DatabaseError(
                f"Role {use.role} owns something in database {use.database}, or has rights there, "
                f"and cannot be dropped: run there REASSIGN OWNED BY {quote(use.role)} TO another "
                f"role and DROP OWNED BY {quote(use.role)} first."
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
    site: Site,
    password_holds: PasswordHolds,
    make_verifier: MakeVerifier,
) -> list[Step]:
    if role is None:
        steps = [_create_role(server, consumer, site, make_verifier)]
    else:
        steps = _mend_role(consumer, role, site, password_holds, make_verifier)
    account = server.account
    if (
        consumer.monitoring
        and not (role and role.monitoring)
        and (account.superuser or account.may_grant_monitoring)
    ):
        name = quote(consumer.owner)
        steps.append(
            Step(f"grant pg_monitor to {consumer.owner}", (f"GRANT pg_monitor TO {name}",))
        )
    return steps


def _create_role(
    server: Server, consumer: Consumer, site: Site, make_verifier: MakeVerifier
) -> Step:
    name, limit = quote(consumer.owner), consumer.connection_limit
    secret = literal(make_verifier(consumer.password))
    lend_nothing = ("SET LOCAL createrole_self_grant = ''",) if server.major >= 16 else ()
    return Step(
        f"create role {consumer.owner} (at most {count(limit, 'connection')})",
        (
            *lend_nothing,
            f"CREATE ROLE {name} LOGIN CONNECTION LIMIT {limit} PASSWORD {secret}",
            f"COMMENT ON ROLE {name} IS {literal(site.mark(consumer.owner))}",
        ),
    )


def _mend_role(
    consumer: Consumer,
    role: RoleSeen,
    site: Site,
    password_holds: PasswordHolds,
    make_verifier: MakeVerifier,
) -> list[Step]:
    name, limit = quote(role.name), consumer.connection_limit
    held = role.login and not role.expired and password_holds(consumer)
    if not held and role.login and not role.expired and not site.proves(role.name, role.comment):
        raise DatabaseError(not_known(site, role.name))
    wanted = (
        (
            role.comment != site.mark(role.name),
            f"renew the mark of role {role.name}",
            f"COMMENT ON ROLE {name} IS {literal(site.mark(role.name))}",
        ),
        (
            role.connection_limit != limit,
            f"change connection limit of {role.name} from {role.connection_limit} to {limit}",
            f"ALTER ROLE {name} CONNECTION LIMIT {limit}",
        ),
        (not role.login, f"let {role.name} log in", f"ALTER ROLE {name} LOGIN"),
        (
            role.expired,
            f"let the password of {role.name} not expire",
            f"ALTER ROLE {name} VALID UNTIL 'infinity'",
        ),
    )
    steps = [Step(text, (statement,)) for needed, text, statement in wanted if needed]
    if not held:
        secret = literal(make_verifier(consumer.password))
        steps.append(
            Step(f"set password of {role.name}", (f"ALTER ROLE {name} PASSWORD {secret}",))
        )
    return steps


def _database_steps(server: Server, consumer: Consumer, site: Site) -> list[Step]:
    steps = []
    owner = quote(consumer.owner)
    for database in consumer.databases:
        seen = server.database(database)
        name = quote(database)
        mark = f"COMMENT ON DATABASE {name} IS {literal(site.mark(database))}"
        close = f"REVOKE ALL ON DATABASE {name} FROM PUBLIC"
        if seen is None:
            locale = "" if server.encoding == "UTF8" else " LC_COLLATE 'C' LC_CTYPE 'C'"
            steps.append(
                Step(
                    f"create database {database} owned by {consumer.owner}",
                    (
                        f"CREATE DATABASE {name} OWNER {owner} TEMPLATE template0 "
                        f"ENCODING 'UTF8'{locale} ALLOW_CONNECTIONS false",
                    ),
                    atomic=False,
                )
            )
        if seen is None or seen.unfinished:
            steps.append(
                Step(
                    f"mark database {database} as made by this site and open it to its owner only",
                    (
                        f"SET LOCAL ROLE {owner}",
                        mark,
                        close,
                        f"ALTER DATABASE {name} ALLOW_CONNECTIONS true",
                    ),
                )
            )
            continue
        if seen.comment != site.mark(database):
            steps.append(Step(f"renew the mark of database {database}", (mark,)))
        if seen.public_connect:
            steps.append(
                Step(
                    f"close database {database} to other roles",
                    (f"SET LOCAL ROLE {owner}", close),
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
            undo=tuple(f"REVOKE {quote(role)} FROM CURRENT_USER" for role in roles),
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

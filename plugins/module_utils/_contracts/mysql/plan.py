# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do at a MariaDB or MySQL server: steps that touch only what the site made.

Nothing here can be taken back together: every statement about databases and accounts stands by
itself. So they come in an order in which whatever a killed run leaves can be told from everything
else. A database is created with its mark as its comment (MariaDB) and gets the table of marks
next; an account has our random password from its first moment. They go the other way round: the
account first, and the database, which knows of the account, last.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..._findings.finding import FAIL
from ..._findings.sentence import count, listing
from ..contract import Contract
from ..marks import Site
from .judge import escaped, judge_rights
from .owned import Holds, accounts_of
from .password import native
from .read import quoted
from .server import MARKS, RIGHTS, AccountSeen, Consumer, DatabaseError, DatabaseSeen, Server
from .strangers import beyond, conflicts_of, strangers_in


@dataclass(frozen=True)
class Statement:
    """SQL with its values apart, so that no password stands in a sentence."""

    sql: str
    values: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Statement({self.sql!r})"


@dataclass(frozen=True)
class Step:
    """One change: its text for people, and what brings it about."""

    text: str
    statements: tuple[Statement, ...]
    drops: str = ""
    """The database that is dropped."""

    def __repr__(self) -> str:
        return f"Step({self.text!r})"


def plan_present(
    contract: Contract,
    server: Server,
    consumers: tuple[Consumer, ...],
    site: Site,
    holds: Holds,
) -> tuple[Step, ...]:
    """Steps from what is there to what is wanted. Raises DatabaseError when a name is taken."""
    rights = judge_rights(contract, server, consumers)
    if rights.severity == FAIL:
        raise DatabaseError(rights.sentence)
    ours = accounts_of(server, consumers, site, holds)
    conflicts = conflicts_of(contract, server, consumers, site, ours)
    if conflicts:
        raise DatabaseError(" ".join(finding.sentence for finding in conflicts))
    steps: list[Step] = []
    for consumer in consumers:
        seen = server.database(consumer.database)
        steps += _database(server, consumer, seen, site)
        account = server.seen_account(consumer)
        if account is None:
            steps.append(_create(server, consumer))
        else:
            steps += _mend(server, consumer, account, seen, holds)
        steps += _former(server, consumer, ours)
    return tuple(steps)


def _database(
    server: Server, consumer: Consumer, seen: DatabaseSeen | None, site: Site
) -> list[Step]:
    name = quoted(consumer.database)
    table = Statement(
        f"CREATE TABLE {name}.{quoted(MARKS)} (account VARCHAR(255) NOT NULL PRIMARY KEY, "
        "password_sum CHAR(64) NOT NULL) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin "
        "COMMENT=%s",
        (site.mark(consumer.database),),
    )
    if seen is None:
        # Slurm compares names as utf8mb4_general_ci does, whatever the server's own collation is.
        sql = f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"
        values: tuple[str, ...] = ()
        if server.mariadb:
            sql, values = f"{sql} COMMENT %s", (site.mark(consumer.database),)
        return [Step(f"create database {consumer.database}", (Statement(sql, values), table))]
    if not seen.mark:
        return [Step(f"mark database {consumer.database} as made by this site", (table,))]
    return []


def _create(server: Server, consumer: Consumer) -> Step:
    account = _account(consumer)
    return Step(
        f"create account {consumer.account} (over TLS only, at most "
        f"{count(consumer.connection_limit, 'connection')})",
        (
            Statement(
                f"CREATE USER {account} {_identified(server)} REQUIRE SSL "
                f"WITH MAX_USER_CONNECTIONS {consumer.connection_limit}",
                (_secret(server, consumer),),
            ),
            _remember(consumer),
            _grant(consumer),
        ),
    )


def _account(consumer: Consumer) -> str:
    # Both parts were looked at: letters, digits and a few signs, and no quote.
    return f"'{consumer.owner}'@'{consumer.account_host.replace('%', '%%')}'"


def _identified(server: Server) -> str:
    """The password hashed where the server takes it so: MySQL keeps it out of its own logs."""
    if not server.mariadb:
        return "IDENTIFIED BY %s"
    if server.checks_passwords:
        return "IDENTIFIED BY %s"
    return "IDENTIFIED VIA mysql_native_password USING %s"


def _secret(server: Server, consumer: Consumer) -> str:
    hashed = server.mariadb and not server.checks_passwords
    return native(consumer.password) if hashed else consumer.password


def _remember(consumer: Consumer) -> Statement:
    """Take down what the server keeps as the password, see ``owned``."""
    return Statement(
        f"REPLACE INTO {quoted(consumer.database)}.{quoted(MARKS)} (account, password_sum) "  # noqa: S608
        "SELECT CONCAT(User, '@', Host), SHA2(authentication_string, 256) FROM mysql.user "
        "WHERE User = %s AND Host = %s",
        (consumer.owner, consumer.account_host),
    )


def _grant(consumer: Consumer) -> Statement:
    return Statement(
        f"GRANT {', '.join(RIGHTS)} ON {escaped(consumer.database)}.* TO {_account(consumer)}"
    )


def _mend(
    server: Server,
    consumer: Consumer,
    seen: AccountSeen,
    database: DatabaseSeen | None,
    holds: Holds,
) -> list[Step]:
    name, account = consumer.account, _account(consumer)
    steps = []
    if not holds(consumer, seen):
        steps.append(
            Step(
                f"set password of {name}",
                (
                    Statement(
                        f"ALTER USER {account} {_identified(server)}", (_secret(server, consumer),)
                    ),
                    _remember(consumer),
                ),
            )
        )
    elif database is None or name not in database.accounts:
        steps.append(Step(f"take down who made {name}", (_remember(consumer),)))
    wanted = (
        (not seen.encrypted, f"let {name} log in over TLS only", "REQUIRE SSL"),
        (
            seen.connection_limit != consumer.connection_limit,
            f"change connection limit of {name} from {seen.connection_limit} to "
            f"{consumer.connection_limit}",
            f"WITH MAX_USER_CONNECTIONS {consumer.connection_limit}",
        ),
        (seen.locked, f"unlock {name}", "ACCOUNT UNLOCK"),
    )
    steps += [
        Step(text, (Statement(f"ALTER USER {account} {what}"),))
        for needed, text, what in wanted
        if needed
    ]
    held = frozenset(
        right
        for grant in seen.grants
        if grant.exact == consumer.database
        for right in grant.privileges
    )
    lacking = [right for right in RIGHTS if right not in held]
    if lacking:
        steps.append(
            Step(f"give {name} {listing(lacking)} on {consumer.database}", (_grant(consumer),))
        )
    return steps


def _former(server: Server, consumer: Consumer, ours: frozenset[str]) -> list[Step]:
    """Accounts that this site made for other hosts than it wants now."""
    return [
        _drop_account(account, consumer.database)
        for account in server.accounts
        if account.user == consumer.owner
        and account.host != consumer.account_host
        and account.name in ours
    ]


def _drop_account(account: AccountSeen, database: str) -> Step:
    host = account.host.replace("%", "%%")
    return Step(
        f"drop account {account.name}",
        (
            Statement(f"DROP USER IF EXISTS '{account.user}'@'{host}'"),
            Statement(
                f"DELETE FROM {quoted(database)}.{quoted(MARKS)} WHERE account = %s",  # noqa: S608
                (account.name,),
            ),
        ),
    )


def plan_absent(
    server: Server, consumers: tuple[Consumer, ...], site: Site, holds: Holds
) -> tuple[Step, ...]:
    """Drop what bears this site's mark, and nothing that only bears its name.

    Raises:
        DatabaseError: Somebody else has put something into a database of the site, or uses it, or
            one of its accounts, for more.
    """
    ours = accounts_of(server, consumers, site, holds)
    drop = [seen for seen in server.databases if seen.proves(site) or seen.unfinished(site)]
    wanted = {one.database: one for one in consumers}
    known = ours | {server.account.name}
    names = frozenset(seen.name for seen in drop)
    accounts = [account for account in server.accounts if account.name in ours]
    for seen in drop:
        strangers = strangers_in(seen, wanted.get(seen.name), known)
        if strangers:
            raise DatabaseError(
                f"Database {seen.name} was made by site {site.name}, but others have begun to use "
                f"it: {listing(strangers[:5])}{_and_more(strangers)}. Nothing is dropped. Move "
                "that away first, or leave accounting_db_keep at true."
            )
    for account in accounts:
        further = beyond(account, names)
        if further:
            raise DatabaseError(
                f"Account {account.name} was made by site {site.name}, but has got "
                f"{listing(further[:5])}{_and_more(further)}. Nothing is dropped. Take that from "
                "it first, or leave accounting_db_keep at true."
            )
    homes = {name: seen.name for seen in drop for name in seen.accounts}
    homes |= {one.account: one.database for one in consumers if one.database in names}
    return (
        *(
            _drop_account(account, homes[account.name])
            if account.name in homes
            else _drop_orphan(account)
            for account in accounts
        ),
        *(
            Step(
                f"drop database {seen.name}",
                (Statement(f"DROP DATABASE IF EXISTS {quoted(seen.name)}"),),
                drops=seen.name,
            )
            for seen in drop
        ),
    )


def _drop_orphan(account: AccountSeen) -> Step:
    return Step(f"drop account {account.name}", _drop_account(account, "").statements[:1])


def _and_more(found: list[str]) -> str:
    return f" and {len(found) - 5} more" if len(found) > 5 else ""


def left_alone(
    server: Server, consumers: tuple[Consumer, ...], site: Site, ours: frozenset[str]
) -> list[str]:
    """Sentences about what has a name of ours, or speaks of this site, and is left as it is."""
    wanted = {one.database for one in consumers}
    found = [
        f"database {seen.name} is left as it is: it "
        + (site.whose(seen.mark) if seen.mark else "was not made by this site")
        for seen in server.databases
        if not seen.proves(site)
        and not seen.unfinished(site)
        and (seen.name in wanted or site.concerns(seen.mark))
    ]
    owners = {one.owner for one in consumers}
    return found + [
        f"account {account.name} is left as it is: it was not made by this site"
        for account in server.accounts
        if account.user in owners and account.name not in ours
    ]

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is somebody else's: taken names, things in our databases, rights beyond them."""

from __future__ import annotations

from fnmatch import fnmatchcase

from ..._findings.finding import Finding
from ..contract import Contract
from ..marks import Site
from .server import MARKS, AccountSeen, Consumer, DatabaseSeen, Server, quoted_account

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
                        f"DROP USER {quoted_account(account.name)}, and run again",
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

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases and accounts, found by name: what the inventory says, else what the roles provide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .errors import SiteError
from .models import sampled
from .provides import ACCOUNTING_DB, METADATA_DB, Account, Database
from .site import Site

Entry = dict[str, Any]
BUNDLE_OF_HOSTS = "/etc/mlops/tls/ca.crt"
"""The authorities that a host trusts: the platform's, and those in ``trust_extra_ca_files``."""


def replaced(site: Site, role: str, name: str, computed: Iterable[Entry]) -> list[Entry]:
    """The list of a role: the bare variable replaces what was computed, ``extra`` is appended."""
    given = site.of(role, name)
    base = computed if given is None else given
    return [dict(entry) for entry in [*base, *(site.of(role, f"extra_{name}") or ())]]


def provided_databases(site: Site, server: str = METADATA_DB) -> list[Entry]:
    """The databases that the roles of the site need, their names with the prefix asked for."""
    prefix = _prefix(site, server)
    return [
        {
            "name": prefix + database.name,
            "owner": prefix + database.owner,
            "password": site.secret(database.secret),
            "connection_limit": database.connection_limit,
            **_of_kind(database, prefix),
        }
        for provides in site.provides.values()
        for database in provides.databases
        if database.server == server
    ]


def _of_kind(database: Database, prefix: str) -> Entry:
    """What the modules of one kind of server know, and those of the other do not."""
    if database.server == ACCOUNTING_DB:
        return {"tables": list(database.tables)}
    return {
        "extra_databases": [prefix + name for name in database.extra_databases],
        "monitoring": database.monitoring,
    }


def _prefix(site: Site, server: str) -> str:
    return str(site.of(server, "prefix") or "")


def databases(site: Site, server: str = METADATA_DB) -> list[Entry]:
    """Every database that is to exist."""
    return replaced(site, server, "databases", provided_databases(site, server))


def database_of(site: Site, database: Database, name: str) -> Entry:
    """What a role is told of one of its databases.

    Raises:
        SiteError: The inventory's list of databases lacks it.
    """
    server = database.server
    if site.of(server, "databases") is None:
        name = _prefix(site, server) + name
    for entry in databases(site, server):
        if name in (entry["name"], *entry.get("extra_databases", ())):
            return _told(site, database, entry, name)
    raise SiteError(
        f"{server}_databases names no database {name}; add it there, or leave the list out and "
        f"put further databases into {server}_extra_databases"
    )


def _told(site: Site, database: Database, entry: Entry, name: str) -> Entry:
    account = {"user": entry["owner"], "password": entry["password"]}
    if database.server == ACCOUNTING_DB:
        return {**site.accounting, "database": name, **account, "ca_file": BUNDLE_OF_HOSTS}
    shown = client_certificate(site, str(entry["owner"]))
    return {**site.database, "name": name, **account, **_limit(entry, database), **shown}


def client_certificate(site: Site, login: str) -> dict[str, str]:
    """What a role shows to an existing server: its own certificate, else the one for all."""
    if site.managed(METADATA_DB):
        return {}
    given = site.of(METADATA_DB, "client_certificates")
    entries = [one for one in given or () if isinstance(one, Mapping)]
    by_login = {str(one.get("login") or ""): one for one in entries}
    found = by_login.get(login) or by_login.get("")
    if not found:
        return {}
    return {
        "client_certificate_file": str(found.get("certificate_file") or ""),
        "client_key_file": str(found.get("key_file") or ""),
    }


def _limit(entry: Entry, database: Database) -> Entry:
    # Who only measures opens one connection and has no pool to size.
    limit = entry.get("connection_limit", database.connection_limit)
    return {} if database.monitoring else {"connection_limit": limit}


def provided_accounts(site: Site) -> list[Entry]:
    """The accounts that the roles of the site need, their buckets with the prefix asked for.

    An existing endpoint has one account for all.
    """
    prefix = _bucket_prefix(site)
    wanted = [
        account
        for provides in site.provides.values()
        for account in provides.accounts
        if _there(site, account)
    ]
    quotas = _quotas(site, wanted)
    return [
        {
            "name": account.name,
            **_keys(site, account),
            "buckets": [prefix + bucket for bucket in account.buckets],
            **({"quota_gib": quotas[account.name]} if account.name in quotas else {}),
        }
        for account in wanted
    ]


def _there(site: Site, account: Account) -> bool:
    """Whether the site has what the account is for."""
    if account.group and not site.groups.get(account.group):
        return False
    return not account.sampled or bool(sampled(site))


def _quotas(site: Site, wanted: list[Account]) -> dict[str, int]:
    """What each account may store, in GiB; an existing endpoint has its own ways.

    As the inventory says, and of samples of requests as much as is kept of them.
    """
    names = [account.name for account in wanted]
    told = site.of("object_store", "quotas") or {}
    if not isinstance(told, Mapping) or not all(
        not isinstance(gib, bool) and str(gib).isdigit() for gib in told.values()
    ):
        raise SiteError(
            f"found {told!r} in object_store_quotas, wanted GiB by account, such as "
            "{artifact_registry: 200}"
        )
    strange = sorted(set(told) - set(names))
    if strange:
        raise SiteError(
            f"object_store_quotas names {', '.join(map(str, strange))}; the accounts of this site "
            f"are {', '.join(names)}"
        )
    if not site.managed("object_store"):
        return {}
    most = sum(model.sample.most_mib for model in sampled(site) if model.sample)
    ours = {account.name: most // 1024 + 1 for account in wanted if account.sampled}
    return ours | {name: int(gib) for name, gib in told.items()}


def _bucket_prefix(site: Site) -> str:
    return str(site.of("object_store", "bucket_prefix") or "")


def _keys(site: Site, account: Account) -> Entry:
    if site.managed("object_store"):
        return {
            "access_key": site.secret(account.access_secret, kind="access_key", length=20),
            "secret_key": site.secret(account.secret_secret, length=40),
        }
    return {
        "access_key": _given_key(site, "object_store_access_key"),
        "secret_key": _given_key(site, "object_store_secret_key"),
    }


def _given_key(site: Site, variable: str) -> str:
    given = site.value(site.first("object_store"), variable)
    if not given:
        raise SiteError(
            f"{variable} is not set while object_store_mode is existing; set it, or set "
            "object_store_accounts"
        )
    return str(given)


def accounts(site: Site) -> list[Entry]:
    """Every account that is to exist."""
    return replaced(site, "object_store", "accounts", provided_accounts(site))


def account_of(site: Site, account: Account, bucket: str) -> Entry:
    """What a role is told of its account and one of its buckets.

    Raises:
        SiteError: The inventory's list of accounts lacks it.
    """
    for entry in accounts(site):
        if entry["name"] == account.name:
            return {
                **site.object_store,
                "bucket": _bucket(entry, account, bucket, _bucket_prefix(site)),
                "access_key": entry["access_key"],
                "secret_key": entry["secret_key"],
            }
    raise SiteError(
        f"object_store_accounts names no account {account.name}; add it there, or leave the list "
        "out and put further accounts into object_store_extra_accounts"
    )


def _bucket(entry: Mapping[str, Any], account: Account, bucket: str, prefix: str) -> str:
    """The bucket that stands in the place of the one the role would have made."""
    named = [str(name) for name in entry.get("buckets") or ()]
    for name in (prefix + bucket, bucket):
        if name in named or not named:
            return name
    if len(named) == len(account.buckets) == 1:
        return named[0]
    raise SiteError(
        f"the account {account.name} in object_store_accounts has the buckets "
        f"{', '.join(named)}, but not {bucket}; name it there"
    )


def handed_databases(site: Site, variable: str) -> Entry | None:
    """The database that a variable is told, None if it is told none."""
    for provides in site.provides.values():
        for database in provides.databases:
            if variable in database.handed_as:
                return database_of(site, database, database.handed_as[variable])
    return None


def handed_accounts(site: Site, variable: str) -> Entry | None:
    """The account and bucket that a variable is told, None if it is told none.

    Nothing where the site has nothing that the account is for.
    """
    for provides in site.provides.values():
        for account in provides.accounts:
            if variable in account.handed_as:
                if not _there(site, account):
                    return {}
                return account_of(site, account, account.handed_as[variable])
    return None

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a role provides to others, as it says in its ``vars/provides.yml``.

Every entry that depends on how the role is set up has a ``when``: variables of the role and the
values that they have to have on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import field as default
from typing import Any, TypeVar

from .._findings.shape import (
    ShapeError,
    each,
    field,
    known_keys,
    mapping,
    optional,
    text,
    whole,
)
from .errors import SiteError

T = TypeVar("T")
Conditions = Mapping[str, Any]
METADATA_DB, ACCOUNTING_DB = "metadata_db", "accounting_db"
SERVERS = (METADATA_DB, ACCOUNTING_DB)


@dataclass(frozen=True)
class Database:
    """A database that the role needs, and its owner.

    ``server`` is the role that looks after the database server: ``metadata_db`` (PostgreSQL) or
    ``accounting_db`` (MariaDB or MySQL). ``handed_as`` maps variables of roles to the database, or
    extra database, that they are told. ``tables`` are patterns of the names that the role gives its
    tables: what matches none was made by somebody else.
    """

    name: str
    owner: str
    secret: str
    connection_limit: int
    extra_databases: tuple[str, ...] = ()
    monitoring: bool = False
    handed_as: Mapping[str, str] = default(default_factory=dict)
    server: str = METADATA_DB
    tables: tuple[str, ...] = ()


@dataclass(frozen=True)
class Account:
    """An account of the object store with its buckets.

    ``handed_as`` maps variables of roles to the bucket that they are told with the account. With
    ``group`` it is only there where the inventory has hosts in that group, with ``sampled`` where
    requests of a model are kept.
    """

    name: str
    buckets: tuple[str, ...]
    handed_as: Mapping[str, str] = default(default_factory=dict)
    group: str = ""
    sampled: bool = False

    @property
    def access_secret(self) -> str:
        return f"{self.name}_s3_access_key"

    @property
    def secret_secret(self) -> str:
        return f"{self.name}_s3_secret_key"


@dataclass(frozen=True)
class Job:
    """Metrics at ``/metrics/<job>`` of the role's hosts; ``series`` are expected of each.

    ``pull`` are only there where the site has devices that fetch their orders, ``pushed`` where
    such devices write what they measure, ``scheduled`` where a timer trains a model.
    """

    job: str
    series: int
    first_host: bool = False
    pull: bool = False
    pushed: bool = False
    scheduled: bool = False
    when: Conditions = default(default_factory=dict)


@dataclass(frozen=True)
class Probe:
    """An address asked as a client does: ``path`` at the endpoint of the role ``through``."""

    name: str
    through: str
    path: str = ""


@dataclass(frozen=True)
class Tile:
    """An entry of the start page; smaller ``order`` stands further up.

    ``languages`` has name and about in languages other than English.
    """

    name: str
    path: str
    about: str
    order: int
    when: Conditions = default(default_factory=dict)
    languages: Mapping[str, Mapping[str, str]] = default(default_factory=dict)


@dataclass(frozen=True)
class Port:
    """The TLS port at which others reach the role, as a variable and its default."""

    variable: str


@dataclass(frozen=True)
class Backup:
    """A directory that has to be kept to bring the role back, besides databases and buckets."""

    path: str
    why: str


@dataclass(frozen=True)
class Provides:
    """Everything that one role provides."""

    role: str
    databases: tuple[Database, ...] = ()
    accounts: tuple[Account, ...] = ()
    metrics: tuple[Job, ...] = ()
    probes: tuple[Probe, ...] = ()
    tiles: tuple[Tile, ...] = ()
    alerts: str = ""
    backup: tuple[Backup, ...] = ()
    port: Port | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """Names of the secrets that go with the databases and accounts."""
        return (
            *(database.secret for database in self.databases),
            *(account.access_secret for account in self.accounts),
            *(account.secret_secret for account in self.accounts),
        )


def parse_provides(role: str, value: object) -> Provides:
    """Read what a role says; an error names the role and the place."""
    try:
        given = mapping(value)
        known_keys(given, tuple(PARSERS))
        found: dict[str, Any] = {
            name: optional(given, name, parse, None)
            for name, parse in PARSERS.items()
            if name in given
        }
        return Provides(role, **found)
    except ShapeError as error:
        raise SiteError(f"what the role {role} provides is wrong: {error}") from None


def _names(value: object) -> tuple[str, ...]:
    return each(value, text)


def _handed(value: object) -> dict[str, str]:
    return {variable: text(name) for variable, name in mapping(value).items()}


def _server(value: object) -> str:
    if value not in SERVERS:
        raise ShapeError(f"{value!r} is not one of {', '.join(SERVERS)}")
    return str(value)


def _entry(parse: Callable[[Mapping[str, Any]], T], *keys: str) -> Callable[[object], T]:
    def read(value: object) -> T:
        given = mapping(value)
        known_keys(given, keys)
        return parse(given)

    return read


_database = _entry(
    lambda given: Database(
        name=field(given, "name", text),
        owner=field(given, "owner", text),
        secret=field(given, "secret", text),
        connection_limit=field(given, "connection_limit", whole),
        extra_databases=optional(given, "extra_databases", _names, ()),
        monitoring=optional(given, "monitoring", bool, False),
        handed_as=optional(given, "handed_as", _handed, {}),
        server=optional(given, "server", _server, METADATA_DB),
        tables=optional(given, "tables", _names, ()),
    ),
    *("name", "owner", "secret", "connection_limit", "extra_databases", "monitoring", "handed_as"),
    *("server", "tables"),
)
_account = _entry(
    lambda given: Account(
        name=field(given, "name", text),
        buckets=field(given, "buckets", _names),
        handed_as=optional(given, "handed_as", _handed, {}),
        group=optional(given, "group", text, ""),
        sampled=optional(given, "sampled", bool, False),
    ),
    *("name", "buckets", "handed_as", "group", "sampled"),
)
_job = _entry(
    lambda given: Job(
        job=field(given, "job", text),
        series=field(given, "series", whole),
        first_host=optional(given, "first_host", bool, False),
        pull=optional(given, "pull", bool, False),
        pushed=optional(given, "pushed", bool, False),
        scheduled=optional(given, "scheduled", bool, False),
        when=optional(given, "when", mapping, {}),
    ),
    *("job", "series", "first_host", "pull", "pushed", "scheduled", "when"),
)
_probe = _entry(
    lambda given: Probe(
        name=field(given, "name", text),
        through=field(given, "through", text),
        path=optional(given, "path", text, ""),
    ),
    *("name", "through", "path"),
)


def _languages(value: Any) -> Mapping[str, Mapping[str, str]]:
    return {
        language: {key: field(mapping(told), key, text) for key in ("name", "about")}
        for language, told in mapping(value).items()
    }


_tile = _entry(
    lambda given: Tile(
        name=field(given, "name", text),
        path=field(given, "path", text),
        about=field(given, "about", text),
        order=field(given, "order", whole),
        when=optional(given, "when", mapping, {}),
        languages=optional(given, "languages", _languages, {}),
    ),
    *("name", "path", "about", "order", "when", "languages"),
)
_backup = _entry(
    lambda given: Backup(field(given, "path", text), field(given, "why", text)), "path", "why"
)
PARSERS: Mapping[str, Callable[[Any], Any]] = {
    "databases": lambda value: each(value, _database),
    "accounts": lambda value: each(value, _account),
    "metrics": lambda value: each(value, _job),
    "probes": lambda value: each(value, _probe),
    "tiles": lambda value: each(value, _tile),
    "alerts": text,
    "backup": lambda value: each(value, _backup),
    "port": lambda value: Port(text(value)),
}

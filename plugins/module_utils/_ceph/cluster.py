# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the running monitor should know, and the commands that tell it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import CephError
from .identity import Identity, caps_of, keyring


@dataclass(frozen=True)
class Known:
    """What the monitor says: accounts with key and caps, disks, settings, modules, pools."""

    fsid: str
    accounts: Mapping[str, tuple[str, Mapping[str, str]]] = field(default_factory=dict)
    disks: Mapping[int, str] = field(default_factory=dict)
    settings: Mapping[tuple[str, str], str] = field(default_factory=dict)
    modules: frozenset[str] = frozenset()
    pools: Mapping[str, int] = field(default_factory=dict)
    uses: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Pool:
    """A pool that is made before its user asks for it, so that all come up at once."""

    name: str
    groups: int
    use: str


@dataclass(frozen=True)
class Wanted:
    replicas: int
    pools: tuple[Pool, ...] = ()
    settings: Mapping[tuple[str, str], str] = field(default_factory=dict)
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Order:
    """One command for the monitor; ``text`` says it in words, ``data`` may hold keys."""

    text: str
    command: Mapping[str, Any]
    data: str = ""


def parse_known(
    auth: Mapping[str, Any],
    osd: Mapping[str, Any],
    config: Iterable[Mapping[str, Any]],
    modules: Mapping[str, Any],
) -> Known:
    """The answers of ``auth ls``, ``osd dump``, ``config dump`` and ``mgr module ls``."""
    return Known(
        str(osd["fsid"]),
        {row["entity"]: (row["key"], dict(row["caps"])) for row in auth["auth_dump"]},
        {int(row["osd"]): str(row["uuid"]) for row in osd["osds"]},
        {(row["section"], row["name"]): str(row["value"]) for row in config},
        frozenset(modules.get("enabled_modules", ())),
        {row["pool_name"]: int(row["size"]) for row in osd["pools"]},
        {row["pool_name"]: frozenset(row["application_metadata"]) for row in osd["pools"]},
    )


def plan(identity: Identity, known: Known, wanted: Wanted) -> tuple[Order, ...]:
    """The commands from what the monitor knows to what it should know."""
    if known.fsid != identity.fsid:
        raise CephError(
            f"The monitor that answers belongs to the cluster {known.fsid}, wanted "
            f"{identity.fsid}; stop the other monitor, this host has one cluster only."
        )
    return (
        *_plan_accounts(identity, known),
        *_plan_disks(identity, known),
        *_plan_settings(known, wanted),
        *_plan_modules(known, wanted),
        *_plan_pools(known, wanted),
    )


def _plan_accounts(identity: Identity, known: Known) -> Iterator[Order]:
    for entity in identity.keys:
        # The monitor's own key is not among the accounts.
        if entity == "mon.":
            continue
        if known.accounts.get(entity) != (identity.keys[entity], caps_of(entity)):
            text = f"tell the monitor the key of {entity}"
            yield Order(text, {"prefix": "auth import"}, keyring(identity, entity))


def _plan_disks(identity: Identity, known: Known) -> Iterator[Order]:
    for number, uuid in sorted(identity.disks.items()):
        held = known.disks.get(number)
        if held is None:
            command = {"prefix": "osd new", "uuid": uuid, "id": number}
            yield Order(f"register osd.{number}", command)
        elif held != uuid:
            raise CephError(
                f"The cluster knows osd.{number} as {held}, its disk on this host is {uuid}; "
                "give the new disk in object_store_osds an id that was never used."
            )


def _plan_settings(known: Known, wanted: Wanted) -> Iterator[Order]:
    for (who, name), value in wanted.settings.items():
        if known.settings.get((who, name)) != value:
            # A module's options are unknown until the module runs: force.
            command = {"prefix": "config set", "who": who, "name": name, "value": value}
            yield Order(f"set {name} to {value}", {**command, "force": True})


def _plan_modules(known: Known, wanted: Wanted) -> Iterator[Order]:
    for name in wanted.modules:
        if name not in known.modules:
            command = {"prefix": "mgr module enable", "module": name}
            yield Order(f"enable the manager's module {name}", command)


def _plan_pools(known: Known, wanted: Wanted) -> Iterator[Order]:
    for pool in wanted.pools:
        if pool.name not in known.pools:
            number = pool.groups
            command = {"prefix": "osd pool create", "pool": pool.name, "pool_type": "replicated"}
            # Without this the monitor leaves out a pool with a dotted name and reports success.
            sure = {"yes_i_really_mean_it": True} if pool.name.startswith(".") else {}
            yield Order(
                f"create pool {pool.name}", {**command, "pg_num": number, "pgp_num": number, **sure}
            )
        if pool.use not in known.uses.get(pool.name, ()):
            yield Order(
                f"say that pool {pool.name} is for {pool.use}",
                {"prefix": "osd pool application enable", "pool": pool.name, "app": pool.use},
            )
    for name, size in sorted(known.pools.items()):
        if size != wanted.replicas:
            command = {"prefix": "osd pool set", "pool": name, "var": "size"}
            sure = {"yes_i_really_mean_it": True} if wanted.replicas == 1 else {}
            yield Order(
                f"keep {wanted.replicas} copies of pool {name}",
                {**command, "val": str(wanted.replicas), **sure},
            )

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the site says of the cluster: parsed once, refused in a sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from .._findings.shape import (
    ShapeError,
    each,
    known_keys,
    mapping,
    number,
    optional,
    shown,
    text,
    whole,
)
from .._findings.shape import field as required

T = TypeVar("T")
SERVING, SCHEDULER = "serving", "scheduler"
V2, V1, DISABLED = "v2", "v1", "disabled"
NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
SPAN = re.compile(r"(?:\d{1,4}-)?\d{1,2}:\d{2}:\d{2}|\d{1,6}|UNLIMITED")
# In slurmdbd.conf nothing quotes these.
UNWRITABLE = re.compile(r"[\s#\"'\\=]")
PARTITION_KEYS = ("name", "groups", "max_time", "default_time", "teams", "default", "priority")


@dataclass(frozen=True)
class Partition:
    """A queue over the nodes of some groups of the inventory; without groups over all nodes."""

    name: str
    groups: tuple[str, ...] = ()
    max_time: str = "UNLIMITED"
    default_time: str = ""
    teams: tuple[str, ...] = ()
    default: bool = False
    priority: int = 1


@dataclass(frozen=True)
class Controller:
    """A host that runs the controller, as Slurm calls it."""

    hostname: str
    address: str


@dataclass(frozen=True)
class Database:
    """Where the accounting is kept."""

    host: str
    port: int
    name: str
    user: str
    password: str
    ca_file: str = ""


@dataclass(frozen=True)
class Settings:
    """All that is not measured."""

    cluster: str
    controllers: tuple[Controller, ...]
    partitions: tuple[Partition, ...]
    cgroup: str = V2
    cgroup_mountpoint: str = ""
    state_dir: str = "/var/lib/mlops/job_scheduler/controller"
    spool_dir: str = "/var/lib/mlops/job_scheduler/node"
    controller_port: int = 6817
    node_port: int = 6818
    accounting_port: int = 6819
    client_ports: str = "60001-60999"
    node_timeout: int = 300
    health_program: str = ""
    health_interval: int = 300
    task_prolog: str = ""
    mail_program: str = ""
    extra: tuple[tuple[str, str], ...] = ()


def parse_partition(value: object) -> Partition:
    """One entry of ``job_scheduler_partitions``."""
    given = mapping(value)
    known_keys(given, PARTITION_KEYS)
    return Partition(
        name=required(given, "name", _name),
        groups=optional(given, "groups", lambda found: each(found, text), ()),
        max_time=optional(given, "max_time", _span, "UNLIMITED"),
        default_time=optional(given, "default_time", _span, ""),
        teams=optional(given, "teams", lambda found: each(found, text), ()),
        default=optional(given, "default", bool, False),
        priority=optional(given, "priority", whole, 1),
    )


def parse_partitions(
    value: object, groups: Sequence[str], teams: Sequence[str]
) -> tuple[Partition, ...]:
    """All partitions; their groups have nodes, their teams are in ``mlops_teams``."""
    found = each(value, parse_partition)
    if not found:
        raise ShapeError("must have at least one partition; without one no job can run")
    for index, one in enumerate(found):
        if one.name in [other.name for other in found[:index]]:
            raise ShapeError(f"{shown(one.name)} is there twice", f"[{index}].name")
        _known(one.groups, groups, f"[{index}].groups", "no group with nodes")
        _known(one.teams, teams, f"[{index}].teams", "no team in mlops_teams")
    if sum(one.default for one in found) > 1:
        raise ShapeError("has more than one default; keep one of them")
    return found


def parse_extra(value: object) -> tuple[tuple[str, str], ...]:
    """Lines of the site's own for slurm.conf; what the platform writes itself is refused."""
    found = []
    for key, said in mapping(value).items():
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]{1,60}", key):
            raise ShapeError("is no name of a setting of slurm.conf", key)
        if key.lower() in OURS:
            raise ShapeError("is written by the role itself; set the variable of the role", key)
        if "\n" in str(said):
            raise ShapeError("must be one line", key)
        found.append((key, str(said)))
    return tuple(found)


def parse_reserved(value: object) -> dict[str, dict[str, float]]:
    """``job_scheduler_reserved``: by host, what jobs do not get of its memory and cores."""
    return {host: _by_key(host, given, _amounts) for host, given in mapping(value).items()}


def parse_owners(value: object) -> dict[str, dict[str, str]]:
    """``job_scheduler_owners``: by host and GPU, who owns it."""
    return {host: _by_key(host, given, _held) for host, given in mapping(value).items()}


def _by_key(host: str, value: object, parse: Callable[[Mapping[str, Any]], T]) -> T:
    try:
        return parse(mapping(value))
    except ShapeError as error:
        raise error.within(host) from None


def _amounts(given: Mapping[str, Any]) -> dict[str, float]:
    known_keys(given, ("memory_mib", "cpu_cores"))
    return {key: optional(given, key, number, 0.0) for key in given}


def _held(given: Mapping[str, Any]) -> dict[str, str]:
    for gpu, owner in given.items():
        if owner not in (SERVING, SCHEDULER):
            raise ShapeError(f"must be {SERVING} or {SCHEDULER}, but is {shown(owner)}", gpu)
    return dict(given)


# Settings that a variable, or the shape of the site, decides; in small letters.
OURS = frozenset(
    (
        *("accountingstorageenforce", "accountingstoragehost", "accountingstorageport"),
        *("accountingstoragetres", "accountingstoragetype", "authtype", "clustername"),
        *("credtype", "grestypes", "healthcheckinterval", "healthcheckprogram", "include"),
        *("jobacctgathertype", "mailprog", "nodename", "partitionname", "proctracktype"),
        *("selecttype", "slurmuser", "slurmctldhost", "slurmctldport", "slurmdport"),
        *("slurmdspooldir", "slurmdtimeout", "slurmduser", "srunportrange"),
        *("statesavelocation", "taskplugin", "taskprolog"),
    )
)


def parse_database(value: object) -> Database:
    """``job_scheduler_accounting_db``: what the role accounting_db hands over, or a site sets."""
    given = mapping(value)
    known_keys(given, ("host", "port", "database", "user", "password", "ca_file"))
    return Database(
        host=required(given, "host", _word),
        port=optional(given, "port", whole, 3306),
        name=required(given, "database", _word),
        user=required(given, "user", _word),
        password=required(given, "password", _secret),
        ca_file=optional(given, "ca_file", lambda found: str(found).strip(), ""),
    )


def _known(names: Sequence[str], known: Sequence[str], place: str, what: str) -> None:
    for name in names:
        if name not in known:
            there = ", ".join(known) or "none"
            raise ShapeError(f"{shown(name)} is {what}; there is {there}", place)


def _name(value: object) -> str:
    found = text(value)
    if not NAME.fullmatch(found):
        raise ShapeError(
            f"must be at most 40 small letters, digits, '-' and '_', but is {shown(found)}"
        )
    return found


def _span(value: object) -> str:
    found = text(value)
    if not SPAN.fullmatch(found):
        raise ShapeError(
            f"must be minutes, HH:MM:SS or DAYS-HH:MM:SS in quotes, but is {shown(found)}"
        )
    return found


def _word(value: object) -> str:
    found = text(value)
    if UNWRITABLE.search(found):
        raise ShapeError(f"cannot be written into slurmdbd.conf: {shown(found)}")
    return found


def _secret(value: object) -> str:
    found = text(value)
    if UNWRITABLE.search(found):
        raise ShapeError(
            "has a space, a quote or one of # = \\, which slurmdbd.conf cannot hold; choose another"
        )
    return found

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role asks, as plain data: parsed, planned, and answered as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._findings.shape import ShapeError, whole
from .._site.teams import Team, parse_teams
from .._workloads.owners import OwnedTwice, owners, scheduled
from .._workloads.placed import Placed, of_inventory
from .nodes import SCHEDULER, Wrong, memory, topology
from .plan import Host, Plan, Said, choose, finding, plan
from .settings import (
    Controller,
    Database,
    Partition,
    Settings,
    parse_database,
    parse_extra,
    parse_owners,
    parse_partitions,
    parse_reserved,
)
from .share import Amount, amount_of, held, sent, total, with_room

NOTHING = Plan((), "", "", "", "", ())
SENTENCE = "a value as the README of job_scheduler describes it"
NUMBERS = ("controller_port", "node_port", "accounting_port", "node_timeout", "health_interval")
WORDS = (
    "cgroup_mountpoint",
    "state_dir",
    "spool_dir",
    "client_ports",
    "health_program",
    "task_prolog",
    "mail_program",
)


def answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The plan with ``teams``, ``cgroup`` and findings. Nothing is written while one stops us.

    ``facts`` and ``addresses`` have the entries of every controller and node, ``groups`` are those
    of the inventory that nodes are told by.
    """
    head = str(asked["controllers"][0])
    replicas: tuple[Placed, ...] = ()
    twice = []
    said_of_hosts, asked = _of_hosts(asked, head)
    try:
        replicas = _replicas(asked)
        asked = {**asked, "owners": _owners(asked, replicas)}
    except OwnedTwice as error:
        twice = [_wrong(head, "owned_twice", str(error), "mlops_workloads")]
    except ShapeError as error:
        twice = [_wrong(head, "variables", str(error), "mlops_workloads")]
    teams, problems = parse_teams(asked.get("teams"))
    said = (
        said_of_hosts
        + twice
        + [_wrong(head, "teams", problem, "mlops_teams") for problem in problems]
    )
    hosts = [_host(name, asked, replicas) for name in sorted(asked.get("nodes") or ())]
    said += _unmeasured(hosts)
    hosts = [host for host in hosts if host.supply]
    mountpoint = str(asked.get("cgroup_mountpoint") or "").rstrip("/")
    cgroup, more = choose(str(asked.get("cgroup") or "auto"), mountpoint, hosts)
    database, wrong = _database(asked.get("database"), head)
    said += [*more, *wrong]
    made = NOTHING
    try:
        settings = _settings(asked, hosts, teams, cgroup, mountpoint)
        made = plan(settings, hosts, database)
    except ShapeError as error:
        place = error.path.partition(".")[0].partition("[")[0]
        said.append(_wrong(head, "variables", str(error), place))
    told = made.as_dict()
    told["findings"] += [finding(one) for one in said]
    return {**told, "teams": [team.as_dict() for team in teams], "cgroup": cgroup}


def _of_hosts(asked: Mapping[str, Any], head: str) -> tuple[list[Said], Mapping[str, Any]]:
    """What is said by host, without what cannot be read of it, and a sentence for each of that."""
    said = []
    readable = dict(asked)
    for key, read in (("reserved", parse_reserved), ("owners", parse_owners)):
        try:
            readable[key] = read(asked.get(key) or {})
        except ShapeError as error:
            readable[key] = {}
            name = f"job_scheduler_{key}"
            said.append(_wrong(head, "variables", str(error.within(name)), name))
    return said, readable


def _replicas(asked: Mapping[str, Any]) -> tuple[Placed, ...]:
    """What the plan places. A row whose workload has left the list holds nothing any more."""
    try:
        return of_inventory(asked.get("workloads") or (), asked.get("placement") or ())
    except ShapeError as error:
        raise error.within("mlops_workloads") from None


def _owners(asked: Mapping[str, Any], replicas: Sequence[Placed]) -> dict[str, dict[str, str]]:
    """Owners of GPUs by the plan's placement, over those that the inventory names."""
    named = {host: dict(held) for host, held in (asked.get("owners") or {}).items()}
    planned = {
        host: {gpu: owner for gpu, owner in held.items() if owner != SCHEDULER}
        for host, held in owners(replicas, {}).items()
    }
    hosts = {*named, *planned}
    return {host: {**named.get(host, {}), **planned.get(host, {})} for host in hosts}


def _wrong(host: str, check: str, problem: str, variable: str) -> Said:
    return Said(host, Wrong(check, True, problem, SENTENCE, f"mend {variable} in the inventory"))


def _host(name: str, asked: Mapping[str, Any], replicas: Sequence[Placed]) -> Host:
    facts = (asked.get("facts") or {}).get(name) or {}
    supply = facts.get("mlops_supply") or {}
    cpu = supply.get("cpu") or {}
    size = Amount(
        float(cpu.get("threads") or 0),
        float(memory(float((supply.get("memory") or {}).get("total_mib") or 0))),
    )
    system = Amount(memory_mib=float(asked.get("reserved_memory_mib") or 0))
    services = total(
        [
            system,
            amount_of((asked.get("reserved") or {}).get(name) or {}),
            *(amount_of(row) for row in facts.get("mlops_demand") or ()),
        ]
    )
    here = [one for one in replicas if one.host == name]
    jobs = sent((one for one in here if scheduled(one)), topology(cpu)[2])
    kept = held(size, services, here, float(asked.get("limit_margin_percent") or 0))
    kept = with_room(size, kept, system.memory_mib, jobs)
    return Host(
        name=name,
        address=str((asked.get("addresses") or {}).get(name) or name),
        groups=tuple(
            group for group, names in (asked.get("groups") or {}).items() if name in names
        ),
        supply=supply,
        told=facts.get("mlops_slurm") or {},
        owners=(asked.get("owners") or {}).get(name) or {},
        spec_memory_mib=kept.memory_mib,
        spec_cores=kept.cpu_cores,
        jobs=jobs,
    )


def _controller(name: str, asked: Mapping[str, Any]) -> Controller:
    facts = (asked.get("facts") or {}).get(name) or {}
    told = facts.get("mlops_slurm") or {}
    address = str((asked.get("addresses") or {}).get(name) or name)
    return Controller(str(told.get("hostname") or name), address)


def _unmeasured(hosts: Sequence[Host]) -> list[Said]:
    return [
        Said(
            host.name,
            Wrong(
                "unmeasured",
                True,
                "the host was not measured",
                "facts of every node, of which its line in slurm.conf is made",
                "run without --limit, or declare the host in mlops_lost_hosts",
            ),
        )
        for host in hosts
        if not host.supply
    ]


def _database(value: object, head: str) -> tuple[Database | None, list[Said]]:
    if not value:
        wrong = Wrong(
            "accounting",
            True,
            "there is no database for the accounting",
            "job_scheduler_accounting_db with host, database, user and password",
            "put a host into the group accounting_db, or set job_scheduler_accounting_db",
        )
        return None, [Said(head, wrong)]
    try:
        return parse_database(value), []
    except ShapeError as error:
        place = "job_scheduler_accounting_db"
        return None, [_wrong(head, "accounting", str(error.within(place)), place)]


def _settings(
    asked: Mapping[str, Any],
    hosts: Sequence[Host],
    teams: Sequence[Team],
    cgroup: str,
    mountpoint: str,
) -> Settings:
    groups = sorted({group for host in hosts for group in host.groups})
    given: dict[str, Any] = {}
    for name in NUMBERS:
        if asked.get(name) is not None:
            given[name] = _in(f"job_scheduler_{name}", lambda name=name: whole(asked[name]))
    for name in WORDS:
        if asked.get(name) is not None:
            given[name] = str(asked[name])
    given["cgroup_mountpoint"] = mountpoint
    return Settings(
        cluster=str(asked["cluster"]),
        controllers=tuple(_controller(name, asked) for name in asked["controllers"]),
        partitions=_partitions(asked.get("partitions"), groups, [team.name for team in teams]),
        cgroup=cgroup,
        extra=_in("job_scheduler_extra_settings", lambda: parse_extra(asked.get("extra") or {})),
        **given,
    )


def _partitions(
    value: object, groups: Sequence[str], teams: Sequence[str]
) -> tuple[Partition, ...]:
    place = "job_scheduler_partitions"
    found: tuple[Partition, ...] = _in(place, lambda: parse_partitions(value, groups, teams))
    return found


def _in(place: str, read: Any) -> Any:
    """What is read, with the place of what is wrong."""
    try:
        return read()
    except ShapeError as error:
        raise error.within(place) from None

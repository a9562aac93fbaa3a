# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole plan of the scheduler: its files, what each node is told, and what has to be said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._findings.sentence import listing
from .nodes import Node, Wrong, node_of
from .settings import DISABLED, V1, V2, Database, Settings
from .share import Amount
from .texts import cgroup_conf, gres_conf, slurm_conf, slurmdbd_conf

NO_JOBS = Amount()
NEEDED = frozenset(("cpu", "cpuset", "memory"))


@dataclass(frozen=True)
class Host:
    """What is known of a host that shall be a node. ``jobs`` is what those planned there hold."""

    name: str
    address: str
    groups: tuple[str, ...]
    supply: Mapping[str, Any]
    told: Mapping[str, Any]
    owners: Mapping[str, str]
    spec_memory_mib: float = 0.0
    spec_cores: float = 0.0
    jobs: Amount = NO_JOBS


@dataclass(frozen=True)
class Said:
    """Something to be said about a host."""

    host: str
    wrong: Wrong


@dataclass(frozen=True)
class Plan:
    """What the role writes. ``cards`` tells each node which GPU is the how manieth of Slurm."""

    nodes: tuple[Node, ...]
    slurm_conf: str
    gres_conf: str
    cgroup_conf: str
    slurmdbd_conf: str
    said: tuple[Said, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for the role."""
        return {
            "slurm_conf": self.slurm_conf,
            "gres_conf": self.gres_conf,
            "cgroup_conf": self.cgroup_conf,
            "slurmdbd_conf": self.slurmdbd_conf,
            "nodes": {node.name: told_node(node) for node in self.nodes},
            "findings": [finding(one) for one in self.said],
        }


def told_node(node: Node) -> dict[str, Any]:
    """What the health check of a node compares with, and what a job is told about its GPUs."""
    return {
        "name": node.name,
        "memory_mib": node.memory_mib,
        "cpus": node.cpus,
        "job_memory_mib": node.job_memory_mib,
        "job_cpus": node.job_cpus,
        "gres": node.gres,
        "gpus": [
            {"uuid": card.uuid, "type": card.type, "files": list(card.files)} for card in node.cards
        ],
        "groups": list(node.groups),
    }


def finding(said: Said) -> dict[str, str]:
    """As the module ``preflight`` takes it."""
    wrong = said.wrong
    return {
        "id": f"job_scheduler.{wrong.check}",
        "host": said.host,
        "severity": "fail" if wrong.stops else "warn",
        "found": wrong.found,
        "wanted": wrong.wanted,
        "remedy": wrong.remedy,
    }


def ways_of(told: Mapping[str, Any], mountpoint: str) -> str:
    """How a host can hold jobs in their place, of what ``slurm_probe`` read there."""
    cgroup = told.get("cgroup") or {}
    if cgroup.get("version") == V2 and set(cgroup.get("controllers") or ()) >= NEEDED:
        return V2
    return V1 if mountpoint and mountpoint in (cgroup.get("v1_mountpoints") or ()) else DISABLED


def choose(wanted: str, mountpoint: str, hosts: Sequence[Host]) -> tuple[str, tuple[Said, ...]]:
    """One plugin for all nodes, as they share one cgroup.conf, and what is to be said of it."""
    ways = {host.name: ways_of(host.told, mountpoint) for host in hosts if host.told}
    if wanted != "auto":
        short = [name for name, way in ways.items() if way != wanted and wanted != DISABLED]
        said = tuple(Said(name, _cannot(wanted, ways[name])) for name in short)
        return wanted, said + (_nothing_enforced(ways) if wanted == DISABLED else ())
    found = set(ways.values())
    if len(found) > 1:
        best = V2 if V2 in found else V1
        return best, tuple(
            Said(name, _cannot(best, way)) for name, way in ways.items() if way != best
        )
    chosen = found.pop() if found else V2
    return chosen, _nothing_enforced(ways) if chosen == DISABLED else ()


def _cannot(wanted: str, way: str) -> Wrong:
    has = "no cgroups that Slurm can use" if way == DISABLED else f"cgroups {way}"
    return Wrong(
        "cgroup",
        True,
        f"the host has {has}, other nodes {wanted}",
        f"cgroups {wanted} with cpu, cpuset and memory on every node, as they share one setting",
        "start the host with systemd.unified_cgroup_hierarchy=1, take it out of the group of"
        " nodes, or set job_scheduler_cgroup: disabled, which enforces nothing anywhere",
    )


def _nothing_enforced(ways: Mapping[str, str]) -> tuple[Said, ...]:
    return tuple(
        Said(
            name,
            Wrong(
                "cgroup",
                False,
                "no cgroups that Slurm can use: a job may open GPUs that it was not given and use"
                " other cores; its memory is looked at every 30 s",
                "cgroups v2 with cpu, cpuset and memory",
                "start the host with systemd.unified_cgroup_hierarchy=1, or set"
                " job_scheduler_cgroup_mountpoint to where version 1 is mounted",
            ),
        )
        for name in ways
    )


def _crowded(node: Node, jobs: Amount) -> tuple[Wrong, ...]:
    """Planned jobs that a node cannot have all at once."""
    if jobs.cpu_cores <= node.job_cpus and jobs.memory_mib <= node.job_memory_mib:
        return ()
    return (
        Wrong(
            "crowded",
            False,
            f"jobs planned here hold {jobs.cpu_cores:,.0f} processors and"
            f" {jobs.memory_mib:,.0f} MiB, and jobs get {node.job_cpus:,} and"
            f" {node.job_memory_mib:,}: some wait until others have ended",
            "processors and memory for all jobs that are planned on the host",
            "lower requests of jobs in mlops_workloads or assess_margins.cpu_overcommit, place less"
            " beside them, or leave it where they may run one after the other",
        ),
    )


def twice(nodes: Sequence[Node]) -> tuple[Said, ...]:
    """Nodes that bear one name: Slurm would take them for one."""
    found = []
    for node in nodes:
        same = [other.name for other in nodes if other.hostname == node.hostname]
        if len(same) > 1:
            found.append(
                Said(
                    node.name,
                    Wrong(
                        "hostname",
                        True,
                        f"{listing(same)} have the same host name, {node.hostname}",
                        "a host name of its own for every node, by which it is known to Slurm",
                        "set another one with hostnamectl set-hostname",
                    ),
                )
            )
    return tuple(found)


def plan(settings: Settings, hosts: Sequence[Host], database: Database | None) -> Plan:
    """All that the role writes, of what was measured and wanted."""
    nodes, said = [], []
    for host in hosts:
        node, wrong = node_of(
            host.name,
            host.supply,
            host.told,
            host.address,
            owners=host.owners,
            groups=host.groups,
            spec_memory_mib=host.spec_memory_mib,
            spec_cores=host.spec_cores,
        )
        nodes.append(node)
        if host.told:  # else it has not been asked yet, and nothing is known
            said += [Said(host.name, one) for one in (*wrong, *_crowded(node, host.jobs))]
    said += twice(nodes)
    head = settings.controllers[0]
    return Plan(
        nodes=tuple(nodes),
        slurm_conf=slurm_conf(settings, nodes),
        gres_conf=gres_conf(nodes),
        cgroup_conf=cgroup_conf(settings),
        slurmdbd_conf=slurmdbd_conf(settings, database, head) if database else "",
        said=tuple(said),
    )

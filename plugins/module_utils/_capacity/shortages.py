# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan leaves of each host, and what is short, of what, where."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .._demand.workloads import Spec
from .._findings.finding import ANY_MOUNT
from .._planner.model import (
    Assignment,
    Certificate,
    Host,
    Result,
    Workload,
)
from .gpu_hints import gpu_hints
from .horizon import gpu_parts
from .places import CPU, MEMORY, Figures, Place, memory_of
from .question import DISK_FOR, EDGE, MOUNTED, NOT_EDGE, ONE_MEMORY, SHARED_FOR, Problem


@dataclass(frozen=True)
class Local:
    """One host in a shortage: ``free`` could be planned, ``left`` is what the best plan leaves."""

    host: str
    total: float
    reserved: float
    used: float
    free: float
    left: float


@dataclass(frozen=True)
class Shortage:
    """What is missing, of what, where.

    ``scope`` is ``host`` if no single host has room for one replica, else ``cluster``. ``used`` is
    foreign use and the platform's own services.
    """

    scope: str
    cause: str
    resource: str
    unit: str
    requested: float
    reserved: float
    used: float
    short: float
    free_total: float
    workloads: tuple[str, ...] = ()
    hosts: tuple[Local, ...] = ()
    steps: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        data = asdict(self)
        data["hosts"] = [asdict(row) for row in self.hosts]
        data["workloads"] = list(self.workloads)
        data["steps"] = list(self.steps)
        return data


@dataclass(frozen=True)
class Load:
    """What the plan puts on a host. GPUs are counted in whole and parts of them."""

    host: str
    replicas: int
    cpu: float
    cpu_free: float
    memory_mib: float
    memory_free_mib: float
    gpus: float
    gpus_total: int
    memory_limits_mib: float


def tidy(value: float) -> float:
    """A figure of a plan, without the dust of sums."""
    return round(value, 4)


def loads(problem: Problem, result: Result, specs: Sequence[Spec]) -> tuple[Load, ...]:
    """What the plan puts on each host, and what stays free there."""
    by_name = {spec.name: spec for spec in specs}
    works = {work.name: work for work in problem.instance.workloads}
    by_host: dict[str, list[Assignment]] = defaultdict(list)
    for one in result.placement:
        by_host[one.host].append(one)
    found = []
    for name, here in problem.places.items():
        rows = by_host.get(name, [])
        cpu = sum(works[one.workload].demand[0] for one in rows)
        memory = sum(
            works[one.workload].demand[1]
            + memory_of(by_name[one.workload], here.cards)
            - by_name[one.workload].request.memory_mib
            for one in rows
        )
        gpus = sum(
            sum(gpu_parts(problem, one, by_name[one.workload]).values())
            for one in rows
            if one.devices
        )
        limits = sum(
            (most if (most := spec.limit.memory_mib) is not None else own) + of_gpu
            for one in rows
            for spec in (by_name[one.workload],)
            for own in (works[one.workload].demand[1],)
            for of_gpu in (memory_of(spec, here.cards) - spec.request.memory_mib,)
        )
        found.append(
            Load(
                name,
                len(rows),
                tidy(cpu),
                tidy(here.cpu.free - cpu),
                tidy(memory),
                tidy(here.memory.free - memory),
                tidy(gpus),
                len(here.cards),
                tidy(limits),
            )
        )
    return tuple(found)


def shortages(problem: Problem, result: Result, specs: Sequence[Spec]) -> tuple[Shortage, ...]:
    """The certificates, with the figures of every host that is allowed to the shapes involved.

    One that says of some hosts what another says of all is told once.
    """
    used = _used(problem, result, specs)
    found: dict[tuple[object, ...], Shortage] = {}
    for certificate in result.certificates:
        row = _shortage(problem, certificate, used)
        found.setdefault((row.resource, row.unit, row.requested, row.short), row)
    return tuple(found.values())


def _used(
    problem: Problem, result: Result, specs: Sequence[Spec]
) -> Mapping[tuple[str, str], float]:
    """How much the best placement uses, by host and resource."""
    by_name = {spec.name: spec for spec in specs}
    works = {work.name: work for work in problem.instance.workloads}
    used: dict[tuple[str, str], float] = defaultdict(float)
    for one in result.placement:
        demand = works[one.workload].demand
        for resource, amount in zip(problem.instance.resources, demand):
            used[one.host, resource] += amount
        for position, part in gpu_parts(problem, one, by_name[one.workload]).items():
            used[one.host, f"GPU {position}"] += part
    return used


def _shortage(
    problem: Problem, found: Certificate, used: Mapping[tuple[str, str], float]
) -> Shortage:
    named = set(found.shapes)
    works = [work for work in problem.instance.workloads if work.name in named]
    rows: list[Local] = []
    counted: list[Local] = []
    seen: set[str] = set()
    for host in problem.instance.hosts:
        if works and not any(_allowed(work, host) for work in works):
            continue
        figures, taken = _figures(problem, host, found, works, used)
        if figures is not None:
            rows.append(_local(host.name, figures, taken))
            # One storage that several hosts reach is there once.
            store = _store(problem.places[host.name], found.resource)
            if store not in seen or not store:
                counted.append(rows[-1])
            seen.add(store)
    if found.resource in problem.storages:
        rows.append(_local(found.resource, problem.storages[found.resource].figures, 0.0))
        counted = rows
    return Shortage(
        "host" if found.cause == "nowhere" else "cluster",
        found.cause,
        found.resource,
        found.unit,
        tidy(found.demand),
        tidy(sum(row.reserved for row in counted)),
        tidy(sum(row.used for row in counted)),
        tidy(found.short),
        tidy(sum(row.free for row in counted) if counted else found.supply),
        tuple(work.name for work in works),
        tuple(rows),
        (*_plainly(found), *_steps(found.steps), *gpu_hints(problem, works)),
    )


def _plainly(found: Certificate) -> tuple[str, ...]:
    """What a proof by prices says, in one sentence that needs no mathematics."""
    if found.unit != "replicas" or not any("is given a price" in step for step in found.steps):
        return ()
    most = math.floor(found.supply + 1e-6)
    return (
        f"however the {found.demand:,.0f} replicas are spread over the hosts, at most {most:,} find"
        " room at the same time; the lines below prove it and can be skipped",
    )


def _steps(steps: tuple[str, ...]) -> tuple[str, ...]:
    """The lines of a certificate, in the words of the inventory."""
    told = []
    for step in steps:
        head, asked, words = step.partition("asked for: ")
        wanted = words.split(", ") if asked and not head else []
        if NOT_EDGE not in wanted:
            told.append(step)
            continue
        rest = ", ".join(word for word in wanted if word != NOT_EDGE)
        told.append(f"asked for: {rest or 'any host'}, but no device of the group {EDGE}")
        told.append(
            f"the devices of {EDGE} are left out unless the workload names them: add"
            f" groups: [{EDGE}] to its hosts"
        )
    return tuple(told)


def _allowed(work: Workload, host: Host) -> bool:
    return work.tags <= host.tags and (work.hosts is None or host.name in work.hosts)


def _local(name: str, figures: Figures, taken: float) -> Local:
    return Local(
        name,
        figures.total,
        figures.reserved,
        tidy(figures.foreign + figures.roles),
        tidy(figures.free),
        tidy(max(0.0, figures.free - taken)),
    )


def _store(here: Place, resource: str) -> str:
    """The storage that a resource of disks lies on; empty if it is the host's own."""
    if not resource.startswith((DISK_FOR, SHARED_FOR)):
        return ""
    return here.stores.get(_system(here, resource), "")


def _system(here: Place, resource: str) -> str:
    """The file system of a host on which all paths of a resource lie; empty if there is none."""
    systems = set()
    for path in resource.partition(DISK_FOR)[2].split(", "):
        must = path.endswith(MOUNTED)
        systems.add(here.system(path[: -len(MOUNTED)] if must else path, ANY_MOUNT if must else ""))
    return (systems.pop() or "") if len(systems) == 1 else ""


def _figures(
    problem: Problem,
    host: Host,
    found: Certificate,
    works: Sequence[Workload],
    used: Mapping[tuple[str, str], float],
) -> tuple[Figures | None, float]:
    """The figures of what is short on one host, and how much of it the best plan takes.

    None where the certificate counts something that a host does not have, such as replicas.
    """
    here = problem.places[host.name]
    resource = found.resource
    if resource in problem.instance.resources:
        taken = used.get((host.name, resource), 0.0)
        if resource == CPU:
            return here.cpu, taken
        if resource == MEMORY or resource.startswith(ONE_MEMORY):
            return here.memory, taken
        if not resource.startswith((DISK_FOR, SHARED_FOR)):  # counted one by one
            at = problem.instance.resources.index(resource)
            return Figures(host.supply[at]), taken
        return here.disks.get(_system(here, resource), Figures(0.0)), taken
    if resource in problem.storages:
        return None, 0.0
    if found.unit != "GPUs":
        return None, 0.0
    cards = [
        position
        for position, card in enumerate(here.cards)
        if any(
            bool(card.mig) == bool(work.gpu.profile)
            and (not work.gpu.models or card.model in work.gpu.models)
            for work in works
        )
    ]
    taken = sum(used.get((host.name, f"GPU {position}"), 0.0) for position in cards)
    return Figures(float(len(cards))), taken

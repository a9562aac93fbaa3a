# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people write about the work that a site should carry: parsed once, refused in a sentence.

``mlops_workloads`` becomes a tuple of ``Spec``. Every problem begins with the place of the value,
such as ``mlops_workloads[3].gpu.share``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from .._findings.finding import DiskNeed
from .._findings.shape import (
    ShapeError,
    field,
    known_keys,
    mapping,
    number,
    optional,
    shown,
    text,
)
from .._planner.model import NO_GPU, GpuNeed
from .entries import entries
from .growth import NO_GROWTH, REPLICAS, REQUESTS, Growth, growth
from .quantities import (
    MOST_GPUS,
    cores,
    counted,
    disks,
    size,
    size_keys,
)
from .running import Run, parse_run
from .words import NO_WORDS, countables, labels_of, meant, name_of, one_of, words

SERVING, TRAINING, DATASET, SERVICE, USER = "serving", "training", "dataset", "service", "user"
BATCH = "batch"
KINDS = (SERVING, TRAINING, BATCH, DATASET, SERVICE, USER)
# What grows where nothing is said: more requests and people want more replicas; a dataset or a
# service that exists once becomes larger.
GROWS = {
    SERVING: REPLICAS,
    TRAINING: REPLICAS,
    BATCH: REPLICAS,
    USER: REPLICAS,
    DATASET: REQUESTS,
    SERVICE: REQUESTS,
}
# Who manages the GPUs of each kind of work, where jobs have a scheduler: this site, by units that
# serve, or the scheduler. A GPU has one owner.
SERVED, SCHEDULED = "serving", "scheduler"
OWNERS = {SERVING: SERVED, SERVICE: SERVED, TRAINING: SCHEDULED, BATCH: SCHEDULED, USER: SCHEDULED}
PROFILE = re.compile(r"[1-8]g\.[0-9]+gb(\+[a-z.]+)*")
COMPUTE_PROFILE = re.compile(r"[1-8]c\.[1-8]g\..*")
MOST_REPLICAS, MOST_IN_ALL, MOST_PRIORITY = 1_000_000, 2_000_000, 10**6


@dataclass(frozen=True)
class Request:
    """What one replica is promised: cores, MiB of memory, space under paths in MiB, and numbers of
    things that are counted (``mlops_host_resources``)."""

    cpu_cores: float = 0.0
    memory_mib: float = 0.0
    disks: tuple[DiskNeed, ...] = ()
    resources: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Limit:
    """What one replica may use at most; None is no limit."""

    cpu_cores: float | None = None
    memory_mib: float | None = None


NO_REQUEST, NO_LIMIT = Request(), Limit()


@dataclass(frozen=True)
class Spec:
    """One workload as a person wrote it.

    ``replicas`` may be 0 while it is paused. ``spread`` is empty, or the name shared by workloads
    of whose replicas no two share a host; ``max_per_host`` is 0 where any number may share one.
    ``models`` of ``gpu`` are as written: ``A100`` means every model that has this word.
    ``run`` says what is started where it is placed; None leaves that to others.
    """

    name: str
    kind: str
    request: Request = NO_REQUEST
    limit: Limit = NO_LIMIT
    replicas: int = 1
    gpu: GpuNeed = NO_GPU
    groups: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    hosts: tuple[str, ...] = ()
    spread: str = ""
    growth: Growth = NO_GROWTH
    priority: int = 0
    max_per_host: int = 0
    run: Run | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """Where it needs space."""
        return tuple(need.path for need in self.request.disks)


@dataclass(frozen=True)
class Known:
    """What the inventory has, to tell a slip of the pen from a wish.

    ``scheduled`` says that jobs have a scheduler there.
    """

    groups: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    labels: frozenset[tuple[str, str]] = frozenset()
    resources: frozenset[str] = frozenset()
    scheduled: bool = False


def _request(value: object, known: Known) -> Request:
    given = mapping(value)
    known_keys(given, ("cpu_cores", *size_keys("memory"), "disks", "resources"))
    resources: tuple[tuple[str, int], ...] = optional(given, "resources", countables, ())
    for name, _number in resources:
        if name not in known.resources:
            raise ShapeError(
                f"no host has {shown(name)} in mlops_host_resources{meant(name, known.resources)}",
                f"resources.{name}",
            )
    return Request(
        cpu_cores=optional(given, "cpu_cores", cores, 0.0),
        memory_mib=size(given, "memory") or 0.0,
        disks=optional(given, "disks", disks, ()),
        resources=tuple((name, number) for name, number in resources if number),
    )


def _limit(value: object) -> Limit:
    given = mapping(value)
    known_keys(given, ("cpu_cores", *size_keys("memory")))
    return Limit(
        cpu_cores=optional(given, "cpu_cores", cores, None),
        memory_mib=size(given, "memory"),
    )


def _share(value: object) -> float:
    found = number(value)
    if found == 0:
        raise ShapeError("must be above 0 and below 1, but is 0")
    if found == 1:
        raise ShapeError(f"{shown(value)} is one whole GPU; ask for gpu.count: 1")
    if found > 1:
        if found > MOST_GPUS:
            raise ShapeError(f"{shown(value)} is more than one GPU; ask for gpu.count instead")
        raise ShapeError(f"{shown(value)} is more than one GPU; ask for gpu.count: {_up(found)}")
    return found


def _up(value: float) -> int:
    return math.ceil(value)


def _count(value: object) -> int:
    found = number(value)
    if 0 < found < 1:
        raise ShapeError(f"{shown(value)} is a part of a GPU; ask for gpu.share: {shown(value)}")
    return counted(1, MOST_GPUS)(value)


def _profile(value: object) -> str:
    found = text(value)
    if COMPUTE_PROFILE.fullmatch(found[:64]):
        raise ShapeError(
            f"{shown(found)} is a compute instance; ask for the whole instance, such as 3g.20gb"
        )
    if not PROFILE.fullmatch(found[:64]):
        raise ShapeError(f"must be a MIG profile such as 3g.40gb, but is {shown(found)}")
    return found


def _gpu(value: object) -> GpuNeed:
    given = mapping(value)
    ways = ("count", "share", *size_keys("memory"), "profile")
    known_keys(given, (*ways, "models"))
    named = [way for way in ways if given.get(way) is not None]
    if not named:
        raise ShapeError("must have one of count, share, memory and profile")
    if len(named) > 1:
        raise ShapeError(
            f"cannot stand beside {named[0]}; keep one of count, share, memory and profile",
            named[1],
        )
    memory = size(given, "memory")
    if memory == 0:
        raise ShapeError("must be above 0", named[0])
    return GpuNeed(
        count=optional(given, "count", _count, 0),
        share=optional(given, "share", _share, 0.0),
        memory_mib=memory or 0.0,
        profile=optional(given, "profile", _profile, ""),
        models=frozenset(optional(given, "models", words, NO_WORDS)),
    )


def _spread(value: object, name: str) -> str:
    """True keeps the replicas of this workload apart; a word those of all that have it."""
    if isinstance(value, bool):
        return f"workload {name}" if value else ""
    return f"group {name_of(value)}"


@dataclass(frozen=True)
class _Where:
    groups: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    names: tuple[str, ...] = ()


NOWHERE = _Where()


def _where(value: object, known: Known) -> _Where:
    given = mapping(value)
    known_keys(given, ("groups", "labels", "names"))
    found = _Where(
        groups=optional(given, "groups", words, NO_WORDS),
        labels=optional(given, "labels", labels_of, ()),
        names=optional(given, "names", words, NO_WORDS),
    )
    for index, group in enumerate(found.groups):
        if group not in known.groups:
            raise ShapeError(
                f"the inventory has no group {shown(group)}{meant(group, known.groups)}",
                f"groups[{index}]",
            )
    for index, name in enumerate(found.names):
        if name not in known.hosts:
            raise ShapeError(
                f"the inventory has no host {shown(name)}{meant(name, known.hosts)}",
                f"names[{index}]",
            )
    for key, word in found.labels:
        if (key, word) not in known.labels:
            others = sorted(other for label, other in known.labels if label == key)
            said = f"; they have {', '.join(others[:5])}" if others else ""
            raise ShapeError(
                f"no host has the label {key}={word} in mlops_host_labels{said}", f"labels.{key}"
            )
    return found


WORKLOAD_KEYS = (
    "name",
    "kind",
    "requests",
    "limits",
    "replicas",
    "hosts",
    "gpu",
    "anti_affinity",
    "max_per_host",
    "growth",
    "priority",
    "run",
)


def parse_workload(data: object, known: Known) -> Spec:
    """One entry of ``mlops_workloads``. Raises ShapeError with the field that is wrong."""
    given = mapping(data)
    known_keys(given, WORKLOAD_KEYS)
    name = field(given, "name", name_of)
    kind = field(given, "kind", one_of(KINDS))
    request = optional(given, "requests", lambda value: _request(value, known), NO_REQUEST)
    limit = optional(given, "limits", _limit, NO_LIMIT)
    for key, most, least, unit in (
        ("cpu_cores", limit.cpu_cores, request.cpu_cores, "cores"),
        ("memory", limit.memory_mib, request.memory_mib, "MiB"),
    ):
        if most is not None and most < least:
            raise ShapeError(
                f"{most:,.10g} {unit} is less than the {least:,.10g} {unit} of requests.{key}",
                f"limits.{key}",
            )
    gpu = optional(given, "gpu", _gpu, NO_GPU)
    if known.scheduled and gpu.wanted and kind in OWNERS:
        gpu = replace(gpu, owner=OWNERS[kind])
    if kind == DATASET and gpu.wanted:
        raise ShapeError("a dataset needs disks and no GPU; describe its reader by itself", "gpu")
    if kind == DATASET and not request.disks:
        raise ShapeError("is missing; a dataset is on a disk", "requests.disks")
    if not (request.cpu_cores or request.memory_mib or request.resources or gpu.wanted) and not any(
        need.mib for need in request.disks
    ):
        raise ShapeError("asks for nothing; give it requests or gpu")
    spread = optional(given, "anti_affinity", lambda value: _spread(value, name), "")
    max_per_host = optional(given, "max_per_host", counted(1, MOST_REPLICAS), 0)
    if spread and max_per_host > 1:
        raise ShapeError(
            "cannot stand beside anti_affinity, which allows one; keep one of them", "max_per_host"
        )
    where = optional(given, "hosts", lambda value: _where(value, known), NOWHERE)
    return Spec(
        name=name,
        kind=kind,
        request=request,
        limit=limit,
        replicas=optional(given, "replicas", counted(0, MOST_REPLICAS), 1),
        gpu=gpu,
        groups=where.groups,
        labels=where.labels,
        hosts=where.names,
        spread=spread,
        max_per_host=max_per_host,
        growth=optional(
            given, "growth", lambda value: growth(value, GROWS[kind]), Growth(of=GROWS[kind])
        ),
        priority=optional(given, "priority", counted(0, MOST_PRIORITY), 0),
        run=optional(given, "run", lambda value: parse_run(value, kind), None),
    )


def parse_workloads(
    value: object, known: Known, place: str = "mlops_workloads"
) -> tuple[tuple[Spec, ...], tuple[str, ...]]:
    """All workloads that can be read, and a sentence for each that cannot."""
    found, problems = entries(value, lambda row: parse_workload(row, known), place)
    total = sum(spec.replicas for spec in found)
    if total > MOST_IN_ALL:
        problems = (
            *problems,
            f"{place}: {total:,} replicas in all are more than can be planned ({MOST_IN_ALL:,})",
        )
    return found, problems

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From measured facts and written workloads to the question that the planner answers.

What may be planned on a host is what `host_sums` leaves: total, less reserve, less foreign use,
less the needs of the roles, which stay where the inventory puts them.

Disks. A path lies on whichever file system holds it, and that differs between hosts. For every
set of paths that share a file system somewhere there is one resource: where they share one, its
supply is the room of that file system; on all other hosts it does not bind, so its supply is all
that is asked for. This is exact: each file system of each host is one constraint.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .._demand.growth import REPLICAS
from .._demand.offers import Shape
from .._demand.workloads import Spec
from .._findings.finding import WARN, Demand, DiskNeed, Finding
from .._findings.sentence import amount, brief
from .._planner.mig.geometry import card_of
from .._planner.model import Assignment, Device, GpuNeed, Host, Instance, Offer, Vector, Workload
from .host_sums import Row, sums
from .margins import Margins
from .mounts import by_device, holding

CPU, MEMORY, GPU = "CPU", "memory", "GPU"
DISK_FOR = "disk for "
EDGE = "edge"
# Tags that stand for more than one group.
NOT_EDGE = "!edge"


@dataclass(frozen=True)
class Figures:
    """One resource of one host: what there is, and what of it may be planned."""

    total: float
    reserved: float = 0.0
    foreign: float = 0.0
    roles: float = 0.0

    @property
    def free(self) -> float:
        """What may be planned."""
        return max(0.0, self.total - self.reserved - self.foreign - self.roles)


@dataclass(frozen=True)
class Card:
    """A GPU that may be planned. ``index`` and ``uuid`` are the driver's names for it."""

    index: int
    uuid: str
    model: str
    memory_mib: float
    mig: str = ""


@dataclass(frozen=True)
class Place:
    """A host that there is or could be. ``disks`` are by file system, ``mounts`` lead to them."""

    name: str
    cpu: Figures
    memory: Figures
    disks: Mapping[str, Figures]
    mounts: Mapping[str, str]
    cards: tuple[Card, ...] = ()
    groups: frozenset[str] = frozenset()
    labels: frozenset[tuple[str, str]] = frozenset()

    def system(self, path: str) -> str | None:
        """The file system that holds a path."""
        mount = holding(path, self.mounts)
        return None if mount is None else self.mounts[mount]


@dataclass(frozen=True)
class Earlier:
    """Where a replica was placed by the run before; GPUs by the driver's index."""

    workload: str
    replica: int
    host: str
    gpus: tuple[int, ...] = ()
    slice: int = -1


def _figures(row: Row, placed: float) -> Figures:
    """The row without what the workloads themselves ask for."""
    return Figures(row.total, row.reserved, row.foreign, row.demanded - placed)


def measured(
    name: str,
    facts: Mapping[str, Any],
    demand: Sequence[Demand],
    margins: Margins,
    paths: Iterable[str],
    running: Sequence[Spec] = (),
    kept: frozenset[int] = frozenset(),
    groups: frozenset[str] = frozenset(),
    labels: frozenset[tuple[str, str]] = frozenset(),
) -> tuple[Place | None, list[Finding]]:
    """A host from its facts, and what of it cannot be planned; None if it was not measured.

    ``running`` are the replicas that an earlier run placed here, one entry each: what they use
    now is ours, not foreign. ``kept`` are the GPUs that they have.
    """
    work = [
        Demand("workloads", disks=tuple(DiskNeed(path, 0.0) for path in paths)),
        *(
            Demand(
                "workloads",
                cpu_cores=spec.request.cpu_cores,
                memory_mib=spec.request.memory_mib,
                disks=spec.request.disks,
            )
            for spec in running
        ),
    ]
    rows = {row.resource: row for row in sums(name, facts, [*demand, *work], margins)}
    missing = [what for what in (CPU, MEMORY) if what not in rows]
    if missing:
        return None, [
            Finding(
                "capacity.unplanned_host",
                name,
                WARN,
                f"{' and '.join(missing)} could not be measured, so no workload is planned on it",
                "a measured value",
                f"look with: ansible {name} -m mlops.onprem.capacity_facts",
            )
        ]
    systems = {str(row["mount"]): row for row in facts.get("filesystems") or []}
    mounts = {}
    disks = {}
    for mounted in by_device(systems).values():
        label = "disk " + ", ".join(mounted)
        if label not in rows:
            continue
        for mount in mounted:
            mounts[mount] = label
        placed = sum(
            need.mib
            for spec in running
            for need in spec.request.disks
            if holding(need.path, systems) in mounted
        )
        full = any(systems[mount].get("read_only") for mount in mounted)
        disks[label] = Figures(0.0) if full else _figures(rows[label], placed)
    # A path may lie on a file system that no workload uses: that one must still win over ``/``.
    for mount in systems:
        mounts.setdefault(mount, "")
    cards, findings = _cards(name, facts, margins, kept, sum(need.gpus for need in demand))
    return (
        Place(
            name,
            _figures(rows[CPU], sum(spec.request.cpu_cores for spec in running)),
            _figures(rows[MEMORY], sum(spec.request.memory_mib for spec in running)),
            disks,
            mounts,
            cards,
            groups,
            labels,
        ),
        findings,
    )


def _cards(
    name: str,
    facts: Mapping[str, Any],
    margins: Margins,
    kept: frozenset[int],
    roles: int,
) -> tuple[tuple[Card, ...], list[Finding]]:
    """The GPUs that may be planned; those that are in use, broken or unknown are told."""
    report = facts.get("gpus") or {}
    if report.get("source") == "pci":  # no driver: host_sums says so
        return (), []
    cards = []
    findings = []
    for row in report.get("gpus") or []:
        index = int(row.get("index") or 0)
        model = str(row.get("model") or "unknown")
        memory = float(row.get("memory_mib") or 0.0)
        mig = str(row.get("mig_mode") or "").lower() == "enabled"
        key = card_of(model, memory or None) if mig else ""
        busy = int(row.get("processes") or 0)
        refused = ""
        if row.get("remapped_rows_failure"):
            refused = "its memory has failed (row remapping failure); have it replaced"
        elif row.get("retired_pages_pending"):
            refused = "memory pages wait to be retired; reset it or restart the host"
        elif busy and index not in kept:
            used = float(row.get("memory_used_mib") or 0.0)
            refused = (
                f"{busy} process{'' if busy == 1 else 'es'} that no plan placed there use it "
                f"({amount(used, 0)} MiB); stop them: nvidia-smi lists them"
            )
        elif mig and not key:
            refused = (
                "MIG is on, and its geometry is not known; turn MIG off with: nvidia-smi -mig 0"
            )
        if refused:
            why, _semicolon, remedy = refused.partition("; ")
            findings.append(
                Finding(
                    "capacity.unplanned_gpu",
                    name,
                    WARN,
                    f"GPU {index} ({brief(model, 80)}) is not planned: {why}",
                    "a GPU that is free and sound",
                    remedy,
                )
            )
            continue
        usable = memory * (1 - margins.gpu_memory_reserve_percent / 100)
        cards.append(Card(index, str(row.get("uuid") or ""), model, usable, key))
    return tuple(cards[roles:]), findings


def offered(shape: Shape, margins: Margins) -> Place:
    """A host that could be bought, with the margins of every host taken off.

    What the operating system and the platform's own agents use on it is not known before it is
    there; the margins stand for it.
    """
    gpus = shape.gpus
    cards: tuple[Card, ...] = ()
    if gpus is not None:
        key = card_of(gpus.model, gpus.memory_mib or None) if gpus.mig else ""
        usable = gpus.memory_mib * (1 - margins.gpu_memory_reserve_percent / 100)
        cards = tuple(Card(index, "", gpus.model, usable, key) for index in range(gpus.count))
    disks = {
        f"disk {need.path}": Figures(
            need.mib,
            max(margins.disk_reserve_mib, need.mib * margins.disk_reserve_percent / 100),
        )
        for need in shape.disks
    }
    return Place(
        shape.name,
        Figures(shape.cpu_cores * margins.cpu_overcommit, margins.cpu_reserve_cores),
        Figures(shape.memory_mib, margins.memory_reserve_mib),
        disks,
        {need.path: f"disk {need.path}" for need in shape.disks},
        cards,
        frozenset(shape.groups),
        frozenset(shape.labels),
    )


# -- the question -------------------------------------------------------------------------------


def same_model(written: str, model: str) -> bool:
    """Whether a model is meant by what was written: it has all of its words, in any case."""

    def split(name: str) -> set[str]:
        return set(re.split(r"[\s_-]+", name.strip().lower()))

    return split(written) <= split(model)


def tag_of(spec: Spec) -> frozenset[str]:
    """The tags that a host must carry for a workload.

    One group is its name; several are joined by ``|``, for a host in any of them. Work that names
    neither groups nor hosts goes to any host but the devices at the edge.
    """
    tags = {f"{key}={word}" for key, word in spec.labels}
    if spec.groups:
        tags.add("|".join(sorted(spec.groups)))
    elif not spec.hosts:
        tags.add(NOT_EDGE)
    return frozenset(tags)


def carries(place: Place, tag: str) -> bool:
    """Whether a host has what a tag stands for."""
    if tag == NOT_EDGE:
        return EDGE not in place.groups
    key, equals, word = tag.partition("=")
    if equals:
        return (key, word) in place.labels
    return any(group in place.groups for group in tag.split("|"))


@dataclass(frozen=True)
class Problem:
    """The planner's question, and the way back from its answer to hosts and GPUs."""

    instance: Instance
    offers: tuple[Offer, ...]
    places: Mapping[str, Place]

    def gpus(self, found: Assignment) -> tuple[int, ...]:
        """The driver's index of each device of a replica."""
        place = self.places.get(found.host)
        if place is None:
            return ()
        return tuple(place.cards[position].index for position in found.devices)

    def earlier(self, rows: Iterable[Earlier]) -> tuple[Assignment, ...]:
        """What was placed before, in the planner's words; without what is gone since."""
        replicas = {work.name: work.replicas for work in self.instance.workloads}
        found = []
        for row in rows:
            place = self.places.get(row.host)
            if place is None or row.replica >= replicas.get(row.workload, 0):
                continue
            positions = {card.index: position for position, card in enumerate(place.cards)}
            if not all(index in positions for index in row.gpus):
                continue
            devices = tuple(positions[index] for index in row.gpus)
            found.append(Assignment(row.workload, row.replica, row.host, devices, row.slice))
        return tuple(found)


def build(
    places: Sequence[Place],
    offers: Sequence[tuple[Shape, Place]],
    specs: Sequence[Spec],
    factor: Callable[[Spec], float] = lambda _spec: 1.0,
) -> Problem:
    """The planner's question for hosts, offers and workloads, grown by a factor each.

    Where replicas grow, their number is rounded to the nearest one: written figures have some
    slack, and the first day of growth must not ask for a whole replica. Where requests grow, a GPU
    that is asked for stays what it is.
    """
    everywhere = [*places, *(place for _shape, place in offers)]
    paths = sorted({path for spec in specs for path in spec.paths})
    shared: set[frozenset[str]] = set()
    lying: list[dict[frozenset[str], float]] = []
    for place in everywhere:
        systems: dict[str | None, set[str]] = {}
        for path in paths:
            systems.setdefault(place.system(path), set()).add(path)
        room = {
            frozenset(here): place.disks.get(system or "", Figures(0.0)).free
            for system, here in systems.items()
        }
        lying.append(room)
        shared |= room.keys()
    sets = sorted(shared, key=sorted)
    resources = (CPU, MEMORY, *(DISK_FOR + ", ".join(sorted(some)) for some in sets))
    models = sorted({card.model for place in everywhere for card in place.cards})

    def demand(spec: Spec, times: float) -> Vector:
        on = [
            sum(need.mib for need in spec.request.disks if need.path in some) * times
            for some in sets
        ]
        return (spec.request.cpu_cores * times, spec.request.memory_mib * times, *on)

    works = []
    for spec in specs:
        times = factor(spec)
        grows = spec.growth.of == REPLICAS
        works.append(
            Workload(
                spec.name,
                demand(spec, 1.0 if grows else times),
                math.floor(spec.replicas * times + 0.5) if grows else spec.replicas,
                _need(spec.gpu, models),
                tag_of(spec),
                frozenset(spec.hosts) if spec.hosts else None,
                spec.spread,
                spec.priority,
            )
        )
    asked = [
        sum(work.demand[2 + position] * work.replicas for work in works)
        for position in range(len(sets))
    ]
    tags = sorted({tag for work in works for tag in work.tags})

    def vector(place: Place, room: Mapping[frozenset[str], float]) -> Vector:
        disks = (room.get(some, most) for some, most in zip(sets, asked))
        return (place.cpu.free, place.memory.free, *disks)

    def devices(place: Place) -> tuple[Device, ...]:
        return tuple(Device(card.model, card.memory_mib, card.mig) for card in place.cards)

    def tagged(place: Place) -> frozenset[str]:
        return frozenset(tag for tag in tags if carries(place, tag))

    hosts = tuple(
        Host(place.name, vector(place, room), devices(place), tagged(place))
        for place, room in zip(places, lying)
    )
    bought = tuple(
        Offer(
            place.name,
            vector(place, room),
            devices(place),
            tagged(place),
            shape.price,
            shape.most,
        )
        for (shape, place), room in zip(offers, lying[len(places) :])
    )
    units = ("cores", *("MiB" for _resource in resources[1:]))
    return Problem(
        Instance(resources, units, hosts, tuple(works)),
        bought,
        {place.name: place for place in places},
    )


def _need(need: GpuNeed, models: Sequence[str]) -> GpuNeed:
    """The need with the models that are meant; what nobody has stays as it is written."""
    if not need.models:
        return need
    meant = set()
    for written in need.models:
        meant |= {model for model in models if same_model(written, model)} or {written}
    return replace(need, models=frozenset(meant))

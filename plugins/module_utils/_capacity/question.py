# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From hosts (see `places`) and written workloads to the question that the planner answers.

Disks. A path lies on whichever file system holds it, and that differs between hosts. For every
set of paths that share a file system somewhere there is one resource: where they share one, its
supply is the room of that file system; on all other hosts it does not bind, so its supply is all
that is asked for, or the room of the file system that holds more than these. This is exact: each
file system of each host is one constraint. A storage that several file systems or hosts take their
room from (see `stores`) is one resource more, of which all its hosts draw the same supply.

Memory. Where GPUs work in the memory of the host, one resource more holds what processors and
GPUs take together.

Counts. Every thing that people count (licences, NPUs) is one resource more. So is every workload of
which a host may have k replicas at most: each host supplies k of them, each replica takes one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from .._demand.growth import REPLICAS
from .._demand.offers import Shape
from .._demand.workloads import Spec
from .._planner.model import (
    Assignment,
    Device,
    GpuNeed,
    Host,
    Instance,
    Offer,
    Pool,
    Vector,
    Workload,
)
from .places import CPU, MEMORY, Figures, Place, Storage, gpu_part

DISK_FOR, SHARED_FOR = "disk for ", "shared disk for "
MOUNTED = " (mounted)"
ONE_MEMORY = "memory of processors and GPUs"
EDGE = "edge"
GROWN_OVER = 0.1  # more than its written load that a replica may carry once it has grown
# Tags that stand for more than one group.
NOT_EDGE = "!edge"


@dataclass(frozen=True)
class Earlier:
    """Where a replica was placed by the run before; GPUs by the driver's index."""

    workload: str
    replica: int
    host: str
    gpus: tuple[int, ...] = ()
    slice: int = -1


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
    storages: Mapping[str, Storage] = field(default_factory=dict)

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


def grown(replicas: int, times: float) -> int:
    """How many replicas carry so many times the load: each at most GROWN_OVER more than one does.

    Never fewer than the nearest whole number.
    """
    load = replicas * times
    return max(math.floor(load + 0.5), math.ceil(load / (1 + GROWN_OVER) - 1e-9))


def build(
    places: Sequence[Place],
    offers: Sequence[tuple[Shape, Place]],
    specs: Sequence[Spec],
    factor: Callable[[Spec], float] = lambda _spec: 1.0,
    storages: Sequence[Storage] = (),
) -> Problem:
    """The planner's question for hosts, offers and workloads, grown by a factor each.

    Where replicas grow, there are so many that none carries more than a tenth over what is written
    for it: the first day of growth must not ask for a whole replica, and half of one must not be
    hidden. Where requests grow, a GPU that is asked for stays what it is.
    """
    everywhere = [*places, *(place for _shape, place in offers)]
    needs = sorted({(need.path, need.mount) for spec in specs for need in spec.request.disks})
    named = {storage.name: storage for storage in storages}
    lying = [_lying(place, needs, named) for place in everywhere]
    sets = sorted({some for room in lying for some in room}, key=_order)
    one_memory = sorted({place.gpu_memory_mib for place in everywhere if place.gpu_memory_mib})
    resources = (
        CPU,
        MEMORY,
        *(_disk_name(some) for some in sets),
        *(ONE_MEMORY if len(one_memory) == 1 else _of(size) for size in one_memory),
    )
    counts = _counted(specs)
    resources = (*resources, *(count.resource for count in counts))
    models = sorted({card.model for place in everywhere for card in place.cards})

    def demand(spec: Spec, times: float) -> Vector:
        on = [
            sum(n.mib for n in spec.request.disks if (n.path, n.mount) in some.needs) * times
            for some in sets
        ]
        memory = spec.request.memory_mib * times
        # Where requests grow, a GPU that is asked for stays what it is.
        both = [memory + gpu_part(spec, size) for size in one_memory]
        each = (float(count.asked.get(spec.name, 0)) for count in counts)
        return (spec.request.cpu_cores * times, memory, *on, *both, *each)

    works = []
    for spec in specs:
        times = factor(spec)
        grows = spec.growth.of == REPLICAS
        works.append(
            Workload(
                spec.name,
                demand(spec, 1.0 if grows else times),
                grown(spec.replicas, times) if grows else spec.replicas,
                _need(spec.gpu, models),
                tag_of(spec),
                frozenset(spec.hosts) if spec.hosts else None,
                spec.spread,
                spec.priority,
            )
        )
    asked = [
        sum(work.demand[position] * work.replicas for work in works)
        for position in range(len(resources))
    ]
    tags = sorted({tag for work in works for tag in work.tags})

    def vector(place: Place, room: Mapping[Lying, float]) -> Vector:
        disks = (_room(some, room, most) for some, most in zip(sets, asked[2:]))
        both = (
            place.memory.free if size == place.gpu_memory_mib else most
            for size, most in zip(one_memory, asked[2 + len(sets) :])
        )
        each = (count.there(place) for count in counts)
        return (place.cpu.free, place.memory.free, *disks, *both, *each)

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
    sizes = resources[1 : len(resources) - len(counts)]
    units = ("cores", *("MiB" for _resource in sizes), *(count.unit for count in counts))
    columns = {some: 2 + position for position, some in enumerate(sets)}
    pools = tuple(
        Pool(
            storage.name,
            "MiB",
            storage.figures.free,
            _members(storage, places, lying, columns),
            _members(storage, [p for _s, p in offers], lying[len(places) :], columns),
        )
        for storage in storages
        if storage.outlives
    )
    return Problem(
        Instance(
            resources, units, hosts, tuple(works), tuple(p for p in pools if p.columns or p.offers)
        ),
        bought,
        {place.name: place for place in places},
        {storage.name: storage for storage in storages},
    )


@dataclass(frozen=True)
class _Counted:
    """Something that is counted: how many a replica of each workload takes, by the workload's name.

    Each host has ``everywhere`` of it, or what the inventory says where that is None.
    """

    resource: str
    unit: str
    asked: Mapping[str, int]
    everywhere: int | None = None

    def there(self, place: Place) -> float:
        """How many a host has."""
        own = place.resources.get(self.resource, 0)
        return float(own if self.everywhere is None else self.everywhere)


def _counted(specs: Sequence[Spec]) -> tuple[_Counted, ...]:
    taken: dict[str, dict[str, int]] = {}
    for spec in specs:
        for name, number in spec.request.resources:
            taken.setdefault(name, {})[spec.name] = number
    return (
        *(_Counted(name, "pieces", asked) for name, asked in sorted(taken.items())),
        *(
            _Counted(
                f"room for {spec.name} (max_per_host)", "places", {spec.name: 1}, spec.max_per_host
            )
            for spec in specs
            if spec.max_per_host
        ),
    )


@dataclass(frozen=True)
class Lying:
    """Needs (path, and the mount it must be on) that lie on one file system or one storage."""

    needs: frozenset[tuple[str, str]]
    store: str = ""


def _of(memory_mib: float) -> str:
    return f"{ONE_MEMORY} ({memory_mib:,.0f} MiB)"


def _order(some: Lying) -> tuple[str, list[tuple[str, str]]]:
    return some.store, sorted(some.needs)


def _disk_name(some: Lying) -> str:
    paths = sorted({path + (MOUNTED if mount else "") for path, mount in some.needs})
    return (SHARED_FOR if some.store else DISK_FOR) + ", ".join(paths)


def _lying(
    place: Place, needs: Sequence[tuple[str, str]], storages: Mapping[str, Storage]
) -> dict[Lying, float]:
    """What lies together on a host, and the room for it."""
    systems: dict[str | None, set[tuple[str, str]]] = {}
    drawn: dict[str, set[tuple[str, str]]] = {}
    for path, mounted in needs:
        system = place.system(path, mounted)
        systems.setdefault(system, set()).add((path, mounted))
        if system is not None and system in place.stores:
            drawn.setdefault(place.stores[system], set()).add((path, mounted))
    room = {
        Lying(frozenset(here)): place.disks.get(system or "", Figures(0.0)).free
        for system, here in systems.items()
    }
    for name, here in drawn.items():
        storage = storages[name]
        if storage.outlives:
            room[Lying(frozenset(here), name)] = storage.figures.free
        else:  # a pool of this host alone binds like one of its file systems
            key = Lying(frozenset(here))
            room[key] = min(room.get(key, math.inf), storage.figures.free)
    return room


def _room(some: Lying, room: Mapping[Lying, float], most: float) -> float:
    """The room for needs on a host: where they lie together, else where more than these do."""
    if some in room:
        return room[some]
    if some.store:
        return most
    return min([most, *(free for other, free in room.items() if some.needs <= other.needs)])


def _members(
    storage: Storage,
    places: Sequence[Place],
    lying: Sequence[Mapping[Lying, float]],
    columns: Mapping[Lying, int],
) -> tuple[tuple[str, int], ...]:
    return tuple(
        (place.name, columns[some])
        for place, room in zip(places, lying)
        for some in room
        if some.store == storage.name
    )


def _need(need: GpuNeed, models: Sequence[str]) -> GpuNeed:
    """The need with the models that are meant; what nobody has stays as it is written."""
    if not need.models:
        return need
    meant = set()
    for written in need.models:
        meant |= {model for model in models if same_model(written, model)} or {written}
    return replace(need, models=frozenset(meant))

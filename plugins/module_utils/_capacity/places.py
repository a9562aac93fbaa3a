# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What workloads may have of a host: one that was measured, or one that could be bought.

What may be planned on a host is what `host_sums` leaves: total, less reserve, less foreign use,
less the needs of the roles, which stay where the inventory puts them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from .._demand.offers import Shape
from .._demand.workloads import Spec
from .._findings.finding import ANY_MOUNT, WARN, Demand, DiskNeed, Finding
from .._planner.mig.geometry import card_of
from .._supply.facts import Facts
from .._supply.gpu import has_no_memory
from .cards import Card, cards_of
from .host_sums import Row, sums
from .margins import Margins
from .mounts import by_device, holding

CPU, MEMORY, GPU = "CPU", "memory", "GPU"


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
class Place:
    """A host that there is or could be. ``disks`` are by file system, ``mounts`` lead to them.

    ``stores`` names the storage that a file system takes its room from, where it is shared.
    ``resources`` has what is counted one by one and only known to people, such as licences.
    """

    name: str
    cpu: Figures
    memory: Figures
    disks: Mapping[str, Figures]
    mounts: Mapping[str, str]
    cards: tuple[Card, ...] = ()
    groups: frozenset[str] = frozenset()
    labels: frozenset[tuple[str, str]] = frozenset()
    stores: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, int] = field(default_factory=dict)

    def system(self, path: str, mounted: str = "") -> str | None:
        """The file system that holds a path; None if it is not on the mount it must be on."""
        mount = holding(path, self.mounts)
        if mount is None or (mounted and mounted not in (ANY_MOUNT, mount)):
            return None
        found = self.mounts[mount]
        return None if mounted and found == self.mounts.get("/") else found

    @property
    def gpu_memory_mib(self) -> float:
        """The memory of a GPU that is the host's own; 0 where every GPU has its own."""
        return max((card.memory_mib for card in self.cards if card.shared), default=0.0)


@dataclass(frozen=True)
class Storage:
    """A storage of several file systems or hosts: what of it may be planned, and where it is.

    ``remote`` storage can be mounted by new hosts; one that ``outlives`` any host is no part of it.
    """

    name: str
    figures: Figures
    mounts: tuple[str, ...] = ()
    remote: bool = False
    outlives: bool = False


@dataclass(frozen=True)
class Draws:
    """How a host draws on storages: by mount, the name and the figures of the storage.

    The figures are None where the file system has a limit of its own.
    """

    storages: Mapping[str, Storage] = field(default_factory=dict)
    limited: frozenset[str] = frozenset()


NO_DRAWS = Draws()


def _figures(row: Row, placed: float) -> Figures:
    """The row without what the workloads themselves ask for."""
    return Figures(row.total, row.reserved, row.foreign, row.demanded - placed)


def measured(
    name: str,
    facts: Facts,
    demand: Sequence[Demand],
    margins: Margins,
    paths: Iterable[str],
    running: Sequence[Spec] = (),
    kept: frozenset[int] = frozenset(),
    groups: frozenset[str] = frozenset(),
    labels: frozenset[tuple[str, str]] = frozenset(),
    draws: Draws = NO_DRAWS,
) -> tuple[Place | None, list[Finding]]:
    """A host from its facts, and what of it cannot be planned; None if it was not measured.

    ``running`` are the replicas that an earlier run placed here, one entry each: what they use
    now is ours, not foreign. ``kept`` are the GPUs that they have.
    """
    cards, findings = cards_of(name, facts, margins, kept, sum(need.gpus for need in demand))
    work = [
        Demand("workloads", disks=tuple(DiskNeed(path, 0.0) for path in paths)),
        *(
            Demand(
                "workloads",
                cpu_cores=spec.request.cpu_cores,
                memory_mib=memory_of(spec, cards),
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
    systems = facts.systems
    mounts: dict[str, str] = {}
    disks = {}
    stores = {}
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
        full = any(systems[mount].read_only for mount in mounted)
        storage = next((draws.storages[m] for m in mounted if m in draws.storages), None)
        own = storage is None or not draws.limited.isdisjoint(mounted)
        figures = _figures(rows[label], placed) if own or storage is None else storage.figures
        disks[label] = Figures(0.0) if full else figures
        if storage is not None:
            stores[label] = storage.name
    # A path may lie on a file system that no workload uses: that one must still win over ``/``.
    for mount in (*systems, *facts.aside):
        mounts.setdefault(mount, "")
    memory = _figures(rows[MEMORY], sum(memory_of(spec, cards) for spec in running))
    if any(card.shared for card in cards):
        # The larger of the two reserves, since there is one memory to keep it in.
        of_gpu = memory.total * margins.gpu_memory_reserve_percent / 100
        memory = replace(memory, reserved=max(memory.reserved, of_gpu))
    return (
        Place(
            name,
            _figures(rows[CPU], sum(spec.request.cpu_cores for spec in running)),
            memory,
            disks,
            mounts,
            cards,
            groups,
            labels,
            stores,
        ),
        findings,
    )


def memory_of(spec: Spec, cards: Sequence[Card]) -> float:
    """What a replica takes of the memory of a host with these GPUs, in MiB.

    A GPU that works in the host's memory takes its part there. Of a whole one it is not known how
    much that is: what it needs is what is written as memory.
    """
    shared = max((card.memory_mib for card in cards if card.shared), default=0.0)
    return spec.request.memory_mib + gpu_part(spec, shared)


def gpu_part(spec: Spec, memory_mib: float) -> float:
    if not memory_mib:
        return 0.0
    return spec.gpu.memory_mib + spec.gpu.share * memory_mib


def offered(shape: Shape, margins: Margins, storages: Sequence[Storage] = ()) -> Place:
    """A host that could be bought, with the margins of every host taken off.

    It mounts the network storages that the others mount, where it brings no disk of its own.

    What the operating system and the platform's own agents use on it is not known before it is
    there; the margins stand for it.
    """
    gpus = shape.gpus
    cards: tuple[Card, ...] = ()
    if gpus is not None:
        key = card_of(gpus.model, gpus.memory_mib or None) if gpus.mig else ""
        usable = gpus.memory_mib * (1 - margins.gpu_memory_reserve_percent / 100)
        shared = has_no_memory(gpus.model, None, True)
        cards = tuple(
            Card(index, "", gpus.model, usable, key, shared) for index in range(gpus.count)
        )
    disks = {
        f"disk {need.path}": Figures(
            need.mib,
            max(margins.disk_reserve_mib, need.mib * margins.disk_reserve_percent / 100),
        )
        for need in shape.disks
    }
    mounts = {need.path: f"disk {need.path}" for need in shape.disks}
    stores = {}
    for storage in storages:
        for mount in storage.mounts if storage.remote else ():
            if mount not in mounts:
                mounts[mount] = f"disk {mount}"
                disks[f"disk {mount}"] = storage.figures
                stores[f"disk {mount}"] = storage.name
    return Place(
        shape.name,
        Figures(shape.cpu_cores * margins.cpu_overcommit, margins.cpu_reserve_cores),
        Figures(shape.memory_mib, margins.memory_reserve_mib),
        disks,
        mounts,
        cards,
        frozenset(shape.groups),
        frozenset(shape.labels),
        stores,
        dict(shape.resources),
    )

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node offers to jobs: processors, memory and GPUs, of what was measured there.

GPUs are named by device files that do not change: the driver tells the minor number of each card,
and so the file, whatever order it counts them in.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._supply.facts import Gpu, gpus_of
from .share import STEP_MIB

SCHEDULER = "scheduler"
# Slurm keeps a job from every device file that it knows and did not give to the job. What no job
# may have is therefore known to it as another kind of thing, of which no team may have any.
DENIED = "served"
NVIDIA = "NVIDIA"
# slurmd refuses to serve with less memory than is written down, and the kernel tells a little
# less or more after an update: one part in a hundred stays out, in steps that hide the rest.
SPARE_MEMORY, MEMORY_STEP_MIB = 0.01, 256
_NO_TYPE = re.compile(r"[^a-z0-9.]+")


@dataclass(frozen=True)
class Card:
    """One GPU, or one MIG instance, as a job gets it: all files that have to be opened for it."""

    uuid: str
    type: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Node:
    """A node as Slurm is told of it. ``spec_*`` is what jobs do not get of the rest.

    ``denied`` are device files of GPUs that no job may open: those that serve, and those that no
    plan may use.
    """

    name: str
    hostname: str
    address: str
    sockets: int
    cores_per_socket: int
    threads_per_core: int
    memory_mib: int
    spec_memory_mib: int = 0
    spec_cores: int = 0
    cards: tuple[Card, ...] = ()
    denied: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    @property
    def cpus(self) -> int:
        return self.sockets * self.cores_per_socket * self.threads_per_core

    @property
    def job_cpus(self) -> int:
        """What of the processors jobs get."""
        return self.cpus - self.spec_cores * self.threads_per_core

    @property
    def job_memory_mib(self) -> int:
        """What of the memory jobs get."""
        return self.memory_mib - self.spec_memory_mib

    @property
    def types(self) -> dict[str, int]:
        """How many GPUs there are of each type, in the order of the cards."""
        found: dict[str, int] = {}
        for card in self.cards:
            found[card.type] = found.get(card.type, 0) + 1
        return found

    @property
    def gres(self) -> str:
        """``gpu:nvidia_h100:2,served:1``; empty without GPUs."""
        found = [f"gpu:{name}:{count}" for name, count in self.types.items()]
        return ",".join(found + [f"{DENIED}:{len(self.denied)}"] * bool(self.denied))


@dataclass(frozen=True)
class Wrong:
    """Something of a node that has to be said: whether it stops us, what, and what mends it."""

    check: str
    stops: bool
    found: str
    wanted: str
    remedy: str


def type_of(model: str) -> str:
    """A model as the type of a GPU in Slurm: ``NVIDIA H100 PCIe`` is ``nvidia_h100_pcie``."""
    return _NO_TYPE.sub("_", model.lower()).strip("_") or "gpu"


def topology(cpu: Mapping[str, Any]) -> tuple[int, int, int]:
    """Sockets, cores of each, threads of each; all threads as cores where it does not divide."""
    threads = int(cpu.get("threads") or cpu.get("usable_cores") or 1)
    sockets, cores = int(cpu.get("sockets") or 0), int(cpu.get("cores") or 0)
    if sockets and cores and cores % sockets == 0 and threads % cores == 0:
        return sockets, cores // sockets, threads // cores
    return 1, threads, 1


def memory(total_mib: float) -> int:
    """What is written down of the memory."""
    return int(total_mib * (1 - SPARE_MEMORY) // MEMORY_STEP_MIB * MEMORY_STEP_MIB)


def bus_of(address: str) -> str:
    """A PCI address in the one form that can be compared: ``0000:65:00.0`` without more zeros."""
    domain, separator, rest = str(address or "").lower().partition(":")
    return f"{domain[-4:]}:{rest}" if separator else domain


def cards_of(
    gpus: Sequence[Gpu], told: Mapping[str, Any], owners: Mapping[str, str]
) -> tuple[tuple[Card, ...], tuple[Wrong, ...]]:
    """The GPUs that jobs get, by minor number, and what is wrong with others.

    ``told`` is what the module ``slurm_probe`` read on the host.
    """
    found: list[tuple[int, Card]] = []
    wrong: list[Wrong] = []
    for gpu in gpus:
        name = gpu.uuid or gpu.pci_bus_id or str(gpu.index)
        if owners.get(name, SCHEDULER) != SCHEDULER:
            continue
        if gpu.vendor not in ("", NVIDIA) or gpu.lost:
            wrong.append(_left_out(gpu, name))
            continue
        minor = _minor(gpu, told)
        if minor is None:
            wrong.append(_nameless(name))
            continue
        file = f"/dev/nvidia{minor}"
        if file not in told.get("devices", ()):
            wrong.append(_no_file(name, file))
            continue
        for card in _parts(gpu, name, minor, wrong):
            found.append((minor, card))
    found.sort(key=lambda one: one[0])
    return tuple(card for _minor_number, card in found), tuple(wrong)


def denied_of(cards: Sequence[Card], told: Mapping[str, Any]) -> tuple[str, ...]:
    """Device files of the host that belong to no GPU of jobs, whoever owns them, by their number.

    A card of which jobs have MIG instances is theirs: serving holds whole cards of a node.
    """
    given = {file for card in cards for file in card.files}
    rest = {str(file) for file in told.get("devices") or ()} - given
    return tuple(sorted(rest, key=lambda file: (len(file), file)))


def _minor(gpu: Gpu, told: Mapping[str, Any]) -> int | None:
    """What the driver's module tells in /proc, else what its library told."""
    known = told.get("minors") or {}
    for key in (bus_of(gpu.pci_bus_id), gpu.uuid):
        if key and key in known:
            return int(known[key])
    return gpu.minor


def _parts(gpu: Gpu, name: str, minor: int, wrong: list[Wrong]) -> list[Card]:
    """The card as a whole, or its MIG instances."""
    kind, file = type_of(gpu.model), f"/dev/nvidia{minor}"
    if gpu.mig_mode.lower() != "enabled":
        return [Card(name, kind, (file,))]
    found = []
    for one in gpu.mig_instances:
        number = f"{one.gpu_instance_id}/{one.compute_instance_id}"
        if not one.files:
            wrong.append(_no_file(f"MIG instance {number} of {name}", "/dev/nvidia-caps"))
            continue
        gib = round((one.memory_mib or 0) / 1024)
        found.append(Card(f"{name}/{number}", f"{kind}.mig_{gib}gb", (file, *one.files)))
    return found


def _left_out(gpu: Gpu, name: str) -> Wrong:
    why = "does not answer any more" if gpu.lost else f"is of {gpu.vendor}"
    return Wrong(
        "gpu_left_out",
        False,
        f"GPU {name} {why}; jobs do not get it",
        "NVIDIA GPUs that answer, which are those that jobs can be given",
        "repair or take out the card; GPUs of others can be used by processes of serving only",
    )


def _nameless(name: str) -> Wrong:
    return Wrong(
        "gpu_minor",
        False,
        f"the driver does not say which device file GPU {name} has; jobs do not get it",
        "the minor number of every GPU, in /proc/driver/nvidia/gpus or of the driver's library",
        "look at the host whether nvidia-smi -q tells its Minor Number, or bring a newer driver",
    )


def _no_file(name: str, file: str) -> Wrong:
    return Wrong(
        "gpu_device",
        False,
        f"GPU {name} has no device file ({file}); jobs do not get it",
        "device files of every GPU",
        "run nvidia-modprobe -c 0 -u on the host, or let the role gpu_driver look after the driver",
    )


def node_of(
    name: str,
    supply: Mapping[str, Any],
    told: Mapping[str, Any],
    address: str,
    *,
    owners: Mapping[str, str],
    groups: Sequence[str],
    spec_memory_mib: float,
    spec_cores: float,
) -> tuple[Node, tuple[Wrong, ...]]:
    """A node of what was measured on its host (the facts ``mlops_supply`` and ``mlops_slurm``)."""
    sockets, cores, threads = topology(supply.get("cpu") or {})
    total = memory(float((supply.get("memory") or {}).get("total_mib") or 0))
    cards, wrong = cards_of(gpus_of(supply), told, owners)
    spare = math.ceil(spec_memory_mib / STEP_MIB) * STEP_MIB
    if spare >= total:
        wrong = (*wrong, _nothing_left(spare, total))
    # Jobs get whole cores, and at least one.
    held = min(math.ceil(round(spec_cores, 3) / threads), sockets * cores - 1)
    return Node(
        name=name,
        hostname=str(told.get("hostname") or name),
        address=address,
        sockets=sockets,
        cores_per_socket=cores,
        threads_per_core=threads,
        memory_mib=total,
        spec_memory_mib=spare,
        spec_cores=max(0, held),
        cards=cards,
        denied=denied_of(cards, told),
        groups=tuple(groups),
    ), wrong


def _nothing_left(spare: int, total: int) -> Wrong:
    return Wrong(
        "memory",
        True,
        f"of {total:,} MiB of memory, {spare:,} MiB are not for jobs",
        "memory that is left for jobs",
        "lower job_scheduler_reserved_memory_mib or job_scheduler_reserved, place less on the host,"
        " or take it out of the group of nodes",
    )

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what is asked of a host fits on it, by sums that a person can redo.

For every host and resource: ``free = total - reserved - foreign - demanded``, where

* ``reserved`` is kept back for the operating system, by explicit margins;
* ``foreign`` is in use now, less what our own services use: those are counted in ``demanded``,
  whether they run already or not;
* ``demanded`` is the sum over all services placed on the host.

Paths are mapped to the file system that holds them; several paths on one file system add up. What
several file systems or hosts take their room from is one sum over all of them (`store_sums`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .._findings.finding import ANY_MOUNT, ERROR, FAIL, WARN, Demand, Finding
from .._findings.sentence import amount, brief
from .._supply.facts import Facts, FileSystem, Kept, Uncounted
from .gpu_state import unsound
from .margins import Margins
from .mounts import MOUNT_PLACES, by_device, holding


@dataclass(frozen=True)
class Part:
    """What one service adds to a sum."""

    service: str
    role: str
    amount: float
    why: str = ""


@dataclass(frozen=True)
class Row:
    """One line of the arithmetic: one resource of one host."""

    host: str
    resource: str
    unit: str
    total: float
    reserved: float
    foreign: float
    demanded: float
    free: float
    short: float
    ours_now: float = 0.0
    parts: tuple[Part, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        data = asdict(self)
        data["parts"] = [asdict(part) for part in self.parts]
        return data


# Which variables of a role change which need: role -> resource kind -> names.
Hints = Mapping[str, Mapping[str, Sequence[str]]]


@dataclass
class Host:
    """The work on one host."""

    name: str
    facts: Facts
    demand: Sequence[Demand]
    margins: Margins
    hints: Hints
    pooled: frozenset[str] = frozenset()
    rows: list[Row] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def add(
        self, check: str, severity: str, found: str, wanted: str = "", remedy: str = ""
    ) -> None:
        self.findings.append(
            Finding(f"capacity.{check}", self.name, severity, found, wanted, remedy)
        )

    def variables(self, roles: Iterable[str], kind: str) -> str:
        """The variables of these roles that change a need, for a remedy."""
        names: list[str] = []
        for role in roles:
            names.extend(self.hints.get(role, {}).get(kind, ()))
        return ", ".join(dict.fromkeys(names))

    # -- sums -------------------------------------------------------------------------------

    def sum_up(
        self,
        resource: str,
        unit: str,
        total: float,
        reserved: float,
        used: float,
        ours: float,
        parts: Sequence[Part],
    ) -> Row:
        demanded = sum(part.amount for part in parts)
        # Ours is taken out of what is in use, but never more than is asked for again.
        known = min(ours, demanded, used)
        foreign = max(0.0, used - known)
        free = total - reserved - foreign - demanded
        row = Row(
            host=self.name,
            resource=resource,
            unit=unit,
            total=round(total, 2),
            reserved=round(reserved, 2),
            foreign=round(foreign, 2),
            demanded=round(demanded, 2),
            free=round(max(0.0, free), 2),
            short=round(max(0.0, -free), 2),
            ours_now=round(known, 2),
            parts=tuple(sorted(parts, key=lambda part: (-part.amount, part.service))),
        )
        self.rows.append(row)
        return row

    def judge(self, row: Row, check: str, kind: str, more: str, now: str = "") -> None:
        if row.short <= 0:
            return
        rounded = 2 if row.unit == "cores" else 0
        biggest = row.parts[:3]
        remedy = (
            f"{more} {amount(row.short, rounded)} {row.unit} or place fewer services on {row.host}"
        )
        names = self.variables((part.role for part in biggest), kind)
        if names:
            remedy += f", or lower the need by {names}"
        asked = ", ".join(
            f"{part.service} {amount(part.amount, rounded)}"
            + (f" ({part.why})" if part.why else "")
            for part in biggest
        )
        if len(row.parts) > len(biggest):
            asked += f" and {len(row.parts) - len(biggest)} more"
        room = row.total - row.reserved - row.foreign
        self.add(
            check,
            FAIL,
            f"{row.resource} has room for {amount(max(0.0, room), rounded)} {row.unit} "
            f"({amount(row.total, rounded)} in total, "
            f"{amount(row.foreign, rounded)} used by others, "
            f"{amount(row.reserved, rounded)} kept for the system{now})",
            f"{amount(row.demanded, rounded)} {row.unit} ({asked})",
            remedy,
        )

    def missing(self, what: str) -> None:
        reasons = [row.reason for row in self.facts.unknown if row.what.startswith(what)]
        self.add(
            "unknown",
            ERROR,
            f"{what} could not be measured{': ' + brief(reasons[0]) if reasons else ''}",
            "a measured value",
            f"look with: ansible {self.name} -m mlops.onprem.capacity_facts",
        )

    # -- resources --------------------------------------------------------------------------

    def cpu(self) -> None:
        parts = [Part(d.service, d.role, d.cpu_cores) for d in self.demand if d.cpu_cores]
        cores = self.facts.cores
        if cores is None:
            if parts:
                self.missing("cpu")
            return
        foreign = sum(row.cpu_cores for row in self.facts.foreign)
        row = self.sum_up(
            "CPU",
            "cores",
            cores * self.margins.cpu_overcommit,
            self.margins.cpu_reserve_cores,
            foreign,
            0.0,
            parts,
        )
        self.judge(row, "cpu", "cpu", "add", self.busy())

    def busy(self) -> str:
        """Who uses the processors, and how long the queue for them is."""
        rows = sorted(self.facts.foreign, key=lambda row: -row.cpu_cores)
        said = [
            f"{brief(row.unit or 'unknown', 60)} {amount(row.cpu_cores, 2)}"
            for row in rows[:3]
            if row.cpu_cores >= 0.01
        ]
        if self.facts.load:
            said.append(f"load {brief(self.facts.load, 20)}")
        return f"; now {', '.join(said)}" if said else ""

    def memory(self) -> None:
        parts = [Part(d.service, d.role, d.memory_mib) for d in self.demand if d.memory_mib]
        total, available = self.facts.memory_mib, self.facts.memory_available_mib
        if total is None or available is None:
            if parts:
                self.missing("memory")
            return
        row = self.sum_up(
            "memory",
            "MiB",
            total,
            self.margins.memory_reserve_mib,
            total - available,
            sum(row.memory_mib for row in self.facts.ours),
            parts,
        )
        self.judge(row, "memory", "memory", "add")

    def disks(self) -> None:
        systems = self.facts.systems
        if not systems:
            if any(demand.disks for demand in self.demand):
                self.missing("filesystems")
            return
        space, inodes = self.asked_of()
        for device, mounts in by_device(systems).items():
            label = "disk " + ", ".join(mounts)
            kept = self.kept_on(mounts)
            if device in space and not self.pooled.intersection(mounts):
                self.disk(label, mounts, space[device], kept)
            self.inodes(label, systems[mounts[0]], inodes.get(device, []), kept)

    def asked_of(self) -> tuple[dict[str, list[Part]], dict[str, list[Part]]]:
        """Space and files that are asked of each file system."""
        space: dict[str, list[Part]] = {}
        inodes: dict[str, list[Part]] = {}
        systems, aside = self.facts.systems, self.facts.aside
        wanted = [(demand, need) for demand in self.demand for need in demand.disks]
        for demand, need in wanted:
            mount = holding(need.path, (*systems, *aside))
            if mount is None:
                self.missing("filesystems")
                continue
            if mount in aside:
                self.not_counted(demand, need.path, mount, aside[mount])
                continue
            if need.mount and (mount == "/" or need.mount not in (ANY_MOUNT, mount)):
                self.add(
                    "not_mounted",
                    FAIL,
                    f"{need.path} lies on {mount}",
                    f"a mount of its own for {demand.service}"
                    + ("" if need.mount == ANY_MOUNT else f" on {need.mount}"),
                    f"mount it, or take mount from the need of {demand.role or demand.service}",
                )
            if mount == "/" and not need.mount and MOUNT_PLACES.match(need.path):
                self.add(
                    "unmounted_path",
                    WARN,
                    f"{need.path} of {demand.service} lies on the root's file system",
                    "a mount of its own for the path",
                    "mount it, or correct the path",
                )
            if systems[mount].read_only:
                self.add(
                    "read_only",
                    FAIL,
                    f"{need.path} lies on {mount}, which is mounted read-only",
                    f"a writable file system for {demand.service}",
                    f"remount it with: mount -o remount,rw {mount}",
                )
            device = systems[mount].behind
            why = need.why or need.path
            space.setdefault(device, []).append(Part(demand.service, demand.role, need.mib, why))
            if need.inodes:
                inodes.setdefault(device, []).append(
                    Part(demand.service, demand.role, need.inodes, why)
                )
        return space, inodes

    def not_counted(self, demand: Demand, path: str, mount: str, row: Uncounted) -> None:
        """A need that lies on memory, or on what is not there or did not answer."""
        kind = row.type or "file system of unknown type"
        lies = f"{path} lies on {mount} ({kind})" if path != mount else f"{path} is a {kind}"
        self.add(
            "not_counted",
            FAIL,
            f"{lies}, whose room is not counted: {brief(row.reason or 'it is no storage')}",
            f"a file system on a disk for {demand.service}",
            f"mount a disk on {path}, or unmount what is on {mount}, then assess again",
        )

    def kept_on(self, mounts: Sequence[str]) -> list[Kept]:
        """The directories of the platform on a file system."""
        every = (*self.facts.systems, *self.facts.aside)
        return [part for part in self.facts.kept if holding(part.path, every) in mounts]

    def kept_in(self, mounts: Sequence[str]) -> Iterable[tuple[object, float]]:
        """What the platform keeps in a storage, with a key that is alike on all its hosts."""
        systems = self.facts.systems
        for part in self.kept_on(mounts):
            mount = holding(part.path, systems) or "/"
            row = systems[mount]
            inside = part.path[len(mount.rstrip("/")) :]
            yield (row.source, row.root, inside), part.mib
        if holding("/usr", systems) in mounts:
            yield (self.name, "packages"), self.facts.packages_mib

    def disk(
        self,
        label: str,
        mounts: Sequence[str],
        parts: Sequence[Part],
        kept: Sequence[Kept],
    ) -> None:
        here = sum(part.mib for part in kept)
        if holding("/usr", self.facts.systems) in mounts:
            here += self.facts.packages_mib
        system = self.facts.systems[mounts[0]]
        size = system.size_mib
        reserve = max(self.margins.disk_reserve_mib, size * self.margins.disk_reserve_percent / 100)
        used = size - system.available_mib
        row = self.sum_up(label, "MiB", size, reserve, used, here, parts)
        self.judge(row, "disk", "disk", "free or add")
        if row.short > 0 and not all(part.complete for part in kept):
            self.add(
                "disk_usage",
                WARN,
                f"what the platform keeps on {label} was counted in part only "
                f"({amount(here, 0)} MiB so far)",
                "a complete count",
                "assess again when the disk is less busy",
            )

    def inodes(
        self,
        label: str,
        system: FileSystem,
        parts: Sequence[Part],
        kept: Sequence[Kept],
    ) -> None:
        total, left = system.inodes, system.inodes_available
        if total is None or left is None:
            return
        reserve = total * self.margins.inode_reserve_percent / 100
        if parts:
            row = self.sum_up(
                label.replace("disk", "files on", 1),
                "inodes",
                total,
                reserve,
                total - left,
                sum(part.entries for part in kept),
                parts,
            )
            self.judge(row, "inodes", "disk", "free or add")
        elif left < reserve:
            self.add(
                "inodes",
                WARN,
                f"{label} has {amount(left, 0)} of {amount(total, 0)} inodes left",
                f"at least {amount(reserve, 0)}",
                "remove small files, or make the file system anew with more inodes",
            )

    def gpus(self) -> None:
        parts = [Part(d.service, d.role, d.gpus) for d in self.demand if d.gpus]
        facts = self.facts
        if facts.gpu_problem:
            self.add(
                "gpu_driver",
                FAIL if parts else WARN,
                brief(facts.gpu_problem),
                "a working driver for every card",
                "install the driver of the card, then assess again",
            )
        if not parts:
            return
        known = () if facts.gpu_source == "pci" else facts.gpus
        usable = [row for row in known if unsound(row) is None]
        row = self.sum_up("GPU", "GPUs", float(len(usable)), 0.0, 0.0, 0.0, parts)
        self.judge(row, "gpu", "gpu", "add")


def sums(name: str, facts: Facts, demand: Sequence[Demand], margins: Margins) -> tuple[Row, ...]:
    """The rows of one host, not judged. A resource that could not be measured has none."""
    work = Host(name, facts, demand, margins, {})
    work.cpu()
    work.memory()
    work.disks()
    return tuple(work.rows)

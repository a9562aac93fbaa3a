# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was measured of a host, as planning relies on it: parsed once, and then not changed.

A figure that is no number is no figure. Sizes are in MiB. Of a figure that may be unknown, None
says so; a word that was not told is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from .._findings.shape import (
    ShapeError,
    each,
    field,
    kind_of,
    mapping,
    number,
    optional,
    text,
    whole,
)
from .gpu import MigInstance

T = TypeVar("T")
Given = Mapping[str, Any]


@dataclass(frozen=True)
class FileSystem:
    """One mount. ``server`` to ``pool`` tell which storage it is, as far as it says."""

    mount: str
    size_mib: float
    available_mib: float
    device: str = ""
    type: str = ""
    source: str = ""
    root: str = ""
    server: str = ""
    fsid: str = ""
    uuid: str = ""
    wwn: str = ""
    pool: str = ""
    inodes: float | None = None
    inodes_available: float | None = None
    read_only: bool = False

    @property
    def behind(self) -> str:
        """What is mounted here: alike for every mount of one file system of a host."""
        return self.device or self.mount


@dataclass(frozen=True)
class Uncounted:
    """A mount whose room is not counted, such as memory, and why."""

    mount: str
    type: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Pool:
    """What several file systems take their room from."""

    name: str
    size_mib: float
    available_mib: float | None = None


@dataclass(frozen=True)
class Service:
    """What a unit uses now."""

    unit: str = ""
    memory_mib: float = 0.0
    cpu_cores: float = 0.0


@dataclass(frozen=True)
class Kept:
    """A directory of the platform. Where it was not ``complete``, it was counted in part."""

    path: str
    mib: float
    entries: float = 0.0
    complete: bool = True


@dataclass(frozen=True)
class Listener:
    """A socket that listens. ``main``: its process is the main one of its unit."""

    protocol: str
    port: int
    address: str
    process: str = ""
    pid: str = ""
    unit: str = ""
    command: str = ""
    main: bool = False
    ours: bool = False


@dataclass(frozen=True)
class Gpu:
    """A card as its driver tells it. ``tells_reserve``: its own part of the memory is known.

    ``minor`` names its device file, ``/dev/nvidia<minor>``; ``index``, its place in the count, does
    not.
    """

    index: int = 0
    vendor: str = ""
    model: str = ""
    uuid: str = ""
    pci_bus_id: str = ""
    minor: int | None = None
    mig_mode: str = ""
    mig_instances: tuple[MigInstance, ...] = ()
    memory_mib: float = 0.0
    memory_used_mib: float | None = None
    processes: int | None = None
    compute_mode: str = ""
    recovery_action: str = ""
    fabric_problem: str = ""
    unknown: tuple[str, ...] = ()
    tells_reserve: bool = False
    memory_shared: bool = False
    lost: bool = False
    remapped_rows_failure: bool = False
    retired_pages_pending: bool = False
    remapped_rows_pending: bool = False
    repair_pending: bool = False


@dataclass(frozen=True)
class Unknown:
    """What could not be measured, and why."""

    what: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Brought:
    """The systemd units that a role of ours has made."""

    role: str
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """A host. ``measured`` is when, in seconds since 1970, by the controller's clock if it can be.

    ``foreign`` are services of others, ``ours`` those of the platform. ``brought`` are the units
    that the roles have made.
    """

    host: str = ""
    measured: float | None = None
    cores: float | None = None
    load: str = ""
    memory_mib: float | None = None
    memory_available_mib: float | None = None
    filesystems: tuple[FileSystem, ...] = ()
    uncounted: tuple[Uncounted, ...] = ()
    pools: tuple[Pool, ...] = ()
    foreign: tuple[Service, ...] = ()
    ours: tuple[Service, ...] = ()
    kept: tuple[Kept, ...] = ()
    packages_mib: float = 0.0
    listeners: tuple[Listener, ...] = ()
    gpu_source: str = ""
    gpu_problem: str = ""
    gpus: tuple[Gpu, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    brought: tuple[Brought, ...] = ()

    @cached_property
    def systems(self) -> Mapping[str, FileSystem]:
        """The file systems by their mount."""
        return {row.mount: row for row in self.filesystems}

    @cached_property
    def aside(self) -> Mapping[str, Uncounted]:
        """The mounts whose room is not counted, by their path."""
        return {row.mount: row for row in self.uncounted if row.mount not in self.systems}


def facts_of(value: object) -> Facts:
    """Read what was measured of a host; other fields may be there.

    Raises:
        ShapeError: A figure is none, with its place.
    """
    given = mapping(value)
    foreign, ours = _part(given, "services", _services)
    kept, packages = _part(given, "ours", _platform)
    total, available = _part(given, "memory", _memory)
    cores, load = _part(given, "cpu", _cpu)
    source, problem, gpus = _part(given, "gpus", _cards)
    return Facts(
        host=_said(given, "host"),
        measured=_part(given, "clock", _measured),
        cores=cores,
        load=load,
        memory_mib=total,
        memory_available_mib=available,
        filesystems=_rows(given, "filesystems", _file_system),
        uncounted=_rows(given, "uncounted", _uncounted),
        pools=_rows(given, "pools", _pool),
        foreign=foreign,
        ours=ours,
        kept=kept,
        packages_mib=packages,
        listeners=_rows(given, "listeners", _listener),
        gpu_source=source,
        gpu_problem=problem,
        gpus=gpus,
        unknown=_rows(given, "unknown", _unknown),
        brought=_part(given, "platform", _brought),
    )


def gpus_of(value: object) -> tuple[Gpu, ...]:
    """The cards alone of what was measured of a host, of which the rest may lack.

    Raises:
        ShapeError: A figure of a card is none, with its place.
    """
    _source, _problem, gpus = _part(mapping(value or {}), "gpus", _cards)
    return gpus


def _part(given: Given, key: str, parse: Callable[[Given], T]) -> T:
    return optional(given, key, lambda value: parse(mapping(value)), parse({}))


def _rows(given: Given, key: str, parse: Callable[[Given], T]) -> tuple[T, ...]:
    return optional(given, key, lambda value: each(value, lambda row: parse(mapping(row))), ())


def _figure(given: Given, key: str) -> float | None:
    return optional(given, key, number, None)


def _word(value: object) -> str:
    """Anything that can be shown, as it is told in sentences."""
    try:
        return str(value)
    except (ValueError, RecursionError):  # such as a number of more digits than Python prints
        raise ShapeError(f"cannot be shown; it is {kind_of(value)}") from None


def _said(given: Given, key: str) -> str:
    return optional(given, key, _word, "") if given.get(key) else ""


def _measured(clock: Given) -> float | None:
    here = _figure(clock, "epoch")
    return _figure(clock, "controller_epoch") or here


def _cpu(cpu: Given) -> tuple[float | None, str]:
    """Usable cores, and the load of the last minute as it is told."""
    load = cpu.get("load")
    last = _word(load[0]) if isinstance(load, (list, tuple)) and load else ""
    return _figure(cpu, "usable_cores"), last


def _memory(memory: Given) -> tuple[float | None, float | None]:
    return _figure(memory, "total_mib"), _figure(memory, "available_mib")


def _services(services: Given) -> tuple[tuple[Service, ...], tuple[Service, ...]]:
    return _rows(services, "foreign", _service), _rows(services, "ours", _service)


def _platform(ours: Given) -> tuple[tuple[Kept, ...], float]:
    return _rows(ours, "directories", _kept), _figure(ours, "packages_mib") or 0.0


def _brought(platform: Given) -> tuple[Brought, ...]:
    units: Given = optional(platform, "units", mapping, {})
    return tuple(Brought(_word(role), each(names, text)) for role, names in units.items())


def _cards(report: Given) -> tuple[str, str, tuple[Gpu, ...]]:
    return _said(report, "source"), _said(report, "problem"), _rows(report, "gpus", _gpu)


def _file_system(row: Given) -> FileSystem:
    return FileSystem(
        mount=field(row, "mount", text),
        size_mib=field(row, "size_mib", number),
        available_mib=field(row, "available_mib", number),
        device=_said(row, "device"),
        type=_said(row, "type"),
        source=_said(row, "source"),
        root=_said(row, "root"),
        server=_said(row, "server"),
        fsid=_said(row, "fsid"),
        uuid=_said(row, "uuid"),
        wwn=_said(row, "wwn"),
        pool=_said(row, "pool"),
        inodes=_figure(row, "inodes"),
        inodes_available=_figure(row, "inodes_available"),
        read_only=bool(row.get("read_only")),
    )


def _uncounted(row: Given) -> Uncounted:
    return Uncounted(field(row, "mount", text), _said(row, "type"), _said(row, "reason"))


def _pool(row: Given) -> Pool:
    return Pool(
        field(row, "name", text), field(row, "size_mib", number), _figure(row, "available_mib")
    )


def _service(row: Given) -> Service:
    return Service(
        _said(row, "unit"), _figure(row, "memory_mib") or 0.0, _figure(row, "cpu_cores") or 0.0
    )


def _kept(row: Given) -> Kept:
    return Kept(
        path=field(row, "path", text),
        mib=field(row, "mib", number),
        entries=_figure(row, "entries") or 0.0,
        complete=bool(row.get("complete", True)),
    )


def _listener(row: Given) -> Listener:
    return Listener(
        protocol=field(row, "protocol", text),
        port=field(row, "port", whole),
        address=field(row, "address", text),
        process=_said(row, "process"),
        pid=_said(row, "pid"),
        unit=_said(row, "unit"),
        command=_said(row, "command"),
        main=bool(row.get("main")),
        ours=bool(row.get("ours")),
    )


def _gpu(row: Given) -> Gpu:
    return Gpu(
        index=optional(row, "index", whole, 0),
        vendor=_said(row, "vendor"),
        model=_said(row, "model"),
        uuid=_said(row, "uuid"),
        pci_bus_id=_said(row, "pci_bus_id"),
        minor=optional(row, "minor", whole, None),
        mig_mode=_said(row, "mig_mode"),
        mig_instances=_rows(row, "mig_instances", _mig_instance),
        memory_mib=_figure(row, "memory_mib") or 0.0,
        memory_used_mib=_figure(row, "memory_used_mib"),
        processes=optional(row, "processes", whole, None),
        compute_mode=_said(row, "compute_mode"),
        recovery_action=_said(row, "recovery_action"),
        fabric_problem=_said(row, "fabric_problem"),
        unknown=optional(row, "unknown", lambda value: each(value, _word), ()),
        tells_reserve=row.get("memory_reserved_mib") is not None,
        memory_shared=bool(row.get("memory_shared")),
        lost=bool(row.get("lost")),
        remapped_rows_failure=bool(row.get("remapped_rows_failure")),
        retired_pages_pending=bool(row.get("retired_pages_pending")),
        remapped_rows_pending=bool(row.get("remapped_rows_pending")),
        repair_pending=bool(row.get("repair_pending")),
    )


def _mig_instance(row: Given) -> MigInstance:
    return MigInstance(
        gpu_instance_id=optional(row, "gpu_instance_id", whole, None),
        compute_instance_id=optional(row, "compute_instance_id", whole, None),
        memory_mib=_figure(row, "memory_mib"),
        memory_used_mib=_figure(row, "memory_used_mib"),
        multiprocessors=optional(row, "multiprocessors", whole, None),
        uuid=_said(row, "uuid") or None,
        profile=_said(row, "profile") or None,
        start=optional(row, "start", whole, None),
        files=optional(row, "files", lambda value: each(value, _word), ()),
    )


def _unknown(row: Given) -> Unknown:
    return Unknown(_said(row, "what"), _said(row, "reason"))

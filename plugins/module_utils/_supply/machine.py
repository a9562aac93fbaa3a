# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is, beside the figures that planning relies on: parsed once, and then not changed.

A word that was not told is empty; None says of a figure that it is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .._findings.shape import ShapeError, each, kind_of, mapping, number, optional, whole

Given = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """How a host answered: empty if it did, else what ssh, sudo or Python said.

    ``host_key`` says what is the matter with its key.
    """

    unreachable: str = ""
    failed: str = ""
    host_key: str = ""


@dataclass(frozen=True)
class Packages:
    """The package manager. ``ours``: the platform is on the host already."""

    manager: str = ""
    broken: tuple[str, ...] = ()
    interrupted: bool = False
    locked: bool = False
    ours: bool = False


@dataclass(frozen=True)
class Machine:
    """A host. The clock's offset is in seconds, memory in MiB."""

    host_id: str = ""
    hostname: str = ""
    clock_offset: float | None = None
    system: str = ""
    system_version: str = ""
    system_name: str = ""
    architecture: str = ""
    kernel: str = ""
    python: str = ""
    python_bits: int | None = None
    init: str = ""
    systemd: bool = False
    root: bool = True
    packages: Packages = Packages()
    free_uids: int | None = None
    cores: str = ""
    cpu: str = ""
    memory_mib: float | None = None
    gpus: tuple[str, ...] = ()
    measured_at: str = ""
    unknown: tuple[str, ...] = ()


def answer_of(value: object) -> Answer:
    """How a host answered, of what was measured or said in its place."""
    given = mapping(value)
    return Answer(_said(given, "unreachable"), _said(given, "failed"), _said(given, "host_key"))


def machine_of(value: object) -> Machine:
    """Read what was measured of a host; other fields may be there.

    Raises:
        ShapeError: A part of it is none, with its place.
    """
    given = mapping(value)
    system, kernel, python = (_part(given, key) for key in ("os", "kernel", "python"))
    init, cpu = _part(given, "init"), _part(given, "cpu")
    return Machine(
        host_id=_said(given, "host_id"),
        hostname=_said(given, "hostname"),
        clock_offset=optional(_part(given, "clock"), "offset_seconds", _seconds, None),
        system=_said(system, "id"),
        system_version=_said(system, "version"),
        system_name=_said(system, "name"),
        architecture=_said(kernel, "architecture"),
        kernel=_said(kernel, "release"),
        python=_said(python, "version"),
        python_bits=optional(python, "bits", whole, None),
        init=_said(init, "name"),
        systemd=bool(init.get("systemd_running")),
        root=bool(given.get("user_is_root", True)),
        packages=_packages(_part(given, "packages")),
        free_uids=optional(given, "system_uids_free", whole, None),
        cores=_said(cpu, "usable_cores"),
        cpu=_said(cpu, "model"),
        memory_mib=optional(_part(given, "memory"), "total_mib", number, None),
        gpus=optional(_part(given, "gpus"), "gpus", lambda rows: each(rows, _model), ()),
        measured_at=_said(given, "measured_at"),
        unknown=optional(given, "unknown", lambda rows: each(rows, _unknown), ()),
    )


def _part(given: Given, key: str) -> Given:
    return optional(given, key, mapping, {})


def _said(given: Given, key: str) -> str:
    return str(given[key]) if given.get(key) else ""


def _seconds(value: object) -> float:
    """A time that may be before another."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ShapeError(f"must be a number of seconds, but is {kind_of(value)}")
    return float(value)


def _packages(given: Given) -> Packages:
    return Packages(
        manager=_said(given, "manager"),
        broken=optional(given, "broken", lambda rows: each(rows, str), ()),
        interrupted=bool(given.get("interrupted")),
        locked=bool(given.get("locked")),
        ours=bool(given.get("ours")),
    )


def _model(row: object) -> str:
    return str(mapping(row).get("model"))


def _unknown(row: object) -> str:
    given = mapping(row)
    return f"{_said(given, 'what')}: {_said(given, 'reason')}"

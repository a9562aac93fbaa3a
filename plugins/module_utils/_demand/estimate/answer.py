# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an estimate answers: figures with their arithmetic, and the demand that follows."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

MIB, GIB = 2**20, 2**30
DEFAULT_PATH = "/var/lib/mlops"


@dataclass(frozen=True)
class Figure:
    """One number, its unit, the formula with the numbers in it, and the formula's source."""

    name: str
    value: float
    unit: str
    formula: str
    source: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Need:
    """What one replica asks of a host. ``gpu_memory_mib`` is of each of ``gpu_count`` devices.

    ``disk_path`` is where the space is wanted. Zero is nothing asked.
    """

    cpu_cores: float = 0.0
    memory_mib: int = 0
    gpu_memory_mib: int = 0
    gpu_count: int = 0
    disk_mib: int = 0
    disk_path: str = DEFAULT_PATH
    replicas: int = 1

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def workload(self) -> dict[str, Any]:
        """The same in the words of ``mlops_workloads``.

        A part of one GPU is asked for by its memory; several GPUs are asked for whole.
        """
        requests: dict[str, Any] = {}
        if self.cpu_cores:
            requests["cpu_cores"] = self.cpu_cores
        if self.memory_mib:
            requests["memory_mib"] = self.memory_mib
        if self.disk_mib:
            requests["disks"] = [{"path": self.disk_path, "size_mib": self.disk_mib}]
        found: dict[str, Any] = {"replicas": self.replicas}
        if requests:
            found["requests"] = requests
        if self.gpu_count > 1:
            found["gpu"] = {"count": self.gpu_count}
        elif self.gpu_memory_mib:
            found["gpu"] = {"memory_mib": self.gpu_memory_mib}
        return found


@dataclass(frozen=True)
class Estimate:
    """The answer to one question. The first figure is what was asked for."""

    name: str
    kind: str
    figures: tuple[Figure, ...]
    need: Need | None = None
    notes: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        first = self.figures[0]
        return {
            "name": self.name,
            "kind": self.kind,
            "value": first.value,
            "unit": first.unit,
            "formula": first.formula,
            "source": first.source,
            "figures": [figure.as_dict() for figure in self.figures],
            "demand": self.need.as_dict() if self.need else {},
            "workload": self.need.workload() if self.need else {},
            "notes": list(self.notes),
        }


def figure(name: str, formula: str, value: float, unit: str, source: str) -> Figure:
    """A figure whose formula ends with its value; bytes are also told in larger units."""
    whole = int(value) if float(value).is_integer() else value
    said = told_bytes(value) if unit == "bytes" else f"{told(value)} {unit}"
    return Figure(name, whole, unit, f"{formula} = {said}", source)


def told(value: float) -> str:
    """A number for a formula: thousands grouped, no digits that say nothing."""
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.4f}".rstrip("0") if abs(value) >= 1 else f"{value:.6g}"


def told_bytes(value: float) -> str:
    """Bytes with the larger unit that fits: ``433,241,088 bytes = 413.17 MiB``."""
    exact = f"{math.ceil(value):,} bytes"
    for unit, size in (("TiB", 2**40), ("GiB", GIB), ("MiB", MIB), ("KiB", 2**10)):
        if value >= size:
            return f"{exact} = {value / size:,.2f} {unit}"
    return exact


def in_mib(value: float) -> int:
    """Bytes as whole MiB, rounded up: what is asked of a host is never too little."""
    return math.ceil(value / MIB)

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that could be bought: ``mlops_host_offers``."""

from __future__ import annotations

from dataclasses import dataclass

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
from .entries import entries
from .quantities import (
    MOST_GPUS,
    at_most,
    cores,
    counted,
    disks,
    size,
    size_keys,
    switch,
)
from .words import NO_WORDS, countables, labels_of, meant, name_of, words
from .workloads import MOST_REPLICAS


@dataclass(frozen=True)
class ShapeGpus:
    """The GPUs of a host that could be bought, all alike."""

    count: int
    model: str
    memory_mib: float = 0.0
    mig: bool = False


@dataclass(frozen=True)
class Shape:
    """A host that could be bought: everything it has, before any margin.

    ``disks`` are its file systems by mount point, with their size in MiB.
    """

    name: str
    cpu_cores: float
    memory_mib: float
    disks: tuple[DiskNeed, ...] = ()
    gpus: ShapeGpus | None = None
    groups: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    price: float | None = None
    most: int | None = None
    resources: tuple[tuple[str, int], ...] = ()


MOST_PRICE = 1e12
SHAPE_KEYS = (
    "name",
    "cpu_cores",
    *size_keys("memory"),
    "disks",
    "gpus",
    "groups",
    "labels",
    "resources",
    "price",
    "most",
)


def _shape_gpus(value: object) -> ShapeGpus:
    given = mapping(value)
    known_keys(given, ("count", "model", *size_keys("memory"), "mig"))
    return ShapeGpus(
        count=field(given, "count", counted(1, MOST_GPUS)),
        model=field(given, "model", text)[:120],
        memory_mib=size(given, "memory") or 0.0,
        mig=optional(given, "mig", switch, False),
    )


def parse_shape(data: object, groups: frozenset[str]) -> Shape:
    """One entry of ``mlops_host_offers``. Raises ShapeError with the field that is wrong."""
    given = mapping(data)
    known_keys(given, SHAPE_KEYS)
    memory = size(given, "memory")
    if memory is None:
        raise ShapeError("is missing", "memory")
    named = optional(given, "groups", words, NO_WORDS)
    for index, group in enumerate(named):
        if group not in groups:
            raise ShapeError(
                f"the inventory has no group {shown(group)}{meant(group, groups)}",
                f"groups[{index}]",
            )
    return Shape(
        name=field(given, "name", name_of),
        cpu_cores=field(given, "cpu_cores", cores),
        memory_mib=memory,
        disks=optional(given, "disks", disks, ()),
        gpus=optional(given, "gpus", _shape_gpus, None),
        groups=named,
        labels=optional(given, "labels", labels_of, ()),
        resources=optional(given, "resources", countables, ()),
        price=optional(given, "price", at_most(MOST_PRICE, number, "can be planned"), None),
        most=optional(given, "most", counted(0, MOST_REPLICAS), None),
    )


def parse_shapes(
    value: object, groups: frozenset[str], place: str = "mlops_host_offers"
) -> tuple[tuple[Shape, ...], tuple[str, ...]]:
    """All offers that can be read, and a sentence for each that cannot."""
    return entries(value, lambda row: parse_shape(row, groups), place)

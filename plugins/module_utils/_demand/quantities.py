# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures as people write them: amounts with their units, numbers with bounds, days, yes and no."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from typing import Any

from .._findings.finding import ANY_MOUNT, DiskNeed, parse_path
from .._findings.shape import (
    ShapeError,
    each,
    field,
    kind_of,
    known_keys,
    mapping,
    number,
    optional,
    shown,
    whole,
)

QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)")
# The units of IEC 80000-13 and SI, in MiB.
UNITS = {
    "KiB": 2**-10,
    "MiB": 1.0,
    "GiB": 2.0**10,
    "TiB": 2.0**20,
    "PiB": 2.0**30,
    "kB": 1e3 / 2**20,
    "MB": 1e6 / 2**20,
    "GB": 1e9 / 2**20,
    "TB": 1e12 / 2**20,
    "PB": 1e15 / 2**20,
    "bytes": 2**-20,
}
# The same where the unit is in the name of a field, such as size_gib.
ENDINGS = {unit.lower(): unit for unit in ("bytes", "KiB", "MiB", "GiB", "TiB", "MB", "GB", "TB")}
ELSEWHERE = re.compile(r"(?=[.,]?[0-9])([0-9]*)(?:[.,]([0-9]+))?\s*([A-Za-z]+)")
THOUSANDTHS = re.compile(r"([0-9]+(?:\.[0-9]+)?)m")
# Above these a figure is a slip of the pen, and sums of them would lose their last digits.
MOST_CORES, MOST_MIB, MOST_GPUS = 1e5, 2.0**40, 1024
FIRST_DAY, LAST_DAY = datetime.date(2000, 1, 1), datetime.date(2100, 1, 1)


def quantity(value: object) -> float:
    """An amount with its unit, such as ``8GiB``, in MiB."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ShapeError(f"must be an amount such as 8GiB, but is {kind_of(value)}")
    if not isinstance(value, str):
        raise ShapeError(f"{shown(value)} has no unit; write it like 8GiB or 512MiB")
    said = value.strip()[:64]
    found = QUANTITY.fullmatch(said)
    if found is None:
        raise ShapeError(f"must be an amount such as 8GiB, but is {shown(value)}{_meant(said)}")
    unit = next((name for name in UNITS if name.lower() == found[2].lower()), None)
    if unit is None:
        raise ShapeError(
            f"{shown(value)} has an unknown unit; known are {', '.join(UNITS)}{_meant(said)}"
        )
    return float(found[1]) * UNITS[unit]


def _meant(said: str) -> str:
    """How an amount is written here that is written so elsewhere, as the end of a sentence.

    Kubernetes has ``16Gi`` and ``16G``; some countries have ``1,5GiB``.
    """
    found = ELSEWHERE.fullmatch(said)
    if found is None:
        return ""
    unit = found[3].lower()
    units = [name for name in UNITS if name.lower() == unit]
    units = units or [name for name in UNITS if name.lower() == f"{unit}b"]
    if not units:
        return ""
    return f"; write {found[1] or 0}{'.' + found[2] if found[2] else ''}{units[0]}"


def at_most(most: float, parse: Callable[[Any], float], what: str) -> Callable[[Any], float]:
    """A figure that cannot be meant if it is larger."""

    def check(value: object) -> float:
        found = parse(value)
        if found > most:
            raise ShapeError(f"{shown(value)} is more than {what} ({most:,.0f})")
        return found

    return check


def number_of_cores(value: object) -> float:
    """Cores; ``500m`` is half of one."""
    found = THOUSANDTHS.fullmatch(value.strip()[:64]) if isinstance(value, str) else None
    return number(value) if found is None else number(found[1]) / 1000


cores = at_most(MOST_CORES, number_of_cores, "can be planned, in cores")


def size_keys(name: str) -> tuple[str, ...]:
    """The fields that give a size: ``size``, with its unit, or a number as ``size_gib``."""
    return (name, *(f"{name}_{ending}" for ending in ENDINGS))


def sizes_given(given: Mapping[str, Any], name: str) -> list[str]:
    """Those of these fields that say something."""
    return [key for key in size_keys(name) if given.get(key) is not None]


def in_mib(key: str, name: str, figure: Callable[[object], float]) -> Callable[[object], float]:
    """A reader of the field as MiB; ``figure`` reads a number that stands without its unit."""
    if key == name:
        return at_most(MOST_MIB, quantity, "can be planned, in MiB")
    unit = ENDINGS[key[len(name) + 1 :]]
    return lambda value: figure(value) * UNITS[unit]


def size(given: Mapping[str, Any], key: str) -> float | None:
    """An amount in MiB, from the one field that gives it; None if none does."""
    named = sizes_given(given, key)
    if not named:
        return None
    if len(named) > 1:
        raise ShapeError(f"says the same as {named[0]}; keep one of them", named[1])
    unit = ENDINGS.get(named[0][len(key) + 1 :], "MiB")
    bounded = at_most(MOST_MIB / UNITS[unit], number, f"can be planned, in {unit}")
    return field(given, named[0], in_mib(named[0], key, bounded))


def counted(least: int, most: int) -> Callable[[Any], int]:
    """A whole number between two others."""

    def check(value: object) -> int:
        try:
            found = whole(value)
        except ShapeError as error:
            if least and error.problem.startswith("must be at least 0"):
                raise ShapeError(f"must be at least {least}, but is {shown(value)}") from None
            raise
        if found < least:
            raise ShapeError(f"must be at least {least}, but is {shown(value)}")
        if found > most:
            raise ShapeError(f"must be at most {most:,}, but is {shown(value)}")
        return found

    return check


def switch(value: object) -> bool:
    """True or false, or yes or no: as YAML reads them, or as texts."""
    if isinstance(value, bool):
        return value
    said = value.strip().lower() if isinstance(value, str) else ""
    if said not in ("true", "yes", "false", "no"):
        raise ShapeError(f"must be true or false, but is {shown_any(value)}")
    return said in ("true", "yes")


def shown_any(value: object) -> str:
    """A value for a sentence: itself if it is short and simple, else what it is."""
    return shown(value) if isinstance(value, (str, int, float)) else kind_of(value)


def day(value: object) -> datetime.date:
    """A day, written as 2027-01-31."""
    if isinstance(value, datetime.datetime) or not isinstance(value, (str, datetime.date)):
        raise ShapeError(f"must be a day such as 2027-01-31, but is {shown_any(value)}")
    said = str(value).strip()
    try:
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", said, re.ASCII):
            raise ValueError
        found = datetime.date.fromisoformat(said)
    except ValueError:
        raise ShapeError(f"must be a day such as 2027-01-31, but is {shown(said)}") from None
    if not FIRST_DAY <= found < LAST_DAY:
        raise ShapeError(f"must lie between {FIRST_DAY} and {LAST_DAY}, but is {said}")
    return found


def _disk(data: object) -> DiskNeed:
    given = mapping(data)
    known_keys(given, ("path", *size_keys("size"), "mount"))
    path = field(given, "path", parse_path)
    mount = optional(given, "mount", lambda value: _mount(value, path), "")
    found = size(given, "size")
    if found is None:
        raise ShapeError("is missing", "size")
    return DiskNeed(path, found, mount=mount)


def _mount(value: object, path: str) -> str:
    """Which mount must hold a path: true for any but the root's, or where it is mounted."""
    if isinstance(value, bool):
        return ANY_MOUNT if value else ""
    if not isinstance(value, str) or not value.startswith("/"):
        raise ShapeError(
            f"must be true, or the path of the mount such as /mnt/nas, but is {shown_any(value)}"
        )
    found = parse_path(value)
    if found == "/" or not (path == found or path.startswith(found + "/")):
        raise ShapeError(f"must be a mount that {path} lies below, but is {found}")
    return found


def disks(value: object) -> tuple[DiskNeed, ...]:
    """Space under paths, each path once."""
    found = each(value, _disk)
    for index, need in enumerate(found):
        if need.path in [earlier.path for earlier in found[:index]]:
            raise ShapeError(f"{shown(need.path)} is there twice", f"[{index}].path")
    return found

# Copyright: (c) 2026, The mlops.onprem developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people write about the work that a site should carry: parsed once, refused in a sentence.

``mlops_workloads`` becomes a tuple of ``Spec``, ``mlops_host_offers`` a tuple of ``Shape``. Every
problem begins with the place of the value, such as ``mlops_workloads[3].gpu.share``.
"""

from __future__ import annotations

import datetime
import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from .._findings.finding import DiskNeed, parse_path
from .._findings.shape import (
    ShapeError,
    each,
    field,
    items,
    kind_of,
    known_keys,
    mapping,
    number,
    optional,
    shown,
    text,
    whole,
)
from .._planner.model import NO_GPU, GpuNeed

SERVING, TRAINING, DATASET, SERVICE, USER = "serving", "training", "dataset", "service", "user"
KINDS = (SERVING, TRAINING, DATASET, SERVICE, USER)
REPLICAS, REQUESTS = "replicas", "requests"
# What grows where nothing is said: more requests and people want more replicas; a dataset or a
# service that exists once becomes larger.
GROWS = {
    SERVING: REPLICAS,
    TRAINING: REPLICAS,
    USER: REPLICAS,
    DATASET: REQUESTS,
    SERVICE: REQUESTS,
}
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
PROFILE = re.compile(r"[1-8]g\.[0-9]+gb(\+[a-z.]+)*")
COMPUTE_PROFILE = re.compile(r"[1-8]c\.[1-8]g\..*")
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
}
# Above these a figure is a slip of the pen, and sums of them would lose their last digits.
MOST_CORES, MOST_MIB, MOST_GPUS = 1e5, 2.0**40, 1024
MOST_REPLICAS, MOST_IN_ALL = 1_000_000, 2_000_000
MOST_PERCENT, MOST_FACTOR, MOST_PRIORITY, MOST_PRICE = 1e4, 1e3, 10**6, 1e12
DAYS_A_YEAR = 365.25
FIRST_DAY, LAST_DAY = datetime.date(2000, 1, 1), datetime.date(2100, 1, 1)
# Of a list that is wrong throughout, this many problems are told one by one.
TOLD = 20
NO_WORDS: tuple[str, ...] = ()
NO_STEPS: tuple[tuple[datetime.date, float], ...] = ()

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """What one replica is promised: cores, MiB of memory, and space under paths in MiB."""

    cpu_cores: float = 0.0
    memory_mib: float = 0.0
    disks: tuple[DiskNeed, ...] = ()


@dataclass(frozen=True)
class Limit:
    """What one replica may use at most; None is no limit."""

    cpu_cores: float | None = None
    memory_mib: float | None = None


NO_REQUEST, NO_LIMIT = Request(), Limit()


@dataclass(frozen=True)
class Growth:
    """How the need changes: percent a year, compound or linear, or factors from given days on.

    ``since`` is the day for which the written figures hold; None is the day of the assessment.
    """

    of: str = REPLICAS
    percent: float = 0.0
    linear: bool = False
    since: datetime.date | None = None
    steps: tuple[tuple[datetime.date, float], ...] = ()

    def factor(self, today: datetime.date, day: datetime.date) -> float:
        """By what the written figures are to be multiplied on a day, given the present one.

        Compound: ``(1 + p/100) ** years``; linear: ``1 + p/100 * years``; a year is 365.25 days.
        Of steps the highest one so far counts: what was needed once stays planned.
        """
        if self.steps:
            return max([1.0, *(factor for at, factor in self.steps if at <= day)])
        years = max(0, (day - (self.since or today)).days) / DAYS_A_YEAR
        rate = self.percent / 100
        return 1 + rate * years if self.linear else (1 + rate) ** years

    @property
    def grows(self) -> bool:
        """Whether anything changes at all."""
        return bool(self.percent or self.steps)


NO_GROWTH = Growth()


@dataclass(frozen=True)
class Spec:
    """One workload as a person wrote it.

    ``spread`` is empty, or the name shared by workloads of whose replicas no two share a host.
    ``models`` of ``gpu`` are as written: ``A100`` means every model that has this word.
    """

    name: str
    kind: str
    request: Request = NO_REQUEST
    limit: Limit = NO_LIMIT
    replicas: int = 1
    gpu: GpuNeed = NO_GPU
    groups: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    hosts: tuple[str, ...] = ()
    spread: str = ""
    growth: Growth = NO_GROWTH
    priority: int = 0

    @property
    def paths(self) -> tuple[str, ...]:
        """Where it needs space."""
        return tuple(need.path for need in self.request.disks)


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


@dataclass(frozen=True)
class Known:
    """What the inventory has, to tell a slip of the pen from a wish."""

    groups: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    labels: frozenset[tuple[str, str]] = frozenset()


# -- figures ------------------------------------------------------------------------------------


def quantity(value: object) -> float:
    """An amount with its unit, such as ``8GiB``, in MiB."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ShapeError(f"must be an amount such as 8GiB, but is {kind_of(value)}")
    if not isinstance(value, str):
        raise ShapeError(f"{shown(value)} has no unit; write it like 8GiB or 512MiB")
    said = value.strip()[:64]
    found = QUANTITY.fullmatch(said)
    if found is None:
        raise ShapeError(f"must be an amount such as 8GiB, but is {shown(value)}")
    unit = next((name for name in UNITS if name.lower() == found[2].lower()), None)
    if unit is None:
        raise ShapeError(f"{shown(value)} has an unknown unit; known are {', '.join(UNITS)}")
    return float(found[1]) * UNITS[unit]


def at_most(most: float, parse: Callable[[Any], float], what: str) -> Callable[[Any], float]:
    """A figure that cannot be meant if it is larger."""

    def check(value: object) -> float:
        found = parse(value)
        if found > most:
            raise ShapeError(f"{shown(value)} is more than {what} ({most:,.0f})")
        return found

    return check


cores = at_most(MOST_CORES, number, "can be planned, in cores")
mebibytes = at_most(MOST_MIB, number, "can be planned, in MiB")
gibibytes = at_most(MOST_MIB / 1024, number, "can be planned, in GiB")


def size(given: Mapping[str, Any], key: str) -> float | None:
    """An amount in MiB, written as ``key`` with a unit, ``key_mib`` or ``key_gib``; None if not."""
    keys = (key, f"{key}_mib", f"{key}_gib")
    named = [name for name in keys if given.get(name) is not None]
    if not named:
        return None
    if len(named) > 1:
        raise ShapeError(f"says the same as {named[0]}; keep one of them", named[1])
    if named[0] == key:
        return field(given, key, at_most(MOST_MIB, quantity, "can be planned, in MiB"))
    if named[0] == keys[1]:
        return field(given, keys[1], mebibytes)
    return field(given, keys[2], gibibytes) * 1024


def counted(least: int, most: int) -> Callable[[Any], int]:
    """A whole number between two others."""

    def check(value: object) -> int:
        found = whole(value)
        if found < least:
            raise ShapeError(f"must be at least {least}, but is {shown(value)}")
        if found > most:
            raise ShapeError(f"must be at most {most:,}, but is {shown(value)}")
        return found

    return check


def switch(value: object) -> bool:
    """True or false, and nothing that only looks like it."""
    if not isinstance(value, bool):
        raise ShapeError(f"must be true or false, but is {shown_any(value)}")
    return value


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


def name_of(value: object) -> str:
    """A name that can also be one of a service or a host."""
    found = text(value)
    if not NAME.fullmatch(found):
        raise ShapeError(
            f"must be 1 to 63 small letters, digits and inner hyphens, but is {shown(found)}"
        )
    return found


def one_of(choices: Sequence[str]) -> Callable[[Any], str]:
    """One word of several."""

    def check(value: object) -> str:
        found = text(value)
        if found not in choices:
            raise ShapeError(
                f"must be one of {', '.join(choices)}, but is {shown(found)}"
                + meant(found, choices)
            )
        return found

    return check


def meant(name: str, known: Iterable[str]) -> str:
    """The closest known word, as the end of a sentence."""
    close = difflib.get_close_matches(name[:64], sorted(known), 1, 0.6)
    return f"; did you mean {close[0]}?" if close else ""


def labels_of(value: object) -> tuple[tuple[str, str], ...]:
    """Labels: a mapping of short words. Numbers and switches are taken as people write them."""
    found = []
    for key, told in mapping(value).items():
        if not LABEL.fullmatch(key):
            raise ShapeError(f"has the key {shown(key)}, which is no short word")
        said = str(told).lower() if isinstance(told, bool) else told
        try:
            word = text(said)
            if not LABEL.fullmatch(word):
                raise ShapeError(f"must be a short word, but is {shown(word)}")
        except ShapeError as error:
            raise error.within(key) from None
        found.append((key, word))
    return tuple(sorted(found))


def words(value: object) -> tuple[str, ...]:
    """A list of texts, each once, at least one."""
    found = each(value, text)
    if not found:
        raise ShapeError("must name at least one")
    for index, word in enumerate(found):
        if word in found[:index]:
            raise ShapeError(f"{shown(word)} is there twice", f"[{index}]")
    return found


# -- one workload -------------------------------------------------------------------------------


def _disk(data: object) -> DiskNeed:
    given = mapping(data)
    known_keys(given, ("path", "size", "size_mib", "size_gib"))
    path = field(given, "path", parse_path)
    found = size(given, "size")
    if found is None:
        raise ShapeError("is missing", "size")
    return DiskNeed(path, found)


def _disks(value: object) -> tuple[DiskNeed, ...]:
    found = each(value, _disk)
    for index, need in enumerate(found):
        if need.path in [earlier.path for earlier in found[:index]]:
            raise ShapeError(f"{shown(need.path)} is there twice", f"[{index}].path")
    return found


def _request(value: object) -> Request:
    given = mapping(value)
    known_keys(given, ("cpu_cores", "memory", "memory_mib", "memory_gib", "disks"))
    return Request(
        cpu_cores=optional(given, "cpu_cores", cores, 0.0),
        memory_mib=size(given, "memory") or 0.0,
        disks=optional(given, "disks", _disks, ()),
    )


def _limit(value: object) -> Limit:
    given = mapping(value)
    known_keys(given, ("cpu_cores", "memory", "memory_mib", "memory_gib"))
    return Limit(
        cpu_cores=optional(given, "cpu_cores", cores, None),
        memory_mib=size(given, "memory"),
    )


def _share(value: object) -> float:
    found = number(value)
    if found == 0:
        raise ShapeError("must be above 0 and below 1, but is 0")
    if found == 1:
        raise ShapeError(f"{shown(value)} is one whole GPU; ask for gpu.count: 1")
    if found > 1:
        if found > MOST_GPUS:
            raise ShapeError(f"{shown(value)} is more than one GPU; ask for gpu.count instead")
        raise ShapeError(f"{shown(value)} is more than one GPU; ask for gpu.count: {_up(found)}")
    return found


def _up(value: float) -> int:
    return math.ceil(value)


def _count(value: object) -> int:
    found = number(value)
    if 0 < found < 1:
        raise ShapeError(f"{shown(value)} is a part of a GPU; ask for gpu.share: {shown(value)}")
    return counted(1, MOST_GPUS)(value)


def _profile(value: object) -> str:
    found = text(value)
    if COMPUTE_PROFILE.fullmatch(found[:64]):
        raise ShapeError(
            f"{shown(found)} is a compute instance; ask for the whole instance, such as 3g.20gb"
        )
    if not PROFILE.fullmatch(found[:64]):
        raise ShapeError(f"must be a MIG profile such as 3g.40gb, but is {shown(found)}")
    return found


def _gpu(value: object) -> GpuNeed:
    given = mapping(value)
    ways = ("count", "share", "memory", "memory_mib", "memory_gib", "profile")
    known_keys(given, (*ways, "models"))
    named = [way for way in ways if given.get(way) is not None]
    if not named:
        raise ShapeError("must have one of count, share, memory and profile")
    if len(named) > 1:
        raise ShapeError(
            f"cannot stand beside {named[0]}; keep one of count, share, memory and profile",
            named[1],
        )
    memory = size(given, "memory")
    if memory == 0:
        raise ShapeError("must be above 0", named[0])
    return GpuNeed(
        count=optional(given, "count", _count, 0),
        share=optional(given, "share", _share, 0.0),
        memory_mib=memory or 0.0,
        profile=optional(given, "profile", _profile, ""),
        models=frozenset(optional(given, "models", words, NO_WORDS)),
    )


def _step(value: object) -> tuple[datetime.date, float]:
    given = mapping(value)
    known_keys(given, ("date", "factor"))
    return (
        field(given, "date", day),
        field(given, "factor", at_most(MOST_FACTOR, number, "can be planned, as a factor")),
    )


def _growth(value: object, kind: str) -> Growth:
    given = mapping(value)
    known_keys(given, ("percent_per_year", "linear", "since", "steps", "of"))
    of = optional(given, "of", one_of((REPLICAS, REQUESTS)), GROWS[kind])
    percent = optional(
        given,
        "percent_per_year",
        at_most(MOST_PERCENT, number, "can be planned, in percent"),
        0.0,
    )
    steps = tuple(sorted(optional(given, "steps", lambda rows: each(rows, _step), NO_STEPS)))
    if given.get("percent_per_year") is not None and given.get("steps") is not None:
        raise ShapeError("cannot stand beside percent_per_year; keep one of them", "steps")
    if given.get("percent_per_year") is None and given.get("steps") is None:
        raise ShapeError("must have percent_per_year or steps")
    for key in ("linear", "since"):
        if steps and given.get(key) is not None:
            raise ShapeError("belongs to percent_per_year, not to steps", key)
    for (first, _factor), (second, _other) in zip(steps, steps[1:]):
        if first == second:
            raise ShapeError(f"has two factors for {first}", "steps")
    return Growth(
        of=of,
        percent=percent,
        linear=optional(given, "linear", switch, False),
        since=optional(given, "since", day, None),
        steps=steps,
    )


def _spread(value: object, name: str) -> str:
    """True keeps the replicas of this workload apart; a word those of all that have it."""
    if isinstance(value, bool):
        return f"workload {name}" if value else ""
    return f"group {name_of(value)}"


@dataclass(frozen=True)
class _Where:
    groups: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    names: tuple[str, ...] = ()


NOWHERE = _Where()


def _where(value: object, known: Known) -> _Where:
    given = mapping(value)
    known_keys(given, ("groups", "labels", "names"))
    found = _Where(
        groups=optional(given, "groups", words, NO_WORDS),
        labels=optional(given, "labels", labels_of, ()),
        names=optional(given, "names", words, NO_WORDS),
    )
    for index, group in enumerate(found.groups):
        if group not in known.groups:
            raise ShapeError(
                f"the inventory has no group {shown(group)}{meant(group, known.groups)}",
                f"groups[{index}]",
            )
    for index, name in enumerate(found.names):
        if name not in known.hosts:
            raise ShapeError(
                f"the inventory has no host {shown(name)}{meant(name, known.hosts)}",
                f"names[{index}]",
            )
    for key, word in found.labels:
        if (key, word) not in known.labels:
            others = sorted(other for label, other in known.labels if label == key)
            said = f"; they have {', '.join(others[:5])}" if others else ""
            raise ShapeError(
                f"no host has the label {key}={word} in mlops_host_labels{said}", f"labels.{key}"
            )
    return found


WORKLOAD_KEYS = (
    "name",
    "kind",
    "requests",
    "limits",
    "replicas",
    "hosts",
    "gpu",
    "anti_affinity",
    "growth",
    "priority",
)


def parse_workload(data: object, known: Known) -> Spec:
    """One entry of ``mlops_workloads``. Raises ShapeError with the field that is wrong."""
    given = mapping(data)
    known_keys(given, WORKLOAD_KEYS)
    name = field(given, "name", name_of)
    kind = field(given, "kind", one_of(KINDS))
    request = optional(given, "requests", _request, NO_REQUEST)
    limit = optional(given, "limits", _limit, NO_LIMIT)
    for key, most, least, unit in (
        ("cpu_cores", limit.cpu_cores, request.cpu_cores, "cores"),
        ("memory", limit.memory_mib, request.memory_mib, "MiB"),
    ):
        if most is not None and most < least:
            raise ShapeError(
                f"{most:,.10g} {unit} is less than the {least:,.10g} {unit} of requests.{key}",
                f"limits.{key}",
            )
    gpu = optional(given, "gpu", _gpu, NO_GPU)
    if kind == DATASET and gpu.wanted:
        raise ShapeError("a dataset needs disks and no GPU; describe its reader by itself", "gpu")
    if kind == DATASET and not request.disks:
        raise ShapeError("is missing; a dataset is on a disk", "requests.disks")
    if not (request.cpu_cores or request.memory_mib or gpu.wanted) and not any(
        need.mib for need in request.disks
    ):
        raise ShapeError("asks for nothing; give it requests or gpu")
    where = optional(given, "hosts", lambda value: _where(value, known), NOWHERE)
    return Spec(
        name=name,
        kind=kind,
        request=request,
        limit=limit,
        replicas=optional(given, "replicas", counted(1, MOST_REPLICAS), 1),
        gpu=gpu,
        groups=where.groups,
        labels=where.labels,
        hosts=where.names,
        spread=optional(given, "anti_affinity", lambda value: _spread(value, name), ""),
        growth=optional(
            given, "growth", lambda value: _growth(value, kind), Growth(of=GROWS[kind])
        ),
        priority=optional(given, "priority", counted(0, MOST_PRIORITY), 0),
    )


def parse_workloads(
    value: object, known: Known, place: str = "mlops_workloads"
) -> tuple[tuple[Spec, ...], tuple[str, ...]]:
    """All workloads that can be read, and a sentence for each that cannot."""
    found, problems = _parse_all(value, lambda row: parse_workload(row, known), place)
    total = sum(spec.replicas for spec in found)
    if total > MOST_IN_ALL:
        problems = (
            *problems,
            f"{place}: {total:,} replicas in all are more than can be planned ({MOST_IN_ALL:,})",
        )
    return found, problems


N = TypeVar("N", Spec, Shape)


def _parse_all(
    value: object, parse: Callable[[Any], N], place: str
) -> tuple[tuple[N, ...], tuple[str, ...]]:
    """Every entry by itself, so that one that is wrong does not hide the others."""
    found: list[N] = []
    problems: list[str] = []
    more = 0
    names: dict[str, int] = {}
    try:
        rows: Sequence[Any] = items([] if value is None else value)
    except ShapeError as error:
        return (), (str(error.within(place)),)
    for index, row in enumerate(rows):
        try:
            parsed = parse(row)
            first = names.setdefault(parsed.name, index)
            if first != index:
                raise ShapeError(f"{shown(parsed.name)} is taken by {place}[{first}]", "name")
            found.append(parsed)
        except ShapeError as error:
            if len(problems) < TOLD:
                problems.append(str(error.within(f"{place}[{index}]")))
            else:
                more += 1
    if more:
        problems.append(f"{place}: {more:,} more entries are wrong as well")
    return tuple(found), tuple(problems)


# -- hosts that could be bought -----------------------------------------------------------------

SHAPE_KEYS = (
    "name",
    "cpu_cores",
    "memory",
    "memory_mib",
    "memory_gib",
    "disks",
    "gpus",
    "groups",
    "labels",
    "price",
    "most",
)


def _shape_gpus(value: object) -> ShapeGpus:
    given = mapping(value)
    known_keys(given, ("count", "model", "memory", "memory_mib", "memory_gib", "mig"))
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
        disks=optional(given, "disks", _disks, ()),
        gpus=optional(given, "gpus", _shape_gpus, None),
        groups=named,
        labels=optional(given, "labels", labels_of, ()),
        price=optional(given, "price", at_most(MOST_PRICE, number, "can be planned"), None),
        most=optional(given, "most", counted(0, MOST_REPLICAS), None),
    )


def parse_shapes(
    value: object, groups: frozenset[str], place: str = "mlops_host_offers"
) -> tuple[tuple[Shape, ...], tuple[str, ...]]:
    """All offers that can be read, and a sentence for each that cannot."""
    return _parse_all(value, lambda row: parse_shape(row, groups), place)


def parse_labels(
    values: Mapping[str, object], place: str = "mlops_host_labels"
) -> tuple[dict[str, tuple[tuple[str, str], ...]], tuple[str, ...]]:
    """The labels of each host, and a sentence for each host whose labels cannot be read."""
    found = {}
    problems = []
    for host, value in values.items():
        try:
            found[host] = labels_of(value)
        except ShapeError as error:
            problems.append(f"{error.within(place)} ({host[:63]})")
    return found, tuple(problems)


# -- what if ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WhatIf:
    """Changes to try: hosts and workloads more or fewer. Hosts are shapes with how many."""

    add_hosts: tuple[tuple[Shape, int], ...] = ()
    remove_hosts: tuple[str, ...] = ()
    add_workloads: tuple[Spec, ...] = ()
    remove_workloads: tuple[str, ...] = ()

    @property
    def wanted(self) -> bool:
        """Whether anything is to be tried."""
        return bool(
            self.add_hosts or self.remove_hosts or self.add_workloads or self.remove_workloads
        )


def parse_what_if(
    value: object,
    known: Known,
    specs: Sequence[Spec],
    shapes: Sequence[Shape],
    place: str = "assess_what_if",
) -> tuple[WhatIf, tuple[str, ...]]:
    """The changes to try, and a sentence for what cannot be read."""
    try:
        return _what_if(value, known, specs, shapes), ()
    except ShapeError as error:
        return WhatIf(), (str(error.within(place)),)


def _what_if(value: object, known: Known, specs: Sequence[Spec], shapes: Sequence[Shape]) -> WhatIf:
    given = mapping({} if value is None else value)
    known_keys(given, ("add_hosts", "remove_hosts", "add_workloads", "remove_workloads"))
    by_name = {shape.name: shape for shape in shapes}

    def host(row: object) -> tuple[Shape, int]:
        told = mapping(row)
        count = optional(told, "count", counted(1, 10_000), 1)
        if "offer" not in told:
            plain = {key: told[key] for key in told if key != "count"}
            return parse_shape(plain, known.groups), count
        known_keys(told, ("offer", "count"))
        name = field(told, "offer", text)
        if name not in by_name:
            raise ShapeError(
                f"mlops_host_offers has no {shown(name)}{meant(name, by_name)}", "offer"
            )
        return by_name[name], count

    def removed(key: str, names: Iterable[str], what: str) -> tuple[str, ...]:
        found = optional(given, key, words, NO_WORDS)
        for index, name in enumerate(found):
            if name not in names:
                raise ShapeError(
                    f"there is no {what} {shown(name)}{meant(name, names)}", f"{key}[{index}]"
                )
        return found

    gone = removed("remove_workloads", [spec.name for spec in specs], "workload")
    taken = {spec.name for spec in specs} - set(gone)

    def workload(row: object) -> Spec:
        spec = parse_workload(row, known)
        if spec.name in taken:
            raise ShapeError(
                f"{shown(spec.name)} is there already; remove it by remove_workloads first", "name"
            )
        taken.add(spec.name)
        return spec

    return WhatIf(
        add_hosts=optional(given, "add_hosts", lambda rows: each(rows, host), ()),
        remove_hosts=removed("remove_hosts", known.hosts, "host"),
        add_workloads=optional(given, "add_workloads", lambda rows: each(rows, workload), ()),
        remove_workloads=gone,
    )

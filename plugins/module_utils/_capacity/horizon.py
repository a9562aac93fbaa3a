# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When growth eats what is there: by sums for each group of hosts, by planning for the whole.

Needs never fall with time (see ``Growth.factor``), so a first day is found by bisection.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .._demand.growth import DAYS_A_YEAR, NO_GROWTH, REPLICAS, Growth
from .._demand.workloads import Spec
from .._planner.mig.geometry import card
from .._planner.model import FEASIBLE, INFEASIBLE, Assignment
from .places import CPU, GPU, MEMORY, Place, memory_of
from .question import EDGE, Problem

ALL, DISK = "all", "disk"


@dataclass(frozen=True)
class Runout:
    """One resource of a group: what may be planned, what is placed, and the last day it lasts.

    ``runs_out`` is the first day on which the placed workloads, grown, need more than there is;
    None if that is not before the horizon.
    """

    group: str
    resource: str
    unit: str
    supply: float
    placed: float
    at_horizon: float
    runs_out: datetime.date | None

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        data = asdict(self)
        data["runs_out"] = None if self.runs_out is None else self.runs_out.isoformat()
        return data


@dataclass(frozen=True)
class Horizon:
    """How long the plan lasts.

    It is shown to fit until ``fits_until``. ``ends`` is the first day on which no placement was
    found, None if there is none before ``until``; ``proven`` tells that none exists on that day.
    """

    until: datetime.date
    fits_until: datetime.date
    ends: datetime.date | None
    proven: bool
    runouts: tuple[Runout, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "until": self.until.isoformat(),
            "fits_until": self.fits_until.isoformat(),
            "ends": None if self.ends is None else self.ends.isoformat(),
            "proven": self.proven,
            "resources": [row.as_dict() for row in self.runouts],
        }


def last_day(today: datetime.date, years: float) -> datetime.date:
    """The end of the horizon."""
    return today + datetime.timedelta(days=round(years * DAYS_A_YEAR))


def first_day(
    today: datetime.date, until: datetime.date, over: Callable[[datetime.date], bool]
) -> datetime.date | None:
    """The first day on which something holds that goes on holding once it does."""
    if not over(until):
        return None
    low, high = -1, (until - today).days
    while high - low > 1:
        middle = (low + high) // 2
        if over(today + datetime.timedelta(days=middle)):
            high = middle
        else:
            low = middle
    return today + datetime.timedelta(days=high)


def gpu_parts(problem: Problem, found: Assignment, spec: Spec) -> Mapping[int, float]:
    """How much of each of its devices a placed replica takes, by the device's position.

    A MIG instance counts as its part of the card's compute slices.
    """
    cards = problem.places[found.host].cards
    used = {}
    for position in found.devices:
        part = 1.0
        if spec.gpu.share:
            part = spec.gpu.share
        elif spec.gpu.memory_mib:
            part = spec.gpu.memory_mib / cards[position].memory_mib
        elif spec.gpu.profile:
            geometry = card(cards[position].mig)
            part = geometry.profiles[spec.gpu.profile].slices / geometry.slices
        used[position] = part
    return used


def members(places: Iterable[Place], specs: Sequence[Spec]) -> dict[str, list[Place]]:
    """The groups that workloads name, and all but the edge for those that name none.

    Two groups with the same hosts are one, by the first of their names.
    """
    named = sorted({group for spec in specs for group in spec.groups})
    found = {group: [place for place in places if group in place.groups] for group in named}
    if any(not spec.groups for spec in specs):
        found[ALL] = [place for place in places if EDGE not in place.groups]
    seen: set[frozenset[str]] = set()
    kept = {}
    for group, here in found.items():
        names = frozenset(place.name for place in here)
        if names and names not in seen:
            seen.add(names)
            kept[group] = here
    return kept


def _supply(problem: Problem, places: Sequence[Place]) -> dict[str, float]:
    """What may be planned on hosts in all; a storage that several of them reach is there once."""
    supply: dict[str, float] = {
        CPU: sum(place.cpu.free for place in places),
        MEMORY: sum(place.memory.free for place in places),
    }
    for place in places:
        for label, figures in place.disks.items():
            if label in place.stores:
                name = place.stores[label]
                supply[name] = problem.storages[name].figures.free
            else:
                supply[DISK] = supply.get(DISK, 0.0) + figures.free
        for device in place.cards:
            key = f"{GPU} {device.model}"
            supply[key] = supply.get(key, 0.0) + 1
    return supply


def runouts(
    problem: Problem,
    placement: Sequence[Assignment],
    specs: Sequence[Spec],
    today: datetime.date,
    until: datetime.date,
) -> tuple[Runout, ...]:
    """For each resource of each group of hosts: when what is placed there outgrows it.

    Sums of needs that are not rounded to whole replicas. The plan as a whole, which has to place
    whole ones, ends earlier as a rule.
    """
    by_name = {spec.name: spec for spec in specs}
    replicas = {work.name: work.replicas for work in problem.instance.workloads}
    found = []
    for group, places in members(problem.places.values(), specs).items():
        names = {place.name for place in places}
        supply = _supply(problem, places)
        # What is used, apart by growth: workloads that grow alike are one term.
        uses: dict[str, dict[Growth, float]] = {key: {} for key in supply}

        def use(key: str, growth: Growth, part: float, uses: Any = uses) -> None:
            uses[key][growth] = uses[key].get(growth, 0.0) + part

        for one in placement:
            if one.host not in names:
                continue
            spec = by_name[one.workload]
            # Grown replicas are rounded; each stands for its part of the number before that.
            whole = spec.growth.of != REPLICAS
            weight = 1.0 if whole else spec.replicas / max(1, replicas[spec.name])
            use(CPU, spec.growth, spec.request.cpu_cores * weight)
            use(MEMORY, spec.growth, spec.request.memory_mib * weight)
            here = problem.places[one.host]
            cards = here.cards
            of_gpu = memory_of(spec, cards) - spec.request.memory_mib
            if of_gpu:
                use(MEMORY, NO_GROWTH if whole else spec.growth, of_gpu * weight)
            for need in spec.request.disks:
                system = here.system(need.path, need.mount)
                use(here.stores.get(system or "", DISK), spec.growth, need.mib * weight)
            for position, part in gpu_parts(problem, one, spec).items():
                key = f"{GPU} {cards[position].model}"
                use(key, NO_GROWTH if whole else spec.growth, part * weight)
        found += [
            _runout(group, key, supply[key], terms, today, until)
            for key, terms in uses.items()
            if any(terms.values())
        ]
    return tuple(found)


def _runout(
    group: str,
    resource: str,
    supply: float,
    terms: Mapping[Growth, float],
    today: datetime.date,
    until: datetime.date,
) -> Runout:
    def needed(day: datetime.date) -> float:
        return sum(amount * growth.factor(today, day) for growth, amount in terms.items())

    return Runout(
        group,
        resource,
        "cores" if resource == CPU else "GPUs" if resource.startswith(GPU) else "MiB",
        round(supply, 2),
        round(needed(today), 2),
        round(needed(until), 2),
        first_day(today, until, lambda day: needed(day) > supply * (1 + 1e-9)),
    )


def lasts(
    today: datetime.date,
    until: datetime.date,
    decide: Callable[[datetime.date], str | None],
) -> tuple[datetime.date, datetime.date | None, bool]:
    """Until when the whole plan fits, the first day it does not, and whether that is proven.

    ``decide`` gives the verdict of a day, or None when there is no time left to decide. The plan
    fits today.
    """
    verdict = decide(until)
    if verdict == FEASIBLE:
        return until, None, False
    low, high, proven = 0, (until - today).days, verdict == INFEASIBLE
    while high - low > 1:
        middle = (low + high) // 2
        verdict = decide(today + datetime.timedelta(days=middle))
        if verdict is None:
            break
        if verdict == FEASIBLE:
            low = middle
        else:
            high, proven = middle, verdict == INFEASIBLE
    return (
        today + datetime.timedelta(days=low),
        today + datetime.timedelta(days=high),
        proven,
    )

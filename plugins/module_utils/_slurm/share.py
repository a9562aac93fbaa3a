# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What jobs do not get of a host: what its services need and what serves there may use.

Only what was planned counts, never what is in use now: a node would change with every job. Jobs
that are planned on the host go before what is held back for its system: the plan has a reserve of
its own, beside what it measured (``assess_margins``), and what it placed has to start.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._workloads.owners import scheduled, serves
from .._workloads.placed import Placed
from .._workloads.serving import bounded

STEP_MIB = 64
"""What is held back of the memory is written down in steps of this."""


@dataclass(frozen=True)
class Amount:
    """Processors and memory."""

    cpu_cores: float = 0.0
    memory_mib: float = 0.0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.cpu_cores + other.cpu_cores, self.memory_mib + other.memory_mib)


def amount_of(row: Mapping[str, Any]) -> Amount:
    """Of a need that a role declared, or what a person reserves."""
    return Amount(float(row.get("cpu_cores") or 0), float(row.get("memory_mib") or 0))


def total(amounts: Iterable[Amount]) -> Amount:
    """The sum."""
    found = Amount()
    for one in amounts:
        found += one
    return found


def promised(replicas: Iterable[Placed]) -> Amount:
    """What replicas were planned with."""
    return total(Amount(one.cpu_cores, one.memory_mib) for one in replicas)


def at_most(replicas: Iterable[Placed], margin_percent: float) -> Amount:
    """What the units of replicas let them use."""
    return total(
        Amount(
            bounded(one.cpu_limit, one.cpu_cores, margin_percent),
            bounded(one.memory_limit_mib, one.memory_mib, margin_percent),
        )
        for one in replicas
    )


def sent(jobs: Iterable[Placed], threads: int = 1) -> Amount:
    """What jobs hold in Slurm: whole cores of so many threads, and the memory that they may use."""
    return total(
        Amount(
            max(1, math.ceil(one.cpu_cores / threads)) * threads,
            one.memory_mib if one.memory_limit_mib is None else one.memory_limit_mib,
        )
        for one in jobs
    )


def held(
    size: Amount, services: Amount, replicas: Sequence[Placed], margin_percent: float
) -> Amount:
    """What jobs do not get of a host of this size.

    ``services`` is the system, the platform and what a person reserves. What serves has what it was
    promised, and what it may use above that as far as no job that is planned here needs it.
    """
    serving = [one for one in replicas if serves(one)]
    jobs = sent(one for one in replicas if scheduled(one))
    least, most = promised(serving), at_most(serving, margin_percent)
    return Amount(
        _within(
            size.cpu_cores, services.cpu_cores, least.cpu_cores, most.cpu_cores, jobs.cpu_cores
        ),
        _within(
            size.memory_mib, services.memory_mib, least.memory_mib, most.memory_mib, jobs.memory_mib
        ),
    )


def with_room(size: Amount, kept: Amount, system_mib: float, jobs: Amount) -> Amount:
    """What is held back where jobs that are planned on the host have their room.

    ``system_mib`` of the memory is held for the system and gives way. All of the processors do: who
    serves and who computes share them by weight, as the plan lets them where it overcommits.
    """
    over = min(jobs.memory_mib, kept.memory_mib + jobs.memory_mib - size.memory_mib)
    memory = kept.memory_mib
    if over > 0:
        least = math.floor((memory - over) / STEP_MIB) * STEP_MIB
        memory = max(memory - system_mib, least)
    return Amount(min(kept.cpu_cores, max(0.0, size.cpu_cores - jobs.cpu_cores)), memory)


def _within(size: float, services: float, least: float, most: float, jobs: float) -> float:
    return services + max(least, min(most, size - services - jobs))

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a site: what was asked, what was found, and both as plain data."""

from __future__ import annotations

import datetime
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from .._demand.offers import Shape
from .._demand.what_if import WhatIf
from .._demand.workloads import Spec
from .._planner.model import (
    Purchase,
    Result,
    Survival,
)
from .horizon import Horizon
from .places import CPU, MEMORY, Place, Storage
from .question import DISK_FOR, Earlier, Problem, build
from .shortages import Load, Shortage, tidy

SCHEMA = 1
NO_CHANGE = WhatIf()


@dataclass(frozen=True)
class Planning:
    """How to plan: seconds in all, seed, years to look ahead, and whether any host may be lost."""

    seconds: float = 30.0
    seed: int = 0
    horizon_years: float = 3.0
    survive: bool = False


@dataclass(frozen=True)
class Site:
    """What is planned: hosts, offers, workloads, the day, and where work was placed before.

    ``unmeasured`` are hosts of the inventory whose supply is not known.
    """

    places: tuple[Place, ...]
    specs: tuple[Spec, ...]
    today: datetime.date
    offers: tuple[tuple[Shape, Place], ...] = ()
    earlier: tuple[Earlier, ...] = ()
    unmeasured: tuple[str, ...] = ()
    storages: tuple[Storage, ...] = ()

    def problem(self, day: datetime.date) -> Problem:
        """The planner's question on a day."""
        return build(
            self.places,
            self.offers,
            self.specs,
            lambda spec: spec.growth.factor(self.today, day),
            self.storages,
        )


@dataclass(frozen=True)
class SitePlan:
    """The answer. ``kept`` tells how many replicas stay where an earlier run placed them."""

    verdict: str
    site: Site
    planning: Planning
    problem: Problem
    result: Result
    kept: int = 0
    reason: str = ""
    shortages: tuple[Shortage, ...] = ()
    loads: tuple[Load, ...] = ()
    survivals: tuple[Survival, ...] | None = None
    horizon: Horizon | None = None
    purchase: Purchase | None = None
    purchase_for_horizon: Purchase | None = None
    seconds: float = 0.0
    changed: SitePlan | None = None
    what_if: WhatIf = field(default=NO_CHANGE)

    @property
    def exposed(self) -> tuple[Survival, ...]:
        """The hosts that may not be lost."""
        return tuple(row for row in self.survivals or () if row.stranded)

    def placement(self) -> list[dict[str, Any]]:
        """Where each replica goes, with the driver's names of its GPUs."""
        profiles = {spec.name: spec.gpu.profile for spec in self.site.specs}
        return [
            {
                "workload": one.workload,
                "replica": one.replica,
                "host": one.host,
                "gpus": list(self.problem.gpus(one)),
                "gpu_ids": [
                    self.problem.places[one.host].cards[position].uuid for position in one.devices
                ],
                "profile": profiles[one.workload],
                "slice": one.slice,
            }
            for one in sorted(self.result.placement)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as docs/schema/capacity_plan.schema.json describes it."""
        instance = self.problem.instance
        placed = Counter(one.workload for one in self.result.placement)
        data: dict[str, Any] = {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "reason": self.reason,
            "day": self.site.today.isoformat(),
            "seed": self.planning.seed,
            "seconds": round(self.seconds, 3),
            "kept": self.kept,
            "sums_fit": self.result.sums_fit,
            "at_least": self.result.at_least,
            "unmeasured": list(self.site.unmeasured),
            "hosts": [asdict(load) for load in self.loads],
            "workloads": [
                {
                    "name": work.name,
                    "kind": spec.kind,
                    "replicas": work.replicas,
                    "placed": placed[work.name],
                    "needs": {
                        resource: tidy(amount)
                        for resource, amount in zip(instance.resources, work.demand)
                        # The others say the same once more, for what is shared.
                        if resource in (CPU, MEMORY)
                        or resource.startswith(DISK_FOR)
                        or resource in dict(spec.request.resources)
                    },
                    "gpu": gpu_text(spec),
                    "priority": spec.priority,
                }
                for work, spec in zip(instance.workloads, self.site.specs)
            ],
            "resources": dict(zip(instance.resources, instance.units)),
            "placement": self.placement(),
            "unplaced": {name: count for name, count in self.result.unplaced.items() if count},
            "certificates": [
                {**asdict(row), "shapes": list(row.shapes), "steps": list(row.steps)}
                for row in self.result.certificates
            ],
            "shortages": [row.as_dict() for row in self.shortages],
            "lost_hosts": (
                None
                if self.survivals is None
                else [
                    {
                        "host": row.host,
                        "moves": row.lost,
                        "stranded": dict(row.stranded),
                        "proven": row.proven,
                    }
                    for row in self.survivals
                ]
            ),
            "horizon": None if self.horizon is None else self.horizon.as_dict(),
            "purchase": _bought(self.purchase),
            "purchase_for_horizon": _bought(self.purchase_for_horizon),
            "what_if": None,
        }
        if self.changed is not None:
            data["what_if"] = difference(self, self.changed, self.what_if)
        return data


def _bought(found: Purchase | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "verdict": found.verdict,
        "counts": None if found.counts is None else dict(found.counts),
        "hosts": found.hosts,
        "price": found.price,
        "at_least": tidy(found.at_least),
        "steps": list(found.steps),
        "others": _bought(found.others),
    }


def gpu_text(spec: Spec) -> str:
    """What a replica asks of GPUs, as words: ``2 GPUs A100``."""
    gpu = spec.gpu
    if not gpu.wanted:
        return ""
    said = (
        f"{gpu.count} GPU{'' if gpu.count == 1 else 's'}"
        if gpu.count
        else f"{gpu.share:g} GPU"
        if gpu.share
        else f"{gpu.memory_mib / 1024:,.10g} GiB of a GPU"
        if gpu.memory_mib
        else f"MIG {gpu.profile}"
    )
    return " ".join([said, *sorted(gpu.models)])


def difference(before: SitePlan, after: SitePlan, what_if: WhatIf) -> dict[str, Any]:
    """What would be otherwise: the figures of both, and which replicas would move."""
    old = {(one.workload, one.replica): one.host for one in before.result.placement}
    moved = [
        {"workload": one.workload, "replica": one.replica, "from": old[key], "to": one.host}
        for one in sorted(after.result.placement)
        for key in [(one.workload, one.replica)]
        if key in old and old[key] != one.host
    ]
    return {
        "changes": {
            "add_hosts": {shape.name: count for shape, count in what_if.add_hosts},
            "remove_hosts": list(what_if.remove_hosts),
            "add_workloads": [spec.name for spec in what_if.add_workloads],
            "remove_workloads": list(what_if.remove_workloads),
        },
        "before": _summary(before),
        "after": _summary(after),
        "moved": moved,
    }


def _summary(plan: SitePlan) -> dict[str, Any]:
    free = {
        "CPU": tidy(sum(load.cpu_free for load in plan.loads)),
        "memory": tidy(sum(load.memory_free_mib for load in plan.loads)),
        "GPU": tidy(sum(load.gpus_total - load.gpus for load in plan.loads)),
    }
    horizon = plan.horizon
    return {
        "verdict": plan.verdict,
        "hosts": len(plan.site.places),
        "replicas": sum(work.replicas for work in plan.problem.instance.workloads),
        "placed": len(plan.result.placement),
        "free": free,
        "may_not_be_lost": (None if plan.survivals is None else [row.host for row in plan.exposed]),
        "fits_until": None if horizon is None else horizon.fits_until.isoformat(),
        "ends": (None if horizon is None or horizon.ends is None else horizon.ends.isoformat()),
        "short": [
            {"resource": row.resource, "unit": row.unit, "short": row.short}
            for row in plan.shortages
        ],
    }


def by_host(plan: SitePlan) -> dict[str, list[dict[str, Any]]]:
    """For each host with work, what is placed there: one entry a replica."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in plan.placement():
        entry = {key: value for key, value in row.items() if key != "host"}
        found.setdefault(str(row["host"]), []).append(entry)
    return found

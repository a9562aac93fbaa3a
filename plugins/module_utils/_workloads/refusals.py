# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the planned work cannot be started, before anything is changed: one sentence each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._demand.running import ContainerRun, DatasetRun, ServingRun
from .._demand.workloads import Spec
from .._findings.shape import ShapeError
from .._supply.facts import Gpu, gpus_of
from .containers import ContainerRefused, collisions, quadlet
from .datasets import DatasetRefused, datasets
from .jobs import Around, problems
from .mig import Divided
from .owners import OwnedTwice, owners
from .placed import Placed, placed
from .questions import host_of
from .serving import foreseen


def around_of(
    site: str,
    teams: object,
    scheduler: Sequence[str],
    supply: Mapping[str, Mapping[str, Any]],
    tracking: str = "",
) -> Around:
    """What of a site decides about jobs, of plain data; ``supply`` is what was measured.

    What is wrong with the teams themselves is told where the scheduler reads them.
    """
    rows = teams if isinstance(teams, (list, tuple)) else ()
    return Around(
        site=site,
        teams={
            str(row["name"]): tuple(map(str, row.get("members") or ()))
            for row in rows
            if isinstance(row, Mapping) and row.get("name")
        },
        scheduler=tuple(scheduler),
        gpus={host: _gpus(facts) for host, facts in supply.items()},
        tracking=tracking,
    )


def _gpus(facts: Mapping[str, Any]) -> tuple[Gpu, ...]:
    """The cards of a host. That its facts cannot be read is told where it is planned."""
    try:
        return gpus_of(facts)
    except ShapeError:
        return ()


def refusals(
    specs: Sequence[Spec],
    placement: Sequence[Mapping[str, Any]],
    around: Around,
    supply: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[str, ...]:
    """A sentence for each thing that keeps planned work from being started where it is placed.

    ``supply`` is what was measured of the hosts, for the engines that serve there.
    """
    replicas = placed(specs, placement)
    if not any(one.run is not None for one in replicas):
        return ()
    found = [*problems(replicas, around), *_teams(replicas, around)]
    if around.scheduler:
        try:
            names = {
                host: [gpu.uuid for gpu in gpus if gpu.uuid] for host, gpus in around.gpus.items()
            }
            owners(replicas, names)
        except OwnedTwice as twice:
            found.append(str(twice))
    for host in dict.fromkeys(one.host for one in replicas):
        found += collisions(replicas, host)
        try:
            datasets(replicas, host)
        except DatasetRefused as refused:
            found.append(str(refused))
    hosts = {host: host_of(host, facts, {}) for host, facts in (supply or {}).items()}
    return tuple(dict.fromkeys([*found, *_images(replicas), *foreseen(replicas, hosts)]))


def refusals_anywhere(specs: Sequence[Spec], around: Around) -> tuple[str, ...]:
    """The same of one replica of each, on a host of its own of which nothing is known."""
    rows = [{"workload": spec.name, "replica": 0, "host": spec.name} for spec in specs]
    return refusals(specs, rows, around)


def _teams(replicas: Sequence[Placed], around: Around) -> list[str]:
    """Teams that may call a service and are none of the site."""
    known = ", ".join(sorted(around.teams)) or "none"
    return [
        f"{one.workload} may be called by the team {team}, which mlops_teams does not have (it has"
        f" {known}); mend run.teams in mlops_workloads, or add the team"
        for one in replicas
        if isinstance(one.run, (ServingRun, ContainerRun))
        for team in one.run.teams
        if team not in around.teams
    ]


def _images(replicas: Sequence[Placed]) -> list[str]:
    """What a quadlet cannot hold. Which MIG instances there are is known on the host only."""
    found = []
    for one in replicas:
        if isinstance(one.run, ContainerRun) and not one.profile:
            try:
                quadlet(one, Divided(), 0)
            except ContainerRefused as refused:
                found.append(f"{one.workload}: {refused}")
        if isinstance(one.run, DatasetRun) and not one.disks:
            found.append(
                f"{one.workload} is a dataset on no disk; give it requests.disks in mlops_workloads"
            )
    return found

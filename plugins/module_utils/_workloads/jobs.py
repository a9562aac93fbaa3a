# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From replicas that the scheduler starts to its jobs, or a refusal in a sentence."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._demand.running import JobRun, UserRun
from .._supply.facts import Gpu
from .batch import BATCH, DEFAULT_MIB, SESSION, Job
from .placed import Placed

_NO_TYPE = re.compile(r"[^a-z0-9.]+")
# A driver tells how much memory an instance has, not its profile, whose name rounds it up: 4,864
# MiB are 1g.5gb, 40,192 MiB 3g.40gb (``_planner/mig/cards.py``).
_PROFILE = re.compile(r"\d+g\.(\d+)gb")
_LEAST, _MOST = 0.8, 1.05


class JobRefused(Exception):
    """A workload cannot become a job as it is written. Reads as a sentence."""


class NotDivided(JobRefused):
    """The card has no MIG instance as the plan has it, or not yet."""


@dataclass(frozen=True)
class Around:
    """What of the site decides about jobs.

    ``teams`` are the members of each, ``gpus`` the measured GPUs of each host; ``scheduler`` its
    hosts, empty without one; ``tracking`` the address of the model registry, empty without one.
    """

    site: str
    teams: Mapping[str, Sequence[str]] = field(default_factory=dict)
    scheduler: Sequence[str] = ()
    gpus: Mapping[str, Sequence[Gpu]] = field(default_factory=dict)
    tracking: str = ""


def scheduled(one: Placed) -> bool:
    """Whether a replica is started by the scheduler."""
    return isinstance(one.run, (JobRun, UserRun))


def jobs(placed: Sequence[Placed], around: Around, check: bool = False) -> tuple[Job, ...]:
    """The jobs of a site, in the order of the placement.

    With ``check`` without those whose MIG instance is not made yet.

    Raises:
        JobRefused: One of them cannot be started as it is planned.
    """
    found = []
    for one in filter(scheduled, placed):
        try:
            found.append(job_of(one, around))
        except NotDivided:
            if not check:
                raise
    return tuple(found)


def problems(placed: Sequence[Placed], around: Around) -> tuple[str, ...]:
    """A sentence for each replica that cannot become a job, once a workload.

    This is asked before anything changes, when cards need not be divided as the plan has them.
    """
    found: dict[str, str] = {}
    for one in placed:
        if scheduled(one) and one.workload not in found:
            try:
                job_of(one, around)
            except NotDivided:
                continue
            except JobRefused as refused:
                found[one.workload] = str(refused)
    return tuple(found.values())


def job_of(one: Placed, around: Around) -> Job:
    """The job of one replica."""
    run = one.run
    if not isinstance(run, (JobRun, UserRun)):
        raise JobRefused(f"{one.workload} is nothing that a scheduler starts")
    if not around.scheduler:
        raise JobRefused(
            f"{one.workload} is started by a scheduler, and the inventory has none; put a host into"
            " the group scheduler, or take run out of the workload to leave it to others"
        )
    shared: dict[str, Any] = {
        "workload": one.workload,
        "site": around.site,
        "team": run.team,
        "account": account_of(one, run, around),
        "node": one.host,
        "replica": one.replica,
        "cpus": max(1, math.ceil(one.cpu_cores)),
        "memory_mib": memory_of(one),
        "gres": gres_of(one, around),
        "time_limit": run.time_limit,
    }
    if isinstance(run, UserRun):
        return Job(**shared, kind=SESSION, idle=run.idle, requeue=False)
    environment = dict(run.environment)
    if around.tracking:
        environment.setdefault("MLFLOW_TRACKING_URI", around.tracking)
    return Job(
        **shared,
        kind=BATCH,
        command=run.command,
        directory=run.directory,
        environment=tuple(sorted(environment.items())),
        requeue=run.requeue,
        mail=run.mail,
    )


def memory_of(one: Placed) -> int:
    """What Slurm reserves for it, which is the most that it may use: one figure for both.

    So a job that may use more than its request is promised all of that.
    """
    most = one.memory_limit_mib if one.memory_limit_mib is not None else one.memory_mib
    return math.ceil(most) or DEFAULT_MIB


def account_of(one: Placed, run: JobRun | UserRun, around: Around) -> str:
    """The Unix account that it runs as: the one that is named, or the team's only member."""
    if run.team not in around.teams:
        known = ", ".join(sorted(around.teams)) or "none"
        raise JobRefused(
            f"{one.workload} is of the team {run.team}, which mlops_teams does not have (it has"
            f" {known}); mend run.team in mlops_workloads, or add the team"
        )
    members = around.teams[run.team]
    if run.account and run.account not in members:
        raise JobRefused(
            f"{one.workload} runs as {run.account}, who is no member of {run.team}"
            f" ({', '.join(members) or 'it has none'}); mend run.account in mlops_workloads,"
            " or add the account to the team in mlops_teams"
        )
    if run.account:
        return run.account
    if len(members) != 1:
        raise JobRefused(
            f"{one.workload} does not say as whom it runs, and {run.team} has"
            f" {len(members)} members; set run.account in mlops_workloads"
        )
    return members[0]


def gres_of(one: Placed, around: Around) -> str:
    """GPUs in Slurm's words, ``gpu:nvidia_l40s:2``: as many of the type as the plan gave it.

    Which of the cards of one type it is, Slurm decides; the plan has as many for it.
    """
    if not one.gpu_ids:
        return ""
    if 0 < one.share < 1:
        raise JobRefused(
            f"{one.workload} is planned on {one.share:g} of a GPU, and the scheduler gives whole"
            " GPUs and MIG instances; ask for gpu.count or gpu.profile in mlops_workloads"
        )
    types = [_type(one, name, around) for name in one.gpu_ids]
    counted = {kind: types.count(kind) for kind in dict.fromkeys(types)}
    return ",".join(f"gpu:{kind}:{number}" for kind, number in counted.items())


def _type(one: Placed, name: str, around: Around) -> str:
    gpu = next((gpu for gpu in around.gpus.get(one.host, ()) if gpu.uuid == name), None)
    if gpu is None:
        raise JobRefused(
            f"{one.host}: {one.workload} is planned on GPU {name}, which the host does not have;"
            " assess the site again, or mend the card"
        )
    kind = _NO_TYPE.sub("_", gpu.model.lower()).strip("_") or "gpu"
    if not one.profile:
        return kind
    for instance in gpu.mig_instances:
        size = instance.memory_mib or 0.0
        if _of_profile(size, one.profile):
            return f"{kind}.mig_{round(size / 1024)}gb"
    raise NotDivided(
        f"{one.host}: {one.workload} is planned on a MIG instance {one.profile} of GPU {name},"
        " which has none; lay the instances out as planned (role gpu_driver)"
    )


def _of_profile(memory_mib: float, profile: str) -> bool:
    """Whether an instance with so much memory has the memory of a profile."""
    named = _PROFILE.match(profile)
    return named is not None and _LEAST <= memory_mib / 1024 / int(named[1]) <= _MOST

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may use a GPU: what serves, or the scheduler. Never both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .._demand.workloads import OWNERS, SCHEDULED, SERVED
from .placed import Placed


class OwnedTwice(Exception):
    """A GPU is planned for what serves and for jobs. Reads as a sentence."""


def serves(one: Placed) -> bool:
    """Whether a replica is of what serves."""
    return OWNERS.get(one.kind) == SERVED


def scheduled(one: Placed) -> bool:
    """Whether a replica is a job."""
    return OWNERS.get(one.kind) == SCHEDULED


def owners(
    replicas: Sequence[Placed], gpus: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, str]]:
    """The owner of each GPU of each host, by the driver's name of the GPU.

    A GPU in which a serving or service replica works belongs to serving, as a whole; every other
    one is the scheduler's, also where nothing is planned on it today.

    Raises:
        OwnedTwice: Replicas of both kinds are placed on one GPU. MIG instances of one card count
            as the card here: Slurm and units would change the card's layout under one another.
    """
    found = {host: dict.fromkeys(names, SCHEDULED) for host, names in gpus.items()}
    for one in replicas:
        if OWNERS.get(one.kind) == SERVED:
            found.setdefault(one.host, {}).update(dict.fromkeys(one.gpu_ids, SERVED))
    for one in replicas:
        taken = [name for name in one.gpu_ids if found.get(one.host, {}).get(name) == SERVED]
        if taken and OWNERS.get(one.kind) != SERVED:
            others = sorted(
                {other.workload for other in replicas if set(other.gpu_ids) & set(taken)}
                - {one.workload}
            )
            raise OwnedTwice(
                f"{one.host}: GPU {taken[0]} is planned for {', '.join(others)} and for the jobs"
                f" of {one.workload}; a GPU has one owner: keep them apart with hosts or"
                " gpu.models in mlops_workloads"
            )
    return found

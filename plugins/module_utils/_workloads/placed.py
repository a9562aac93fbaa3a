# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The replicas of a placement, with what each is promised, limited to, and runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

from .._demand.running import Run
from .._demand.workloads import Known, Spec, parse_workloads
from .._findings.finding import DiskNeed
from .._findings.shape import ShapeError


@dataclass(frozen=True)
class Placed:
    """One replica on its host.

    ``gpu_ids`` are the driver's names (UUIDs) of its GPUs, ``profile`` and ``slice`` its MIG
    instance ("" and -1 without). Limits are None where there is none; memory is in MiB.
    """

    workload: str
    kind: str
    replica: int
    host: str
    gpu_ids: tuple[str, ...] = ()
    profile: str = ""
    slice: int = -1
    share: float = 0.0
    cpu_cores: float = 0.0
    cpu_limit: float | None = None
    memory_mib: float = 0.0
    memory_limit_mib: float | None = None
    disks: tuple[DiskNeed, ...] = ()
    run: Run | None = None


def placed(specs: Sequence[Spec], placement: Sequence[Mapping[str, Any]]) -> tuple[Placed, ...]:
    """The rows of a placement joined with what was planned, in the order of the placement.

    A row whose workload is no longer in the list is left out: it leaves.
    """
    known = {spec.name: spec for spec in specs}
    return tuple(
        _placed(known[row["workload"]], row) for row in placement if row["workload"] in known
    )


def _placed(spec: Spec, row: Mapping[str, Any]) -> Placed:
    return Placed(
        workload=spec.name,
        kind=spec.kind,
        replica=int(row["replica"]),
        host=str(row["host"]),
        gpu_ids=tuple(row.get("gpu_ids", ())),
        profile=str(row.get("profile", "")),
        slice=int(row.get("slice", -1)),
        share=spec.gpu.share,
        cpu_cores=spec.request.cpu_cores,
        cpu_limit=spec.limit.cpu_cores,
        memory_mib=spec.request.memory_mib,
        memory_limit_mib=spec.limit.memory_mib,
        disks=spec.request.disks,
        run=spec.run,
    )


def _words(rows: Sequence[Mapping[str, Any]], *path: str) -> list[Any]:
    """What stands at a place in every row that has it."""
    found: list[Any] = []
    for row in rows:
        value: Any = row
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            found.append(value)
    return found


Rows = Union[Sequence[Mapping[str, Any]], Mapping[str, Sequence[Mapping[str, Any]]]]


def rows_of(placement: Rows) -> list[Mapping[str, Any]]:
    """The rows of a placement, which stand in one list or under the name of their host."""
    if isinstance(placement, Mapping):
        return [{**row, "host": host} for host in sorted(placement) for row in placement[host]]
    return list(placement)


def of_inventory(workloads: Sequence[Mapping[str, Any]], placement: Rows) -> tuple[Placed, ...]:
    """The same from what the inventory and the placement say.

    That groups, hosts and labels exist has been judged by the assessment, which knows the whole
    inventory; here what is written counts.

    Raises:
        ShapeError: A workload cannot be read.
    """
    known = Known(
        groups=frozenset(name for names in _words(workloads, "hosts", "groups") for name in names),
        hosts=frozenset(name for names in _words(workloads, "hosts", "names") for name in names),
        labels=frozenset(
            (str(key), str(word))
            for labels in _words(workloads, "hosts", "labels")
            for key, word in labels.items()
        ),
        resources=frozenset(
            str(name) for things in _words(workloads, "requests", "resources") for name in things
        ),
    )
    specs, problems = parse_workloads(workloads, known)
    if problems:
        raise ShapeError("; ".join(problems))
    return placed(specs, rows_of(placement))

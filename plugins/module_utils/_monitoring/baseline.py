# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the assessment found a host to be, told beside what it is now.

Only what stays: a second run of the same site writes the same lines. Free space changes all the
time; of disks it is the plan that is told, as the sum of what the roles need on each volume.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

MIB = 1024 * 1024
HELP = {
    "mlops_host_planned_cpu_cores": "Processors that the assessment found.",
    "mlops_host_planned_memory_bytes": "Memory that the assessment found.",
    "mlops_volume_planned_bytes": "What the platform is planned to take of a volume altogether.",
    "mlops_link_planned_bytes": "Bytes a second of a link as the assessment found it.",
}


def volume(path: str, mounts: Iterable[str]) -> str:
    """The mount that holds a path; an empty text if none does."""
    return max(
        (one for one in mounts if path == one or path.startswith(f"{one.rstrip('/')}/")),
        key=len,
        default="",
    )


def planned_volumes(
    supply: Mapping[str, Any], demand: Iterable[Mapping[str, Any]]
) -> dict[str, float]:
    """MiB by mount."""
    mounts = [str(one["mount"]) for one in supply.get("filesystems") or []]
    found: dict[str, float] = {}
    for row in demand:
        for disk in row.get("disks") or []:
            mount = volume(str(disk.get("mount") or disk.get("path") or ""), mounts)
            if mount:
                found[mount] = found.get(mount, 0.0) + float(disk.get("mib") or 0)
    return {mount: mib for mount, mib in found.items() if mib > 0}


def page(supply: Mapping[str, Any], demand: Iterable[Mapping[str, Any]]) -> str:
    """The lines in Prometheus' text format."""
    rows: dict[str, list[str]] = {name: [] for name in HELP}

    def add(name: str, value: float, **labels: str) -> None:
        said = ",".join(f"{key}={json.dumps(text)}" for key, text in labels.items())
        rows[name].append(f"{name}{'{' + said + '}' if said else ''} {value:.10g}\n")

    cores = (supply.get("cpu") or {}).get("usable_cores")
    memory = (supply.get("memory") or {}).get("total_mib")
    if cores:
        add("mlops_host_planned_cpu_cores", float(cores))
    if memory:
        add("mlops_host_planned_memory_bytes", float(memory) * MIB)
    for mount, mib in sorted(planned_volumes(supply, demand).items()):
        add("mlops_volume_planned_bytes", mib * MIB, mountpoint=mount)
    for link in supply.get("network") or []:
        if link.get("physical") and (link.get("speed_mbit") or 0) > 0:
            speed = float(link["speed_mbit"]) * 1e6 / 8
            add("mlops_link_planned_bytes", speed, device=str(link["name"]))
    return "".join(
        f"# HELP {name} {text}\n# TYPE {name} gauge\n" + "".join(rows[name])
        for name, text in HELP.items()
        if rows[name]
    )

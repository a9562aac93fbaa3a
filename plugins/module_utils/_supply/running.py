# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who runs on a host, and who listens."""

from __future__ import annotations

import os
from typing import Any

from . import procfs
from .tree import Host

SHORT_LIVED_SECONDS = 60.0


def processes(host: Host, ticks: int, uptime: float) -> dict[str, Any]:
    """Who runs: memory and processors by unit, ours apart, and who owns which socket.

    Processor use is the average over a process's life; those younger than a minute only count.
    """
    units: dict[tuple[bool, str], dict[str, float]] = {}
    owners: dict[int, dict[str, Any]] = {}
    young = unread = hidden = 0
    for pid in (name for name in host.names("/proc") if name.isdecimal()):
        base = f"/proc/{pid}"
        stat = procfs.parse_process_stat(host.read(f"{base}/stat"))
        if stat is None or stat.parent == 2 or pid == "2":
            continue  # gone meanwhile, or the kernel's own thread
        cgroup = procfs.parse_cgroup(host.read(f"{base}/cgroup"))
        ours, unit = procfs.is_ours(cgroup), procfs.unit_of(cgroup) or stat.name
        row = units.setdefault((ours, unit), {"memory_mib": 0.0, "cpu_cores": 0.0, "processes": 0})
        row["processes"] += 1
        own = procfs.parse_own_memory_kib(host.read(f"{base}/smaps_rollup")) if ours else None
        if own is None:
            own = procfs.parse_own_memory_kib(host.read(f"{base}/status"))
        if own is None:
            unread += 1
        else:
            row["memory_mib"] += own / 1024
        age = uptime - stat.started_ticks / ticks
        if age < SHORT_LIVED_SECONDS:
            young += 1
        else:
            row["cpu_cores"] += stat.busy_ticks / ticks / age
        try:
            handles = os.listdir(host.path(f"{base}/fd"))
        except OSError:
            hidden += 1
            continue
        for handle in handles:
            target = host.link(f"{base}/fd/{handle}")
            if target and target.startswith("socket:["):
                owners.setdefault(
                    int(target[8:-1]),
                    {"pid": int(pid), "process": stat.name, "unit": unit, "ours": ours},
                )
    if unread:
        host.note("services", f"the memory of {unread} processes could not be read")
    if hidden:
        host.note(
            "listeners", f"the open files of {hidden} processes could not be read; run as root"
        )

    def rows(ours: bool) -> list[dict[str, Any]]:
        found = [
            {
                "unit": unit,
                "memory_mib": round(row["memory_mib"], 1),
                "cpu_cores": round(row["cpu_cores"], 3),
                "processes": int(row["processes"]),
            }
            for (owned, unit), row in units.items()
            if owned is ours
        ]
        return sorted(found, key=lambda row: (-row["memory_mib"], row["unit"]))

    return {"foreign": rows(False), "ours": rows(True), "young_processes": young, "owners": owners}


def listeners(host: Host, owners: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """Ports somebody listens on. An owner that cannot be seen is unknown, not absent."""
    found = []
    for name in ("tcp", "tcp6", "udp", "udp6"):
        text = host.read(f"/proc/net/{name}")
        if not text and name in ("tcp", "udp"):
            host.note(f"listeners {name}", f"/proc/net/{name} cannot be read")
        for entry in procfs.parse_sockets(text, name):
            owner = owners.get(entry.inode) or {
                "pid": None,
                "process": None,
                "unit": None,
                "ours": False,
            }
            found.append(
                {"protocol": entry.protocol, "address": entry.address, "port": entry.port, **owner}
            )
    return sorted(found, key=lambda row: (row["port"], row["protocol"], row["address"]))

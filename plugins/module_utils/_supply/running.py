# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who runs on a host, and who listens."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any

from . import procfs
from .cpu_use import SHOWN_CORES, UNSEEN, Use
from .installed import our_units
from .tree import Host

# Memory, processors and number of processes, by whether they are ours and by unit.
Units = dict[tuple[bool, str], dict[str, float]]


def processes(host: Host, use: Use) -> dict[str, Any]:
    """Who runs: memory and processors by unit, ours apart, and who owns which socket.

    What the processes that are there do not account for is a foreign row of its own.
    """
    units: Units = {}
    owners: dict[int, dict[str, Any]] = {}
    unread = hidden = 0
    # What starts the processes of users, such as the scheduler's nodes, stands in no slice of ours.
    known = our_units(host)
    for pid in (name for name in host.names("/proc") if name.isdecimal()):
        base = f"/proc/{pid}"
        stat = procfs.parse_process_stat(host.read(f"{base}/stat"))
        if stat is None or stat.parent == 2 or pid == "2":
            continue  # gone meanwhile, or the kernel's own thread
        cgroup = procfs.parse_cgroup(host.read(f"{base}/cgroup"))
        ours, unit = procfs.is_ours(cgroup), procfs.unit_of(cgroup) or stat.name
        row = units.setdefault((ours, unit), {"memory_mib": 0.0, "cpu_cores": 0.0, "processes": 0})
        row["processes"] += 1
        own = _own_memory_kib(host, base, ours)
        unread += own is None
        row["memory_mib"] += (own or 0) / 1024
        row["cpu_cores"] += use.by_process.get((int(pid), stat.started_ticks), 0.0)
        sockets = _sockets(host, base)
        hidden += sockets is None
        for socket in sockets or ():
            owner = owners.setdefault(
                socket,
                {
                    "pid": int(pid),
                    "process": stat.name,
                    "unit": unit,
                    "ours": ours or unit in known,
                    "all": {},
                },
            )
            owner["all"][int(pid)] = stat.name
    if unread:
        host.note("services", f"the memory of {unread} processes could not be read")
    if hidden:
        host.note(
            "listeners", f"the open files of {hidden} processes could not be read; run as root"
        )
    _add_unseen(host, units, use)
    return {
        "foreign": _rows(units, False),
        "ours": _rows(units, True),
        "window_seconds": round(use.seconds, 2),
        "owners": owners,
    }


def _own_memory_kib(host: Host, base: str, ours: bool) -> int | None:
    """What a process keeps from others; of ours by the slower and better file."""
    own = procfs.parse_own_memory_kib(host.read(f"{base}/smaps_rollup")) if ours else None
    return procfs.parse_own_memory_kib(host.read(f"{base}/status")) if own is None else own


def _sockets(host: Host, base: str) -> list[int] | None:
    """The sockets that a process has open; None if they cannot be seen."""
    try:
        handles = os.listdir(host.path(f"{base}/fd"))
    except OSError:
        return None
    targets = (host.link(f"{base}/fd/{handle}") or "" for handle in handles)
    return [int(target[8:-1]) for target in targets if target.startswith("socket:[")]


def _add_unseen(host: Host, units: Units, use: Use) -> None:
    """A row for what the processes that are there do not account for."""

    def cores(ours: bool) -> list[float]:
        return [row["cpu_cores"] for (owned, _unit), row in units.items() if owned is ours]

    unseen = use.unseen(cores(False), cores(True))
    if unseen is None:
        host.note("services", "the processor time of processes that have ended cannot be seen")
    elif unseen >= SHOWN_CORES:
        units[False, UNSEEN] = {"memory_mib": 0.0, "cpu_cores": unseen, "processes": 0}


def _rows(units: Units, ours: bool) -> list[dict[str, Any]]:
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


def listeners(
    host: Host, owners: dict[int, dict[str, Any]], mains: Mapping[str, int] | None = None
) -> list[dict[str, Any]]:
    """Ports somebody listens on. An owner that cannot be seen is unknown, not absent.

    ``mains`` are the main processes of units, as the service manager knows them: a program that a
    user or another service started lies in their control group, and is not their main process.
    """
    found = []
    for name in ("tcp", "tcp6", "udp", "udp6"):
        text = host.read(f"/proc/net/{name}")
        if not text and name in ("tcp", "udp"):
            host.note(f"listeners {name}", f"/proc/net/{name} cannot be read")
        for entry in procfs.parse_sockets(text, name):
            found.append(
                {
                    "protocol": entry.protocol,
                    "address": entry.address,
                    "port": entry.port,
                    **_owner(host, owners.get(entry.inode), mains or {}),
                }
            )
    return sorted(found, key=lambda row: (row["port"], row["protocol"], row["address"]))


def _owner(host: Host, owner: Mapping[str, Any] | None, mains: Mapping[str, int]) -> dict[str, Any]:
    if owner is None:
        return {"pid": None, "process": None, "unit": None, "ours": False}
    main = mains.get(owner["unit"], 0)
    is_main = main in owner["all"]
    pid = main if is_main else owner["pid"]
    return {
        "pid": pid,
        "process": owner["all"][pid],
        "unit": owner["unit"],
        "ours": owner["ours"],
        "main": is_main,
        "command": command_line(host.read(f"/proc/{pid}/cmdline")),
    }


SECRET_WORD = re.compile(r"pass|pwd|secret|token|key|credential|auth", re.IGNORECASE)


def command_line(text: str, words: int = 4) -> str:
    """The first words of /proc/PID/cmdline, without what may be a secret."""
    shown = []
    hide = False
    for word in text.rstrip("\0").split("\0")[:words]:
        name, equals, value = word.partition("=")
        if hide or (value and SECRET_WORD.search(name)):
            shown.append(f"{name}=***" if equals and not hide else "***")
            hide = False
            continue
        hide = word.startswith("-") and not equals and bool(SECRET_WORD.search(word))
        shown.append(re.sub(r"://[^/@\s]*@", "://***@", word))
    return " ".join(" ".join(shown).split())[:120]


def main_processes(units: Iterable[str]) -> dict[str, int]:
    """The main processes of units, by the service manager; nothing where it cannot be asked."""
    program = shutil.which("systemctl")
    services = sorted({unit for unit in units if unit.endswith(".service")})
    if program is None or not services:
        return {}
    try:
        answer = subprocess.run(
            [program, "show", "--property=Id,MainPID", "--", *services],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return parse_main_processes(answer)


def parse_main_processes(text: str) -> dict[str, int]:
    """The answer of ``systemctl show --property=Id,MainPID``: blocks apart by empty lines."""
    found = {}
    for block in text.split("\n\n"):
        rows = dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line)
        if rows.get("Id") and rows.get("MainPID", "").isdecimal() and rows["MainPID"] != "0":
            found[rows["Id"]] = int(rows["MainPID"])
    return found

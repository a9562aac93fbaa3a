# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How busy the processors are over a window: by two looks at the kernel's counters.

The counters of the whole system hold the time of processes that came and went in between, which no
look at the processes that are there can show.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from . import procfs
from .tree import Host

WINDOW_SECONDS = 2.0
UNSEEN = "processes that came and went, and the kernel"
SHOWN_CORES = 0.005  # less than this is the dust of counters that tick

Process = tuple[int, int]  # its number, and when it started, since numbers are used again


@dataclass(frozen=True)
class Sample:
    """One look: when, and the seconds of processor time used until then.

    ``busy`` is that of the whole system, ``ours`` of the platform's slice, None where the kernel
    does not tell; ``own`` is that of this measurement, ``processes`` that of each process.
    """

    when: float
    busy: float | None
    ours: float | None
    own: float
    processes: Mapping[Process, float] = field(default_factory=dict)


def sample(host: Host, ticks: int) -> Sample:
    """Look now."""
    found: dict[Process, float] = {}
    for pid in host.names("/proc"):
        if not pid.isdecimal() or (not host.root and int(pid) == os.getpid()):
            continue
        stat = procfs.parse_process_stat(host.read(f"/proc/{pid}/stat"))
        if stat is not None:
            found[int(pid), stat.started_ticks] = stat.busy_ticks / ticks
    own = os.times()
    return Sample(
        time.monotonic(),
        _busy(host, ticks),
        _used_by(host, f"/{procfs.OUR_SLICE}"),
        own.user + own.system + own.children_user + own.children_system,
        found,
    )


def _busy(host: Host, ticks: int) -> float | None:
    """Seconds of the whole system; in a container those of the container.

    There /proc/stat is that of the machine under it, with all its other containers.
    """
    inside = any(
        host.exists(path)
        for path in ("/run/.containerenv", "/.dockerenv", "/run/systemd/container")
    )
    return (
        _used_by(host, "") if inside else procfs.parse_busy_seconds(host.read("/proc/stat"), ticks)
    )


def _used_by(host: Host, group: str) -> float | None:
    """Seconds that a control group used, of version 2 or 1."""
    said = procfs.parse_usage_seconds(host.read(f"/sys/fs/cgroup{group}/cpu.stat"))
    for controller in ("cpuacct", "cpu,cpuacct"):
        if said is None:
            nanoseconds = host.number(f"/sys/fs/cgroup/{controller}{group}/cpuacct.usage")
            said = None if nanoseconds is None else nanoseconds / 1e9
    return said


@dataclass(frozen=True)
class Use:
    """Cores in use between two samples."""

    seconds: float
    busy: float | None
    ours: float | None
    by_process: Mapping[Process, float]

    def unseen(self, foreign: Iterable[float], ours: Iterable[float]) -> float | None:
        """The cores in use that no process that is there accounts for; None if unknown."""
        if self.busy is None:
            return None
        mine = sum(ours)
        if self.ours is not None:
            mine = max(mine, self.ours)
        return max(0.0, self.busy - mine - sum(foreign))


def use(before: Sample, after: Sample) -> Use:
    """What was used between two samples; this measurement is left out."""
    seconds = max(after.when - before.when, 0.01)
    busy = None
    if before.busy is not None and after.busy is not None:
        own = after.own - before.own
        busy = max(0.0, after.busy - before.busy - own) / seconds
    ours = None
    if before.ours is not None and after.ours is not None:
        ours = max(0.0, after.ours - before.ours) / seconds
    return Use(
        seconds,
        busy,
        ours,
        {
            key: max(0.0, now - before.processes.get(key, 0.0)) / seconds
            for key, now in after.processes.items()
        },
    )

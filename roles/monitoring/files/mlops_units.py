# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each unit of the platform uses, beside what was planned for it, as metrics.

    mlops_units.py OUTPUT PLANNED

Reads the control groups of the platform's slice and writes OUTPUT in Prometheus' text format.
PLANNED is a JSON list of {unit, cpu_cores, memory_mib}; it may be missing. Standard library only,
since every device has it; it needs no rights, since what it reads anybody may read.

Memory is the control group's without the part of the page cache that can be dropped. Where the
kernel does not count it (no memory controller), it is the anonymous and shared memory of the
processes, which leaves out the kernel's own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

SLICE = "mlops.slice"
KIB = 1024
HELP = {
    "mlops_unit_cpu_seconds_total": ("counter", "Processor time of a unit since it was started."),
    "mlops_unit_memory_bytes": ("gauge", "Memory of a unit that cannot be dropped."),
    "mlops_unit_planned_cpu_cores": ("gauge", "Processors planned for a unit."),
    "mlops_unit_planned_memory_bytes": ("gauge", "Memory planned for a unit."),
}


def mount(mountinfo: str) -> str | None:
    """Where the unified hierarchy of control groups is mounted, from /proc/self/mountinfo."""
    for line in mountinfo.splitlines():
        before, _dash, after = line.partition(" - ")
        if after.split(" ", 1)[0] == "cgroup2":
            return before.split()[4]
    return None


def units(root: Path) -> Iterator[Path]:
    """The control groups of the platform's services."""
    try:
        found = sorted((root / SLICE).iterdir())
    except OSError:
        return
    yield from (path for path in found if path.name.endswith(".service"))


def fields(path: Path) -> dict[str, int]:
    """A file of names and numbers."""
    rows = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def cpu_seconds(group: Path) -> float | None:
    """Processor time of all processes that the group had."""
    try:
        return fields(group / "cpu.stat")["usage_usec"] / 1e6
    except (OSError, KeyError):
        return None


def memory_bytes(group: Path, proc: Path) -> int | None:
    """Memory of the group that cannot be dropped."""
    try:
        used = int((group / "memory.current").read_text(encoding="ascii"))
        return max(0, used - fields(group / "memory.stat").get("inactive_file", 0))
    except (OSError, ValueError):
        return _of_processes(group, proc)


def _of_processes(group: Path, proc: Path) -> int | None:
    try:
        processes = (group / "cgroup.procs").read_text(encoding="ascii").split()
    except OSError:
        return None
    total = 0
    for process in processes:
        try:
            lines = (proc / process / "status").read_text(encoding="utf-8").splitlines()
        except OSError:  # it has ended
            continue
        for line in lines:
            name, _colon, value = line.partition(":")
            if name in ("RssAnon", "RssShmem"):
                total += int(value.split()[0]) * KIB
    return total


def planned(path: Path) -> dict[str, tuple[float, float]]:
    """Cores and bytes by unit; services that share one add up."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    found: dict[str, tuple[float, float]] = {}
    for row in rows:
        cores, size = found.get(row["unit"], (0.0, 0.0))
        found[row["unit"]] = (
            cores + float(row["cpu_cores"]),
            size + float(row["memory_mib"]) * KIB * KIB,
        )
    return found


def page(root: Path, proc: Path, plan: dict[str, tuple[float, float]]) -> str:
    """All metrics, those of one name together."""
    rows: dict[str, list[str]] = {name: [] for name in HELP}

    def add(name: str, unit: str, value: float | None) -> None:
        if value is not None:
            rows[name].append(f'{name}{{unit="{unit}"}} {value:.10g}\n')

    for group in units(root):
        add("mlops_unit_cpu_seconds_total", group.name, cpu_seconds(group))
        add("mlops_unit_memory_bytes", group.name, memory_bytes(group, proc))
    for unit, (cores, size) in sorted(plan.items()):
        add("mlops_unit_planned_cpu_cores", unit, cores)
        add("mlops_unit_planned_memory_bytes", unit, size)
    return "".join(
        f"# HELP {name} {said}\n# TYPE {name} {kind}\n" + "".join(rows[name])
        for name, (kind, said) in HELP.items()
        if rows[name]
    )


def main(output: str, plan: str, baseline: str = "") -> int:
    """Write the page; a reader sees the old one or the new one."""
    root = mount(Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
    if root is None:
        print("no unified hierarchy of control groups is mounted here", file=sys.stderr)
        return 1
    told = page(Path(root), Path("/proc"), planned(Path(plan)))
    if baseline and Path(baseline).exists():  # what the assessment found the host itself to be
        told += Path(baseline).read_text(encoding="utf-8")
    draft = Path(f"{output}.new")
    draft.write_text(told, encoding="utf-8")
    draft.chmod(0o644)
    draft.replace(output)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))

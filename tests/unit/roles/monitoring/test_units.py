# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What units use is read from control groups of every kind, beside what was planned."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).resolve().parents[4] / "roles" / "monitoring" / "files" / "mlops_units.py"
MIB = 1024 * 1024
MOUNTS = """\
24 30 0:22 / /proc rw,nosuid - proc proc rw
31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 24 0:28 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw
"""


@pytest.fixture(name="units", scope="module")
def _units() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mlops_units", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def group(root: Path, name: str, **files: str) -> Path:
    path = root / "mlops.slice" / name
    path.mkdir(parents=True)
    for file, text in files.items():
        (path / file.replace("_", ".", 1)).write_text(text)
    return path


def test_the_unified_hierarchy_is_found_where_it_is(units: ModuleType) -> None:
    assert units.mount(MOUNTS) == "/sys/fs/cgroup/unified"
    assert units.mount(MOUNTS.replace("cgroup2", "tmpfs")) is None


def test_services_are_told_with_their_plan(units: ModuleType, tmp_path: Path) -> None:
    group(
        tmp_path,
        "mlops-a.service",
        cpu_stat="usage_usec 2500000\nuser_usec 1\n",
        memory_current=f"{300 * MIB}\n",
        memory_stat=f"anon 5\ninactive_file {100 * MIB}\n",
    )
    group(tmp_path, "other.scope", cpu_stat="usage_usec 1\n")
    rows = [
        {"unit": "mlops-a.service", "cpu_cores": 0.5, "memory_mib": 100},
        {"unit": "mlops-a.service", "cpu_cores": 0.25, "memory_mib": 28},
        {"unit": "mlops-gone.service", "cpu_cores": 1, "memory_mib": 1},
    ]
    plan = tmp_path / "planned.json"
    plan.write_text(json.dumps(rows))
    lines = units.page(tmp_path, tmp_path, units.planned(plan)).splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        'mlops_unit_cpu_seconds_total{unit="mlops-a.service"} 2.5',
        f'mlops_unit_memory_bytes{{unit="mlops-a.service"}} {200 * MIB}',
        'mlops_unit_planned_cpu_cores{unit="mlops-a.service"} 0.75',
        'mlops_unit_planned_cpu_cores{unit="mlops-gone.service"} 1',
        f'mlops_unit_planned_memory_bytes{{unit="mlops-a.service"}} {128 * MIB}',
        f'mlops_unit_planned_memory_bytes{{unit="mlops-gone.service"}} {MIB}',
    ]


def test_where_the_kernel_counts_no_memory_processes_are_added_up(
    units: ModuleType, tmp_path: Path
) -> None:
    proc = tmp_path / "proc"
    for process, anon in (("7", 2048), ("8", 1024)):
        (proc / process).mkdir(parents=True)
        status = f"Name:\tpython\nVmRSS:\t 9999 kB\nRssAnon:\t {anon} kB\nRssShmem:\t 512 kB\n"
        (proc / process / "status").write_text(status)
    path = group(tmp_path, "mlops-b.service", cgroup_procs="7\n8\n9\n")
    assert units.memory_bytes(path, proc) == 4 * MIB
    assert units.cpu_seconds(path) is None
    told = units.page(tmp_path, proc, {})
    assert "mlops_unit_memory_bytes" in told
    assert "mlops_unit_cpu_seconds_total" not in told


def test_a_host_without_the_platform_or_a_plan_tells_nothing(
    units: ModuleType, tmp_path: Path
) -> None:
    assert units.page(tmp_path, tmp_path, units.planned(tmp_path / "none.json")) == ""


def test_what_the_assessment_found_is_told_beside(
    units: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline, output = tmp_path / "baseline.prom", tmp_path / "units.prom"
    baseline.write_text("mlops_host_planned_cpu_cores 8\n")
    monkeypatch.setattr(units, "mount", lambda _text: str(tmp_path))
    assert units.main(str(output), str(tmp_path / "none.json"), str(baseline)) == 0
    assert output.read_text() == "mlops_host_planned_cpu_cores 8\n"
    baseline.unlink()
    assert units.main(str(output), str(tmp_path / "none.json"), str(baseline)) == 0
    assert output.read_text() == ""

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a host: this machine, and a tree of files that stands for another one."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._supply import (
    TOOL_VERSION,
    gather,
    installed,
    running,
    tree,
)
from ansible_collections.mlops.onprem.plugins.module_utils._supply.cpu_use import (
    UNSEEN,
    Sample,
    Use,
    sample,
    use,
)

from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[5]


def put(root: Path, path: str, text: str) -> None:
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def test_this_machine_is_measured_and_fits_into_json() -> None:
    facts = gather.gather("here", TOOL_VERSION)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["memory"]["total_mib"] > 0
    assert facts["cpu"]["usable_cores"] >= 1
    assert facts["host"] == "here"


def test_nothing_readable_means_all_unknown_and_nothing_zero(tmp_path: Path) -> None:
    facts = gather.gather("empty", TOOL_VERSION, root=str(tmp_path), ask_driver=False, window=0)
    assert facts["memory"]["total_mib"] is None
    assert facts["cpu"]["threads"] is None
    assert facts["packages"]["broken"] is None
    reasons = {row["what"]: row["reason"] for row in facts["unknown"]}
    assert reasons["memory"] == "/proc/meminfo: No such file or directory"
    assert reasons["packages"] == "there is no /var/lib/dpkg/status; this is no Debian"


def test_disks_know_their_members_and_what_they_carry(tmp_path: Path) -> None:
    for name, more in {
        "sda": {"dev": "8:0", "size": "2097152", "queue/rotational": "1", "holders/md0/x": ""},
        "sda1": {"dev": "8:1", "size": "1048576", "partition": "1"},
        "md0": {
            "dev": "9:0",
            "size": "2097152",
            "md/level": "raid1",
            "md/degraded": "1",
            "slaves/sda/x": "",
            "slaves/sdb/x": "",
        },
        "dm-0": {"dev": "253:0", "size": "2097152", "dm/uuid": "LVM-abc"},
        "loop0": {"dev": "7:0", "size": "99"},
    }.items():
        for path, text in more.items():
            put(tmp_path, f"/sys/class/block/{name}/{path}", text)
    put(tmp_path, "/proc/self/mountinfo", "1 0 9:0 / / rw - ext4 /dev/md0 rw\n")
    disks = {row["name"]: row for row in gather.disks(tree.Host(str(tmp_path)))}
    assert set(disks) == {"sda", "sda1", "md0", "dm-0"}
    assert (disks["sda"]["size_mib"], disks["sda"]["rotational"]) == (1024, True)
    assert disks["sda"]["carries"] == ["md0"]
    assert (disks["md0"]["kind"], disks["md0"]["raid_level"]) == ("raid", "raid1")
    assert (disks["md0"]["raid_degraded"], disks["md0"]["members"]) == (1, ["sda", "sdb"])
    assert disks["md0"]["holds_root"] is True
    assert disks["dm-0"]["kind"] == "lvm"
    assert disks["sda1"]["kind"] == "partition"


def test_ours_and_foreign_services_are_told_apart(tmp_path: Path) -> None:
    def process(pid: int, name: str, cgroup: str, kib: int, busy: int, socket: int) -> None:
        zeros = " ".join(["0"] * 6)
        stat = f"{pid} ({name}) S 1 {' '.join(['0'] * 9)} {busy} 0 {zeros} 1000"
        put(tmp_path, f"/proc/{pid}/stat", stat)
        put(tmp_path, f"/proc/{pid}/cgroup", f"0::{cgroup}\n")
        put(tmp_path, f"/proc/{pid}/status", f"RssAnon: {kib} kB\nRssShmem: 0 kB\n")
        handles = tmp_path / f"proc/{pid}/fd"
        handles.mkdir()
        (handles / "3").symlink_to(f"socket:[{socket}]")

    process(10, "nginx", "/mlops.slice/mlops-nginx.service", 2048, 100, 7)
    process(11, "apache2", "/system.slice/apache2.service", 4096, 20000, 8)
    used = {(10, 1000): 0.001, (11, 1000): 0.2}
    put(
        tmp_path,
        "/proc/net/tcp",
        "head\n"
        "0: 00000000:01BB 0:0 0A 0:0 0:0 0 0 0 7 1\n"
        "1: 00000000:0050 0:0 0A 0:0 0:0 0 0 0 8 1\n"
        "2: 00000000:0051 0:0 0A 0:0 0:0 0 0 0 9 1\n",
    )
    host = tree.Host(str(tmp_path))
    found = running.processes(host, Use(2.0, 0.201, None, used))
    assert found["ours"] == [
        {"unit": "mlops-nginx.service", "memory_mib": 2.0, "cpu_cores": 0.001, "processes": 1}
    ]
    assert found["foreign"] == [
        {"unit": "apache2.service", "memory_mib": 4.0, "cpu_cores": 0.2, "processes": 1}
    ]
    rows = running.listeners(host, found["owners"])
    assert [(row["port"], row["unit"], row["ours"]) for row in rows] == [
        (80, "apache2.service", False),
        (81, None, False),
        (443, "mlops-nginx.service", True),
    ]
    # A unit of ours that is in no slice of ours, as it starts the processes of users.
    put(
        tmp_path,
        "/var/lib/mlops/ledger.json",
        '{"things": [{"kind": "unit", "name": "apache2.service", "owners": ["x"]}]}',
    )
    found = running.processes(host, Use(2.0, 0.201, None, used))
    assert [row["ours"] for row in running.listeners(host, found["owners"])] == [True, False, True]
    assert [row["unit"] for row in found["foreign"]] == ["apache2.service"]


def test_only_the_main_process_of_a_unit_speaks_for_it(tmp_path: Path) -> None:
    def process(pid: int, name: str, unit: str, command: str, *sockets: int) -> None:
        stat = f"{pid} ({name}) S 1 {' '.join(['0'] * 9)} 1 0 {' '.join(['0'] * 6)} 1000"
        put(tmp_path, f"/proc/{pid}/stat", stat)
        put(tmp_path, f"/proc/{pid}/cgroup", f"0::/system.slice/{unit}\n")
        put(tmp_path, f"/proc/{pid}/cmdline", command)
        handles = tmp_path / f"proc/{pid}/fd"
        handles.mkdir()
        for number, socket in enumerate(sockets):
            (handles / str(number)).symlink_to(f"socket:[{socket}]")

    process(10, "sshd", "ssh.service", "/usr/sbin/sshd\0-D\0", 7)
    process(11, "docker-proxy", "ssh.service", "docker-proxy\0--token\0s3cret\0-x\0-y\0", 8)
    process(20, "worker", "web.service", "web\0", 9)
    process(21, "web", "web.service", "web\0--db=postgres://u:pw@db/x\0--password=pw\0", 9)
    put(
        tmp_path,
        "/proc/net/tcp",
        "head\n0: 00000000:0016 0:0 0A 0:0 0:0 0 0 0 7 1\n"
        "1: 00000000:01BB 0:0 0A 0:0 0:0 0 0 0 8 1\n2: 00000000:0050 0:0 0A 0:0 0:0 0 0 0 9 1\n",
    )
    host = tree.Host(str(tmp_path))
    owners = running.processes(host, Use(2.0, None, None, {}))["owners"]
    mains = running.parse_main_processes(
        "Id=ssh.service\nMainPID=10\n\nMainPID=21\nId=web.service\n\nId=cron.service\nMainPID=0\n"
    )
    assert mains == {"ssh.service": 10, "web.service": 21}
    rows = {row["port"]: row for row in running.listeners(host, owners, mains)}
    assert {port: (row["process"], row["main"]) for port, row in rows.items()} == {
        22: ("sshd", True),
        80: ("web", True),
        443: ("docker-proxy", False),
    }
    assert rows[443]["command"] == "docker-proxy --token *** -x"
    assert rows[80]["command"] == "web --db=postgres://***@db/x --password=***"


def test_what_we_keep_is_counted_from_our_directories_and_the_ledger(tmp_path: Path) -> None:
    put(tmp_path, "/var/lib/mlops/monitoring/data", "x" * 2_000_000)
    put(tmp_path, "/var/lib/ceph/osd", "x" * 1_000_000)
    things = [
        {"kind": "directory", "name": "/var/lib/ceph", "owners": ["object_store"]},
        {"kind": "package", "name": "ceph", "owners": ["object_store"]},
    ]
    put(tmp_path, "/var/lib/mlops/ledger.json", json.dumps({"version": 1, "things": things}))
    host = tree.Host(str(tmp_path))
    ours = installed.ours(
        host, time.monotonic() + PATIENCE, time.monotonic, {"ceph": 300.0, "vim": 4.0}
    )
    sizes = {row["path"]: row["mib"] for row in ours["directories"]}
    assert sizes["/var/lib/mlops/monitoring"] == pytest.approx(1.9, abs=0.1)
    assert sizes["/var/lib/ceph"] == pytest.approx(1.0, abs=0.1)
    assert (ours["installed"], ours["packages_mib"]) == (True, 300.0)


def test_a_count_that_takes_too_long_says_so(tmp_path: Path) -> None:
    put(tmp_path, "/a/b", "x")
    _mib, _entries, complete = installed.usage(str(tmp_path), time.monotonic() - 1, time.monotonic)
    assert complete is False


def test_the_version_noted_with_facts_is_that_of_the_collection() -> None:
    assert f"version: {TOOL_VERSION}\n" in (ROOT / "galaxy.yml").read_text()


# -- limits of control groups -------------------------------------------------------------------

MIB = 2**20
MEMINFO = "MemTotal: 65536000 kB\nMemAvailable: 60000000 kB\n"
V2 = {
    "memory.max": f"{8192 * MIB}",
    "memory.current": f"{7680 * MIB}",
    "memory.stat": f"anon 5\ninactive_file {6144 * MIB}\n",
}
V1 = {
    "memory/memory.limit_in_bytes": f"{8192 * MIB}",
    "memory/memory.usage_in_bytes": f"{7680 * MIB}",
    "memory/memory.stat": f"inactive_file 7\ntotal_inactive_file {6144 * MIB}\n",
}


@pytest.mark.parametrize(
    ("files", "limit", "total", "available"),
    [
        (V2, 8192, 8192, 6656),
        (V1, 8192, 8192, 6656),
        ({**V2, "memory.stat": ""}, 8192, 8192, 512),
        ({**V2, "memory.current": ""}, 8192, 8192, None),
        ({**V1, "memory/memory.usage_in_bytes": ""}, 8192, 8192, None),
        ({"memory.max": "max"}, None, 64000, 58593.8),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, None, 64000, 58593.8),
    ],
)
def test_page_cache_under_a_limit_is_not_in_use(
    tmp_path: Path, files: dict[str, str], limit: float, total: float, available: float
) -> None:
    put(tmp_path, "/proc/meminfo", MEMINFO)
    for name, text in files.items():
        put(tmp_path, f"/sys/fs/cgroup/{name}", text)
    host = tree.Host(str(tmp_path))
    found = gather.memory(host)
    assert (found["cgroup_limit_mib"], found["total_mib"]) == (limit, total)
    assert found["available_mib"] == available
    assert bool(host.unknown) is (available is None)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        (
            {
                "cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
                "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            0.5,
        ),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "max 100000"}, None),
    ],
)
def test_processors_are_limited_by_control_groups(
    tmp_path: Path, files: dict[str, str], cores: float | None
) -> None:
    for name, text in files.items():
        put(tmp_path, f"/sys/fs/cgroup/{name}", text)
    assert gather.cpu(tree.Host(str(tmp_path)))["cgroup_cores"] == cores


# -- how busy processors are --------------------------------------------------------------------


def look(root: Path, when: float, own: float = 0.0, **processes: int) -> Sample:
    """A sample of the tree, at a time; processes by name with their ticks."""
    for number, (name, ticks) in enumerate(processes.items(), 10):
        zeros = " ".join(["0"] * 6)
        put(
            root,
            f"/proc/{number}/stat",
            f"{number} ({name}) S 1 {' '.join(['0'] * 9)} {ticks} 0 {zeros} 1000",
        )
        put(root, f"/proc/{number}/cgroup", f"0::/system.slice/{name}.service\n")
    return replace(sample(tree.Host(str(root)), 100), when=when, own=own)


def foreign(root: Path, before: Sample, after: Sample) -> dict[str, float]:
    rows = running.processes(tree.Host(str(root)), use(before, after))["foreign"]
    return {row["unit"]: row["cpu_cores"] for row in rows if row["cpu_cores"]}


def busy(root: Path, ticks: int) -> None:
    put(root, "/proc/stat", f"cpu  {ticks} 0 0 99999 88888 0 0 0 55 0\ncpu0 1 2 3 4\n")


def test_processes_that_came_and_went_are_seen(tmp_path: Path) -> None:
    busy(tmp_path, 1000)
    before = look(tmp_path, 0.0, idle=7)
    busy(tmp_path, 1400)
    after = look(tmp_path, 2.0, idle=7)
    assert foreign(tmp_path, before, after) == {UNSEEN: 2.0}


def test_one_that_slept_for_a_month_and_now_works_counts_as_it_works(tmp_path: Path) -> None:
    busy(tmp_path, 1000)
    before = look(tmp_path, 0.0, trainer=7, sleeper=500_000)
    busy(tmp_path, 1200)
    after = look(tmp_path, 2.0, trainer=207, sleeper=500_000)
    assert foreign(tmp_path, before, after) == {"trainer.service": 1.0}


def test_one_that_began_in_the_window_counts_and_the_measurement_does_not(tmp_path: Path) -> None:
    busy(tmp_path, 1000)
    before = look(tmp_path, 0.0)
    busy(tmp_path, 1200)
    after = look(tmp_path, 2.0, own=1.0, fresh=100)
    assert foreign(tmp_path, before, after) == {"fresh.service": 0.5}


def test_a_number_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    busy(tmp_path, 0)
    before = look(tmp_path, 0.0)
    before = replace(before, processes={(10, 999): 50.0})
    busy(tmp_path, 100)
    after = look(tmp_path, 2.0, fresh=100)
    assert foreign(tmp_path, before, after) == {"fresh.service": 0.5}


@pytest.mark.parametrize("name", ["cpu.stat", "cpuacct/cpuacct.usage"])
def test_a_container_looks_at_its_own_time_and_not_at_its_neighbours(
    tmp_path: Path, name: str
) -> None:
    def used(seconds: int) -> None:
        text = f"usage_usec {seconds * 10**6}\nuser_usec 1\n"
        put(
            tmp_path,
            f"/sys/fs/cgroup/{name}",
            text if name == "cpu.stat" else f"{seconds * 10**9}\n",
        )

    put(tmp_path, "/run/.containerenv", "")
    used(5)
    busy(tmp_path, 1000)
    before = look(tmp_path, 0.0)
    used(6)
    busy(tmp_path, 9000)
    assert foreign(tmp_path, before, look(tmp_path, 2.0)) == {UNSEEN: 0.5}


def test_what_came_and_went_in_our_slice_is_not_foreign(tmp_path: Path) -> None:
    def ours(seconds: int) -> None:
        put(tmp_path, "/sys/fs/cgroup/mlops.slice/cpu.stat", f"usage_usec {seconds * 10**6}\n")

    ours(1)
    busy(tmp_path, 1000)
    before = look(tmp_path, 0.0)
    ours(2)
    busy(tmp_path, 1300)
    assert foreign(tmp_path, before, look(tmp_path, 2.0)) == {UNSEEN: 1.0}


def test_what_cannot_be_seen_is_told(tmp_path: Path) -> None:
    host = tree.Host(str(tmp_path))
    running.processes(host, Use(2.0, None, None, {}))
    assert {"what": "services", "reason": (
        "the processor time of processes that have ended cannot be seen"
    )} in host.unknown  # fmt: skip

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a host: this machine, and a tree of files that stands for another one."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._supply import (
    TOOL_VERSION,
    gather,
    installed,
    running,
    tree,
)

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
    facts = gather.gather("empty", TOOL_VERSION, root=str(tmp_path), ask_driver=False)
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
    put(
        tmp_path,
        "/proc/net/tcp",
        "head\n"
        "0: 00000000:01BB 0:0 0A 0:0 0:0 0 0 0 7 1\n"
        "1: 00000000:0050 0:0 0A 0:0 0:0 0 0 0 8 1\n"
        "2: 00000000:0051 0:0 0A 0:0 0:0 0 0 0 9 1\n",
    )
    host = tree.Host(str(tmp_path))
    found = running.processes(host, ticks=100, uptime=1010.0)
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
    owners = running.processes(host, ticks=100, uptime=1010.0)["owners"]
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
    ours = installed.ours(host, time.monotonic() + 5, time.monotonic, {"ceph": 300.0, "vim": 4.0})
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

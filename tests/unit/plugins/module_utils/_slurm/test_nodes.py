# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes have to be empty, of what scontrol wrote, and what a host is probed for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._slurm.draining import (
    CHANGING,
    LEAVING,
    RESTARTING,
    Drain,
    parse_nodes,
    to_drain,
    to_give_up,
    to_leave,
    to_resume,
)
from ansible_collections.mlops.onprem.plugins.module_utils._slurm.probe import authority, probe
from ansible_collections.mlops.onprem.plugins.module_utils._slurm.texts import MARK
from ansible_collections.mlops.onprem.plugins.module_utils._supply.tree import Host

# As scontrol show node -o of Slurm 24.11 wrote it.
NODES = (
    "NodeName=gpu1 Arch=x86_64 CoresPerSocket=2  CPUAlloc=1 CPUEfctv=2 CPUTot=2 CPULoad=0.39"
    " AvailableFeatures=(null) Gres=gpu:a100:4(S:0),served:1(S:0) NodeAddr=10.0.0.1"
    " NodeHostName=gpu1"
    " RealMemory=23808 AllocMem=200 State=MIXED+DRAIN ThreadsPerCore=1 Partitions=main"
    " CfgTRES=cpu=2,mem=23808M,billing=2,gres/gpu=4 AllocTRES=cpu=1,mem=200M,gres/gpu=2"
    f" Reason={CHANGING} [root@2026-11-28T20:15:00]\n"
    "NodeName=gpu2 CPUAlloc=0 CPUTot=2 Gres=(null) RealMemory=23808 State=IDLE* Partitions=main\n"
)
SAME = {
    "gpu1": {"cpus": 2, "memory_mib": 23808, "gres": "gpu:a100:4,served:1"},
    "gpu2": {"cpus": 2, "memory_mib": 23808, "gres": ""},
}


def test_nodes_are_read_as_slurm_writes_them() -> None:
    first, second = parse_nodes("slurm 24.11\n" + NODES)
    assert (first.gres, first.drained, first.busy) == ("gpu:a100:4,served:1", True, True)
    assert first.reason.startswith(CHANGING)
    assert (second.gres, second.drained, second.busy) == ("", False, False)


def test_a_node_that_stays_as_it_is_keeps_its_jobs() -> None:
    assert to_drain(parse_nodes(NODES), SAME) == ()


@pytest.mark.parametrize(
    ("change", "drains"),
    [
        ({"gres": "gpu:a100:3"}, True),
        ({"gres": "gpu:a100:4"}, True),  # what no job may have has changed
        ({"gres": "served:1,gpu:a100:4"}, False),
        ({"cpus": 1}, True),
        ({"memory_mib": 20000}, True),
        ({"job_memory_mib": 199}, True),  # its job has 200
        ({"job_memory_mib": 200, "job_cpus": 1}, False),
        ({"job_cpus": 0}, True),
        ({"cpus": 4, "memory_mib": 30000}, False),  # more than before disturbs no job
    ],
)
def test_a_node_that_gets_less_is_emptied(change: dict[str, object], drains: bool) -> None:
    wanted = {**SAME, "gpu1": {**SAME["gpu1"], **change}}
    assert to_drain(parse_nodes(NODES), wanted) == ((Drain("gpu1", CHANGING),) if drains else ())


def test_a_node_that_leaves_is_emptied() -> None:
    assert to_drain(parse_nodes(NODES), {"gpu1": SAME["gpu1"]}) == (Drain("gpu2", LEAVING),)


def test_a_node_that_is_declared_lost_is_given_up_once() -> None:
    assert to_give_up(parse_nodes(NODES), ["gpu1", "elsewhere"]) == ("gpu1",)
    known = NODES.replace("State=MIXED+DRAIN", "State=DOWN*+NOT_RESPONDING")
    assert to_give_up(parse_nodes(known), ["gpu1"]) == ()
    assert to_give_up(parse_nodes(NODES), []) == ()


def test_only_what_we_drained_comes_back() -> None:
    assert to_resume(parse_nodes(NODES), SAME) == ("gpu1",)
    by_hand = NODES.replace(CHANGING, "fan is broken")
    assert to_resume(parse_nodes(by_hand), SAME) == ()
    assert to_resume(parse_nodes(NODES), ["gpu2"]) == ()


def put(root: Path, path: str, text: str = "") -> None:
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def test_a_host_tells_its_cgroups_and_gpus(tmp_path: Path) -> None:
    put(tmp_path, "/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory\n")
    mounts = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\nnone /run/cgv1/cpu cgroup rw,cpu 0 0\n"
    put(tmp_path, "/proc/self/mounts", mounts)
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        put(tmp_path, f"/dev/{name}")
    information = "Model: \t\t A100\nGPU UUID:   \t GPU-x\nDevice Minor: \t 1\n"
    put(tmp_path, "/proc/driver/nvidia/gpus/0000:65:00.0/information", information)
    found = probe(Host(str(tmp_path)), ours=False, hostname="gpu1.plant.example")
    assert found["hostname"] == "gpu1"
    assert found["cgroup"]["version"] == "v2"
    assert found["cgroup"]["v1_mountpoints"] == ["/run/cgv1"]
    assert found["devices"] == ["/dev/nvidia0", "/dev/nvidia1"]
    assert found["minors"] == {"0000:65:00.0": 1, "GPU-x": 1}
    assert found["foreign"] == []


def test_a_slurm_of_somebody_else_is_seen_and_our_own_is_not(tmp_path: Path) -> None:
    put(tmp_path, "/etc/slurm/slurm.conf", "ClusterName=physics\n")
    put(tmp_path, "/etc/munge/munge.key", "x")
    host = Host(str(tmp_path))
    assert probe(host, ours=False)["foreign"] == ["/etc/slurm/slurm.conf", "/etc/munge/munge.key"]
    assert probe(host, ours=True)["foreign"] == []
    put(tmp_path, "/etc/slurm/slurm.conf", f"{MARK}\n")
    assert probe(host, ours=False)["foreign"] == ["/etc/munge/munge.key"]


def test_a_node_whose_host_was_restarted_comes_back_and_one_that_leaves_does_not() -> None:
    there = parse_nodes(NODES)
    assert to_leave(there, ["gpu2", "gone"]) == (Drain("gpu2", LEAVING),)
    assert to_leave(there, ["gpu2"], RESTARTING) == (Drain("gpu2", RESTARTING),)
    drained = [replace(node, states=("IDLE", "DRAIN")) for node in there]
    for reason, back in ((RESTARTING, ("gpu2",)), (LEAVING, ()), ("fan is broken", ())):
        nodes = [replace(node, reason=f"{reason} [root@2026-11-29]") for node in drained]
        assert to_resume(nodes, ["gpu2"]) == back


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("", ""),
        ("good.pem", ""),
        ("none.pem", "which does not exist there"),
        ("key.pem", "which holds no certificate in PEM form"),
        ("folder", "which holds no certificate in PEM form"),
    ],
)
def test_what_is_wrong_with_a_file_of_authorities(tmp_path: Path, name: str, wrong: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "good.pem").write_text("# ours\n-----BEGIN CERTIFICATE-----\nMA==\n")
    (tmp_path / "key.pem").write_text("-----BEGIN EC PRIVATE KEY-----\nMA==\n")
    assert authority(Host(str(tmp_path)), f"/{name}" if name else "") == wrong

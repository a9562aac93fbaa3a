# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The site of inventories/example_company with hosts that were measured, for tests and docs.

Its machines exist on paper only, so their facts are made here in the form of capacity_facts: two
servers with four NVIDIA L40S each, a control host, and the devices of the lines.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.mlops.onprem.plugins.module_utils._assess.plan_findings import with_verdict
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.margins import Margins
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.planning import (
    Planned,
    plan_workloads,
)
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.request import Written
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import Demand, DiskNeed

ROOT = Path(__file__).resolve().parents[1]
INVENTORY = ROOT / "inventories" / "example_company"
NOW = 1_796_000_000.0  # 2026-11-29
L40S_MIB = 46068.0
LOOK_SECONDS = 0.005  # about what the planner works between two looks at the clock


def steady_clock() -> Callable[[], float]:
    """A clock that every look moves on alike, so that a busy machine gives the same answer."""
    looks = itertools.count()
    return lambda: next(looks) * LOOK_SECONDS


def disk(mount: str, device: str, size: float, left: float) -> dict[str, Any]:
    """A file system."""
    return {
        "mount": mount,
        "device": device,
        "size_mib": size,
        "available_mib": left,
        "inodes": 50_000_000,
        "inodes_available": 49_000_000,
        "read_only": False,
    }


def gpu(host: str, index: int) -> dict[str, Any]:
    """An idle card."""
    return {
        "index": index,
        "minor": index,
        "model": "NVIDIA L40S",
        "uuid": f"GPU-{host}-{index}",
        "memory_mib": L40S_MIB,
        "memory_used_mib": 480.0,
        "mig_mode": None,
        "processes": 0,
    }


def facts(
    host: str, cores: int, memory: float, disks: Sequence[dict[str, Any]], gpus: int = 0
) -> dict[str, Any]:
    """What capacity_facts tells of a host, as far as planning looks at it."""
    return {
        "host": host,
        "clock": {
            "epoch": NOW - 30,
            "controller_epoch": NOW - 30,
            "offset_seconds": 0.0,
            "uncertainty_seconds": 0.1,
        },
        "measured_at": "2026-11-29",
        "os": {"id": "debian", "version": "13", "name": "Debian GNU/Linux 13 (trixie)"},
        "kernel": {"release": "6.12", "architecture": "x86_64"},
        "python": {"version": "3.13.5", "executable": "/usr/bin/python3"},
        "init": {"name": "systemd", "systemd_running": True},
        "host_id": host,
        "hostname": host,
        "packages": {"manager": "apt", "broken": [], "locked": False, "lists": 3},
        "system_uids_free": 900,
        "cpu": {"usable_cores": cores},
        "memory": {"total_mib": memory, "available_mib": memory - 900},
        "filesystems": list(disks),
        "services": {
            "foreign": [{"unit": "sshd.service", "memory_mib": 60.0, "cpu_cores": 0.01}],
            "ours": [],
        },
        "ours": {"directories": [], "packages_mib": 0},
        "listeners": [],
        "gpus": {
            "source": "nvml" if gpus else "none",
            "problem": None,
            "gpus": [gpu(host, index) for index in range(gpus)],
        },
        "unknown": [],
    }


def inventory() -> tuple[dict[str, Any], dict[str, list[str]], dict[str, Any]]:
    """The variables of all hosts, the hosts of each group, and the labels of each host."""
    variables: dict[str, Any] = {}
    for path in sorted((INVENTORY / "group_vars" / "all").glob("*.yml")):
        variables.update(yaml.safe_load(path.read_text(encoding="utf-8")))
    groups: dict[str, list[str]] = {"all": []}
    labels: dict[str, Any] = {}

    def expand(name: str) -> list[str]:
        front, bracket, rest = name.partition("[")
        if not bracket:
            return [name]
        first, _colon, last = rest.rstrip("]").partition(":")
        return [f"{front}{number}" for number in range(int(first), int(last) + 1)]

    def walk(name: str, group: Mapping[str, Any] | None) -> list[str]:
        here = []
        for pattern, values in ((group or {}).get("hosts") or {}).items():
            for host in expand(pattern):
                here.append(host)
                labels.setdefault(host, (values or {}).get("mlops_host_labels") or {})
        for child, inner in ((group or {}).get("children") or {}).items():
            here += walk(child, inner)
        groups[name] = list(dict.fromkeys([*groups.get(name, []), *here]))
        return here

    walk("all", yaml.safe_load((INVENTORY / "hosts.yml").read_text(encoding="utf-8"))["all"])
    return variables, groups, labels


def supply(groups: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """The facts of every host."""
    found = {}
    for host in groups["all"]:
        if host in groups["gpu"]:
            disks = [
                disk("/", "8:2", 450_560, 431_000),
                disk("/srv", "9:1", 14_680_064, 14_640_000),
            ]
            found[host] = facts(host, 64, 515_000.0, disks, 4)
        elif host in groups["control"]:
            found[host] = facts(host, 8, 32_000.0, [disk("/", "8:1", 450_560, 440_000)])
        else:
            found[host] = facts(host, 4, 7_800.0, [disk("/", "179:2", 58_000, 50_000)])
    return found


def demand(groups: Mapping[str, Sequence[str]]) -> dict[str, list[Demand]]:
    """What the roles need, with the figures of their vars/capacity.yml."""
    every = [
        Demand("Node exporter", "monitoring", cpu_cores=0.02, memory_mib=25),
        Demand("Certificates", "trust", disks=(DiskNeed("/etc/mlops", 1.0),)),
    ]
    control = [
        Demand("Model registry", "model_registry", cpu_cores=0.5, memory_mib=660),
        Demand("Artifact registry", "artifact_registry", cpu_cores=0.1, memory_mib=60),
        Demand("Gateway", "gateway", cpu_cores=0.1, memory_mib=40),
        Demand(
            "Prometheus",
            "monitoring",
            cpu_cores=0.2,
            memory_mib=220,
            disks=(DiskNeed("/var/lib/mlops/monitoring", 9000.0),),
        ),
    ]
    edge = [Demand("Model serving", "model_serving", cpu_cores=0.5, memory_mib=250)]
    return {
        host: every
        + (control if host in groups["control"] else [])
        + (edge if host in groups["edge"] else [])
        for host in groups["all"]
    }


def margins() -> Margins:
    """Those of the profile production."""
    path = ROOT / "roles" / "assess" / "vars" / "main.yml"
    profiles = yaml.safe_load(path.read_text(encoding="utf-8"))["__assess_profiles"]
    return Margins(**profiles["production"]["margins"])


def planned(
    workloads: Sequence[Mapping[str, Any]] | None = None,
    what_if: Mapping[str, Any] | None = None,
    earlier: Mapping[str, Any] | None = None,
    **asked: Any,
) -> Planned:
    """The plan of the site, with other workloads or changes where they are given."""
    variables, groups, labels = inventory()
    written = Written(
        variables["mlops_workloads"] if workloads is None else workloads,
        variables["mlops_host_offers"],
        labels,
        groups,
        what_if,
        earlier,
    )
    found = plan_workloads(
        written,
        groups["all"],
        supply(groups),
        demand(groups),
        margins(),
        {"seconds": 20, **asked},
        steady_clock(),
        NOW,
    )
    return with_verdict(found)


def with_changes(**changes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The workloads of the inventory, some of them with other fields."""
    rows = inventory()[0]["mlops_workloads"]
    return [{**row, **changes.get(row["name"].replace("-", "_"), {})} for row in rows]

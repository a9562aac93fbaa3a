"""The larger site of the benchmark, and what is concluded from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tomllib
import yaml
from labhosts import topology

from tests.benchmarks.site import larger_inventory, larger_topology, per_device, rings

ROOT = Path(__file__).resolve().parents[3]


def addresses(groups: Any) -> dict[str, str]:
    found = {}
    for group in groups.values():
        for name, variables in (group.get("hosts") or {}).items():
            found[name] = variables["ansible_host"]
        found.update(addresses(group.get("children") or {}))
    return found


@pytest.mark.parametrize("devices", [5, 8, 20, 200])
def test_inventory_and_topology_name_the_same_hosts(devices: int) -> None:
    parsed = topology.parse(tomllib.loads(larger_topology(devices)), Path("bench.toml"))
    built = {host.name: host.ip for host in parsed.hosts if host.kind == "base"}
    assert addresses(larger_inventory(devices)) == built
    assert len(built) == devices + 2


def test_the_larger_site_has_the_groups_of_the_lab() -> None:
    lab = yaml.safe_load((ROOT / "inventories/lab/hosts.yml").read_text())
    ours = yaml.safe_load(json.dumps(larger_inventory(8)))
    assert set(ours) == set(lab)
    assert set(ours["edge"]["children"]) == set(lab["edge"]["children"])


@pytest.mark.parametrize("count", [5, 8, 20])
def test_every_device_is_in_one_ring_and_no_ring_is_empty(count: int) -> None:
    names = [f"edge{n}" for n in range(count)]
    members = rings(names)
    assert [name for ring in members.values() for name in ring] == names
    assert all(members.values())


def run(devices: int, cpu: float, wall: float) -> dict[str, Any]:
    tasks = {f"edge{n}": 46 for n in range(devices)} | {"ctl1": 120, "localhost": 9}
    return {"tasks_per_host": tasks, "controller_cpu_seconds": cpu, "wall_seconds": wall}


def test_one_more_device_costs_the_difference() -> None:
    assert per_device(run(4, 60.0, 45.0), run(8, 78.0, 55.0)) == {
        "devices": 8,
        "compared_with": 4,
        "tasks": 46.0,
        "controller_cpu_seconds": 4.5,
        "wall_seconds": 2.5,
    }


def test_nothing_is_concluded_from_as_many_devices() -> None:
    with pytest.raises(ValueError, match="wanted more than 4 devices, found 4"):
        per_device(run(4, 1.0, 1.0), run(4, 2.0, 2.0))

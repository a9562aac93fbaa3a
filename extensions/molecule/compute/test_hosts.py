# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts play the GPUs of their recordings: seen through the ordinary way of capacity_facts."""

from __future__ import annotations

import dataclasses
import tomllib
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._supply.gpu import parse_nvidia_smi

from extensions.molecule.compute.hosts import GPU_HOSTS, HERE, module, on, placed

TOPOLOGY = tomllib.loads((HERE / "topology.toml").read_text("utf-8"))
# A host made here has cards of its own that nobody uses or has divided; why something is unknown is
# told in words.
OWN = {
    "index",
    "minor",
    "uuid",
    "pci_bus_id",
    "memory_used_mib",
    "memory_free_mib",
    "processes",
    "driver",
}
OWN |= {"mig_instances"}
BY_WAY = {"unknown", "recovery_action"}


def comparable(gpu: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in gpu.items() if key not in OWN | BY_WAY}


@pytest.mark.parametrize("host", GPU_HOSTS)
def test_the_gpus_of_a_host_are_those_of_its_recordings(host: str) -> None:
    found = module(host, "capacity_facts")["capacity_facts"]["gpus"]
    recorded = [
        parse_nvidia_smi((HERE / file).resolve().read_text("utf-8"))
        for file in TOPOLOGY["hosts"][host]["gpus"]
    ]
    cards = [dataclasses.asdict(report.gpus[0]) for report in recorded]
    assert found["source"] == "nvml"
    assert found["problem"] is None
    assert found["driver_version"] == recorded[0].driver_version
    assert [comparable(gpu) for gpu in found["gpus"]] == [comparable(gpu) for gpu in cards]
    assert {gpu["processes"] for gpu in found["gpus"]} <= {0, None}
    assert len({gpu["uuid"] for gpu in found["gpus"]}) == len(cards)


def test_a_device_can_be_opened_and_has_no_driver() -> None:
    assert "No such device or address" in on("cgpu2", "cat /dev/nvidia1", check=False)


def test_every_replica_has_a_place() -> None:
    assert {("iris", 0), ("iris", 1), ("chat", 0), ("chat", 1), ("handbook", 0)} <= set(placed())
    assert {placed()["iris", number]["host"] for number in (0, 1)} == set(GPU_HOSTS)

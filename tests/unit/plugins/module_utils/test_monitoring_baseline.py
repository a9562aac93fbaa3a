# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the assessment found is told so that a second run tells the same."""

from __future__ import annotations

from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._monitoring.baseline import page, volume

SUPPLY: dict[str, Any] = {
    "cpu": {"usable_cores": 8},
    "memory": {"total_mib": 1024, "available_mib": 77},
    "filesystems": [
        {"mount": "/", "available_mib": 5000},
        {"mount": "/var", "available_mib": 9000},
        {"mount": "/variant", "available_mib": 9000},
    ],
    "network": [
        {"name": "eth0", "physical": True, "speed_mbit": 1000},
        {"name": "eth1", "physical": True, "speed_mbit": None},
        {"name": "bond0", "physical": False, "speed_mbit": 2000},
    ],
}
DEMAND: list[dict[str, Any]] = [
    {
        "disks": [
            {"path": "/var/lib/a", "mount": "", "mib": 100},
            {"path": "/usr", "mount": "", "mib": 5},
        ]
    },
    {"disks": [{"path": "/var", "mount": "", "mib": 28}]},
    {},
]


def told(supply: dict[str, Any]) -> list[str]:
    return [line for line in page(supply, DEMAND).splitlines() if not line.startswith("#")]


def test_what_stays_is_told() -> None:
    assert told(SUPPLY) == [
        "mlops_host_planned_cpu_cores 8",
        "mlops_host_planned_memory_bytes 1073741824",
        'mlops_volume_planned_bytes{mountpoint="/"} 5242880',
        'mlops_volume_planned_bytes{mountpoint="/var"} 134217728',
        'mlops_link_planned_bytes{device="eth0"} 125000000',
    ]


def test_what_changes_by_itself_changes_nothing() -> None:
    busy = {**SUPPLY, "memory": {"total_mib": 1024, "available_mib": 1}}
    busy["filesystems"] = [{**one, "available_mib": 1} for one in SUPPLY["filesystems"]]
    assert told(busy) == told(SUPPLY)


def test_a_path_belongs_to_the_mount_that_holds_it() -> None:
    assert volume("/variant/x", ["/", "/var", "/variant"]) == "/variant"
    assert volume("/vary", ["/", "/var"]) == "/"
    assert volume("/x", ["/var"]) == ""


def test_an_unknown_host_tells_nothing() -> None:
    assert page({}, DEMAND) == ""

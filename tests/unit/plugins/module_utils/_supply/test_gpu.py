# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs as recorded on real machines; fixtures/nvidia_smi/README.md says where from."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._supply.gpu import (
    GpuError,
    GpuReport,
    PciDevice,
    from_device_tree,
    from_pci,
    parse_nvidia_smi,
    with_main_memory,
    without_cards,
)

FIXTURES = Path(__file__).resolve().parents[4] / "fixtures" / "nvidia_smi"


def recorded(name: str) -> GpuReport:
    return parse_nvidia_smi((FIXTURES / f"{name}.xml").read_text())


@pytest.mark.parametrize(
    ("name", "driver", "model", "architecture", "total", "width", "widest", "ecc"),
    [
        ("a100-sxm4-v12", "535.54.03", "NVIDIA A100-SXM4-80GB", "Ampere", 81920, 16, 16, "Enabled"),
        ("gtx-1660-ti", "418.43", "Graphics Device", None, 5912, 16, 16, None),
        ("quadro-p2000-v12", "525.125.06", "Quadro P2000", "Pascal", 5120, 8, 16, None),
        ("rtx-3060-v12", "570.124.04", "NVIDIA GeForce RTX 3060", "Ampere", 12288, 16, 16, None),
        (
            "rtx-4000-sff-ada-v13",
            "595.84",
            "NVIDIA RTX 4000 SFF Ada Generation",
            "Ada Lovelace",
            20475,
            16,
            16,
            "Disabled",
        ),
        ("tesla-t4", "515.105.01", "Tesla T4", "Turing", 15360, 8, 16, "Enabled"),
    ],
)
def test_every_recorded_card_is_understood(
    name: str,
    driver: str,
    model: str,
    architecture: str | None,
    total: int,
    width: int,
    widest: int,
    ecc: str | None,
) -> None:
    report = recorded(name)
    gpu = report.gpus[0]
    assert report.driver_version == driver
    assert (gpu.model, gpu.architecture, gpu.memory_mib) == (model, architecture, total)
    assert (gpu.pcie_width_now, gpu.pcie_width_max, gpu.ecc_mode) == (width, widest, ecc)


@pytest.mark.parametrize(("name", "minor"), [("a100-sxm4-v12", 1), ("tesla-t4", 0)])
def test_a_card_tells_the_number_of_its_device_file_beside_its_place_in_the_count(
    name: str, minor: int
) -> None:
    gpu = recorded(name).gpus[0]
    assert (gpu.index, gpu.minor) == (0, minor)


def test_mig_instances_are_listed_with_their_memory() -> None:
    gpu = recorded("a100-sxm4-v12").gpus[0]
    assert gpu.mig_mode == "Enabled"
    assert [row.gpu_instance_id for row in gpu.mig_instances] == [3, 4, 5, 6]
    assert {row.memory_mib for row in gpu.mig_instances} == {19968}


def test_what_the_driver_does_not_say_is_unknown_with_the_reason_and_not_zero() -> None:
    gpu = recorded("a100-sxm4-v12").gpus[0]
    assert gpu.utilisation_percent is None
    assert gpu.unknown == ("utilisation_percent: the driver says N/A",)


def test_a_card_that_is_counted_but_not_described_is_reported() -> None:
    assert recorded("a100-sxm4-v12").problem == (
        "nvidia-smi speaks of 4 GPUs and describes 1; a card may have fallen off the bus"
    )
    assert recorded("tesla-t4").problem is None


def test_an_answer_that_is_no_xml_is_refused_in_a_sentence() -> None:
    with pytest.raises(GpuError, match=r"^nvidia-smi answered with no readable XML: "):
        parse_nvidia_smi("NVIDIA-SMI has failed because it couldn't communicate")
    with pytest.raises(GpuError, match="answered with <html> in place of <nvidia_smi_log>"):
        parse_nvidia_smi("<html/>")


def test_a_card_without_driver_is_seen_on_the_bus() -> None:
    report = from_pci(
        [
            PciDevice("0000:00:01.0", "0x1234", "0x1111", "0x030000", "bochs-drm"),
            PciDevice("0000:01:00.0", "0x10de", "0x20b2", "0x030200", None),
        ]
    )
    assert report.source == "pci"
    assert report.problem == "driver missing: NVIDIA 0x20b2 at 0000:01:00.0"
    assert report.gpus[0].memory_mib is None


def test_a_server_with_only_a_console_has_no_gpu() -> None:
    report = from_pci([PciDevice("0000:00:01.0", "0x1a03", "0x2000", "0x030000", "ast")])
    assert (report.source, report.gpus, report.problem) == ("none", (), None)


def test_a_jetson_is_known_by_its_device_tree() -> None:
    report = from_device_tree(
        "NVIDIA Jetson Orin Nano\0", "nvidia,p3768\0nvidia,tegra234\0", 7620.0
    )
    assert report is not None
    assert (report.gpus[0].model, report.gpus[0].architecture) == (
        "NVIDIA Jetson Orin Nano",
        "tegra234",
    )
    assert from_device_tree("Raspberry Pi 5", "raspberrypi,5\0", 8000.0) is None


# Parts of the recordings named in tests/fixtures/nvidia_smi/README.md.
RECORDED = """<nvidia_smi_log><driver_version>580.65.06</driver_version>
<attached_gpus>1</attached_gpus>
<gpu id="00000008:01:00.0"><product_name>{name}</product_name>
<addressing_mode>{addressing}</addressing_mode>
<gpu_recovery_action>{action}</gpu_recovery_action>
<fb_memory_usage><total>{total}</total><reserved>{reserved}</reserved><used>{used}</used>
<free>{total}</free></fb_memory_usage>
<compute_mode>{mode}</compute_mode>
<ecc_errors><channel_repair_pending>{repair}</channel_repair_pending>
<unrepairable_memory>{unrepairable}</unrepairable_memory></ecc_errors>
<remapped_rows><remapped_row_pending>{pending}</remapped_row_pending>
<remapped_row_failure>{failure}</remapped_row_failure></remapped_rows>
<fabric><state>{state}</state><status>{status}</status><health><bandwidth>{bandwidth}</bandwidth>
<route_unhealthy>{route}</route_unhealthy></health></fabric>
<processes>{processes}</processes></gpu></nvidia_smi_log>"""
SOUND = {
    "name": "NVIDIA GB200",
    "addressing": "ATS",
    "action": "None",
    "total": "189471 MiB",
    "reserved": "800 MiB",
    "used": "0 MiB",
    "mode": "Default",
    "repair": "No",
    "unrepairable": "No",
    "pending": "No",
    "failure": "No",
    "state": "Completed",
    "status": "Success",
    "bandwidth": "Full",
    "route": "False",
    "processes": "",
}


def told(**changes: str) -> dict[str, object]:
    return parse_nvidia_smi(RECORDED.format(**{**SOUND, **changes})).gpus[0].as_dict()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, {"lost": False, "fabric_problem": None, "recovery_action": None, "processes": 0}),
        ({"total": "GPU is lost", "used": "GPU is lost"}, {"lost": True, "memory_mib": None}),
        ({"total": "GPU requires reset"}, {"lost": True}),
        ({"failure": "Yes"}, {"remapped_rows_failure": True}),
        ({"unrepairable": "Yes"}, {"remapped_rows_failure": True}),
        ({"pending": "Yes"}, {"remapped_rows_pending": True}),
        ({"repair": "Yes"}, {"repair_pending": True}),
        ({"action": "Drain and Reset"}, {"recovery_action": "Drain and Reset"}),
        ({"mode": "Exclusive_Process"}, {"compute_mode": "Exclusive_Process"}),
        ({"bandwidth": "Degraded"}, {"fabric_problem": "bandwidth Degraded"}),
        ({"route": "True"}, {"fabric_problem": "route_unhealthy True"}),
        ({"state": "In Progress"}, {"fabric_problem": "state In Progress"}),
        ({"state": "N/A", "status": "N/A", "bandwidth": "N/A"}, {"fabric_problem": None}),
        ({"processes": "N/A"}, {"processes": None}),
        ({"name": "NVIDIA GB10", "total": "Not Supported"}, {"memory_shared": True}),
        ({"name": "Orin (nvgpu)", "total": "[N/A]"}, {"memory_shared": True}),
        ({"name": "NVIDIA GH200 480GB"}, {"memory_shared": False}),
        ({"name": "NVIDIA N9", "total": "N/A"}, {"memory_shared": True}),
        ({"name": "NVIDIA N9", "total": "N/A", "addressing": "None"}, {"memory_shared": False}),
    ],
)
def test_the_health_of_a_card_is_read(changes: dict[str, str], said: dict[str, object]) -> None:
    found = told(**changes)
    assert {key: found[key] for key in said} == said


def test_cards_without_memory_of_their_own_have_that_of_the_machine() -> None:
    report = parse_nvidia_smi(RECORDED.format(**{**SOUND, "name": "NVIDIA GB10", "total": "N/A"}))
    assert [gpu.memory_mib for gpu in with_main_memory(report, 122_000.0).gpus] == [122_000.0]
    own = parse_nvidia_smi(RECORDED.format(**SOUND))
    assert with_main_memory(own, 500_000.0) == own


@pytest.mark.parametrize(
    ("card", "total", "available"),
    [
        ({"name": "NVIDIA GH200 480GB", "total": "97871 MiB"}, 490_000, 480_000),
        ({"name": "NVIDIA N9", "total": "97871 MiB"}, 490_000, 480_000),
        ({"name": "NVIDIA GB200", "total": "97871 MiB", "addressing": "None"}, 490_000, 480_000),
        ({"name": "NVIDIA H100", "total": "97871 MiB", "addressing": "None"}, None, None),
        ({"name": "NVIDIA GB10", "total": "97871 MiB"}, None, None),
        ({"name": "NVIDIA GH200 480GB", "total": "40000 MiB"}, None, None),
        ({"name": "NVIDIA GH200 480GB", "total": "GPU is lost"}, None, None),
    ],
)
def test_memory_of_cards_that_the_kernel_counts_as_the_hosts_is_theirs(
    card: dict[str, str], total: float | None, available: float | None
) -> None:
    nodes: list[dict[str, object]] = [
        {"id": 0, "cpus": "0-71", "memory_mib": 490_000.0, "free_mib": 400_000.0},
        {"id": 1, "cpus": None, "memory_mib": 97_000.0, "free_mib": 90_000.0},
    ]
    gpus = parse_nvidia_smi(RECORDED.format(**{**SOUND, **card})).gpus
    found = without_cards({"total_mib": 587_000.0, "available_mib": 570_000.0}, nodes, gpus)
    wanted = {} if total is None else {"total_mib": total, "available_mib": available}
    assert found == wanted

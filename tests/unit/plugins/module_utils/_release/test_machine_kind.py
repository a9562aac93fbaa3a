# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kind of device it is, from files as kernels and drivers write them."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.machine import machine

MEMINFO = "MemTotal:        7998776 kB\nMemFree:          123456 kB\n"


@pytest.mark.parametrize(
    ("nodes", "accelerator"),
    [
        ((), ""),
        (("dev/nvidia0",), "NVIDIA GPU"),
        (("dev/nvgpu/igpu0",), "NVIDIA Jetson GPU"),
        (("dev/nvidia0", "dev/nvhost-gpu"), "NVIDIA Jetson GPU"),
        (("dev/apex_0",), "Edge TPU"),
    ],
)
def test_a_device_is_measured(tmp_path: Path, nodes: tuple[str, ...], accelerator: str) -> None:
    for node in ("proc/meminfo", *nodes):
        (tmp_path / node).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / node).write_text(MEMINFO)
    assert machine(tmp_path) == {
        "architecture": platform.machine(),
        "memory_mib": 7811.3,
        "accelerator": accelerator,
    }


@pytest.mark.parametrize("text", ["", "MemTotal: much\n", "MemTotal:\n"])
def test_memory_that_cannot_be_read_is_not_guessed(tmp_path: Path, text: str) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(text)
    assert machine(tmp_path)["memory_mib"] == 0.0
    assert machine(tmp_path / "nowhere")["memory_mib"] == 0.0

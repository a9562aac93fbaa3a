# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kind of device this is: a release that fails on one kind may run well on all others."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

# Device nodes that drivers make, the most telling first.
ACCELERATORS = (
    ("dev/nvhost-gpu", "NVIDIA Jetson GPU"),
    ("dev/nvgpu/igpu0", "NVIDIA Jetson GPU"),
    ("dev/nvidia0", "NVIDIA GPU"),
    ("dev/kfd", "AMD GPU"),
    ("dev/hailo0", "Hailo NPU"),
    ("dev/apex_0", "Edge TPU"),
)


def machine(root: Path = Path("/")) -> dict[str, Any]:
    """``architecture``, ``memory_mib`` (0 where it cannot be read) and ``accelerator``."""
    there = (name for node, name in ACCELERATORS if (root / node).exists())
    return {
        "architecture": platform.machine(),
        "memory_mib": _memory_mib(root / "proc/meminfo"),
        "accelerator": next(there, ""),
    }


def _memory_mib(path: Path) -> float:
    try:
        for line in path.read_text(encoding="ascii", errors="replace").splitlines():
            name, _colon, amount = line.partition(":")
            if name == "MemTotal":
                return round(float(amount.split()[0]) / 1024, 1)
    except (OSError, ValueError, IndexError):
        pass
    return 0.0

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the variables of the role ask of a host, and what is known of its plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .facts import DEBIAN

ADOPT, INSTALL, UPGRADE = "adopt", "install", "upgrade"
AUTO, OPEN, CLOSED = "auto", "open", "closed"


@dataclass(frozen=True)
class Wish:
    """What the variables of the role ask for."""

    mode: str = ADOPT
    source: str = DEBIAN
    branch: int = 0  # 0: chosen
    module: str = AUTO
    cuda: int = 0  # major version that programs need; 0: none is known
    month: str = ""  # now, as 2026-11; empty: ends of life are not judged
    planned: tuple[str, ...] = ()  # ids of GPUs that the plan uses here
    seen: tuple[str, ...] = ()  # ids of GPUs that the driver tells
    told: str = ""  # version that the driver tells, where /proc has none
    repository: bool = False  # gpu_driver_repository says where apt finds drivers


def wish_of(params: Mapping[str, Any]) -> Wish:
    """The wish in the parameters of a task."""
    measured = params["measured"] or {}
    planned = [str(one) for row in params["placement"] for one in row.get("gpu_ids") or []]
    seen = [str(row["uuid"]) for row in measured.get("gpus") or [] if row.get("uuid")]
    # A card that was looked for on the bus only is told by no driver.
    by_driver = measured.get("source") in ("nvml", "nvidia-smi")
    return Wish(
        mode=params["mode"],
        source=params["source"],
        branch=params["branch"],
        module=params["module"],
        cuda=params["cuda"],
        month=params["month"],
        planned=tuple(dict.fromkeys(planned)),
        seen=tuple(seen) if by_driver else (),
        told=str(measured.get("driver_version") or "") if by_driver else "",
        repository=params["repository"],
    )

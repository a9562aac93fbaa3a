# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a GPU is sound and free, from its facts. What is not known is neither."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .._findings.sentence import amount, brief

DEVICE_TREE = "device-tree"
# An idle card holds next to nothing beyond what the driver keeps for itself, and the smallest
# context of CUDA takes more than this. Where the driver does not tell its own part apart (before
# 510), that part is in the figure: up to some hundred MiB with ECC and a framebuffer.
IDLE_MIB = 128.0
IDLE_WITH_RESERVE_MIB = 700.0

Row = Mapping[str, Any]
Refusal = tuple[str, str]


def shares_memory(report: Row, row: Row) -> bool:
    """Whether the memory of a card is that of the host."""
    return bool(row.get("memory_shared")) or report.get("source") == DEVICE_TREE


def _lost(row: Row) -> Refusal | None:
    if row.get("lost") or any("is lost" in str(why) for why in row.get("unknown") or ()):
        return "it is lost: it no longer answers", "restart the host; if it stays lost, replace it"
    return None


def _failed(row: Row) -> Refusal | None:
    if row.get("remapped_rows_failure"):
        return "its memory has failed (row remapping failure)", "have it replaced"
    return None


def _pending(row: Row) -> Refusal | None:
    waiting = {
        "retired_pages_pending": "memory pages wait to be retired",
        "remapped_rows_pending": "memory rows wait to be remapped",
        "repair_pending": "its memory waits for a repair",
    }
    for key, why in waiting.items():
        if row.get(key):
            return why, "reset it or restart the host"
    return None


def _recovering(row: Row) -> Refusal | None:
    action = str(row.get("recovery_action") or "")
    if action.lower() in ("", "none"):
        return None
    return f"the driver asks for a recovery ({brief(action, 40)})", "do so, or restart the host"


def _degraded(row: Row) -> Refusal | None:
    problem = row.get("fabric_problem")
    if not problem:
        return None
    return (
        f"its fabric is degraded ({brief(problem, 120)})",
        "look at the fabric manager and the NVLink cables: nvidia-smi -q -d FABRIC",
    )


def _closed(row: Row) -> Refusal | None:
    mode = str(row.get("compute_mode") or "")
    if mode.lower() in ("", "default"):
        return None
    return (
        f"its compute mode is {brief(mode, 40)}",
        f"open it with: nvidia-smi -i {row.get('index') or 0} -c DEFAULT",
    )


def _unmeasured(row: Row) -> Refusal | None:
    if float(row.get("memory_mib") or 0.0) > 0:
        return None
    said = [str(why) for why in row.get("unknown") or () if str(why).startswith("memory_mib")]
    reason = brief(said[0].partition(": ")[2], 80) if said else "the driver does not tell it"
    return f"its memory is not known ({reason})", "look with: nvidia-smi -q"


SOUND: tuple[Callable[[Row], Refusal | None], ...] = (
    _lost,
    _failed,
    _pending,
    _recovering,
    _degraded,
    _closed,
    _unmeasured,
)


def unsound(row: Row) -> Refusal | None:
    """Why a card cannot be relied on, and what mends it."""
    return next((why for check in SOUND if (why := check(row)) is not None), None)


def in_use(row: Row, shared: bool) -> Refusal | None:
    """Why a card is not free. Use of the host's own memory is in the figures of the host."""
    index = row.get("index") or 0
    busy, used = row.get("processes"), row.get("memory_used_mib")
    if busy:
        return (
            f"{busy} process{'' if busy == 1 else 'es'} that no plan placed there use it "
            f"({amount(float(used or 0), 0)} MiB)",
            "stop them: nvidia-smi lists them",
        )
    if used is None and busy is None and not shared:
        return (
            "whether it is in use cannot be seen (neither processes nor memory in use are told)",
            "ask as root, and look with: nvidia-smi -q",
        )
    idle = IDLE_MIB if row.get("memory_reserved_mib") is not None else IDLE_WITH_RESERVE_MIB
    if not shared and float(used or 0) > idle:
        seen = "whose processes cannot be seen" if busy is None else "and no process is seen"
        return (
            f"{amount(float(used or 0), 0)} MiB of it are in use, {seen} (an idle one holds at "
            f"most {amount(idle, 0)} MiB)",
            f"find what uses it in containers and virtual machines, or reset it with: "
            f"nvidia-smi -i {index} --gpu-reset",
        )
    return None

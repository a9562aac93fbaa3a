# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a GPU is sound and free, from its facts. What is not known is neither."""

from __future__ import annotations

from collections.abc import Callable

from .._findings.sentence import amount, brief
from .._supply.facts import Facts, Gpu

DEVICE_TREE = "device-tree"
# An idle card holds next to nothing beyond what the driver keeps for itself, and the smallest
# context of CUDA takes more than this. Where the driver does not tell its own part apart (before
# 510), that part is in the figure: up to some hundred MiB with ECC and a framebuffer.
IDLE_MIB = 128.0
IDLE_WITH_RESERVE_MIB = 700.0

Refusal = tuple[str, str]


def shares_memory(facts: Facts, row: Gpu) -> bool:
    """Whether the memory of a card is that of the host."""
    return row.memory_shared or facts.gpu_source == DEVICE_TREE


def _lost(row: Gpu) -> Refusal | None:
    if row.lost or any("is lost" in why for why in row.unknown):
        return "it is lost: it no longer answers", "restart the host; if it stays lost, replace it"
    return None


def _failed(row: Gpu) -> Refusal | None:
    if row.remapped_rows_failure:
        return "its memory has failed (row remapping failure)", "have it replaced"
    return None


def _pending(row: Gpu) -> Refusal | None:
    waiting = (
        (row.retired_pages_pending, "memory pages wait to be retired"),
        (row.remapped_rows_pending, "memory rows wait to be remapped"),
        (row.repair_pending, "its memory waits for a repair"),
    )
    for waits, why in waiting:
        if waits:
            return why, "reset it or restart the host"
    return None


def _recovering(row: Gpu) -> Refusal | None:
    action = row.recovery_action
    if action.lower() in ("", "none"):
        return None
    return f"the driver asks for a recovery ({brief(action, 40)})", "do so, or restart the host"


def _degraded(row: Gpu) -> Refusal | None:
    if not row.fabric_problem:
        return None
    return (
        f"its fabric is degraded ({brief(row.fabric_problem, 120)})",
        "look at the fabric manager and the NVLink cables: nvidia-smi -q -d FABRIC",
    )


def _closed(row: Gpu) -> Refusal | None:
    mode = row.compute_mode
    if mode.lower() in ("", "default"):
        return None
    return (
        f"its compute mode is {brief(mode, 40)}",
        f"open it with: nvidia-smi -i {row.index} -c DEFAULT",
    )


def _unmeasured(row: Gpu) -> Refusal | None:
    if row.memory_mib > 0:
        return None
    said = [why for why in row.unknown if why.startswith("memory_mib")]
    reason = brief(said[0].partition(": ")[2], 80) if said else "the driver does not tell it"
    return f"its memory is not known ({reason})", "look with: nvidia-smi -q"


SOUND: tuple[Callable[[Gpu], Refusal | None], ...] = (
    _lost,
    _failed,
    _pending,
    _recovering,
    _degraded,
    _closed,
    _unmeasured,
)


def unsound(row: Gpu) -> Refusal | None:
    """Why a card cannot be relied on, and what mends it."""
    return next((why for check in SOUND if (why := check(row)) is not None), None)


def in_use(row: Gpu, shared: bool) -> Refusal | None:
    """Why a card is not free. Use of the host's own memory is in the figures of the host."""
    busy, used = row.processes, row.memory_used_mib
    held = used or 0.0
    if busy:
        return (
            f"{busy} process{'' if busy == 1 else 'es'} that no plan placed there use it "
            f"({amount(held, 0)} MiB)",
            "stop them: nvidia-smi lists them",
        )
    if used is None and busy is None and not shared:
        return (
            "whether it is in use cannot be seen (neither processes nor memory in use are told)",
            "ask as root, and look with: nvidia-smi -q",
        )
    idle = IDLE_MIB if row.tells_reserve else IDLE_WITH_RESERVE_MIB
    if not shared and held > idle:
        seen = "whose processes cannot be seen" if busy is None else "and no process is seen"
        return (
            f"{amount(held, 0)} MiB of it are in use, {seen} (an idle one holds at "
            f"most {amount(idle, 0)} MiB)",
            f"find what uses it in containers and virtual machines, or reset it with: "
            f"nvidia-smi -i {row.index} --gpu-reset",
        )
    return None

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which GPUs may be planned. What is not known of a card is never taken for free or sound."""

from __future__ import annotations

from dataclasses import dataclass

from .._findings.finding import WARN, Finding
from .._findings.sentence import brief
from .._planner.mig.geometry import card_of
from .._supply.facts import Facts
from .gpu_state import in_use, shares_memory, unsound
from .margins import Margins


@dataclass(frozen=True)
class Card:
    """A GPU that may be planned. ``index`` and ``uuid`` are the driver's names for it.

    ``shared``: its memory is the host's, so what is used of one is used of the other.
    """

    index: int
    uuid: str
    model: str
    memory_mib: float
    mig: str = ""
    shared: bool = False


def cards_of(
    name: str, facts: Facts, margins: Margins, kept: frozenset[int], roles: int
) -> tuple[tuple[Card, ...], list[Finding]]:
    """The GPUs that may be planned; those that are in use, broken or unknown are told.

    ``kept`` are the indices of those that an earlier plan gave away, the first ``roles`` are for
    the roles of the host.
    """
    if facts.gpu_source == "pci":  # no driver: host_sums says so
        return (), []
    cards = []
    findings = []
    for row in facts.gpus:
        index, memory = row.index, row.memory_mib
        model = row.model or "unknown"
        mig = row.mig_mode.lower() == "enabled"
        key = card_of(model, memory or None) if mig else ""
        shared = shares_memory(facts, row)
        refused = unsound(row)
        if refused is None and index not in kept:
            refused = in_use(row, shared)
        if refused is None and mig and not key:
            refused = (
                "MIG is on, and its geometry is not known",
                "turn MIG off with: nvidia-smi -mig 0",
            )
        if refused is not None:
            findings.append(
                Finding(
                    "capacity.unplanned_gpu",
                    name,
                    WARN,
                    f"GPU {index} ({brief(model, 80)}) is not planned: {refused[0]}",
                    "a GPU that is free and sound",
                    refused[1],
                )
            )
            continue
        usable = memory * (1 - margins.gpu_memory_reserve_percent / 100)
        cards.append(Card(index, row.uuid, model, usable, key, shared))
    return tuple(cards[roles:]), findings

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that change or leave: their jobs end first, and only ours comes back by itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

REASON = "mlops: "
CHANGING = f"{REASON}its definition changes"
LEAVING = f"{REASON}it leaves the cluster"
LOST = f"{REASON}it is declared lost"
RESTARTING = f"{REASON}its host is restarted"
_PAIR = re.compile(r"(\w[\w:]*)=((?:[^ ]| (?![\w:]+=))*)")


@dataclass(frozen=True)
class Present:
    """A node as ``scontrol show node -o`` tells it."""

    name: str
    cpus: int
    memory_mib: int
    gres: str
    states: tuple[str, ...]
    reason: str = ""
    allocated: int = 0
    allocated_mib: int = 0

    @property
    def drained(self) -> bool:
        return "DRAIN" in self.states

    @property
    def busy(self) -> bool:
        """Whether jobs are on it."""
        return self.allocated > 0 or bool({"ALLOCATED", "MIXED", "COMPLETING"} & set(self.states))


def parse_nodes(output: str) -> tuple[Present, ...]:
    """Nodes of ``scontrol show node -o``; lines of something else are passed over."""
    found = []
    for line in output.splitlines():
        pairs = dict(_PAIR.findall(line))
        if "NodeName" not in pairs:
            continue
        gres = pairs.get("Gres", "")
        found.append(
            Present(
                name=pairs["NodeName"],
                cpus=int(pairs.get("CPUTot") or 0),
                memory_mib=int(pairs.get("RealMemory") or 0),
                gres="" if gres == "(null)" else re.sub(r"\([^)]*\)", "", gres).strip(),
                states=tuple(
                    word.rstrip("*~#!%$@^-") for word in pairs.get("State", "").strip().split("+")
                ),
                reason=pairs.get("Reason", "").strip(),
                allocated=int(pairs.get("CPUAlloc") or 0),
                allocated_mib=int(pairs.get("AllocMem") or 0),
            )
        )
    return tuple(found)


@dataclass(frozen=True)
class Drain:
    """A node that has to be empty, and what to say on it."""

    node: str
    reason: str


def to_leave(
    there: Sequence[Present], names: Iterable[str], reason: str = LEAVING
) -> tuple[Drain, ...]:
    """Nodes that have to be empty whatever they are, of those that there are."""
    wanted = set(names)
    return tuple(Drain(node.name, reason) for node in there if node.name in wanted)


def to_give_up(there: Sequence[Present], lost: Iterable[str]) -> tuple[str, ...]:
    """Nodes that are declared lost and not yet known as such.

    Their jobs never end by themselves: the queue gets them back at once, and not only when the
    controller has waited for the host.
    """
    gone = set(lost)
    return tuple(node.name for node in there if node.name in gone and "DOWN" not in node.states)


def to_drain(
    there: Sequence[Present], wanted: Mapping[str, Mapping[str, Any]]
) -> tuple[Drain, ...]:
    """Nodes that leave, and nodes that will have less, or other GPUs, than jobs may hold now."""
    found = []
    for node in there:
        new = wanted.get(node.name)
        if new is None:
            found.append(Drain(node.name, LEAVING))
        elif _less(node, new):
            found.append(Drain(node.name, CHANGING))
    return tuple(found)


def _less(node: Present, new: Mapping[str, Any]) -> bool:
    return (
        set(node.gres.split(",")) != set(new["gres"].split(","))
        or node.cpus > int(new["cpus"])
        or node.memory_mib > int(new["memory_mib"])
        # More is held back: that disturbs jobs only where they have it now.
        or node.allocated > int(new.get("job_cpus", new["cpus"]))
        or node.allocated_mib > int(new.get("job_memory_mib", new["memory_mib"]))
    )


def to_resume(there: Sequence[Present], wanted: Iterable[str]) -> tuple[str, ...]:
    """Nodes that we drained for a change or a restart, and that stay."""
    stay = set(wanted)
    return tuple(
        node.name
        for node in there
        if node.name in stay and node.drained and node.reason.startswith((CHANGING, RESTARTING))
    )

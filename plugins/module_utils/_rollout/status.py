# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a rollout is, in a few lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._findings.sentence import counted, listing
from .report import Line

# Who speaks so leads the rollout from then on.
TAKES_OVER = ("started", "resumed", "aborted")
NONE_YET = "No rollout of it has begun; rollout_version (or rollout_digest) begins one."


def where(lines: Sequence[Line], made: Mapping[str, Any]) -> list[str]:
    """Ring by ring how far a rollout is.

    Args:
        lines: Those of its journal.
        made: The report of them; empty where nothing was rolled out yet.
    """
    if not made:
        return [NONE_YET]
    leader = [str(line.data["by"]) for line in lines if line.event in TAKES_OVER]
    found = [
        f"Rollout {made['id']} of version {made['version'] or made['digest']}, begun at "
        f"{made['started_at']} by {made['by']}, led by {leader[-1]}."
    ]
    found += [_ring(ring) for ring in made["rings"]]
    found += [
        f"{one['person']} approved the ring {one['ring']} at {one['at']}."
        for one in made["approvals"]
    ]
    if made["deferred"]:
        found.append(f"Deferred: {listing(made['deferred'])}.")
    return found


def _ring(ring: Mapping[str, Any]) -> str:
    told = f"{ring['name']}: {ring['state']}, {counted(len(ring['hosts']), 'device')}"
    if ring["gates"]:
        told += f", {counted(ring['looks'], 'look')}: "
        told += ", ".join(f"{gate['name']} {gate['verdict']}" for gate in ring["gates"])
    return f"{told}."

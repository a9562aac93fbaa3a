# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to workloads at the gateway, by team and hour: single ones are nowhere.

A team shows its key, so that a person of it cannot be told. What the platform asks itself, to see
whether a workload answers, is nobody's.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

from ..event import DENIED, FAILURE, SERVICE, SUCCESS, Actor, Event, Thing
from . import hourly

SOURCE = "gateway"
COUNTER = "mlops_workload_requests_total"
PLATFORM, NOBODY = "platform", "none"
_LABELS = ("host", "team", "workload", "code")


def queries(
    counts: Iterable[hourly.Sample], now: float, memory: MutableMapping[str, Any]
) -> list[Event]:
    """How often each team asked each workload in the hour that has passed, and what came of it."""
    hour, sums = hourly.add(counts, _LABELS, now, memory, from_zero=True)
    found: dict[tuple[str, str, str, str], int] = {}
    for (host, team, workload, code), count in sums.items():
        if team != PLATFORM:
            key = (host, team, workload, outcome_of(code))
            found[key] = found.get(key, 0) + int(count)
    return [
        Event(
            f"{hour}:59:59Z",
            Actor() if team == NOBODY else Actor(SERVICE, team),
            "workload.query",
            Thing("workload", workload),
            host,
            SOURCE,
            outcome,
            {"count": count, "hour": hour},
        )
        for (host, team, workload, outcome), count in sorted(found.items())
    ]


def outcome_of(code: str) -> str:
    """What a status says: turned away by who was asked, answered, or neither."""
    if code in ("401", "403", "429"):
        return DENIED
    return SUCCESS if code[:1] in ("2", "3") else FAILURE

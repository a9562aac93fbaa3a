# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The days on which something runs out, as pages are told them: the same as long as little changes.

Free memory and free space are a little different at every look, and so is each day that is computed
from them. What is written on hosts keeps the day of the run before while the new one is near it, or
every run of the same site would change the file.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

NEAR_DAYS, NEAR_PART = 7, 0.05


def told_days(horizon: Mapping[str, Any] | None, earlier: object, today: datetime.date) -> Any:
    """``ends`` of the plan, and ``runs_out`` of each resource of a group of hosts.

    ``earlier`` is what the run before told, whatever its file holds.
    """
    before = _known(earlier)
    if horizon is None:
        return {"ends": None, "resources": []}
    until = datetime.date.fromisoformat(horizon["until"])

    def day(key: tuple[str, ...], now: str | None) -> str | None:
        if key not in before:
            return now
        old, new = _day(before[key]), _day(now)
        then = new or until
        near = max(NEAR_DAYS, NEAR_PART * (then - today).days)
        return before[key] if abs((then - (old or until)).days) <= near else now

    rows = []
    for row in horizon["resources"]:
        key = (str(row["group"]), str(row["resource"]))
        found = day(key, row["runs_out"])
        # A resource that lasts is written, too: it stays one that lasts.
        rows.append({"group": key[0], "resource": key[1], "runs_out": found})
    return {"ends": day(("ends",), horizon["ends"]), "resources": rows}


def _day(text: str | None) -> datetime.date | None:
    return None if text is None else datetime.date.fromisoformat(text)


def _known(earlier: object) -> dict[tuple[str, ...], str | None]:
    """What was told of each thing; nothing where it cannot be read."""
    if not isinstance(earlier, Mapping):
        return {}
    found: dict[tuple[str, ...], str | None] = {}
    try:
        found["ends",] = earlier["ends"]
        for row in earlier["resources"]:
            found[str(row["group"]), str(row["resource"])] = row["runs_out"]
        for text in found.values():
            _day(text)
    except (KeyError, TypeError, ValueError):
        return {}
    return found

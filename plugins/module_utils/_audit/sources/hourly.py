# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counters of Prometheus, added up by the hour of the clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any

from ..event import stamp

Sample = tuple[Mapping[str, str], float]


def add(
    counts: Iterable[Sample],
    labels: Sequence[str],
    now: float,
    memory: MutableMapping[str, Any],
    *,
    from_zero: bool = False,
) -> tuple[str, dict[tuple[str, ...], float]]:
    """Add what was counted since the last look; answer the hour that has passed and its sums.

    There are none while the hour goes on. The counter begins at zero again where a server was
    restarted, and what it counted between the last look and that is lost. ``from_zero``: a series
    that was not there at the last look began at zero, as one does that comes with its first count.
    """
    hour = stamp(now)[:13]
    last: dict[str, float] = memory.setdefault("counted", {})
    sums: dict[str, float] = memory.setdefault("hour", {})
    passed, told = "", {}
    if memory.get("hour_of") not in (None, hour):
        passed = str(memory["hour_of"])
        told = {tuple(key.split("\t")): value for key, value in sorted(sums.items())}
        sums.clear()
    first = None if memory.get("hour_of") is None or not from_zero else 0.0
    memory["hour_of"] = hour
    for given, value in counts:
        key = "\t".join(given.get(label, "") for label in labels)
        before = last.get(key, first)
        last[key] = value
        more = 0.0 if before is None else value - before if value >= before else value
        if more:
            sums[key] = sums.get(key, 0.0) + more
    return passed, told

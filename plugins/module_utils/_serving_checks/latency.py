# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Percentiles of latency, and devices that stand out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of all values lies (nearest rank)."""
    if not values:
        raise ValueError("there are no values")
    order = sorted(values)
    return order[max(0, math.ceil(share * len(order)) - 1)]


def outliers(
    values: Mapping[str, float],
    groups: Mapping[str, str],
    factor: float = 3.0,
    floor: float = 0.0,
) -> dict[str, tuple[float, str]]:
    """Return what is ``factor`` times the median of its group: how many times, and of which group.

    A group of fewer than three says nothing about itself; its members are compared with all.
    Differences below ``floor`` are noise.
    """
    members: dict[str, list[str]] = {}
    for name in values:
        members.setdefault(groups.get(name, ""), []).append(name)
    found: dict[str, tuple[float, str]] = {}
    for name, value in values.items():
        group = groups.get(name, "")
        peers = [values[each] for each in members[group]]
        if len(peers) < 3:
            peers, group = list(values.values()), "all devices"
        if len(peers) < 3:
            continue
        middle = median(peers)
        if middle > 0 and value >= factor * middle and value - middle >= floor:
            found[name] = (value / middle, group or "all devices")
    return found

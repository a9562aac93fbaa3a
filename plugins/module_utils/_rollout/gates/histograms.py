# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a histogram says for certain: a bucket knows its bounds, not the values within."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache

from ..shapes import Seen


@lru_cache(maxsize=4096)
def bound(label: str) -> float:
    """The upper bound of a bucket, as it is written."""
    try:
        return float(label)
    except ValueError:
        return math.inf


Ordered = list[tuple[float, int]]


def ordered(counts: Mapping[str, int]) -> Ordered:
    """Buckets by their upper bound."""
    found: dict[float, int] = {}
    for label, count in counts.items():
        found[bound(label)] = found.get(bound(label), 0) + count
    return sorted(found.items())


def slower(buckets: Ordered, than: float) -> tuple[int, int]:
    """How many are surely, and how many perhaps, above a value."""
    surely = perhaps = 0
    below = 0.0
    for top, count in buckets:
        if below >= than:
            surely += count
        if top > than:
            perhaps += count
        below = top
    return surely, perhaps


def total(buckets: Ordered) -> int:
    """All that was counted."""
    return sum(count for _top, count in buckets)


def alike(seen: Iterable[Seen]) -> list[Ordered]:
    """The latencies of several devices: one histogram for all that have the same buckets."""
    kinds: dict[tuple[str, ...], list[Mapping[str, int]]] = {}
    for one in seen:
        kinds.setdefault(tuple(one.latency), []).append(one.latency)
    return [ordered(added(histograms)) for histograms in kinds.values()]


def slower_of(histograms: Iterable[Ordered], than: float) -> tuple[int, int, int]:
    """Surely slower, perhaps slower, all, of several histograms; each by its own buckets."""
    surely = perhaps = every = 0
    for buckets in histograms:
        sure, may = slower(buckets, than)
        surely += sure
        perhaps += may
        every += total(buckets)
    return surely, perhaps, every


def quantile(histograms: Iterable[Ordered], share: float) -> float:
    """The bound below which this share of all requests surely was; infinite above the last one."""
    merged: dict[float, int] = {}
    for buckets in histograms:
        for top, count in buckets:
            merged[top] = merged.get(top, 0) + count
    wanted, reached = share * sum(merged.values()), 0
    for top, count in sorted(merged.items()):
        reached += count
        if reached >= wanted and reached:
            return top
    return math.inf


def edges(histograms: Iterable[Ordered]) -> list[float]:
    """All finite bounds of buckets, in order."""
    return sorted({top for buckets in histograms for top, _count in buckets if math.isfinite(top)})


def added(histograms: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sum of several histograms by bucket."""
    found: dict[str, int] = {}
    for counts in histograms:
        for label, count in counts.items():
            found[label] = found.get(label, 0) + count
    return found

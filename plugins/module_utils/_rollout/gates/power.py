# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a ring of a size can see, by the very tests that judge it."""

from __future__ import annotations

import math

from . import evalues
from .settings import GateSettings

DEVICES, REQUESTS = "devices", "requests"


def _first(total: int, share: float, threshold: float) -> int:
    """The smallest count whose evidence reaches the threshold; more than ``total`` if none does."""
    low, high = 0, total + 1
    while low < high:
        middle = (low + high) // 2
        if middle > total or evalues.above(middle, total, share) >= threshold:
            high = middle
        else:
            low = middle + 1
    return low


def at_least(count: int, total: int, share: float) -> float:
    """The probability of ``count`` or more of ``total``, each with a probability of ``share``."""
    if count <= 0 or share >= 1:
        return 1.0 if count <= total else 0.0
    if share <= 0 or count > total:
        return 0.0
    odds, rest = math.log(share), math.log1p(-share)

    def log_of(number: int) -> float:
        ways = math.lgamma(total + 1) - math.lgamma(number + 1) - math.lgamma(total - number + 1)
        return ways + number * odds + (total - number) * rest

    # Sum the side of the two that begins beyond the middle: its terms fall from the first on.
    up = count > total * share
    numbers = range(count, total + 1) if up else range(count - 1, -1, -1)
    tail = 0.0
    for number in numbers:
        term = math.exp(log_of(number))
        tail += term
        if term < tail * 1e-12:
            break
    return min(1.0, tail) if up else max(0.0, 1 - tail)


def detectable(count: int, settings: GateSettings, of: str = DEVICES) -> float:
    """The smallest defect rate that fails a ring with the wanted ``power``.

    ``count`` devices, of which a share does not come up; or, with ``of="requests"``, requests of
    which a share fails. 1 where only a total failure is seen, or, by a handful of requests, none.
    A ring that sees less does not pass either: what is not proved to be good does not advance.
    """
    tolerated = settings.device_failure_rate_max if of == DEVICES else settings.error_rate_max
    needed = 1 if not tolerated else _first(count, tolerated, settings.fail_bar)
    low, high = tolerated, 1.0
    for _round in range(50):
        middle = (low + high) / 2
        if at_least(needed, count, middle) >= settings.power:
            high = middle
        else:
            low = middle
    return high

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing two clocks over a connection that takes its time."""

from __future__ import annotations


def compare(host: float, before: float, after: float) -> dict[str, float]:
    """How far the host is ahead, given the controller's time before and after it answered.

    The host looked at its clock at some moment between the two, so the offset lies between
    ``host - after`` and ``host - before``. The one nearest to zero is given: a slow connection
    must not look like a wrong clock.
    """
    low, high = host - after, host - before
    offset = 0.0 if low <= 0 <= high else (low if low > 0 else high)
    return {
        "controller_epoch": round(after, 3),
        "offset_seconds": round(offset, 3),
        "uncertainty_seconds": round(max(0.0, after - before), 3),
    }

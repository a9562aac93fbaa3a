# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was measured, cut into blocks of equal length such as days."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .._planner.arrays import Floats, np

DAY = 86_400.0
COVERED = 0.8  # of a block's samples that must be there, else nobody knows what it used


@dataclass(frozen=True)
class Usage:
    """One measure at equal steps; NaN where nothing was measured.

    ``started`` and ``step`` are seconds; ``values`` are in the unit of the measure.
    """

    started: float
    step: float
    values: Floats

    @property
    def seconds(self) -> float:
        """How long was looked at, gaps included."""
        return self.step * len(self.values)

    def blocks(self, seconds: float = DAY) -> list[Floats]:
        """The measured values of each whole block that was seen well enough, oldest first.

        Blocks end with the last sample, so that the newest is a whole one.
        """
        each = round(seconds / self.step)
        whole = len(self.values) // each if each else 0
        if not whole:
            return []
        rows = self.values[-whole * each :].reshape(whole, each)
        seen = [row[~np.isnan(row)] for row in rows]
        return [row for row in seen if len(row) >= COVERED * each]


def largest(series: Sequence[Usage]) -> Usage:
    """At each step the largest of several replicas, which all have the same request.

    Raises ValueError if they do not lie on the same steps.
    """
    first = series[0]
    if any(
        (one.started, one.step, len(one.values)) != (first.started, first.step, len(first.values))
        for one in series
    ):
        raise ValueError("series of other steps cannot be joined")
    table = np.vstack([one.values for one in series])
    there = ~np.isnan(table)
    highest = np.where(there, table, -np.inf).max(axis=0)
    return Usage(first.started, first.step, np.where(there.any(axis=0), highest, np.nan))

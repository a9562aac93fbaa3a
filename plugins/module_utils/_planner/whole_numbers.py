# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures as whole numbers, so that no verdict hangs on how a sum of floats was rounded.

The rule, used everywhere: a figure means the decimal number that it is written as (0.1 is a tenth,
not the nearest binary fraction), sums are exact, and a host or device holds one part in 10^9 more
than it says, because supplies are often results of earlier floating-point arithmetic (0.9 x 96).
Multiplying a column by a constant therefore changes no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from .arrays import Floats, Ints, np

TOLERANCE = Fraction(1, 10**9)
EXACT = 2.0**52  # whole numbers below this are exact as floats, and sums of a few fit 64 bits
FINE = 2**44  # steps of the greatest supply where a column has no small common denominator


def read(figure: float) -> Fraction:
    """The decimal number that the figure is written as."""
    return Fraction(repr(float(figure)))


def with_tolerance(amount: int) -> int:
    """What a host or device of this supply holds."""
    return amount + amount * TOLERANCE.numerator // TOLERANCE.denominator


def whole_columns(supplies: Floats, demands: Floats) -> tuple[Ints, Ints]:
    """Both tables in whole numbers, column by column; the tolerance is in the supplies.

    Where figures have too many digits for that, the unit is a 2^-44th of the greatest supply of the
    column: demands are rounded up and supplies down, so that what fits in whole numbers fits.
    Demands far above every supply are cut to something above every supply.
    """
    have = np.zeros(supplies.shape, dtype=np.int64)
    want = np.zeros(demands.shape, dtype=np.int64)
    for column in range(supplies.shape[1]):
        top = float(supplies[:, column].max(initial=0.0))
        asked = np.minimum(demands[:, column], 2.0 * top if top else 1.0)
        power = _decimals(np.concatenate([supplies[:, column], asked]))
        if power is not None:
            held = np.rint(supplies[:, column] * power).astype(np.int64)
            have[:, column] = held + held // TOLERANCE.denominator
            want[:, column] = np.rint(asked * power).astype(np.int64)
        else:
            unit = read(top or 1.0) / FINE
            slack = 1 + TOLERANCE
            have[:, column] = [math.floor(read(x) * slack / unit) for x in supplies[:, column]]
            want[:, column] = [math.ceil(read(x) / unit) for x in asked]
    return have, want


def _decimals(figures: Floats) -> float | None:
    """The smallest power of ten, up to 10^9, that makes all figures whole; None if none does."""
    for digits in range(10):
        power = 10.0**digits
        with np.errstate(over="ignore"):
            scaled = np.rint(figures * power)
        if scaled.max(initial=0.0) >= EXACT:
            return None
        if np.array_equal(scaled / power, figures):
            return power
    return None


def whole_shares(shares: Sequence[Fraction]) -> tuple[list[int], int]:
    """Shares of one device as whole numbers, and how many of these units the device is."""
    unit = math.lcm(1, *(share.denominator for share in shares))
    if unit > 10**9:
        unit = 2**40
    return [math.ceil(share * unit) for share in shares], unit

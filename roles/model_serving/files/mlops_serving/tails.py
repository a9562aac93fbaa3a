# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What chi-square and beta-binomial variables exceed with a given probability."""

from __future__ import annotations

import functools
import math

import numpy as np


def gamma_above(shape: float, x: float) -> float:
    """The upper tail of the gamma distribution: a series below, a continued fraction above.

    Abramowitz and Stegun, Handbook of Mathematical Functions, 6.5.29 and 6.5.31.
    """
    if x <= 0:
        return 1.0
    scale = math.exp(-x + shape * math.log(x) - math.lgamma(shape))
    if x < shape + 1:
        term = total = 1.0 / shape
        at = shape
        while term > total * 1e-14:
            at += 1
            term *= x / at
            total += term
        return max(0.0, 1.0 - total * scale)
    # Lentz's way to compute a continued fraction from its front.
    b = x + 1.0 - shape
    c, d = 1e300, 1.0 / b
    value = d
    for step in range(1, 1000):
        factor = -step * (step - shape)
        b += 2.0
        d = 1.0 / (factor * d + b)
        c = b + factor / c
        value *= c * d
        if abs(c * d - 1.0) < 1e-14:
            break
    return scale * value


@functools.lru_cache(maxsize=256)
def chi_square_limit(degrees: int, level: float) -> float:
    """What a chi-square variable is above with this probability."""
    low, high = 0.0, 10.0
    while gamma_above(degrees / 2, high / 2) > level:
        low, high = high, high * 2
    for _step in range(60):
        middle = (low + high) / 2
        if gamma_above(degrees / 2, middle / 2) > level:
            low = middle
        else:
            high = middle
    return high


@functools.lru_cache(maxsize=1024)
def most_expected(seen: int, rows: int, window: int, level: float) -> int:
    """The count that a window exceeds with at most this probability.

    Beta-binomial: a share below Beta(seen + 1, rows - seen), and window draws of it.
    """
    if rows <= seen:
        return window
    a, b = seen + 1.0, float(rows - seen)
    k = np.arange(window, dtype=np.float64)
    steps = np.log((window - k) / (k + 1.0) * (a + k) / (b + window - k - 1.0))
    logs = np.concatenate(([0.0], np.cumsum(steps)))
    weights = np.exp(logs - logs.max())
    above = np.cumsum(weights[::-1])[::-1] / weights.sum()
    # above[k] is the probability of k or more.
    beyond = np.flatnonzero(above <= level)
    return int(beyond[0]) - 1 if beyond.size else window

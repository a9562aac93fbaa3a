# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How high something will go, from the highest values of earlier blocks.

Two laws for what is rare (S. Coles, An Introduction to Statistical Modeling of Extreme Values,
2001): the largest of many values of a block is close to a Gumbel distribution (chapter 3), here
estimated by L-moments (J. R. M. Hosking, J. R. Stat. Soc. B 52, 1990); and what lies above a high
value exceeds it by about an exponential amount (chapter 4), estimated from the highest blocks (I.
Weissman, J. Am. Stat. Assoc. 73, 1978), which also holds where only some days have a burst. The
higher one counts.

Few blocks make a poor estimate, and a level that takes it for the truth is passed too often. Here
the level is that of a prediction: ``(next largest - location) / scale`` with estimates in it hangs
on no unknown parameter (J. F. Lawless, Statistical Models and Methods for Lifetime Data, 2003, on
pivots of location-scale families), so that its quantile is drawn once for each number of blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from .._planner.arrays import Floats, np

EULER = 0.5772156649015329
DRAWS = 40_000  # a quantile at 1 % is then known to about 3 % of itself
MEANS = 4_000
MOST_BLOCKS = 366
TOPS = (3, 6)  # one block of so many counts as high: the tail of most days, and that of bursts
Z_ONE_PERCENT = 2.326  # of the normal distribution, one-sided


def gumbel(maxima: Floats) -> tuple[Floats, Floats]:
    """Location and scale of the Gumbel distributions that rows of maxima come from."""
    ordered = np.sort(maxima, axis=-1)
    number = ordered.shape[-1]
    first = ordered.mean(axis=-1)
    weights = (2 * np.arange(number) - number + 1) / (number * max(number - 1, 1))
    scale = (ordered * weights).sum(axis=-1) / math.log(2)
    return first - EULER * scale, scale


@lru_cache(maxsize=4096)
def pivot(number: int, further: int, chance: float) -> float:
    """How many estimated scales above the estimated location the next largest value may lie.

    ``number`` blocks were seen; of ``further`` ones the largest lies above with the probability
    ``chance``.
    """
    draw = np.random.default_rng(number * 1009 + further)
    location, scale = gumbel(draw.gumbel(size=(DRAWS, number)))
    following = draw.gumbel(size=DRAWS) + math.log(further)
    return float(np.quantile((following - location) / np.maximum(scale, 1e-12), 1 - chance))


@lru_cache(maxsize=4096)
def tail_pivot(number: int, top: int, further: int, chance: float) -> float:
    """The same for the exponential law: mean excesses above the highest value that counts for none.

    ``top`` of the ``number`` blocks lie above it. How many of the further ones do is drawn too,
    with the chance of a block that those seen leave open.
    """
    draw = np.random.default_rng(number * 1009 + further * 31 + top)
    scale = draw.gamma(top, 1 / top, size=DRAWS)
    times = draw.binomial(further, draw.beta(top + 1, number - top, size=DRAWS))
    # The largest of m exponential amounts, from one uniform number; none if m is 0.
    uniform = draw.random(DRAWS)
    largest = np.where(times > 0, -np.log1p(-(uniform ** (1 / np.maximum(times, 1)))), 0.0)
    return float(np.quantile(largest / scale, 1 - chance))


def highest(maxima: Sequence[float], further: int, chance: float) -> float:
    """What the largest value of ``further`` blocks exceeds with the probability ``chance``.

    ``maxima`` are those of the blocks seen, oldest first, in the unit of the answer. A trend
    upwards that is no chance is taken to go on.
    """
    found = np.asarray(maxima, dtype=np.float64)[-MOST_BLOCKS:]
    slope = trend(found)
    level = found + slope * np.arange(len(found))[::-1]  # as if all were of the newest block
    location, scale = gumbel(level)
    above = float(location) + float(scale) * pivot(len(found), further, chance)
    beyond = max(_beyond(np.sort(level), part, further, chance) for part in TOPS)
    return max(above, beyond, float(level.max())) + slope * further


def _beyond(ordered: Floats, part: int, further: int, chance: float) -> float:
    top = max(2, len(ordered) // part)
    base = float(ordered[-top - 1])
    excess = float((ordered[-top:] - base).mean())
    return base + excess * tail_pivot(len(ordered), top, further, chance)


def share_held(days: Sequence[Floats], further: int, share: float, chance: float) -> float:
    """The least value that at most ``share`` of the time of ``further`` blocks lies above.

    The share above a value differs from block to block, and often is 0. The mean of the further
    blocks is predicted by drawing them from those seen, whose weights are drawn too (D. B. Rubin,
    The Bayesian bootstrap, Ann. Stat. 9, 1981), and may exceed ``share`` with the probability
    ``chance``.
    """
    number = len(days)
    slope = trend(np.array([float(np.quantile(day, 1 - share)) for day in days]))
    shifted = [np.sort(day) + slope * (number - 1 - at + further) for at, day in enumerate(days)]
    lengths = np.array([len(day) for day in shifted], dtype=np.float64)
    drawn = drawn_means(number, further)

    def held(value: float) -> bool:
        at_most = np.array([float(np.searchsorted(day, value, side="right")) for day in shifted])
        above = 1 - at_most / lengths
        return float(np.quantile(drawn @ above, 1 - chance)) <= share

    candidates = np.unique(np.concatenate(shifted))
    low, high = 0, len(candidates) - 1  # the highest value ever seen is always held
    while low < high:
        middle = (low + high) // 2
        if held(float(candidates[middle])):
            high = middle
        else:
            low = middle + 1
    return float(candidates[low])


@lru_cache(maxsize=64)
def drawn_means(number: int, further: int) -> Floats:
    """Rows of weights: each gives the mean of ``further`` blocks drawn from ``number`` ones."""
    draw = np.random.default_rng(number * 1009 + further)
    weights = draw.dirichlet(np.ones(number), size=MEANS)
    return np.vstack([draw.multinomial(further, row) for row in weights]) / further


def trend(maxima: Floats) -> float:
    """By how much maxima rise from block to block; 0 where that may be chance, or they fall.

    The test is Mann's and Kendall's (M. Kendall, Rank Correlation Methods, 1975) at 1 %, with the
    correction for ties; the slope is Sen's (P. K. Sen, J. Am. Stat. Assoc. 63, 1968).
    """
    number = len(maxima)
    if number < 4:
        return 0.0
    rise = maxima[None, :] - maxima[:, None]
    later = np.triu_indices(number, 1)
    score = float(np.sign(rise[later]).sum())
    _values, times = np.unique(maxima, return_counts=True)
    ties = float((times * (times - 1) * (2 * times + 5)).sum())
    variance = (number * (number - 1) * (2 * number + 5) - ties) / 18
    if variance <= 0 or (score - 1) / math.sqrt(variance) < Z_ONE_PERCENT:
        return 0.0
    apart = (later[1] - later[0]).astype(np.float64)
    return max(0.0, float(np.median(rise[later] / apart)))


def settled(maxima: Sequence[float], jump: float) -> int:
    """How many of the newest blocks are of the level of today.

    The level has moved where all blocks from one on lie above all before by ``jump`` of these.
    """
    found = list(maxima)
    for first in range(len(found) - 1, 0, -1):
        if min(found[first:]) > (1 + jump) * max(found[:first]):
            return len(found) - first
    return len(found)

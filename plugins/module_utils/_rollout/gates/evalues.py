# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence about shares that may be looked at again and again.

An e-value is what a bet against a claim has made of one unit of money: where the claim holds, it
is above 1/alpha at any look, ever, with a probability of at most alpha (Ville 1939; Howard, Ramdas,
McAuliffe & Sekhon 2021; Waudby-Smith & Ramdas 2024). All of these are logarithms of e-values.

The bet on a share is a mixture of likelihood ratios between odds that are ``exp(s)`` times as large
and the odds claimed (Robbins 1970; Howard et al. 2021):

    log ratio = s k - n (A(t + s) - A(t))      t = log(p / (1 - p)),  A(t) = log(1 + exp(t))

of k among n. It depends on the counts alone, so it does not matter how often or when they were
read. Each ratio falls as p grows where s > 0, and grows where s < 0: the bet against "at most p"
stays fair whatever each single request's own probability is, as long as none is above p. So a
ring may be a mixture of devices, and their share of the traffic may change.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from functools import lru_cache

# Odds times 1.1 to times 60,000, each bet 1.6 times as bold as the one before.
BETS = tuple(0.1 * 1.6**step for step in range(11))
EVEN = tuple((bet, -math.log(len(BETS))) for bet in BETS)
# Against "at least p": half of the money says that there is none at all, the usual good case.
GOOD = tuple(
    (-bet, math.log(0.5) - (math.log(len(BETS) - 1) if bet != BETS[-1] else 0.0)) for bet in BETS
)
# Beyond these log odds a share is 0 or 1 for all that is asked here.
WIDEST = 14.0
NEVER = math.inf
# No evidence: where the counts themselves agree with a claim, nothing needs to be reckoned.
NONE = -99.0
# So often a part of the line is cut in two before what is proved by then is the answer.
CUTS = 400


@lru_cache(maxsize=65536)
def log_odds(share: float) -> float:
    """Write a share as the logarithm of its odds."""
    if share <= 0:
        return -math.inf
    return math.inf if share >= 1 else math.log(share) - math.log1p(-share)


def share_of(odds: float) -> float:
    """The share of these log odds, which are none beyond ``WIDEST``."""
    return 1 / (1 + math.exp(-odds))


def _soft(value: float) -> float:
    """A(t), without overflow."""
    return value + math.log1p(math.exp(-value)) if value > 0 else math.log1p(math.exp(value))


@lru_cache(maxsize=65536)
def _table(odds: float, good: bool) -> tuple[tuple[float, float, float], ...]:
    """Of every bet s: s, A(t + s) - A(t) with its limits where the share is 0 or 1, its money."""
    bets = GOOD if good else EVEN
    if math.isinf(odds):
        return tuple((bet, bet if odds > 0 else 0.0, weight) for bet, weight in bets)
    here = _soft(odds)
    return tuple([(bet, _soft(odds + bet) - here, weight) for bet, weight in bets])


@lru_cache(maxsize=65536)
def _mixture(count: int, total: int, odds: float, good: bool) -> float:
    logs = [weight + bet * count - total * step for bet, step, weight in _table(odds, good)]
    most = max(logs)
    # What is e-30 of the largest adds nothing.
    least = most - 30
    return most + math.log(sum([math.exp(one - most) for one in logs if one > least]))


def above(count: int, total: int, share: float) -> float:
    """Evidence against "every one of these happens with a probability of at most ``share``"."""
    return _mixture(count, total, log_odds(share), False)


def below(count: int, total: int, share: float) -> float:
    """Evidence against "every one of these happens with a probability of at least ``share``"."""
    return _mixture(count, total, log_odds(share), True)


def upper(count: int, total: int, threshold: float) -> float:
    """The largest share that the counts do not refute, at every look (a confidence sequence)."""
    refuted = 1.0
    if not total or below(count, total, refuted) < threshold:
        return refuted
    kept = count / total
    for _round in range(24):
        middle = (kept + refuted) / 2
        if below(count, total, middle) >= threshold:
            refuted = middle
        else:
            kept = middle
    return refuted


# How a claim about two shares is made of claims about each. Of a part [low, high] of the line of
# the control's share: evidence that its share is not there, and that the ring's is not where the
# claim allows it then. Both are smaller the wider the part is, so the smallest sum over parts that
# cover the line is a bound on the smallest over all shares.
Part = Callable[[float, float], float]


def over_all(part: Part, threshold: float) -> float:
    """A bound from below on the evidence, whatever share the control has.

    So it is an e-value against the claim, and several may be averaged. Parts are cut until it is
    settled whether ``threshold`` is reached.
    """

    def between(low: float, high: float) -> float:
        return part(
            share_of(low) if low > -WIDEST else 0.0, share_of(high) if high < WIDEST else 1.0
        )

    ends = [-math.inf, *(float(step) for step in range(int(-WIDEST), int(WIDEST) + 1, 2)), math.inf]
    heap = [(between(low, high), low, high) for low, high in zip(ends, ends[1:])]
    heapq.heapify(heap)
    for _cut in range(CUTS):
        least, low, high = heap[0]
        if least >= threshold or math.isinf(low) or math.isinf(high):
            return max(least, NONE)
        middle = (low + high) / 2
        if between(middle, middle) < threshold:
            return max(least, NONE)
        heapq.heapreplace(heap, (between(low, middle), low, middle))
        heapq.heappush(heap, (between(middle, high), middle, high))
    return heap[0][0]


# Of two bets that are multiplied each holds this share of its money back. A mixture that loses goes
# to nothing, the faster the more was counted, and would take with it what the other bet has won: a
# ring of thousands of devices was never told from a control group of a hundred.
HELD = 0.01


def held(log: float) -> float:
    """A bet of which a part was not bet; fair as before, and never worth less than that part."""
    most = max(log, 0.0)
    if math.isinf(most):
        return most
    return most + math.log(HELD * math.exp(-most) + (1 - HELD) * math.exp(log - most))


def grew(ring: tuple[int, int], control: tuple[int, int], margin: float, threshold: float) -> float:
    """Evidence against "the ring's share is at most the control's plus ``margin``".

    For every share c of the control: a bet against "the ring's is at most c + margin" times a bet
    against "the control's is at least c". One request moves one of the two, so the product is a
    fair bet as well. The same idea as the tests of two proportions of Turner, Ly & Gruenwald
    (2024), built of one-sided bets so that devices within a group may differ.
    """
    if ring[0] / ring[1] <= control[0] / control[1] + margin:
        return NONE
    return over_all(
        lambda low, high: held(above(*ring, high + margin)) + held(below(*control, low)),
        threshold,
    )


def grew_less(
    ring: tuple[int, int], control: tuple[int, int], margin: float, threshold: float
) -> float:
    """Evidence against "the ring's share is at least the control's plus ``margin``".

    Half of the money bets on less than ``margin`` in the ring, which needs no control to be proved.
    """

    def part(low: float, high: float) -> float:
        if low + margin > 1:
            return NEVER
        return held(below(*ring, low + margin)) + held(above(*control, high))

    if ring[0] / ring[1] >= control[0] / control[1] + margin:
        return NONE
    alone = below(*ring, margin)
    if alone + math.log(0.5) >= threshold:
        return alone + math.log(0.5)
    both = over_all(part, threshold + math.log(2))
    most = max(alone, both)
    return most + math.log(0.5) + math.log(math.exp(alone - most) + math.exp(both - most))


def average(logs: list[float]) -> float:
    """The e-value of several, whatever hangs together between them (Vovk & Wang 2021)."""
    most = max(logs)
    return most + math.log(sum(math.exp(one - most) for one in logs) / len(logs))

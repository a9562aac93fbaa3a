# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether predictions are distributed as they were: the population stability index.

    PSI = sum over buckets of (p - q) log(p / q)        (Lewis 1994; Siddiqi 2006)

The usual reading is 0.1 for a small and 0.25 for a large shift. Of a small sample it is large by
chance alone, about (buckets - 1) (1/n + 1/m) (Yurdakul & Naranjo 2020), so it never decides alone.
Put buckets together and it only falls (it is a divergence of Csiszar). So where PSI is at most a
limit, it is so for every split of the buckets in two; and a split in two is a pair of shares, which
can be tested at every look. A ring fails where the splits (each bucket, and each bound) refute the
limit together, and passes where each of them proves to be within it and the index itself is too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from ..shapes import FAIL, INCONCLUSIVE, LEFT_OUT, MISSING, PASS, Gate, Look
from . import evalues
from .errors import NO_CONTROL
from .histograms import added, bound
from .settings import GateSettings

# An empty bucket counts as this much of a request, as is usual.
EMPTY = 0.5


def psi(ring: Sequence[int], control: Sequence[int]) -> float:
    """The index of two histograms over the same buckets."""
    n, m = sum(ring) + EMPTY * len(ring), sum(control) + EMPTY * len(control)
    found = 0.0
    for one, other in zip(ring, control):
        p, q = (one + EMPTY) / n, (other + EMPTY) / m
        found += (p - q) * math.log(p / q)
    return found


def by_chance(ring: Sequence[int], control: Sequence[int]) -> float:
    """What the index is on average where nothing has shifted (Yurdakul & Naranjo 2020)."""
    used = sum(1 for one, other in zip(ring, control) if one or other)
    return max(0, used - 1) * (1 / max(1, sum(ring)) + 1 / max(1, sum(control)))


def _of_two(one: float, other: float) -> float:
    """The index of two shares and what is left of each."""
    if one == other:
        return 0.0
    return (one - other) * (evalues.log_odds(one) - evalues.log_odds(other))


@lru_cache(maxsize=16384)
def reach(share: float, limit: float, up: bool) -> float:
    """How far a share may move up, or down, until the index of the two is ``limit``."""
    if share <= 0 or share >= 1:
        return share
    near, far = share, 1.0 if up else 0.0
    for _round in range(40):
        middle = (near + far) / 2
        if _of_two(middle, share) <= limit:
            near = middle
        else:
            far = middle
    return far


Pair = tuple[int, int]


def splits(ring: Sequence[int], control: Sequence[int]) -> list[tuple[Pair, Pair]]:
    """Each bucket against the rest, and all up to a bound against all above, each split once."""
    n, m = sum(ring), sum(control)
    found: dict[tuple[Pair, Pair], None] = {}
    low = high = 0
    for one, other in zip(ring, control):
        low, high = low + one, high + other
        found[(one, n), (other, m)] = found[(low, n), (high, m)] = None
    # All against nothing is no split: where both have one class alone, nothing can shift.
    return [pair for pair in found if pair not in (((0, n), (0, m)), ((n, n), (m, m)))]


def _between(ring: Pair, control: Pair) -> float:
    return _of_two(ring[0] / ring[1], control[0] / control[1])


def _log_half(one: float, other: float) -> float:
    """Half of the money on each of two bets."""
    return evalues.average([one, other])


def moved(ring: Pair, control: Pair, limit: float, threshold: float) -> float:
    """Evidence against "the index of these two shares is at most ``limit``"."""

    if _between(ring, control) <= limit:
        return evalues.NONE

    def part(low: float, high: float) -> float:
        of_ring = _log_half(
            evalues.above(*ring, reach(high, limit, True)),
            evalues.below(*ring, reach(low, limit, False)),
        )
        of_control = _log_half(evalues.above(*control, high), evalues.below(*control, low))
        return evalues.held(of_ring) + evalues.held(of_control)

    return evalues.over_all(part, threshold)


def stayed(ring: Pair, control: Pair, limit: float, threshold: float) -> bool:
    """Whether the index of these two shares is proved to be below ``limit``, on both sides."""

    if _between(ring, control) >= limit:
        return False

    def high_side(low: float, high: float) -> float:
        of_ring = evalues.below(*ring, reach(low, limit, True))
        return evalues.held(of_ring) + evalues.held(evalues.above(*control, high))

    def low_side(low: float, high: float) -> float:
        of_ring = evalues.above(*ring, reach(high, limit, False))
        return evalues.held(of_ring) + evalues.held(evalues.below(*control, low))

    sides = (high_side, low_side)
    return all(evalues.over_all(side, threshold) >= threshold for side in sides)


def _buckets(*histograms: Mapping[str, int]) -> list[str]:
    names: Iterable[str] = {name for counts in histograms for name in counts}
    return sorted(names, key=lambda name: (bound(name), name))


def judge(
    look: Look, settings: GateSettings, memory: Mapping[str, float]
) -> tuple[Gate, dict[str, float]]:
    """Judge the distribution of predictions against devices on the release before."""
    name, limit = "shift", settings.psi_max
    if name in settings.waive:
        return Gate(name, LEFT_OUT, f"Left out: {settings.waive[name]}"), {}
    if not look.control:
        return Gate(name, LEFT_OUT, NO_CONTROL), {}
    of_ring = added(one.predictions for one in look.ring)
    of_control = added(one.predictions for one in look.control)
    names = _buckets(of_ring, of_control)
    ring = [of_ring.get(bucket, 0) for bucket in names]
    control = [of_control.get(bucket, 0) for bucket in names]
    n, m = sum(ring), sum(control)
    found = {"predictions": float(n), "control_predictions": float(m)}
    wanted = {"psi_max": limit, "log_evidence_fail": round(settings.fail_bar, 3)}
    if not n or not m:
        where = "of the new release" if not n else "of the release before"
        said = (
            f"No prediction {where} was counted yet; without traffic waive this gate in "
            "rollout_gates.waive.shift, with the reason."
        )
        return Gate(name, MISSING, said, found, wanted), {}
    index, chance = psi(ring, control), by_chance(ring, control)
    # Those that differ most come first: if one of them is not proved, no other needs to be.
    pairs = sorted(splits(ring, control), key=lambda pair: -_between(*pair))
    threshold = settings.fail_bar + math.log(max(1, len(pairs)))
    evidence = evalues.average([moved(*pair, limit, threshold) for pair in pairs]) if pairs else 0.0
    found.update(psi=index, psi_by_chance=chance, log_evidence=round(evidence, 3))
    numbers = f"the stability index of {n} predictions against {m} is {index:.3f}"
    if max(evidence, memory.get(name, 0.0)) >= settings.fail_bar:
        verdict, said = FAIL, f"Predictions have shifted by more than {limit:g}: {numbers}."
    elif min(n, m) < settings.min_requests:
        verdict, said = (
            INCONCLUSIVE,
            f"{settings.min_requests} predictions are wanted of each: {numbers}.",
        )
    elif index - chance > limit:
        verdict, said = INCONCLUSIVE, f"Too few to tell a shift from chance: {numbers}."
    elif all(stayed(*pair, limit, settings.pass_bar) for pair in pairs):
        verdict, said = PASS, f"Predictions are where they were, within {limit:g}: {numbers}."
    else:
        verdict, said = INCONCLUSIVE, f"A shift of {limit:g} is not ruled out yet: {numbers}."
    return Gate(name, verdict, said, found, wanted), {name: evidence}

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a request is too large or too small, from what its replicas were seen to use.

Three answers: advise another value, keep this one, or too little data to say. Memory must hold the
highest value of the time ahead; of processors, which only make things slower, a declared share of
the time may lie above the request.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .._planner.arrays import np
from .level import highest, settled, share_held
from .usage import DAY, Usage

ADVISE, KEEP, TOO_LITTLE = "advise", "keep", "too little data"
CPU, MEMORY = "cpu_cores", "memory_mib"
# What an advice is rounded up to: a tenth of a core; of memory 64 MiB, or more of it where that is
# less than a fiftieth.
CPU_STEP, MEMORY_STEP, FINE = 0.1, 64.0, 50
AT_LIMIT = 0.98


@dataclass(frozen=True)
class Settings:
    """What is declared to be tolerable.

    ``chance``: how many advices may turn out too low in the time ahead. ``exceeded``: the share of
    the time in which processors may be short. ``ahead`` is the time for which an advice holds, in
    seconds, ``block`` a day, or what else usage repeats in, and ``blocks`` the least number of
    these that must have been seen. ``worthwhile`` is the change, as a part of the request, below
    which nobody is bothered; ``jump`` the change of level that makes older days count for nothing.
    The margins are put upon what is expected, as parts of it, for what no law of the past foresees;
    they were chosen on replays with other seeds than those that are reported
    (tests/benchmarks/advice.py).
    """

    chance: float = 0.01
    exceeded: float = 0.01
    ahead: float = 14 * DAY
    block: float = DAY
    blocks: int = 14
    worthwhile: float = 0.1
    jump: float = 0.15
    cpu_margin: float = 0.08
    memory_margin: float = 0.1


@dataclass(frozen=True)
class Evidence:
    """Where an advice comes from: days seen, of these of today's level, the most that was used on
    any, what is expected at most, and the quantile of a day that counts."""

    days: int
    settled: int
    used: float
    expected: float
    quantile: float


@dataclass(frozen=True)
class Answer:
    """What to do with a request: ``value`` is the new one, or the old. ``why`` is a sentence."""

    verdict: str
    value: float
    why: str
    evidence: Evidence


NONE_SEEN = Evidence(0, 0, 0.0, 0.0, 1.0)


def rounded(measure: str, value: float) -> float:
    """A value rounded up as a person would write it."""
    step = CPU_STEP
    if measure == MEMORY:
        step = MEMORY_STEP * 2 ** max(0, math.floor(math.log2(max(value, 1) / MEMORY_STEP / FINE)))
    return round(max(1, math.ceil(value / step - 1e-9)) * step, 6)


def advise(
    measure: str, usage: Usage, request: float, settings: Settings, limit: float | None = None
) -> Answer:
    """What to do with a request, in the unit of the measure; 0 where none was made.

    ``limit`` is what a replica may use at most: where it does, nobody sees what it would use.
    """
    quantile = 1.0 if measure == MEMORY else 1.0 - settings.exceeded
    blocks = usage.blocks(settings.block)
    days = [float(np.quantile(block, quantile)) for block in blocks]
    if len(days) < settings.blocks:
        return Answer(
            TOO_LITTLE,
            request,
            f"{len(days)} days were measured, {settings.blocks} are needed",
            NONE_SEEN,
        )
    held = sum(day >= AT_LIMIT * limit for day in days) if limit else 0
    if held:
        return Answer(
            TOO_LITTLE,
            request,
            f"its limit held it on {held} of {len(days)} days; raise it to see what it needs",
            Evidence(len(days), len(days), max(days), 0.0, quantile),
        )
    same = settled(days, settings.jump)
    if same < settings.blocks:
        return Answer(
            TOO_LITTLE,
            request,
            f"it uses more since {same} days; {settings.blocks} days of that are needed",
            Evidence(len(days), same, max(days), 0.0, quantile),
        )
    further = max(1, round(settings.ahead / settings.block))
    if measure == MEMORY:
        expected = highest(days[-same:], further, settings.chance)
        margin = settings.memory_margin
    else:
        expected = share_held(blocks[-same:], further, settings.exceeded, settings.chance)
        margin = settings.cpu_margin
    evidence = Evidence(len(days), same, max(days), expected, quantile)
    value = rounded(measure, expected * (1 + margin))
    if request and abs(value - request) < settings.worthwhile * request:
        return Answer(KEEP, request, "it is right within what is worth a change", evidence)
    if request and value > request >= max(days):
        return Answer(
            KEEP, request, "it was never exceeded, and may be in the time ahead", evidence
        )
    return Answer(ADVISE, value, "", evidence)

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Weeks of utilisation of the workloads of a GPU cluster, made from published statistics.

No public trace has requests and weeks of utilisation of the same workloads. What is asked for is
real: cores and memory of the workloads of openb (tests/fixtures/openb). How much of it is used is
drawn so that the medians are those published for a cluster of the same company (Q. Weng et al.,
MLaaS in the Wild, NSDI 2022: of 6 cores requested at the median 1.4 are used, of 29 GiB 3.5). The
shape over time is assumed: a daily wave, weaker at the weekend, for two thirds of the workloads;
noise that remembers an hour; bursts of minutes to an hour a few times a week; and, of a few
workloads, a slow growth or one step up by a fifth to a half.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ansible_collections.mlops.onprem.plugins.module_utils._advice.request import CPU, MEMORY
from ansible_collections.mlops.onprem.plugins.module_utils._planner.arrays import Floats

OPENB = Path(__file__).resolve().parents[1] / "fixtures" / "openb" / "openb_pod_list_default.csv"
STEP = 300.0  # seconds
DAY_STEPS = 288
# Median part of the request that is used, and the spread of its logarithm.
USED = {CPU: (1.4 / 6, 0.8), MEMORY: (3.5 / 29, 0.9)}
GROWING, STEPPING = 0.05, 0.01  # parts of the workloads, over all the days made


@dataclass(frozen=True)
class Made:
    """One workload: its request of a measure, and what it used at each step, in the same unit."""

    measure: str
    request: float
    used: Floats


def requests() -> list[tuple[float, float]]:
    """Cores and MiB of all workloads of the trace that ask for both."""
    with OPENB.open(encoding="utf-8", newline="") as stream:
        rows = [
            (float(row["cpu_milli"]) / 1000, float(row["memory_mib"]))
            for row in csv.DictReader(stream)
        ]
    return [row for row in rows if min(row) > 0]


def workloads(number: int, days: int, seed: int) -> Iterator[Made]:
    """So many workloads, drawn from the trace, each as processors and as memory."""
    draw = np.random.default_rng(seed)
    asked = requests()
    for at in draw.integers(len(asked), size=number).tolist():
        for measure, request in zip((CPU, MEMORY), asked[at]):
            yield Made(measure, request, _used(measure, request, days, draw))


def _used(measure: str, request: float, days: int, draw: np.random.Generator) -> Floats:
    median, spread = USED[measure]
    base = request * min(0.9, median * math.exp(spread * draw.normal()))
    time = np.arange(days * DAY_STEPS)
    level = np.ones(len(time))
    if draw.random() < 2 / 3:
        depth = draw.uniform(0.1, 0.7) * (1.0 if measure == CPU else 0.3)
        wave = 0.5 + 0.5 * np.sin(2 * np.pi * time / DAY_STEPS + draw.uniform(0, 2 * np.pi))
        weekend = ((time // DAY_STEPS) % 7) >= 5
        level = 1 - depth * (1 - wave * np.where(weekend, draw.uniform(0.3, 1.0), 1.0))
    level = level * _noise(len(time), 0.15 if measure == CPU else 0.03, draw)
    level = level + _bursts(len(time), 0.5 if measure == CPU else 0.1, draw)
    kind = draw.random()
    if kind < GROWING:
        level = level * (1 + draw.uniform(0.05, 0.3) * time / len(time))
    elif kind < GROWING + STEPPING:
        level = level * np.where(time > draw.integers(len(time)), 1 + draw.uniform(0.2, 0.5), 1.0)
    return np.asarray(np.minimum(base * level, 2 * request), dtype=np.float64)


def _noise(number: int, spread: float, draw: np.random.Generator) -> Floats:
    """Noise around 1 whose memory of itself falls to a third within an hour."""
    keep = math.exp(-STEP / 3600)
    steps = draw.normal(scale=spread * math.sqrt(1 - keep * keep), size=number)
    found = np.empty(number)
    value = 0.0
    for at, step in enumerate(steps.tolist()):
        value = keep * value + step
        found[at] = value
    return np.exp(found)


def _bursts(number: int, size: float, draw: np.random.Generator) -> Floats:
    """A few bursts a week, of five minutes to an hour, exponential in height."""
    found = np.zeros(number)
    for _each in range(draw.poisson(3 * number / DAY_STEPS / 7)):
        first = int(draw.integers(number))
        found[first : first + int(draw.integers(1, 13))] += draw.exponential(size)
    return found

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replay what was used: advise on one window, look at the next.

    python tests/benchmarks/advice.py [--workloads 2000] [--jobs 2] [--seed 100]
                                      [--output build/benchmarks/advice.json]

Of each replay it prints how many advices would have broken what was declared in the window that
follows (memory: exceeded once; processors: exceeded in more than 1 % of the time), and how much of
what could have been saved was saved: of an oracle that knows the next window. Beside it stand a
percentile that is taken as it is, and a recommender with a decaying histogram (half-lives of a
day, 90 % of processor use and of the daily peaks of memory, and 15 % upon them: the defaults of
the vertical autoscaler of Kubernetes).

Two kinds of data: six weeks of utilisation made from published statistics for the workloads of a
real cluster (advice_world.py says what is published and what is assumed), and one hour of two real
language model services, in which a minute plays the part of a day (tests/fixtures/azure_llm); its
windows overlap, so that its share of broken advices is a rough one.

Ends with 1 where, of the cluster's weeks, more than 1 % of the advices were broken, or less than
80 % saved.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / ".collections")]

from ansible_collections.mlops.onprem.plugins.module_utils._advice.request import (  # noqa: E402
    ADVISE,
    CPU,
    MEMORY,
    TOO_LITTLE,
    Settings,
    advise,
)
from ansible_collections.mlops.onprem.plugins.module_utils._advice.usage import (  # noqa: E402
    Usage,
)
from ansible_collections.mlops.onprem.plugins.module_utils._planner.arrays import (  # noqa: E402
    Floats,
)

from tests.benchmarks.advice_world import DAY_STEPS, STEP, Made, workloads  # noqa: E402

AZURE = ROOT / "tests" / "fixtures" / "azure_llm"
DAYS, SEEN = 42, 28
BROKEN_MOST, SAVED_LEAST = 0.01, 0.8
PART = 100  # workloads of one task of a process
MINUTE, AZURE_STEP = 60.0, 5.0
AZURE_SEEN, AZURE_AHEAD = 30, 10  # minutes
SERVICES = Settings(block=MINUTE, ahead=AZURE_AHEAD * MINUTE)


@dataclass(frozen=True)
class Window:
    """One thing's use, the window to advise on and the window after it."""

    made: Made
    before: Floats
    after: Floats
    step: float
    settings: Settings

    @property
    def needed(self) -> float:
        """What an oracle would have requested."""
        if self.made.measure == MEMORY:
            return float(self.after.max())
        return float(np.quantile(self.after, 1 - self.settings.exceeded))


def _ours(window: Window) -> float | None:
    usage = Usage(0.0, window.step, window.before)
    answer = advise(window.made.measure, usage, window.made.request, window.settings)
    if answer.verdict == TOO_LITTLE:
        return None
    return answer.value if answer.verdict == ADVISE else window.made.request


def _percentile(part: float) -> Callable[[Window], float]:
    return lambda window: float(np.quantile(window.before, part))


def _decaying(window: Window) -> float:
    """The recommender of the vertical autoscaler, without its histogram's buckets."""
    per_day = round(window.settings.block / window.step)
    days = window.before[-(len(window.before) // per_day) * per_day :].reshape(-1, per_day)
    age = np.arange(len(days))[::-1]
    if window.made.measure == MEMORY:
        values, weights = days.max(axis=1), 0.5**age
    else:
        values = days.ravel()
        weights = np.repeat(0.5**age, per_day) if len(days) else np.zeros(0)
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][np.searchsorted(reached, 0.9)]) * 1.15


POLICIES: dict[str, Callable[[Window], float | None]] = {
    "advice": _ours,
    "percentile 95": _percentile(0.95),
    "percentile 99": _percentile(0.99),
    "decaying histogram": _decaying,
}


@dataclass(frozen=True)
class Row:
    """One policy on one replay. ``advised`` of ``asked`` changed the request; of these ``broken``
    were too low in the next window. ``saved`` and ``possible`` are in the unit of the measure."""

    data: str
    measure: str
    policy: str
    asked: int = 0
    advised: int = 0
    broken: int = 0
    saved: float = 0.0
    possible: float = 0.0

    @property
    def broken_part(self) -> float:
        return self.broken / self.advised if self.advised else 0.0

    @property
    def saved_part(self) -> float:
        return self.saved / self.possible if self.possible else 0.0

    def __add__(self, other: Row) -> Row:
        return replace(
            self,
            asked=self.asked + other.asked,
            advised=self.advised + other.advised,
            broken=self.broken + other.broken,
            saved=self.saved + other.saved,
            possible=self.possible + other.possible,
        )


def judge(data: str, windows: Iterator[Window]) -> list[Row]:
    """All policies on these windows."""
    found: dict[tuple[str, str], Row] = {}
    for window in windows:
        request, needed, measure = window.made.request, window.needed, window.made.measure
        for policy, of in POLICIES.items():
            value = of(window)
            changed = value is not None and value != request
            row = Row(
                data,
                measure,
                policy,
                1,
                int(changed),
                int(changed and value is not None and needed > value + 1e-9),
                max(0.0, request - value) if value is not None else 0.0,
                max(0.0, request - needed),
            )
            known = found.get((measure, policy))
            found[measure, policy] = row if known is None else known + row
    return list(found.values())


def _cluster(number: int, seed: int) -> list[Row]:
    cut = SEEN * DAY_STEPS
    return judge(
        "cluster",
        (
            Window(made, made.used[:cut], made.used[cut:], STEP, Settings())
            for made in workloads(number, DAYS, seed)
        ),
    )


def azure() -> Iterator[Window]:
    """Two services: thousands of tokens a second, read and written, as processors do them.

    The request is a rule of thumb that people use: twice the peak.
    """
    each = round(MINUTE / AZURE_STEP)
    for service in ("code", "conv"):
        with (AZURE / f"{service}.csv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        for column in ("context_tokens", "generated_tokens"):
            # Averaged over a quarter of a minute, since requests wait for one another.
            raw = np.array([float(row[column]) for row in rows]) / AZURE_STEP / 1000
            used = np.convolve(raw, np.ones(3) / 3, mode="valid")
            request = 2.0 * float(used.max())
            for first in range(0, len(used) - (AZURE_SEEN + AZURE_AHEAD) * each + 1, each):
                middle = first + AZURE_SEEN * each
                after = used[middle : middle + AZURE_AHEAD * each]
                yield Window(
                    Made(CPU, request, used), used[first:middle], after, AZURE_STEP, SERVICES
                )


def told(rows: Sequence[Row]) -> str:
    """The table for people."""
    lines = [
        f"{'data':9}{'measure':12}{'policy':20}{'asked':>7}{'advised':>9}{'broken':>9}{'saved':>8}"
    ]
    lines += [
        f"{row.data:9}{row.measure:12}{row.policy:20}{row.asked:7,}{row.advised:9,}"
        f"{row.broken_part:9.2%}{row.saved_part:8.1%}"
        for row in rows
    ]
    return "\n".join(lines)


def wrong(rows: Sequence[Row]) -> list[str]:
    """What was promised and did not hold, for the cluster's weeks."""
    ours = [row for row in rows if row.policy == "advice" and row.data == "cluster"]
    found = [
        f"{row.measure}: {row.broken_part:.2%} of the advices were broken"
        for row in ours
        if row.broken_part > BROKEN_MOST
    ]
    found += [
        f"{row.measure}: {row.saved_part:.1%} of the possible saving"
        for row in ours
        if row.saved_part < SAVED_LEAST
    ]
    return found


def replay(number: int, seed: int, jobs: int) -> list[Row]:
    """The rows of the cluster's weeks, in parts of equal seeds however many processes there are."""
    parts = [(PART, seed + at) for at in range(number // PART)]
    if number % PART:
        parts.append((number % PART, seed + number // PART))
    joined: dict[tuple[str, str], list[Row]] = defaultdict(list)
    with ProcessPoolExecutor(jobs) as pool:
        for rows in pool.map(_cluster, *zip(*parts)):
            for row in rows:
                joined[row.measure, row.policy].append(row)
    return [sum(rows[1:], rows[0]) for rows in joined.values()]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks/advice.json"))
    said = parser.parse_args()
    rows = [*replay(said.workloads, said.seed, said.jobs), *judge("services", azure())]
    print(told(rows))
    problems = wrong(rows)
    print("\n" + ("\n".join(problems) if problems else "Every promise holds."))
    said.output.parent.mkdir(parents=True, exist_ok=True)
    plain = [
        {**asdict(row), "broken_part": row.broken_part, "saved_part": row.saved_part}
        for row in rows
    ]
    said.output.write_text(json.dumps({"rows": plain, "wrong": problems}, indent=1) + "\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

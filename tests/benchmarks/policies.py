# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Repeat the published allocation experiment: every online policy on three traces, ten seeds.

    python tests/benchmarks/policies.py [--traces default] [--policies fgd bestfit] [--seeds 3]
                                        [--output build/benchmarks/policies.json]

Prints the mean GPU allocation beside the published mean, and the CPU seconds of the slowest run.
Our seeds draw other numbers than the published ones, so that only means can be compared. Ends with
1 where a mean is further than 0.5 points from the published one or a run takes more than 10
seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".collections"))

from tests.benchmarks import openb_trace
from tests.benchmarks import published_policies as policies
from tests.benchmarks.openb import FIXTURES, NODES

DEMAND = 1.3
FIRST_SEED = 42
NEAR = 0.5  # percentage points
FAST = 10.0  # CPU seconds

# GPU allocation in %, mean of seeds 42 to 51 at 130 % demand: from the results table of
# hkust-adsl/kubernetes-scheduler-simulator, experiments/analysis/expected_results.
PUBLISHED = {
    "default": {
        "random": 87.47,
        "dotprod": 90.85,
        "gpuclustering": 91.88,
        "gpupacking": 92.00,
        "bestfit": 93.08,
        "fgd": 95.39,
    },
    "gpushare100": {
        "random": 79.44,
        "dotprod": 82.42,
        "gpuclustering": 82.65,
        "gpupacking": 82.57,
        "bestfit": 85.01,
        "fgd": 86.90,
    },
    "multigpu50": {
        "random": 90.27,
        "dotprod": 94.85,
        "gpuclustering": 95.81,
        "gpupacking": 96.18,
        "bestfit": 95.74,
        "fgd": 97.18,
    },
}
NAMES = tuple(PUBLISHED["default"])


@dataclass(frozen=True)
class Row:
    """One policy on one trace. Allocations in %, the slowest run in CPU seconds."""

    trace: str
    policy: str
    allocations: tuple[float, ...]
    mean: float
    published: float
    difference: float
    cpu_seconds: float

    @property
    def reproduced(self) -> bool:
        return abs(self.difference) <= NEAR and self.cpu_seconds <= FAST


def measure(trace: str, policy: str, seeds: Sequence[int]) -> Row:
    """Every run reads the files again, so that its time is that of the whole."""
    allocations, times = [], []
    for seed in seeds:
        started = time.process_time()
        instance = openb_trace.read(NODES, FIXTURES / f"openb_pod_list_{trace}.csv")
        arrivals = policies.inflated(instance, DEMAND, seed)
        allocations.append(policies.run(policy, instance, arrivals, seed).percent)
        times.append(time.process_time() - started)
    mean, published = statistics.fmean(allocations), PUBLISHED[trace][policy]
    return Row(
        trace=trace,
        policy=policy,
        allocations=tuple(round(value, 4) for value in allocations),
        mean=round(mean, 4),
        published=published,
        difference=round(mean - published, 4),
        cpu_seconds=round(max(times), 2),
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--traces", nargs="+", choices=PUBLISHED, default=list(PUBLISHED))
    parser.add_argument("--policies", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--seeds", type=int, choices=range(1, 11), default=10, help="how many")
    parser.add_argument("--output", type=Path, help="also write the figures as JSON")
    said = parser.parse_args()
    print(f"{'trace':<12} {'policy':<14} {'mean':>6} {'published':>9} {'differs':>7} {'CPU s':>6}")
    rows = []
    for trace in said.traces:
        for policy in said.policies:
            row = measure(trace, policy, range(FIRST_SEED, FIRST_SEED + said.seeds))
            rows.append(row)
            print(
                f"{trace:<12} {policy:<14} {row.mean:>6.2f} {row.published:>9.2f}"
                f" {row.difference:>+7.2f} {row.cpu_seconds:>6.1f}",
                flush=True,
            )
    if said.output:
        said.output.parent.mkdir(parents=True, exist_ok=True)
        said.output.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 0 if all(row.reproduced for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

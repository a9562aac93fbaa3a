# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the planner does on large questions, and on some whose best answer is known.

    python tests/benchmarks/planner_scale.py [--only NAME ...] [--seed 1] [--output FILE.json]

- ``large``: 10,000 hosts and 100,000 workloads of many shapes, some with GPUs;
- ``distinct``: the same with no two workloads alike;
- ``large-short``: the same with too much asked, so that a certificate is due;
- ``medium``: 100 hosts and 1,000 workloads;
- ``bins-N``: 1,000 equal hosts cut completely into workloads, in N dimensions: how many hosts are
  bought to carry them all again?

Each runs in a process of its own, so that its peak of memory is its own. Prints a table and writes
everything as JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / ".collections"))

from ansible_collections.mlops.onprem.plugins.module_utils._planner.model import (  # noqa: E402
    Budget,
    Device,
    GpuNeed,
    Host,
    Instance,
    Offer,
    Workload,
)
from ansible_collections.mlops.onprem.plugins.module_utils._planner.purchase import purchase  # noqa: E402
from ansible_collections.mlops.onprem.plugins.module_utils._planner.solver import solve  # noqa: E402
from ansible_collections.mlops.onprem.plugins.module_utils._planner.verify import verify  # noqa: E402

RESOURCES, UNITS = ("cpu", "memory", "disk"), ("cores", "GiB", "GiB")
KINDS = (
    ((16.0, 64.0, 1000.0), ()),
    ((32.0, 128.0, 2000.0), ()),
    ((64.0, 512.0, 4000.0), ()),
    ((96.0, 384.0, 4000.0), (Device("T4", 15360.0),) * 2),
    ((96.0, 768.0, 8000.0), (Device("A100", 81920.0),) * 8),
)


def cluster(hosts: int, workloads: int, load: float, seed: int, distinct: bool) -> Instance:
    """Hosts of five kinds, and workloads that ask for ``load`` of what is scarcest."""
    random = np.random.default_rng(seed)
    kinds = random.choice(len(KINDS), hosts, p=[0.3, 0.3, 0.2, 0.1, 0.1])
    shapes = workloads if distinct else max(20, workloads // 200)
    cpu = random.choice([0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0], shapes)
    ratio = random.choice([1.0, 2.0, 4.0, 8.0], shapes)
    disk = random.choice([0.0, 1.0, 10.0, 50.0], shapes)
    if distinct:
        cpu = np.round(cpu * random.uniform(0.5, 1.5, shapes), 3)
        disk = np.round(disk * random.uniform(0.5, 1.5, shapes), 2)
    memory = np.round(cpu * ratio, 3)
    needs = [GpuNeed()] * 8 + [GpuNeed(share=0.25), GpuNeed(share=0.5), GpuNeed(memory_mib=6000.0)]
    needs += [GpuNeed(count=1)]
    gpu = random.integers(len(needs), size=shapes)
    devices = sum(len(KINDS[kind][1]) for kind in kinds.tolist())
    # Few enough GPUs are asked for that the other resources bind.
    gpu[random.random(shapes) > 1.5 * devices / workloads] = 0
    times = np.full(shapes, workloads // shapes)
    times[: workloads - int(times.sum())] += 1
    supply = np.array([KINDS[kind][0] for kind in kinds.tolist()]).sum(axis=0)
    demand = np.column_stack([cpu, memory, disk])
    factor = load / float(((demand * times[:, None]).sum(axis=0) / supply).max())
    demand = np.round(demand * factor, 3)
    return Instance(
        RESOURCES,
        UNITS,
        tuple(Host(f"h{n}", *KINDS[kind]) for n, kind in enumerate(kinds.tolist())),
        tuple(
            Workload(f"w{n}", tuple(demand[n].tolist()), int(times[n]), needs[int(gpu[n])])
            for n in range(shapes)
        ),
    )


def bins(number: int, dimensions: int, seed: int) -> tuple[Instance, Offer]:
    """Equal hosts, each cut at random into 3 to 8 workloads that fill it completely."""
    random = np.random.default_rng(seed)
    size = 1000
    rows: list[list[int]] = []
    for _bin in range(number):
        parts = int(random.integers(3, 9))
        cuts = [
            np.diff([0, *np.sort(random.choice(size - 1, parts - 1, replace=False) + 1), size])
            for _dimension in range(dimensions)
        ]
        rows += np.array(cuts).T.tolist()
    random.shuffle(rows)
    names = tuple(f"r{n}" for n in range(dimensions))
    work = tuple(Workload(f"w{n}", tuple(map(float, row))) for n, row in enumerate(rows))
    return Instance(names, names, (), work), Offer("bin", (float(size),) * dimensions)


def plan(instance: Instance, seconds: float) -> dict[str, Any]:
    budget = Budget(seconds, time.monotonic)
    result = solve(instance, budget)
    left = sum(result.unplaced.values())
    return {
        "hosts": len(instance.hosts),
        "replicas": sum(work.replicas for work in instance.workloads),
        "verdict": result.verdict,
        "verified": not left and not verify(instance, result.placement),
        "unplaced": left,
        "at_least": result.at_least,
        "certificates": [one.cause + " " + one.resource for one in result.certificates],
    }


def repack(dimensions: int, seconds: float, seed: int) -> dict[str, Any]:
    instance, offer = bins(1000, dimensions, seed)
    bought = purchase(instance, (offer,), Budget(seconds, time.monotonic))
    return {
        "hosts": bought.hosts,
        "replicas": len(instance.workloads),
        "optimum": 1000,
        "at_least": bought.at_least,
        "above_percent": round((bought.hosts - 1000) / 10, 2),
    }


CASES: dict[str, Callable[[int], dict[str, Any]]] = {
    "large": lambda seed: plan(cluster(10_000, 100_000, 0.85, seed, False), 10.0),
    "distinct": lambda seed: plan(cluster(10_000, 100_000, 0.85, seed, True), 10.0),
    "large-short": lambda seed: plan(cluster(10_000, 100_000, 1.05, seed, False), 2.0),
    "medium": lambda seed: plan(cluster(100, 1000, 0.85, seed, False), 0.5),
    "medium-distinct": lambda seed: plan(cluster(100, 1000, 0.85, seed, True), 0.5),
    **{
        f"bins-{dimensions}": lambda seed, dimensions=dimensions: repack(dimensions, 30.0, seed)  # type: ignore[misc]
        for dimensions in range(2, 7)
    },
}


def run(name: str, seed: int) -> dict[str, Any]:
    """One case, in this process. The seconds are those of the answer, without making the case."""
    made = time.process_time()
    answer = CASES[name](seed)
    return {
        "case": name,
        **answer,
        "cpu_seconds_with_making": round(time.process_time() - made, 2),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--one", choices=CASES, help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.one:
        print(json.dumps(run(said.one, said.seed)))
        return 0
    answers = []
    for name in said.only:
        command = [sys.executable, __file__, "--one", name, "--seed", str(said.seed)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        answers.append(json.loads(done.stdout))
        print("  ".join(f"{key}={value}" for key, value in answers[-1].items()), flush=True)
    if said.output:
        said.output.parent.mkdir(parents=True, exist_ok=True)
        said.output.write_text(json.dumps(answers, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

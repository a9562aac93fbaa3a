# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask one question about a trace of the openb family; print the answer as one JSON object.

    python tests/benchmarks/openb.py [NODES.csv PODS.csv] --experiment allocation --policy fgd

Without files, the default trace of tests/fixtures/openb is taken. Experiments:

- ``allocation``: workloads are drawn until they ask for ``--demand`` times the GPUs there are;
  which percentage of the GPUs is allocated in the end?
- ``place``: every workload once; how many find no place?
- ``buy``: how many more of its most common hosts with most GPUs make all fit?
- ``n1``: every workload once, then any one host is lost; what finds no other place?

The online policies see one workload after the other and need no ``--seconds``. Bad input ends
with one sentence and exit code 2.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".collections"))

from ansible_collections.mlops.onprem.plugins.module_utils._planner.model import (
    FEASIBLE,
    UNDECIDED,
    Budget,
    Instance,
    Offer,
    Purchase,
    Result,
)
from ansible_collections.mlops.onprem.plugins.module_utils._planner.purchase import purchase
from ansible_collections.mlops.onprem.plugins.module_utils._planner.solver import allocate, solve
from ansible_collections.mlops.onprem.plugins.module_utils._planner.survival import survive

from tests.benchmarks import openb_trace
from tests.benchmarks import published_policies as policies

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "openb"
NODES = FIXTURES / "openb_node_list_gpu_node.csv"
PODS = FIXTURES / "openb_pod_list_default.csv"


@dataclass(frozen=True)
class Question:
    """What is asked about a trace. ``seconds`` is the time that a planner may take."""

    instance: Instance
    policy: str
    demand: float
    seed: int
    seconds: float


Answer = dict[str, Any]


def online(question: Question, arrivals: Sequence[int]) -> Answer:
    """Place what arrives by a policy; it proves nothing where something is left over."""
    found = policies.run(question.policy, question.instance, arrivals, question.seed)
    unplaced = sum(found.unplaced.values())
    return {
        "arrived": len(arrivals),
        "gpus": found.gpus,
        "gpus_asked": round(found.gpus_asked, 3),
        "allocation": round(found.percent, 4),
        "unplaced": unplaced,
        "verdict": UNDECIDED if unplaced else FEASIBLE,
        "certificate": None,
    }


def allocation_online(question: Question) -> Answer:
    """The published experiment. The bound is that of sums: no more than is asked or there is."""
    arrivals = policies.inflated(question.instance, question.demand, question.seed)
    answer = online(question, arrivals)
    return answer | {"bound": round(100 * min(1.0, answer["gpus_asked"] / answer["gpus"]), 4)}


def place_online(question: Question) -> Answer:
    """Every workload once. The bound is the least number that must be left out: none is known."""
    return online(question, policies.once(question.instance, question.seed)) | {"bound": 0}


def _answer(result: Result) -> Answer:
    certificate = result.certificates[0] if result.certificates else None
    return {
        "unplaced": sum(result.unplaced.values()),
        "at_least": result.at_least,
        "verdict": result.verdict,
        "sums_fit": result.sums_fit,
        "certificate": asdict(certificate) if certificate else None,
        "planner_seconds": round(result.seconds, 3),
    }


def _budget(question: Question) -> Budget:
    return Budget(question.seconds, time.monotonic)


def allocation_planner(question: Question) -> Answer:
    """The same demand as online, all of it known beforehand. The bound is that of the LP, in %."""
    instance = question.instance
    arrivals = policies.inflated(instance, question.demand, question.seed)
    result = allocate(policies.known(instance, arrivals), _budget(question), question.seed)
    gpus = sum(len(host.devices) for host in instance.hosts)
    return _answer(result) | {
        "arrived": len(arrivals),
        "gpus": gpus,
        "allocation": round(100 * result.value / gpus, 4),
        "bound": round(100 * min(1.0, result.bound / gpus), 4),
    }


def place_planner(question: Question) -> Answer:
    """Every workload once. The bound is the least number that must be left out."""
    result = solve(question.instance, _budget(question), question.seed)
    return _answer(result) | {"bound": result.at_least}


def buy_planner(question: Question) -> Answer:
    """How many of the hosts with most GPUs that the trace has most of make all fit?"""
    kinds = Counter(
        (len(host.devices), host.supply, host.devices) for host in question.instance.hosts
    )
    widest = max(count for count, _supply, _devices in kinds)
    (_count, supply, devices), _times = max(
        ((kind, times) for kind, times in kinds.items() if kind[0] == widest),
        key=lambda row: row[1],
    )
    offer = Offer("bought", supply, devices)
    found = purchase(question.instance, (offer,), _budget(question), question.seed)
    answer = {"offer": {"gpus": widest, "supply": supply}, **_purchase(found)}
    if found.others is not None:
        answer["others"] = _purchase(found.others)
    return {**answer, "planner_seconds": round(found.seconds, 3)}


def _purchase(found: Purchase) -> Answer:
    return {
        "hosts": None if found.counts is None else found.hosts,
        "bound": found.at_least,
        "steps": found.steps,
        "verdict": found.verdict,
    }


def n1_planner(question: Question) -> Answer:
    """Place every workload once, then lose each host; only the losses are timed by themselves."""
    placed = solve(question.instance, _budget(question), question.seed)
    started, used = time.monotonic(), time.process_time()
    losses = survive(question.instance, placed.placement, _budget(question))
    return _answer(placed) | {
        "hosts": len(losses),
        "hosts_that_strand": sum(bool(loss.stranded) for loss in losses),
        "stranded_at_most": max((sum(loss.stranded.values()) for loss in losses), default=0),
        "losses_seconds": round(time.monotonic() - started, 3),
        "losses_cpu_seconds": round(time.process_time() - used, 3),
    }


# Who answers what.
EXPERIMENTS: Mapping[str, Mapping[str, Callable[[Question], Answer]]] = {
    "allocation": {
        **dict.fromkeys(policies.POLICIES, allocation_online),
        "planner": allocation_planner,
    },
    "place": {**dict.fromkeys(policies.POLICIES, place_online), "planner": place_planner},
    "buy": {"planner": buy_planner},
    "n1": {"planner": n1_planner},
}


class Parser(argparse.ArgumentParser):
    """Refuses with one sentence instead of the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def seed(said: str) -> int:
    value = int(said)
    if value < 0:
        raise ValueError
    return value


def seconds(said: str) -> float:
    value = float(said)
    if not (value > 0 and math.isfinite(value)):
        raise ValueError
    return value


def parser() -> Parser:
    made = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("nodes", nargs="?", type=Path, default=NODES)
    made.add_argument("pods", nargs="?", type=Path, default=PODS)
    made.add_argument("--experiment", choices=EXPERIMENTS, default="allocation")
    names = dict.fromkeys(name for table in EXPERIMENTS.values() for name in table)
    made.add_argument("--policy", choices=names, default="fgd")
    made.add_argument("--demand", type=float, default=1.3, help="times the GPUs there are")
    made.add_argument("--seed", type=seed, default=42)
    made.add_argument("--seconds", type=seconds, default=60.0, help="time that a planner may take")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    started = time.monotonic()
    made = parser()
    said = made.parse_args(arguments)
    answering = EXPERIMENTS[said.experiment]
    if said.policy not in answering:
        made.error(f"{said.experiment} is answered by {', '.join(answering)}, not {said.policy}")
    try:
        instance = openb_trace.read(said.nodes, said.pods)
        question = Question(instance, said.policy, said.demand, said.seed, said.seconds)
        answer = answering[said.policy](question)
    except (openb_trace.TraceError, policies.PolicyError) as error:
        made.error(str(error))
    answer = {
        "experiment": said.experiment,
        "policy": said.policy,
        "nodes": str(said.nodes),
        "pods": str(said.pods),
        "demand": said.demand,
        "seed": said.seed,
        **answer,
        "seconds": round(time.monotonic() - started, 3),
        "cpu_seconds": round(time.process_time(), 3),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Throw garbled inventories and facts at the reading of workloads and at the plan behind it.

    python tests/benchmarks/fuzz_workloads.py --cases 100000 --seed 1

A case starts from a site that is right and garbles some of its values, keys and entries. Every
answer must be a plan, or sentences that begin with the place of the mistake, are one line and not
long. Prints one JSON object; exit code 1 if anything crashed or a sentence was not one.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import random
import re
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".collections"))

from ansible_collections.mlops.onprem.plugins.module_utils._assess.plan_findings import (  # noqa: E402
    with_verdict,
)
from ansible_collections.mlops.onprem.plugins.module_utils._capacity import site_sums  # noqa: E402
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.margins import (  # noqa: E402
    Margins,
)
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.planning import (  # noqa: E402
    plan_workloads,
)
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.request import (  # noqa: E402
    Written,
    read_request,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import (  # noqa: E402
    Demand,
    DiskNeed,
)

NOW = 1_800_000_000.0
PLACES = re.compile(
    r"(mlops_workloads|mlops_host_offers|mlops_host_labels|assess_\w+)(\[\d+\])?[\w.\[\]/-]*"
)
MOST_CHARACTERS = 600
# Every so many cases go through the planner; the others end at what is written.
PLANNED_EVERY = 100
HUGE = 10 * 2**20

GARBAGE: tuple[Callable[[random.Random], Any], ...] = (
    lambda _rng: math.nan,
    lambda _rng: math.inf,
    lambda _rng: -math.inf,
    lambda rng: -rng.random() * 10 ** rng.randint(0, 12),
    lambda rng: rng.random() * 10 ** rng.randint(0, 300),
    lambda rng: rng.choice((0, -0.0, -1, 2**63, 10**400, -(10**400), 10**5000)),
    lambda _rng: None,
    lambda rng: rng.random() < 0.5,
    lambda rng: "".join(chr(rng.randrange(32, 0x2FFF)) for _time in range(rng.randint(0, 60))),
    lambda rng: rng.choice(("", " ", "\n", "\0", "{{ x }}", "8G", "1.5", "-1GiB", "nan", "1e999")),
    lambda rng: "x" * rng.randint(100, 5000),
    lambda _rng: [],
    lambda _rng: {},
    lambda rng: [rng.random(), {"a": []}],
    lambda _rng: {"a": {"b": {"c": 1}}},
    lambda _rng: {1: 2, None: 3, (1, 2): 4},
    lambda rng: bytes(rng.randrange(256) for _time in range(8)),
    lambda rng: datetime.date(rng.randint(1, 9999), 1, 1),
    lambda _rng: datetime.datetime(2030, 1, 1, tzinfo=datetime.timezone.utc),
    lambda _rng: {1, 2},
    lambda _rng: object(),
    lambda _rng: nested(200),
)


def nested(depth: int) -> Any:
    """Lists in lists."""
    found: Any = 1
    for _level in range(depth):
        found = [found]
    return found


def facts(name: str) -> dict[str, Any]:
    """A host as capacity_facts measures it, as far as planning looks at it."""
    return {
        "host": name,
        "clock": {"epoch": NOW - 60, "controller_epoch": NOW - 60},
        "cpu": {"usable_cores": 32},
        "memory": {"total_mib": 262144.0, "available_mib": 250000.0},
        "filesystems": [
            {
                "mount": mount,
                "device": device,
                "size_mib": 900000.0,
                "available_mib": 800000.0,
                "inodes": 1000000,
                "inodes_available": 900000,
                "read_only": False,
            }
            for mount, device in (("/", "8:1"), ("/srv", "8:2"))
        ],
        "services": {"foreign": [{"memory_mib": 100.0, "cpu_cores": 0.1}], "ours": []},
        "ours": {"directories": [], "packages_mib": 0},
        "listeners": [],
        "gpus": {
            "source": "nvml",
            "problem": None,
            "gpus": [
                {
                    "index": index,
                    "model": "NVIDIA A100-SXM4-80GB",
                    "memory_mib": 81920.0,
                    "memory_used_mib": 500.0,
                    "mig_mode": "Enabled" if index == 3 else "Disabled",
                    "processes": 0,
                    "uuid": f"GPU-{name}-{index}",
                }
                for index in range(4)
            ],
        },
        "unknown": [],
    }


def workload(rng: random.Random, number: int) -> dict[str, Any]:
    """A workload that is right."""
    kind = rng.choice(("serving", "training", "batch", "dataset", "service", "user"))
    requests: dict[str, Any] = {
        "cpu_cores": rng.choice((0.5, 1, 4)),
        rng.choice(("memory_mib", "memory_gib")): rng.randint(1, 64),
        "disks": [{"path": rng.choice(("/srv/a", "/var/lib/b")), "size": "10GiB"}],
    }
    row: dict[str, Any] = {"name": f"w{number}", "kind": kind, "requests": requests}
    if rng.random() < 0.5:
        row["replicas"] = rng.randint(1, 6)
    if rng.random() < 0.3:
        row["limits"] = {"cpu_cores": 8, "memory": "128GiB"}
    if rng.random() < 0.3:
        row["hosts"] = rng.choice(
            ({"groups": ["gpu"]}, {"labels": {"rack": "a"}}, {"names": ["gpu1"]})
        )
    if kind != "dataset" and rng.random() < 0.6:
        row["gpu"] = rng.choice(
            (
                {"count": 1, "models": ["A100"]},
                {"share": 0.5},
                {"memory": "20GiB"},
                {"profile": "1g.10gb"},
            )
        )
    if rng.random() < 0.2:
        row["anti_affinity"] = rng.choice((True, "front"))
    if rng.random() < 0.3:
        row["growth"] = rng.choice(
            (
                {"percent_per_year": 30},
                {"percent_per_year": 5, "linear": True, "since": "2026-01-01"},
                {"steps": [{"date": "2027-06-01", "factor": 2}], "of": "replicas"},
            )
        )
    if rng.random() < 0.2:
        row["priority"] = rng.randint(0, 9)
    return row


def site(rng: random.Random) -> dict[str, Any]:
    """Everything that a person writes and a host tells, all of it right."""
    return {
        "workloads": [workload(rng, number) for number in range(rng.randint(1, 4))],
        "offers": [
            {
                "name": "box",
                "cpu_cores": 64,
                "memory": "512GiB",
                "disks": [{"path": "/", "size": "2TiB"}],
                "gpus": {"count": 4, "model": "NVIDIA A100-SXM4-80GB", "memory": "80GiB"},
                "groups": ["gpu"],
                "labels": {"rack": "a"},
                "price": 50000,
            }
        ],
        "labels": {"gpu1": {"rack": "a"}, "gpu2": {"rack": "b"}},
        "what_if": rng.choice(({}, {}, {"add_hosts": [{"offer": "box"}]})),
        "earlier": None,
        "planning": {"seconds": 1, "seed": rng.randint(0, 9), "horizon_years": 1},
        "supply": {name: facts(name) for name in ("gpu1", "gpu2")},
    }


def spots(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in nested data: the mapping or list, and the key or index."""
    if isinstance(value, dict):
        for key in list(value):
            yield value, key
            yield from spots(value[key])
    elif isinstance(value, list):
        for index in range(len(value)):
            yield value, index
            yield from spots(value[index])


def garble(rng: random.Random, data: dict[str, Any], part: str) -> None:
    """Spoil one place of a part: another value, another key, an entry twice, or none."""
    whole = {part: data[part]}
    holder, key = rng.choice(list(spots(whole)))
    way = rng.random()
    if way < 0.7 or holder is whole:
        holder[key] = rng.choice(GARBAGE)(rng)
    elif way < 0.8 and isinstance(holder, dict):
        holder[rng.choice(("nmae", "x" * 3000, "", 7, None))] = holder.pop(key)
    elif way < 0.9 and isinstance(holder, list):
        holder.append(holder[key])
    else:
        del holder[key]
    data[part] = whole[part]


def spoil_facts(rng: random.Random, data: dict[str, Any]) -> None:
    """Facts that are too old, of another host, gone, or garbled."""
    supply = data["supply"]
    way = rng.randrange(5)
    if way == 0:
        supply["gpu1"]["clock"] = {"epoch": NOW - rng.choice((1e5, -1e5, 1e12))}
    elif way == 1:
        supply["gpu1"], supply["gpu2"] = supply["gpu2"], supply["gpu1"]
    elif way == 2:
        supply.clear()
    elif way == 3:
        supply.pop("gpu2")
    else:
        for _time in range(rng.randint(1, 3)):
            garble(rng, data, "supply")


@dataclass
class Outcome:
    """What became of the cases."""

    cases: int = 0
    accepted: int = 0
    refused: int = 0
    planned: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)
    longest: int = 0

    def judge(self, sentences: Iterator[str] | list[str], case: str) -> None:
        """Hold the sentences of a refusal to what they have to be."""
        for said in sentences:
            self.longest = max(self.longest, len(said))
            if not PLACES.match(said) or "\n" in said or len(said) > MOST_CHARACTERS:
                self.crashes.append(f"{case}: no good sentence: {said[:200]!r}")


def one(outcome: Outcome, data: dict[str, Any], plan: bool, case: str) -> None:
    """One case, and what has to hold for its answer."""
    outcome.cases += 1
    supply = data["supply"] if isinstance(data["supply"], dict) else {}
    hosts = ["gpu1", "gpu2"]
    labels = data["labels"] if isinstance(data["labels"], dict) else {"gpu1": data["labels"]}
    planning = data["planning"] if isinstance(data["planning"], dict) else {}
    written = Written(
        data["workloads"],
        data["offers"],
        {str(host): value for host, value in labels.items()},
        {"all": hosts, "gpu": hosts, "edge": []},
        data["what_if"],
        data["earlier"],
    )
    try:
        problems = read_request(written, hosts, planning).problems
        outcome.judge(list(problems), case)
        if problems:
            outcome.refused += 1
        else:
            outcome.accepted += 1
        if not plan:
            return
        demand = {"gpu1": [Demand("Prometheus", memory_mib=500, disks=(DiskNeed("/var", 100.0),))]}
        margins = Margins()
        sums = site_sums.plan(supply, demand, margins, NOW)
        answer = with_verdict(
            plan_workloads(written, hosts, supply, demand, margins, planning, time.monotonic, NOW)
        )
        outcome.planned += 1
        for finding in (*sums.findings, *answer.findings):
            if "\n" in finding.sentence or len(finding.sentence) > 3 * MOST_CHARACTERS:
                outcome.crashes.append(f"{case}: no good finding: {finding.sentence[:300]!r}")
        if answer.plan is None:
            outcome.verdicts["not read"] += 1
            if not problems:
                outcome.crashes.append(f"{case}: not planned, and no reason given")
        else:
            outcome.verdicts[answer.plan.verdict] += 1
            json.dumps(answer.plan.as_dict(), allow_nan=False)
    except Exception:  # anything at all is what is looked for
        outcome.crashes.append(f"{case}: {traceback.format_exc(limit=-3)[:1500]}")


def megabytes(rng: random.Random) -> Iterator[tuple[str, Any]]:
    """Ten megabytes of garbage, as YAML gives it to us; what YAML itself refuses is passed over."""
    noise = "".join(chr(rng.randrange(32, 127)) for _time in range(2**16)) * (HUGE // 2**16)
    texts = {
        "noise": noise,
        "one long text": "- name: " + "x" * HUGE,
        "a long key": "- " + "k" * HUGE + ": 1",
        "a long list": "- 1\n" * (HUGE // 4),
        "many workloads": "- {name: w, kind: serving, requests: {cpu_cores: 1}}\n" * (HUGE // 53),
        "a long number": "- {name: w, kind: serving, replicas: 0x" + "f" * HUGE + "}",
        "a long block": "- |\n" + "".join(f"  {noise[:70]}\n" for _time in range(HUGE // 73)),
    }
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for name, text in texts.items():
        try:
            yield name, yaml.load(text, loader)
        except (yaml.YAMLError, ValueError, RecursionError):
            yield f"{name} (no YAML, taken as a text)", text


def run(cases: int, seed: int, huge: bool = False) -> Outcome:
    """So many cases; with ``huge`` also the ten megabytes."""
    rng = random.Random(seed)
    outcome = Outcome()
    parts = ("workloads", "workloads", "workloads", "offers", "labels", "what_if", "planning")
    for number in range(cases):
        data = site(rng)
        plan = number % PLANNED_EVERY == 0
        if plan and rng.random() < 0.7:
            spoil_facts(rng, data)
        if plan and rng.random() < 0.2:
            data["earlier"] = rng.choice(GARBAGE)(rng)
        if not plan or rng.random() < 0.3:
            for _time in range(rng.randint(1, 3)):
                garble(rng, data, rng.choice(parts))
        one(outcome, data, plan, f"case {number} of seed {seed}")
    if huge:
        for name, value in megabytes(rng):
            data = {**site(rng), "workloads": value}
            one(outcome, data, True, name)
    return outcome


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started, busy = time.monotonic(), time.process_time()
    outcome = run(options.cases, options.seed, huge=True)
    report = dict(vars(outcome))
    report["crashes"] = outcome.crashes[:20]
    report["crashed"] = len(outcome.crashes)
    report["seconds"] = round(time.monotonic() - started, 1)
    report["cpu_seconds"] = round(time.process_time() - busy, 1)
    report["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    json.dump(report, sys.stdout, indent=1)
    sys.stdout.write("\n")
    return 1 if outcome.crashes else 0


if __name__ == "__main__":
    raise SystemExit(main())

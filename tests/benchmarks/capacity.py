# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How good and how quick the planner is: every figure that is claimed of it, one line each.

    python tests/benchmarks/capacity.py [--quick] [--output build/benchmarks/capacity.json]

Asks openb.py and planner_scale.py, each question in a process of its own, one after the other, and
measures this machine as capacity_facts does.
``--quick`` leaves out what takes a minute. The published policies are repeated by policies.py.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import timeit
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "benchmarks"
TRACES = ROOT / "tests" / "fixtures" / "openb"
sys.path.insert(0, str(ROOT / ".collections"))

from ansible_collections.mlops.onprem.plugins.module_utils._supply import (  # noqa: E402
    TOOL_VERSION,
    gather,
)

NODES = TRACES / "openb_node_list_gpu_node.csv"

# What is asked, of which trace, with how many seconds; and which figures of the answer are told.
QUESTIONS = (
    ("allocation at 130 %, 5 s", "default", "allocation", 5, ("allocation", "bound")),
    ("allocation at 130 %, 60 s", "default", "allocation", 60, ("allocation", "bound")),
    ("place all, 2 s", "default", "place", 2, ("verdict", "at_least", "unplaced", "sums_fit")),
    ("place all, 60 s", "default", "place", 60, ("verdict", "at_least", "unplaced", "sums_fit")),
    ("place all, 10 s", "gpushare100", "place", 10, ("verdict", "unplaced")),
    ("buy, 60 s", "default", "buy", 60, ("hosts", "bound")),
    ("lose any one host", "gpushare100", "n1", 10, ("hosts_that_strand", "losses_seconds")),
)


def ask(program: str, *arguments: str) -> str:
    command = [sys.executable, str(HERE / program), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def openb(trace: str, experiment: str, seconds: int) -> dict[str, Any]:
    pods = TRACES / f"openb_pod_list_{trace}.csv"
    words = ("--experiment", experiment, "--policy", "planner", "--seconds", str(seconds))
    answer: dict[str, Any] = json.loads(ask("openb.py", str(NODES), str(pods), *words))
    return answer


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="only what takes seconds")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "build/benchmarks/capacity.json", metavar="FILE"
    )
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    print(f"{'question':<28}{'trace':<13}{'wall s':>8}{'cpu s':>8}{'MiB':>7}  answer")
    answers = []
    for name, trace, experiment, seconds, told in QUESTIONS:
        if options.quick and seconds > 10:
            continue
        answer = openb(trace, experiment, seconds)
        answers.append(answer)
        said = ", ".join(f"{key} {answer[key]}" for key in told if key in answer)
        print(
            f"{name:<28}{trace:<13}{answer['seconds']:>8.1f}{answer['cpu_seconds']:>8.1f}"
            f"{answer['peak_mib']:>7.0f}  {said}",
            flush=True,
        )
    scale = options.output.with_name("scale.json")
    only = ("--only", "large", "large-short", "medium") if options.quick else ()
    print("\n" + ask("planner_scale.py", *only, "--output", str(scale)))
    facts = min(timeit.repeat(lambda: gather.gather("here", TOOL_VERSION), number=1, repeat=5))
    print(f"capacity_facts measures this machine in {facts:.3f} s")
    report = {
        "openb": answers,
        "scale": json.loads(scale.read_text()),
        "facts_seconds": round(facts, 4),
    }
    options.output.write_text(json.dumps(report, indent=1))
    print(f"All of it: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

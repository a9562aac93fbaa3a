# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write what the scheduler does as metrics of Prometheus: nodes, queue, teams, accounting.

``metrics DIRECTORY`` writes ``job_scheduler.prom`` there, whole or not at all.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

SECONDS = 25
STATES = ("idle", "mixed", "allocated", "drained", "draining", "down", "other")
Sample = tuple[str, Mapping[str, str], float]


def run(argv: list[str]) -> str | None:
    """What a command says; None if it fails, is not there or takes too long."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def state_of(said: str) -> str:
    """One word for a state such as ``MIXED+DRAIN`` or ``IDLE*``."""
    words = set(re.findall(r"[A-Z_]+", said.upper()))
    if "DOWN" in words or "FAIL" in words:
        return "down"
    if "DRAIN" in words:
        return "draining" if words & {"ALLOCATED", "MIXED", "COMPLETING"} else "drained"
    for word in ("idle", "mixed", "allocated"):
        if word.upper() in words:
            return word
    return "other"


def gpus_in(text: str) -> int:
    """GPUs of ``cpu=2,mem=1G,gres/gpu=3,gres/gpu:h100=3``: those of no type are the sum."""
    found = re.search(r"gres/gpu=(\d+)", text)
    return int(found.group(1)) if found else 0


def nodes(text: str) -> Iterator[Sample]:
    """Of ``scontrol show node -o``."""
    for line in text.splitlines():
        pairs = dict(re.findall(r"(\w+)=(\S*)", line))
        if "NodeName" not in pairs:
            continue
        node = {"node": pairs["NodeName"]}
        state = state_of(pairs.get("State", ""))
        for one in STATES:
            yield "mlops_scheduler_node_state", {**node, "state": one}, float(one == state)
        yield "mlops_scheduler_node_gpus", node, gpus_in(pairs.get("CfgTRES", ""))
        yield "mlops_scheduler_node_gpus_allocated", node, gpus_in(pairs.get("AllocTRES", ""))
        yield "mlops_scheduler_node_cpus", node, float(pairs.get("CPUTot") or 0)
        yield "mlops_scheduler_node_cpus_allocated", node, float(pairs.get("CPUAlloc") or 0)


def queue(text: str, now: float) -> Iterator[Sample]:
    """Of ``squeue`` with the columns of ``QUEUE``; times are seconds since 1970."""
    counts: Counter[tuple[str, str]] = Counter()
    gpus: Counter[str] = Counter()
    oldest: dict[str, float] = {}
    for line in text.splitlines():
        parts = line.split("|")
        if len(parts) != 5:
            continue
        team, state, reason, submitted, tres = parts
        counts[team, state.lower()] += 1
        if state == "RUNNING":
            gpus[team] += gpus_in(tres)
        # A job that waits for its team's own limit, or that somebody holds, is not stuck.
        if state == "PENDING" and not re.match(r"(Assoc|QOS|JobHeld|Dependency|BeginTime)", reason):
            age = now - float(submitted) if submitted.isdecimal() else 0.0
            oldest[team] = max(oldest.get(team, 0.0), age)
    for (team, state), number in sorted(counts.items()):
        yield "mlops_scheduler_jobs", {"team": team, "state": state}, number
    for team, number in sorted(gpus.items()):
        yield "mlops_scheduler_team_gpus_allocated", {"team": team}, number
    yield "mlops_scheduler_waiting_seconds", {}, max(oldest.values(), default=0.0)


def activity(text: str) -> Iterator[Sample]:
    """Of ``sacct -anPX -o account,user,state,elapsedraw,alloctres`` over the last day."""
    ended: Counter[tuple[str, str, str]] = Counter()
    used: Counter[tuple[str, str]] = Counter()
    for line in text.splitlines():
        parts = line.split("|")
        if len(parts) != 5:
            continue
        team, user, state, elapsed, tres = parts
        words = state.split()
        ended[team, user, words[0].lower() if words else "unknown"] += 1
        if elapsed.isdecimal():
            used[team, user] += int(elapsed) * gpus_in(tres)
    for (team, user, state), number in sorted(ended.items()):
        labels = {"team": team, "user": user, "state": state}
        yield "mlops_scheduler_user_jobs_day", labels, number
    for (team, user), number in sorted(used.items()):
        yield "mlops_scheduler_user_gpu_seconds_day", {"team": team, "user": user}, number


def backlog(text: str) -> Iterator[Sample]:
    """Of ``sdiag``: what the controller could not yet hand to the accounting."""
    found = re.search(r"DBD Agent queue size:\s*(\d+)", text)
    if found:
        yield "mlops_scheduler_accounting_backlog", {}, float(found.group(1))


def up(answers: Mapping[str, object]) -> Iterator[Sample]:
    """Whether controller and accounting answered."""
    for part, said in answers.items():
        yield "mlops_scheduler_up", {"part": part}, float(said is not None)


HELP = {
    "mlops_scheduler_up": "Whether a part of the scheduler answered.",
    "mlops_scheduler_node_state": "1 for the state that a node is in.",
    "mlops_scheduler_node_gpus": "GPUs that jobs may get of a node.",
    "mlops_scheduler_node_gpus_allocated": "GPUs of a node that jobs hold.",
    "mlops_scheduler_node_cpus": "Processors of a node.",
    "mlops_scheduler_node_cpus_allocated": "Processors of a node that jobs hold.",
    "mlops_scheduler_jobs": "Jobs of a team in the queue, by their state.",
    "mlops_scheduler_team_gpus_allocated": "GPUs that the running jobs of a team hold.",
    "mlops_scheduler_waiting_seconds": "How long the oldest job waits that no limit holds.",
    "mlops_scheduler_user_jobs_day": "Jobs of a user within the last day, by their state.",
    "mlops_scheduler_user_gpu_seconds_day": "GPU seconds of jobs of a user within the last day.",
    "mlops_scheduler_accounting_backlog": "Records that the accounting has not yet taken.",
    "mlops_scheduler_measured_timestamp_seconds": "When this was measured.",
}


def render(samples: Iterable[Sample]) -> str:
    """The text format, each metric with its help once."""
    by_name: dict[str, list[str]] = {}
    for name, labels, value in samples:
        said = ",".join(f'{key}="{escape(text)}"' for key, text in labels.items())
        where = f"{{{said}}}" if said else ""
        by_name.setdefault(name, []).append(f"{name}{where} {value:.15g}")
    lines = []
    for name, rows in by_name.items():
        lines += [f"# HELP {name} {HELP[name]}", f"# TYPE {name} gauge", *rows]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def measure(now: float) -> str:
    os.environ["SLURM_TIME_FORMAT"] = "%s"
    shown = run(["scontrol", "show", "node", "-o"])
    waiting = run(["squeue", "-h", "-a", "-O", QUEUE])
    done = run(["sacct", *ACTIVITY])
    told = run(["sdiag"])
    samples = [*up({"controller": shown, "accounting": done})]
    samples += nodes(shown or "")
    if waiting is not None:
        samples += queue(bars(waiting), now)
    samples += activity(done or "")
    samples += backlog(told or "")
    samples.append(("mlops_scheduler_measured_timestamp_seconds", {}, float(f"{now:.0f}")))
    return render(samples)


# Wide columns with a bar behind each, since -O knows no other separator.
QUEUE = "Account:64|,State:24|,Reason:64|,SubmitTime:32|,tres:200"
ACTIVITY = ("-anPX", "-S", "now-1days", "-o", "account,user,state,elapsedraw,alloctres")


def bars(text: str) -> str:
    """Columns without the blanks that fill them."""
    rows = (line.split("|") for line in text.splitlines())
    return "\n".join("|".join(part.strip() for part in row) for row in rows)


def main(folder: str) -> None:
    fresh = Path(folder, ".job_scheduler.prom")
    fresh.write_text(measure(time.time()), encoding="utf-8")
    fresh.chmod(0o644)
    fresh.replace(Path(folder, "job_scheduler.prom"))


if __name__ == "__main__":
    main(sys.argv[1])

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``mlops-job`` on hosts of the scheduler: the jobs of the site's workloads.

Travels to hosts with ``batch``, ``cluster`` and ``idle``; plans nothing: what may be submitted
stands in a file that site.yml writes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from .batch import CANCEL, LOGS, MARK, SESSION, Job, JobError, Seen, Step, decide, job_of
from .cluster import Cluster
from .collect import collect
from .idle import STEP_FORMAT, Look, look, looks, over, used
from .store import Bucket, put

JOBS = "/etc/mlops/workloads/jobs.json"
STORE = "/etc/mlops/workloads/job_store.json"
UPLOADED = "/var/lib/mlops/workload_jobs_state/uploaded.json"
LOOKS = "/var/lib/mlops/workload_jobs_state/idle.json"
MOST_LINES = 100_000


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="mlops-job", description="Jobs of the workloads of this site."
    )
    made.add_argument("--jobs", type=Path, default=Path(JOBS), help=argparse.SUPPRESS)
    commands = made.add_subparsers(dest="command", required=True)
    command = commands.add_parser("list", help="how each job of the site stands")
    command.add_argument("--json", action="store_true", help="for programs")
    command = commands.add_parser("submit", help="start a workload where the plan put it")
    command.add_argument("workload")
    command.add_argument(
        "--again", action="store_true", help="also where it has ended; a session always begins anew"
    )
    command = commands.add_parser("cancel", help="end the jobs of a workload")
    command.add_argument("workload")
    command = commands.add_parser("logs", help="what the newest job of a workload has said")
    command.add_argument("workload")
    command.add_argument("--lines", type=int, default=200)
    command = commands.add_parser("idle", help="give back allocations that nobody works in")
    command.add_argument("--looks", type=Path, default=Path(LOOKS))
    command = commands.add_parser("collect", help="bring logs and results to the object store")
    command.add_argument("--store", type=Path, default=Path(STORE))
    command.add_argument("--uploaded", type=Path, default=Path(UPLOADED))
    command.add_argument("--folder", type=Path, default=Path(LOGS))
    return made


def collected(store: Path, uploaded: Path, folder: Path, now: float) -> str:
    """Bring what jobs on this node said and left behind to the object store."""
    try:
        bucket = Bucket(**json.loads(store.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise JobError(f"{store} cannot be read: {error}; run site.yml to write it anew") from None
    try:
        known = json.loads(uploaded.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    done, wrong = collect(
        str(folder), known, lambda key, content, size: put(bucket, key, content, size), now
    )
    if done != known:
        _keep(uploaded, done)
    if wrong:
        raise JobError(f"{len(wrong)} files did not reach the object store: {wrong[0]}")
    return "".join(f"{key}\n" for key in sorted(set(done) - set(known)))


def read(path: Path) -> tuple[str, tuple[Job, ...]]:
    """The site and the jobs that it wants."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return str(data["site"]), tuple(job_of(row) for row in data["jobs"])
    except FileNotFoundError:
        raise JobError(
            f"{path} is not there; run site.yml, which writes it with the workloads that have run"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JobError(f"{path} cannot be read: {error}; run site.yml to write it anew") from None


def _named(jobs: Sequence[Job], name: str) -> list[Job]:
    found = [job for job in jobs if job.workload == name]
    if not found:
        known = ", ".join(sorted({job.workload for job in jobs})) or "none"
        raise JobError(f"no workload {name} is started by the scheduler; there are {known}")
    return found


def _of(seen: Sequence[Seen], site: str, workload: str) -> list[Seen]:
    return [one for one in seen if one.place == f"{MARK}:{site}:{workload}"]


def listed(jobs: Sequence[Job], seen: Sequence[Seen], site: str) -> list[dict[str, Any]]:
    """A row for each wanted job, and for each other one of the site that waits or runs."""
    _steps, stands = decide(jobs, seen, site)
    rows = []
    for stand in stands:
        one = stand.seen
        said = stand.said if one is not None else "not submitted; run mlops-job submit"
        state = one.state if one is not None else "-"
        rows.append(
            {
                "workload": stand.job.workload,
                "replica": stand.job.replica,
                "job": one.id if one is not None else None,
                "state": state,
                "node": (one.node if one is not None else "") or stand.job.node,
                "account": stand.job.account,
                "team": stand.job.team,
                "said": said,
            }
        )
    told = {stand.seen.id for stand in stands if stand.seen is not None}
    for one in seen:
        if one.key.startswith(f"{MARK}:{site}:") and one.id not in told and not one.ended:
            rows.append(
                {
                    "workload": one.key.split(":")[2],
                    "replica": None,
                    "job": one.id,
                    "state": one.state,
                    "node": one.node or one.wanted,
                    "account": one.user,
                    "team": one.team,
                    "said": "of a definition that is no longer wanted",
                }
            )
    return rows


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows for people."""
    heads = ("workload", "job", "state", "node", "account", "said")
    table = [heads, *(tuple(str(row[head] or "-") for head in heads) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(heads))]
    return "".join(
        "  ".join(word.ljust(width) for word, width in zip(line, widths)).rstrip() + "\n"
        for line in table
    )


def submit(cluster: Cluster, jobs: Sequence[Job], site: str, name: str, again: bool) -> str:
    """Start one workload as site.yml would."""
    named = _named(jobs, name)
    anew = again or named[0].kind == SESSION
    steps, stands = decide(named, cluster.seen(), site, again=[name] if anew else (), retire=False)
    made = cluster.apply(steps)
    lines = [f"{step.act} {step.text}" for step in steps]
    lines += [f"{job.workload}: job {made[job.key]}" for job in named if job.key in made]
    lines += [f"{stand.job.workload}: {stand.said}" for stand in stands if stand.seen is not None]
    return "".join(f"{line}\n" for line in lines)


def cancel(cluster: Cluster, jobs: Sequence[Job], site: str, name: str) -> str:
    """End what waits or runs of one workload."""
    seen = [one for one in _of(cluster.seen(), site, name) if not one.ended]
    if not seen:
        _named(jobs, name)
        return f"{name}: nothing waits or runs\n"
    cluster.apply([Step(CANCEL, "asked for", seen=one, withdraw=False) for one in seen])
    return "".join(f"{name}: job {one.id} is cancelled\n" for one in seen)


def logs(cluster: Cluster, jobs: Sequence[Job], site: str, name: str, lines: int) -> str:
    """The end of what the newest job of a workload has said.

    Where it runs it is read through Slurm, by the account that runs it; what has ended is in the
    file on its node, and in the object store where the site has one.
    """
    found = _of(cluster.seen(), site, name)
    if not found:
        _named(jobs, name)
        raise JobError(f"{name} has no job yet; start it with mlops-job submit {name}")
    one = found[0]
    file = f"{LOGS}/{name}.{one.id}.log"
    if os.path.exists(file):
        with open(file, encoding="utf-8", errors="replace") as stream:
            return "".join(stream.readlines()[-lines:])
    if one.runs:
        number = str(max(1, min(lines, MOST_LINES)))
        words = ["srun", f"--jobid={one.id}", "--overlap", "--ntasks=1", "tail", "-n", number, file]
        if cluster.uid() == 0:
            words = ["runuser", "-u", one.user, "--", *words]
        return cluster.ask(words, f"read the log of job {one.id} on {one.node}")
    if one.waits:
        why = f": {one.reason}" if one.reason else ""
        return f"job {one.id} waits{why}; it has said nothing yet\n"
    raise JobError(
        f"job {one.id} ended as {one.state} on {one.node}; its log is {file} there, and"
        f" jobs/{name}/{one.id}-{one.user}/log in the bucket mlops-jobs of the object store"
    )


def idle(cluster: Cluster, jobs: Sequence[Job], path: Path, now: float) -> str:
    """Give back allocations that have been idle for longer than they may."""
    limits = {job.key: job.idle for job in jobs if job.kind == SESSION and job.idle}
    queue = [one for one in cluster.seen() if one.runs and one.key in limits]
    told: dict[int, float] = {}
    if queue:
        numbers = ",".join(str(one.id) for one in queue)
        words = ["sstat", "-nPa", "-j", numbers, "-o", STEP_FORMAT]
        told = used(cluster.ask(words, "read what allocations use"))
    seen = look(_looks(path), [one.id for one in queue], told, now)
    by_id = {one.id: one for one in queue}
    gone = over(seen, {one.id: limits[one.key] for one in queue}, now)
    lines = []
    for number, seconds in gone:
        cluster.cancel(by_id[number], withdraw=False)
        seen.pop(number)
        lines.append(
            f"{by_id[number].key.split(':')[2]}: job {number} of {by_id[number].user} was idle for"
            f" {seconds // 60} min and is given back\n"
        )
    _keep(path, {str(number): one.as_dict() for number, one in seen.items()})
    return "".join(lines)


def _looks(path: Path) -> dict[int, Look]:
    try:
        return looks(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError):
        return {}


def _keep(path: Path, data: dict[str, Any]) -> None:
    text = json.dumps(data)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.replace(name, path)


def main(
    argv: Sequence[str] | None = None,
    cluster: Cluster | None = None,
    out: TextIO = sys.stdout,
    clock: Callable[[], float] = time.time,
) -> int:
    """Do what the words say; 1 where it cannot be done."""
    given = parser().parse_args(argv)
    slurm = cluster or Cluster()
    try:
        if given.command == "collect":
            out.write(collected(given.store, given.uploaded, given.folder, clock()))
            return 0
        site, jobs = read(given.jobs)
        if given.command == "list":
            rows = listed(jobs, slurm.seen(), site)
            told = json.dumps(rows, indent=1) + "\n" if given.json else as_table(rows)
        elif given.command == "submit":
            told = submit(slurm, jobs, site, given.workload, given.again)
        elif given.command == "cancel":
            told = cancel(slurm, jobs, site, given.workload)
        elif given.command == "logs":
            told = logs(slurm, jobs, site, given.workload, given.lines)
        else:
            told = idle(slurm, jobs, given.looks, clock())
    except JobError as error:
        sys.stderr.write(f"mlops-job: {error}\n")
        return 1
    out.write(told)
    return 0

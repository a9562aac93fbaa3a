# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A job of the plan as Slurm is handed it, and what Slurm says of its jobs.

Travels to hosts: the command ``mlops-job`` is this code. Only Python itself is needed.
"""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

MARK = "mlops"
WITHDRAWN = "mlops-withdrawn"
LOGS = "/var/lib/mlops/workload_jobs"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BATCH, SESSION = "batch", "session"
DEFAULT_MIB = 128
"""What a job reserves that plans no memory. Slurm takes 0 for all of the node."""

WAITING = frozenset(("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"))
RUNS = frozenset(
    ("RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "RESIZING", "SIGNALING", "STAGE_OUT")
)
DONE = frozenset(("COMPLETED",))
# How a job ends whose node went away, and that Slurm could not put back into the queue: the node
# has left the cluster with it.
GONE = frozenset(("NODE_FAIL", "BOOT_FAIL"))
QUEUE_FORMAT = "%A|%T|%u|%a|%n|%N|%M|%r|%k"
ACCOUNTED_FORMAT = "JobIDRaw,State,User,Account,ReqNodes,NodeList,Elapsed,ExitCode,Comment"


class JobError(Exception):
    """Something about a job that stops us. Reads as a sentence."""


@dataclass(frozen=True)
class Job:
    """One replica of a workload, as a job of a team.

    ``node`` is where the plan put it, ``gres`` what it gets of GPUs there, in Slurm's words.
    Spans are in seconds; 0 is the partition's own. ``kind`` is ``batch`` for a command and
    ``session`` for an allocation that a person works in, given back after ``idle`` seconds.
    """

    workload: str
    site: str
    team: str
    account: str
    node: str
    command: tuple[str, ...] = ()
    replica: int = 0
    kind: str = BATCH
    cpus: int = 1
    memory_mib: int = DEFAULT_MIB
    gres: str = ""
    directory: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    time_limit: int = 0
    idle: int = 0
    requeue: bool = True
    mail: str = ""

    @property
    def digest(self) -> str:
        """What is asked for, in short. Where it runs is the plan's and no part of it."""
        asked = {item.name: getattr(self, item.name) for item in fields(self)}
        for name in ("node", "replica", "site", "workload"):
            del asked[name]
        told = json.dumps(asked, sort_keys=True).encode()
        return hashlib.sha256(told).hexdigest()[:12]

    @property
    def place(self) -> str:
        """The beginning of its key, whatever it asks for."""
        return f"{MARK}:{self.site}:{self.workload}"

    @property
    def key(self) -> str:
        """By which the same job is known again, in the comment of Slurm's job."""
        number = f".{self.replica}" if self.replica else ""
        return f"{self.place}:{self.digest}{number}"

    @property
    def name(self) -> str:
        return self.workload

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as the command reads it again."""
        found = {item.name: getattr(self, item.name) for item in fields(self)}
        return {**found, "command": list(self.command), "environment": dict(self.environment)}


def job_of(data: Mapping[str, Any]) -> Job:
    """A job from plain data."""
    known = {item.name for item in fields(Job)}
    given = {key: value for key, value in data.items() if key in known and value is not None}
    given["command"] = tuple(given.get("command") or ())
    given["environment"] = tuple(sorted((given.get("environment") or {}).items()))
    return Job(**given)


def number_of(key: str) -> int:
    """The replica that a key is of."""
    _digest, _dot, number = key.rpartition(":")[2].partition(".")
    return int(number) if number.isdigit() else 0


def options(job: Job) -> list[str]:
    """The words for ``sbatch``. Nothing of them is secret."""
    found = [
        "--parsable",
        f"--job-name={job.name}",
        f"--comment={job.key}",
        f"--account={job.team}",
        f"--qos={job.team}",
        "--nodes=1",
        "--ntasks=1",
        f"--nodelist={job.node}",
        f"--cpus-per-task={job.cpus}",
        f"--mem={job.memory_mib}M",
        f"--output={LOGS}/%x.%j.log",
        "--open-mode=append",
        "--requeue" if job.requeue else "--no-requeue",
    ]
    if job.gres:
        found.append(f"--gres={job.gres}")
    if job.time_limit:
        found.append(f"--time={math.ceil(job.time_limit / 60)}")
    if job.directory:
        found.append(f"--chdir={job.directory}")
    if job.mail:
        found += [f"--mail-user={job.mail}", "--mail-type=END,FAIL,REQUEUE"]
    return found


def script(job: Job) -> str:
    """The script of a job: its environment, where results go, and the command.

    The model registry is told which job a run belongs to: MLflow reads the name of the run and its
    tags from the environment where the code does not name them.
    """
    lines = [
        "#!/bin/sh",
        f"# Written by mlops.onprem for the workload {job.workload}.",
        *(f"export {name}={shlex.quote(value)}" for name, value in job.environment),
        f"export MLOPS_WORKLOAD={shlex.quote(job.workload)}",
        f'export MLOPS_RESULT="{LOGS}/$SLURM_JOB_NAME.$SLURM_JOB_ID.result"',
    ]
    if job.kind == SESSION:
        lines += [
            'echo "A session on $SLURM_JOB_NODELIST: enter it with'
            ' srun --jobid=$SLURM_JOB_ID --overlap --pty bash -l"',
            "exec sleep infinity",
        ]
        return "\n".join(lines) + "\n"
    if "MLFLOW_TRACKING_URI" in dict(job.environment):
        context = {
            "mlflow.runName": f"{job.workload}-$SLURM_JOB_ID",
            "slurm_job_id": "$SLURM_JOB_ID",
            "mlops_workload": job.workload,
        }
        told = json.dumps(context).replace('"', '\\"')
        lines.append(f'export MLFLOW_RUN_CONTEXT="{told}"')
    lines += ['umask 027; mkdir -p "$MLOPS_RESULT"', f"exec {shlex.join(job.command)}"]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Seen:
    """A job as Slurm tells of it. ``wanted`` is the node that was asked for."""

    id: int
    state: str
    user: str
    team: str
    wanted: str
    node: str
    elapsed: str
    reason: str
    key: str

    @property
    def place(self) -> str:
        return self.key.rpartition(":")[0]

    @property
    def waits(self) -> bool:
        return self.state in WAITING

    @property
    def runs(self) -> bool:
        return self.state in RUNS

    @property
    def ended(self) -> bool:
        return not self.waits and not self.runs

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


def _rows(text: str, columns: int, program: str) -> Iterable[list[str]]:
    for line in text.splitlines():
        if not line.strip():
            continue
        # A comment may have bars of its own; it stands last.
        values = line.split("|", columns - 1)
        if len(values) != columns:
            raise JobError(
                f"{program} answered with {len(values)} fields, not {columns}: {line[:200]}"
            )
        yield [value.strip() for value in values]


def _word(value: str) -> str:
    return "" if value in ("(null)", "None", "None assigned", "Unknown") else value


def queued(text: str) -> tuple[Seen, ...]:
    """The lines of ``squeue -h -a -t all -o QUEUE_FORMAT`` that are of a site."""
    found = []
    for row in _rows(text, QUEUE_FORMAT.count("|") + 1, "squeue"):
        if row[8].startswith(f"{MARK}:") and row[0].isdigit():
            wanted, node, elapsed, reason = map(_word, row[4:8])
            told = (row[1], row[2], row[3], wanted, node, elapsed, reason, row[8])
            found.append(Seen(int(row[0]), *told))
    return tuple(found)


def accounted(text: str) -> tuple[Seen, ...]:
    """The lines of ``sacct -nPX -o ACCOUNTED_FORMAT`` that are of a site.

    ``CANCELLED by 0`` is one state in several words; of a job that was requeued the last line
    counts.
    """
    found: dict[int, Seen] = {}
    for row in _rows(text, ACCOUNTED_FORMAT.count(",") + 1, "sacct"):
        if not row[8].startswith(f"{MARK}:") or not row[0].isdigit():
            continue
        state = row[1].split(" ", 1)[0].rstrip("+")
        reason = "" if row[7] == "0:0" else f"exit code {row[7]}"
        wanted, node, elapsed = map(_word, row[4:7])
        told = (state, row[2], row[3], wanted, node, elapsed, reason, row[8])
        found[int(row[0])] = Seen(int(row[0]), *told)
    return tuple(found.values())


def known(queue: Iterable[Seen], accounting: Iterable[Seen]) -> tuple[Seen, ...]:
    """All jobs, as the queue tells them where it still has them; the newest first."""
    by_id = {one.id: one for one in accounting}
    by_id.update({one.id: one for one in queue})
    return tuple(by_id[number] for number in sorted(by_id, reverse=True))


@dataclass(frozen=True)
class Step:
    """What is to be done, in its order: submit a job, or cancel one. ``text`` says why.

    What a person asked to be cancelled keeps its key (``withdraw`` is false): it has ended, and is
    not begun again by itself.
    """

    act: str
    text: str
    job: Job | None = None
    seen: Seen | None = None
    withdraw: bool = True


@dataclass(frozen=True)
class Stand:
    """How a wanted job stands, and what a person should know of it."""

    job: Job
    seen: Seen | None
    said: str
    good: bool = True


SUBMIT, CANCEL = "submit", "cancel"


def decide(
    jobs: Sequence[Job],
    seen: Sequence[Seen],
    site: str,
    *,
    again: Iterable[str] = (),
    replace: bool = False,
    retire: bool = True,
) -> tuple[tuple[Step, ...], tuple[Stand, ...]]:
    """The steps from what Slurm has to what is wanted, and how each wanted job stands after them.

    The same job (by its key) is never submitted twice: whether it waits, runs, has ended well or
    ill, it is taken as it is; one that waits for another node than the plan's is submitted anew,
    and so is one that ended because its host was lost.
    ``again`` names workloads whose jobs start anew where they ended. Of a job whose definition
    changed the one before is cancelled if it has not started, or with ``replace``. ``retire``
    cancels what is no longer wanted.
    """
    ours = [one for one in seen if one.key.startswith(f"{MARK}:{site}:")]
    repeated = set(again)
    steps: list[Step] = []
    stands: list[Stand] = []
    kept: set[int] = set()
    for job in jobs:
        same = next((one for one in ours if one.key == job.key), None)
        before = [
            one
            for one in ours
            if one.place == job.place
            and number_of(one.key) == job.replica
            and one.key != job.key
            and not one.ended
        ]
        found, stand = _one(job, same, before, job.workload in repeated, replace)
        kept.update(one.id for one in before if one.runs and not replace)
        kept.update({same.id} if same is not None else ())
        steps += found
        stands.append(stand)
    if retire:
        gone = {step.seen.id for step in steps if step.seen is not None}
        steps += [
            Step(CANCEL, f"{_who(one)}: no longer wanted", seen=one)
            for one in ours
            if not one.ended and one.id not in kept | gone
        ]
    return tuple(steps), tuple(stands)


def withdrawn(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Of all steps those that end what holds a node. What waits holds none, and keeps its place."""
    return tuple(
        step
        for step in steps
        if step.act == CANCEL and step.seen is not None and not step.seen.waits
    )


def _who(one: Seen) -> str:
    return f"{one.key.split(':')[2]} (job {one.id})"


def _one(
    job: Job, same: Seen | None, before: Sequence[Seen], again: bool, replace: bool
) -> tuple[list[Step], Stand]:
    running = [one for one in before if one.runs and not replace]
    steps = [
        Step(CANCEL, f"{_who(one)}: its definition changed", seen=one)
        for one in before
        if one not in running
    ]
    if same is not None and not same.ended:
        if same.waits and same.wanted not in ("", job.node):
            steps.append(Step(CANCEL, f"{_who(same)}: the plan moved it to {job.node}", seen=same))
            steps.append(Step(SUBMIT, f"{job.name}: to {job.node}", job=job))
            return steps, Stand(job, None, f"submitted anew, to {job.node}")
        return steps, Stand(job, same, _standing(same))
    if same is not None and not again and not _cut_off(job, same):
        good = same.state in DONE or job.kind == SESSION
        return steps, Stand(job, same, _ended(job, same), good)
    if running:
        said = (
            f"job {running[0].id} runs with the definition before; it is submitted anew when that"
            " one has ended, or now with workloads_jobs_replace: true"
        )
        return steps, Stand(job, running[0], said)
    text = f"{job.name}: to {job.node}" + (", again" if same is not None else "")
    steps.append(Step(SUBMIT, text, job=job))
    return steps, Stand(job, None, f"submitted to {job.node}")


def _cut_off(job: Job, one: Seen) -> bool:
    """Whether a job that may begin anew was ended by the loss of its host."""
    return job.kind == BATCH and job.requeue and one.state in GONE


def _standing(one: Seen) -> str:
    if one.waits:
        return f"job {one.id} waits" + (f": {one.reason}" if one.reason else "")
    return f"job {one.id} runs on {one.node or one.wanted} for {one.elapsed}"


def _ended(job: Job, one: Seen) -> str:
    if job.kind == SESSION:
        return (
            f"the session has ended (job {one.id}, {one.state}); begin another with mlops-job"
            f" submit {job.workload}"
        )
    if one.state in DONE:
        return f"job {one.id} is done"
    why = f" ({one.reason})" if one.reason else ""
    return (
        f"job {one.id} ended as {one.state}{why}; read mlops-job logs {job.workload}, then start it"
        f" anew with mlops-job submit --again {job.workload}"
    )

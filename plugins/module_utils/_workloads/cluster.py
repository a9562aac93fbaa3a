# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks Slurm and hands it jobs, by its own commands. Travels to hosts with ``batch``."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .batch import (
    ACCOUNTED_FORMAT,
    CANCEL,
    MARK,
    PATH,
    QUEUE_FORMAT,
    WITHDRAWN,
    Job,
    JobError,
    Seen,
    Step,
    accounted,
    known,
    options,
    queued,
    script,
)

TIMEOUT, SINCE = 60.0, "now-400days"


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it said."""

    rc: int
    out: str
    err: str

    @property
    def short(self) -> str:
        told = " ".join((self.err or self.out).split())
        return told[-400:] or f"it ended with {self.rc}"


Runner = Callable[[Sequence[str], Mapping[str, str], str], Said]


def run(argv: Sequence[str], env: Mapping[str, str], text: str) -> Said:
    """Run a command without a shell, in an environment that is given whole."""
    try:
        done = subprocess.run(
            list(argv),
            env={"LC_ALL": "C.UTF-8", "PATH": PATH, **env},
            input=text,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
            cwd="/",
            umask=0o027,  # Slurm gives it to the job, and so to its log
        )
    except FileNotFoundError:
        return Said(127, "", f"{argv[0]} is not installed")
    except subprocess.TimeoutExpired:
        return Said(124, "", f"{argv[0]} did not end within {TIMEOUT:g} seconds")
    return Said(done.returncode, done.stdout, done.stderr)


def account(name: str) -> tuple[str, int] | None:
    """Home and uid of a Unix account; None where the host does not know it."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return None
    return found.pw_dir, found.pw_uid


@dataclass
class Cluster:
    """The cluster that the host belongs to."""

    run: Runner = run
    account: Callable[[str], tuple[str, int] | None] = account
    uid: Callable[[], int] = field(default=os.geteuid)

    def ask(self, argv: Sequence[str], doing: str) -> str:
        """The answer of a command of Slurm."""
        said = self.run(argv, {}, "")
        if said.rc != 0:
            raise JobError(
                f"could not {doing}: {said.short}; see whether the scheduler runs, with scontrol"
                " ping and journalctl -u slurmctld -n 50"
            )
        return said.out

    @staticmethod
    def installed() -> bool:
        """Whether the commands of Slurm are here; where they are not, no job ever was."""
        return shutil.which("squeue", path=PATH) is not None

    def seen(self) -> tuple[Seen, ...]:
        """All jobs of sites. Without the accounting only those that the controller remembers.

        Raises:
            JobError: The controller does not answer, or the accounting: a job that has ended would
                be taken for one that never was.
        """
        queue = queued(
            self.ask(["squeue", "-h", "-a", "-t", "all", "-o", QUEUE_FORMAT], "read the queue")
        )
        words = ["sacct", "-nPXa", "-S", SINCE, "-o", ACCOUNTED_FORMAT]
        return known(queue, accounted(self.ask(words, "read the accounting of jobs")))

    def submit(self, job: Job) -> int:
        """Hand a job over, as the account that it is for. Gives its number."""
        there = self.account(job.account)
        if there is None:
            raise JobError(
                f"{job.workload} is for the account {job.account}, which this host does not know"
                " (getent passwd); let it know the company's accounts, or mend run.account in"
                " mlops_workloads"
            )
        home, uid = there
        words = ["sbatch", *options(job)]
        if not job.directory:
            words.append(f"--chdir={home}")
        if self.uid() == 0:
            words = ["runuser", "-u", job.account, "--", *words]
        elif self.uid() != uid:
            raise JobError(
                f"{job.workload} is a job of {job.account}; submit it as that account, or as root"
            )
        env = {"HOME": home, "USER": job.account, "LOGNAME": job.account, "SHELL": "/bin/sh"}
        said = self.run(words, env, script(job))
        number = said.out.strip().partition(";")[0]
        if said.rc != 0 or not number.isdigit():
            raise JobError(
                f"Slurm does not take the job {job.workload} of {job.account} on {job.node}:"
                f" {said.short}; {_help(said.short)}"
            )
        return int(number)

    def cancel(self, one: Seen, withdraw: bool = True) -> None:
        """End a job. Its key goes first, so that the same job is begun where it is wanted later.

        What is given back keeps its key: it has ended, and nobody but its people begins it again.
        """
        if withdraw:
            comment = f"Comment={WITHDRAWN}{one.key[len(MARK) :]}"
            self.run(["scontrol", "update", f"JobId={one.id}", comment], {}, "")
        said = self.run(["scancel", str(one.id)], {}, "")
        if said.rc != 0 and "Invalid job id" not in said.short:
            raise JobError(
                f"could not cancel job {one.id} ({one.key}): {said.short}; cancel it as root, or as"
                f" {one.user}"
            )

    def apply(self, steps: Sequence[Step]) -> dict[str, int]:
        """Do the steps in their order. Gives the number of each job by its key."""
        made = {}
        for step in steps:
            if step.act == CANCEL and step.seen is not None:
                self.cancel(step.seen, step.withdraw)
            elif step.job is not None:
                made[step.job.key] = self.submit(step.job)
        return made


def _help(said: str) -> str:
    """What mends what sbatch says most often."""
    for part, mends in (
        ("Invalid account", "the account is no member of its team: see mlops_teams"),
        ("Invalid qos", "the team has no QoS: apply the role job_scheduler again"),
        ("Invalid node name", "the node is not in the cluster: apply the role job_scheduler again"),
        (
            "Requested node configuration",
            "the node has less than the plan says: compare scontrol show node with mlops_workloads",
        ),
        ("Invalid generic resource", "the node has no such GPU: compare scontrol show node"),
        ("Unable to contact", "see whether slurmctld runs: scontrol ping"),
    ):
        if part in said:
            return mends
    return "see sinfo and scontrol show node"

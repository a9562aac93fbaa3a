# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command mlops-job, with a Slurm that answers from memory."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.batch import SESSION, Job
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.cluster import Cluster, Said
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.command import main

JOB = Job("nightly", "site-1", "vision", "anna", "gpu1", command=("true",))
DESK = Job("desk", "site-1", "vision", "ben", "gpu2", kind=SESSION, idle=600, requeue=False)


class Slurm:
    """A queue in memory behind Slurm's commands."""

    def __init__(self) -> None:
        self.queue: dict[int, list[str]] = {}
        self.used = "00:00:01"
        self.said: list[Sequence[str]] = []

    def put(self, job: Job, state: str = "RUNNING", number: int = 7, reason: str = "None") -> None:
        self.queue[number] = [
            str(number),
            state,
            job.account,
            job.team,
            job.node,
            job.node,
            "1:00",
            reason,
            job.key,
        ]

    def __call__(self, argv: Sequence[str], _env: Mapping[str, str], _text: str) -> Said:
        self.said.append(argv)
        words = [word for word in argv if word in ("sbatch", "scancel", "squeue", "sacct", "sstat")]
        if words == ["squeue"]:
            return Said(0, "".join("|".join(row) + "\n" for row in self.queue.values()), "")
        if words == ["sbatch"]:
            key = next(word for word in argv if word.startswith("--comment=")).partition("=")[2]
            self.queue[42] = ["42", "PENDING", "x", "t", "gpu1", "", "0:00", "Priority", key]
            return Said(0, "42\n", "")
        if words == ["scancel"]:
            self.queue.pop(int(argv[-1]))
        if words == ["sstat"]:
            return Said(0, f"{argv[3]}.batch|{self.used}|1\n", "")
        return Said(0, "tail of it\n" if "tail" in argv else "", "")


@pytest.fixture
def slurm() -> Slurm:
    return Slurm()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.json"
    path.write_text(json.dumps({"site": "site-1", "jobs": [JOB.as_dict(), DESK.as_dict()]}))
    return path


def say(slurm: Slurm, file: Path, *words: str, now: float = 0.0) -> tuple[int, str]:
    out = io.StringIO()
    cluster = Cluster(slurm, lambda name: (f"/home/{name}", 1000), lambda: 0)
    return main(["--jobs", str(file), *words], cluster, out, lambda: now), out.getvalue()


def test_a_workload_is_submitted_listed_and_cancelled(slurm: Slurm, file: Path) -> None:
    assert say(slurm, file, "submit", "nightly") == (
        0,
        "submit nightly: to gpu1\nnightly: job 42\n",
    )
    code, table = say(slurm, file, "list")
    assert code == 0
    assert [line.split()[:3] for line in table.splitlines()] == [
        ["workload", "job", "state"],
        ["nightly", "42", "PENDING"],
        ["desk", "-", "-"],
    ]
    assert say(slurm, file, "submit", "nightly") == (0, "nightly: job 42 waits: Priority\n")
    assert say(slurm, file, "cancel", "nightly") == (0, "nightly: job 42 is cancelled\n")
    assert say(slurm, file, "cancel", "nightly") == (0, "nightly: nothing waits or runs\n")


def test_programs_get_json_and_what_is_no_longer_wanted_is_shown(slurm: Slurm, file: Path) -> None:
    slurm.put(replace(JOB, cpus=9))
    rows = json.loads(say(slurm, file, "list", "--json")[1])
    assert [(row["workload"], row["job"]) for row in rows] == [("nightly", 7), ("desk", None)]
    assert "runs with the definition before" in rows[0]["said"]


@pytest.mark.parametrize("verb", ["submit", "cancel", "logs"])
def test_a_name_that_is_no_job_is_a_sentence(
    slurm: Slurm, file: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert say(slurm, file, verb, "nobody")[0] == 1
    assert capsys.readouterr().err == (
        "mlops-job: no workload nobody is started by the scheduler; there are desk, nightly\n"
    )


def test_without_the_file_of_the_site_it_says_what_writes_it(
    slurm: Slurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert say(slurm, tmp_path / "none.json", "list")[0] == 1
    assert "run site.yml, which writes it" in capsys.readouterr().err


def test_the_log_of_a_job_that_runs_is_read_as_its_account(slurm: Slurm, file: Path) -> None:
    slurm.put(JOB)
    assert say(slurm, file, "logs", "nightly", "--lines", "5") == (0, "tail of it\n")
    assert list(slurm.said[-1][:4]) == ["runuser", "-u", "anna", "--"]
    assert slurm.said[-1][-3:] == ["-n", "5", "/var/lib/mlops/workload_jobs/nightly.7.log"]


def test_a_job_that_waits_has_said_nothing_and_an_ended_one_says_where_its_log_is(
    slurm: Slurm, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm.put(JOB, "PENDING", reason="Resources")
    assert "job 7 waits: Resources" in say(slurm, file, "logs", "nightly")[1]
    slurm.put(JOB, "FAILED")
    assert say(slurm, file, "logs", "nightly")[0] == 1
    assert "/var/lib/mlops/workload_jobs/nightly.7.log there" in capsys.readouterr().err


def test_an_allocation_that_nobody_works_in_is_given_back(slurm: Slurm, file: Path) -> None:
    looks = ("idle", "--looks", str(file.parent / "idle.json"))
    slurm.put(DESK)
    slurm.put(JOB, number=8)
    assert say(slurm, file, *looks, now=0) == (0, "")
    assert say(slurm, file, *looks, now=300) == (0, "")
    slurm.used = "00:05:00"  # somebody works
    assert say(slurm, file, *looks, now=600) == (0, "")
    assert say(slurm, file, *looks, now=1190) == (0, "")
    assert say(slurm, file, *looks, now=1200) == (
        0,
        "desk: job 7 of ben was idle for 10 min and is given back\n",
    )
    assert list(slurm.queue) == [8]
    assert json.loads((file.parent / "idle.json").read_text()) == {}

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs as Slurm is handed them, what it answers, and what is done about the difference."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.batch import (
    SESSION,
    Job,
    JobError,
    Seen,
    accounted,
    decide,
    job_of,
    known,
    options,
    queued,
    script,
    withdrawn,
)
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.cluster import Cluster, Said

SITE = "0f8fad5b-d9cb-469f-a165-70867728950e"
JOB = Job(
    workload="nightly",
    site=SITE,
    team="vision",
    account="anna",
    node="gpu1",
    command=("python3", "train.py", "--name", "it's mine"),
    cpus=4,
    memory_mib=8192,
    gres="gpu:nvidia_l40s:1",
    environment=(("EPOCHS", "3"), ("NOTE", "a b; rm -rf /")),
    time_limit=5400,
    mail="anna@example.com",
)


def seen(state: str, job: Job = JOB, number: int = 7, **changes: str) -> Seen:
    told = {"wanted": job.node, "node": "", "elapsed": "1:00", "reason": "", **changes}
    return Seen(number, state, job.account, job.team, key=told.pop("key", job.key), **told)


def did(jobs: Sequence[Job], there: Sequence[Seen], **more: object) -> list[str]:
    steps, _stands = decide(jobs, there, SITE, **more)  # type: ignore[arg-type]
    return [f"{step.act} {step.text}" for step in steps]


def test_the_key_says_site_workload_and_what_is_asked() -> None:
    assert JOB.key == f"mlops:{SITE}:nightly:{JOB.digest}"
    assert len(JOB.digest) == 12
    assert replace(JOB, node="gpu2").key == JOB.key
    assert replace(JOB, replica=1).key == f"{JOB.key}.1"
    for changed in (
        replace(JOB, memory_mib=9000),
        replace(JOB, command=("true",)),
        replace(JOB, team="other"),
        replace(JOB, environment=()),
    ):
        assert changed.key != JOB.key


def test_a_job_comes_back_from_plain_data_as_it_was() -> None:
    assert job_of(json.loads(json.dumps(JOB.as_dict()))) == JOB


def test_the_words_for_sbatch_say_place_limits_and_team() -> None:
    told = options(JOB)
    for word in (
        "--job-name=nightly",
        f"--comment={JOB.key}",
        "--account=vision",
        "--qos=vision",
        "--nodelist=gpu1",
        "--cpus-per-task=4",
        "--mem=8192M",
        "--gres=gpu:nvidia_l40s:1",
        "--time=90",
        "--requeue",
        "--mail-user=anna@example.com",
    ):
        assert word in told
    plain = options(Job("w", SITE, "t", "a", "n", requeue=False))
    assert not [word for word in plain if word.startswith(("--gres", "--time", "--mail", "--ch"))]
    assert "--no-requeue" in plain


def run_script(job: Job, folder: Path, **env: str) -> str:
    text = script(job).replace("/var/lib/mlops/workload_jobs", str(folder))
    done = subprocess.run(
        ["/bin/sh"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
        env={
            "PATH": "/usr/bin:/bin",
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NAME": job.name,
            "SLURM_JOB_NODELIST": "gpu1",
            **env,
        },
    )
    return done.stdout


def test_the_script_runs_the_words_as_they_are_and_makes_room_for_results(tmp_path: Path) -> None:
    job = replace(JOB, command=("/bin/sh", "-c", 'echo "$NOTE|$MLOPS_RESULT|$1"', "x", "it's mine"))
    assert run_script(job, tmp_path) == f"a b; rm -rf /|{tmp_path}/nightly.7.result|it's mine\n"
    assert (tmp_path / "nightly.7.result").stat().st_mode & 0o777 == 0o750


def test_the_model_registry_is_told_which_job_a_run_is_of(tmp_path: Path) -> None:
    job = replace(
        JOB,
        environment=(("MLFLOW_TRACKING_URI", "https://ctl1/mlflow"),),
        command=("/bin/sh", "-c", 'echo "$MLFLOW_RUN_CONTEXT"'),
    )
    assert json.loads(run_script(job, tmp_path)) == {
        "mlflow.runName": "nightly-7",
        "slurm_job_id": "7",
        "mlops_workload": "nightly",
    }
    assert "MLFLOW" not in script(JOB)


def test_a_session_only_holds_its_allocation_and_says_how_to_enter_it() -> None:
    told = script(Job("desk", SITE, "vision", "anna", "gpu1", kind=SESSION, idle=600))
    assert "srun --jobid=$SLURM_JOB_ID --overlap" in told
    assert told.rstrip().endswith("exec sleep infinity")


# As Slurm 24.11 answers, with jobs of others between ours.
QUEUE = f"""\
12|RUNNING|anna|vision|gpu1|gpu1|1:02:03|None|{JOB.key}
13|PENDING|anna|vision|gpu2||0:00|AssocGrpGRES|mlops:{SITE}:other:aaaaaaaaaaaa
14|RUNNING|carl|(null)||gpu2|0:10|None|(null)
15|RUNNING|carl|x||gpu2|0:10|None|made|by|hand
"""
ACCOUNTING = f"""\
9|CANCELLED by 0|anna|vision|gpu1|gpu1|00:00:12|0:0|mlops:{SITE}:gone:bbbbbbbbbbbb
10|FAILED|anna|vision|gpu1|gpu1|00:00:12|3:0|mlops:{SITE}:bad:cccccccccccc
11|OUT_OF_MEMORY|anna|vision|gpu1|gpu1|00:00:12|0:125|mlops:{SITE}:large:dddddddddddd
12|RUNNING|anna|vision|gpu1|gpu1|01:02:00|0:0|{JOB.key}
14|RUNNING|carl|||gpu2|00:00:10|0:0|
"""


def test_the_queue_and_the_accounting_are_read_as_they_answer() -> None:
    found = known(queued(QUEUE), accounted(ACCOUNTING))
    assert [(one.id, one.state) for one in found] == [
        (13, "PENDING"),
        (12, "RUNNING"),
        (11, "OUT_OF_MEMORY"),
        (10, "FAILED"),
        (9, "CANCELLED"),
    ]
    assert found[1].elapsed == "1:02:03"
    assert (found[0].reason, found[0].wanted, found[0].node) == ("AssocGrpGRES", "gpu2", "")
    assert found[3].reason == "exit code 3:0"
    with pytest.raises(JobError, match="squeue answered with 3 fields"):
        queued("1|2|3")


def test_a_job_is_submitted_once() -> None:
    assert did([JOB], []) == ["submit nightly: to gpu1"]
    for state in ("PENDING", "RUNNING", "COMPLETED", "COMPLETING", "FAILED", "TIMEOUT"):
        assert did([JOB], [seen(state)]) == [], state


def test_a_job_that_ended_ill_is_told_and_started_anew_on_request_only() -> None:
    _steps, stands = decide([JOB], [seen("FAILED", reason="exit code 3:0")], SITE)
    assert not stands[0].good
    assert stands[0].said == (
        "job 7 ended as FAILED (exit code 3:0); read mlops-job logs nightly, then start it anew"
        " with mlops-job submit --again nightly"
    )
    again = did([JOB], [seen("FAILED")], again=["nightly"])
    assert again == ["submit nightly: to gpu1, again"]
    assert did([JOB], [seen("RUNNING")], again=["nightly"]) == []
    assert decide([JOB], [seen("COMPLETED")], SITE)[1][0].good


def test_a_job_that_lost_its_host_begins_anew_where_the_plan_has_it_now() -> None:
    lost = seen("NODE_FAIL", reason="exit code 1:0")
    assert did([JOB], [lost]) == ["submit nightly: to gpu1, again"]
    assert did([replace(JOB, node="gpu2")], [lost]) == ["submit nightly: to gpu2, again"]
    # Not one that may not begin anew, nor a session, which its people begin.
    once = replace(JOB, requeue=False)
    assert did([once], [replace(lost, key=once.key)]) == []
    desk = replace(JOB, kind=SESSION, command=())
    assert did([desk], [replace(lost, key=desk.key)]) == []


def test_a_definition_that_changed_replaces_what_has_not_started() -> None:
    new = replace(JOB, memory_mib=9000)
    assert did([new], [seen("PENDING")]) == [
        "cancel nightly (job 7): its definition changed",
        "submit nightly: to gpu1",
    ]
    assert did([new], [seen("RUNNING")]) == []
    _steps, stands = decide([new], [seen("RUNNING")], SITE)
    assert "runs with the definition before" in stands[0].said
    assert did([new], [seen("RUNNING")], replace=True) == [
        "cancel nightly (job 7): its definition changed",
        "submit nightly: to gpu1",
    ]
    assert did([new], [seen("COMPLETED")]) == ["submit nightly: to gpu1"]


def test_a_job_that_waits_for_another_node_than_the_plan_says_moves() -> None:
    there = seen("PENDING", wanted="gpu2")
    assert did([JOB], [there]) == [
        "cancel nightly (job 7): the plan moved it to gpu1",
        "submit nightly: to gpu1",
    ]
    assert did([JOB], [seen("RUNNING", wanted="gpu2")]) == []


def test_what_is_no_longer_wanted_is_cancelled_and_nothing_of_others() -> None:
    stranger = seen("RUNNING", key="mlops:another-site:nightly:aaaaaaaaaaaa")
    done = seen("COMPLETED", number=3)
    assert did([], [seen("RUNNING"), stranger, done]) == [
        "cancel nightly (job 7): no longer wanted"
    ]
    assert did([], [seen("RUNNING")], retire=False) == []


def test_a_session_that_ended_is_begun_again_by_its_people_only() -> None:
    desk = Job("desk", SITE, "vision", "anna", "gpu1", kind=SESSION, idle=600)
    for state in ("CANCELLED", "TIMEOUT", "COMPLETED"):
        steps, stands = decide([desk], [seen(state, desk)], SITE)
        assert steps == ()
        assert stands[0].good
        assert stands[0].said == (
            f"the session has ended (job 7, {state}); begin another with mlops-job submit desk"
        )


def test_replicas_are_jobs_of_their_own() -> None:
    two = [JOB, replace(JOB, replica=1, node="gpu2")]
    assert did(two, []) == ["submit nightly: to gpu1", "submit nightly: to gpu2"]
    there = [seen("RUNNING"), seen("PENDING", two[1], 8)]
    assert did(two, there) == []
    assert did([JOB], there) == ["cancel nightly (job 8): no longer wanted"]
    wider = [replace(one, cpus=8) for one in two]
    assert did(wider, there) == [
        "cancel nightly (job 8): its definition changed",
        "submit nightly: to gpu2",
    ]


class Slurm:
    """Plays Slurm's commands: what was asked, with which environment and text."""

    def __init__(self, **answers: Said) -> None:
        self.answers = answers
        self.asked: list[tuple[Sequence[str], Mapping[str, str], str]] = []

    def __call__(self, argv: Sequence[str], env: Mapping[str, str], text: str) -> Said:
        self.asked.append((argv, env, text))
        name = next(
            word for word in argv if word in ("sbatch", "scancel", "scontrol", "squeue", "sacct")
        )
        return self.answers.get(name, Said(0, "", ""))


def cluster(slurm: Slurm, uid: int = 0) -> Cluster:
    return Cluster(slurm, {"anna": ("/home/anna", 1000)}.get, lambda: uid)


def test_a_job_is_handed_over_as_its_account() -> None:
    slurm = Slurm(sbatch=Said(0, "42;plant\n", ""))
    assert cluster(slurm).submit(JOB) == 42
    argv, env, text = slurm.asked[0]
    assert list(argv[:5]) == ["runuser", "-u", "anna", "--", "sbatch"]
    assert "--chdir=/home/anna" in argv
    assert (env["HOME"], env["USER"]) == ("/home/anna", "anna")
    assert text == script(JOB)
    assert cluster(slurm, 1000).submit(JOB) == 42
    assert slurm.asked[1][0][0] == "sbatch"


@pytest.mark.parametrize(
    ("job", "uid", "said", "why"),
    [
        (replace(JOB, account="nobody9"), 0, "", "which this host does not know"),
        (JOB, 1001, "", "submit it as that account, or as root"),
        (JOB, 0, "sbatch: error: Batch job submission failed: Invalid account", "see mlops_teams"),
        (JOB, 0, "sbatch: error: Invalid generic resource (gres)", "no such GPU"),
    ],
)
def test_a_job_that_slurm_does_not_take_is_a_sentence(
    job: Job, uid: int, said: str, why: str
) -> None:
    slurm = Slurm(sbatch=Said(1, "", said))
    with pytest.raises(JobError, match=why):
        cluster(slurm, uid).submit(job)


def test_without_the_accounting_nothing_is_taken_for_new() -> None:
    slurm = Slurm(sacct=Said(1, "", "Problem talking to the database: Connection refused"))
    with pytest.raises(JobError, match="could not read the accounting of jobs: Problem talking"):
        cluster(slurm).seen()


def test_a_cancelled_job_gives_up_its_key_first() -> None:
    slurm = Slurm()
    cluster(slurm).cancel(seen("RUNNING"))
    assert [argv[0] for argv, _env, _text in slurm.asked] == ["scontrol", "scancel"]
    assert slurm.asked[0][0][-1] == f"Comment=mlops-withdrawn{JOB.key[5:]}"
    cluster(slurm).cancel(seen("RUNNING"), withdraw=False)
    assert [argv[0] for argv, _env, _text in slurm.asked[2:]] == ["scancel"]
    assert accounted(f"7|CANCELLED by 0|a|t|n|n|1|0:0|mlops-withdrawn{JOB.key[5:]}") == ()


def test_before_the_scheduler_waits_only_what_holds_a_node_and_is_not_planned_ends() -> None:
    """What waits holds nothing; what is planned goes on, also where the plan moved it."""
    gone = replace(JOB, workload="gone")
    late = replace(JOB, workload="late")
    there = [
        seen("RUNNING", gone, 1),
        seen("PENDING", late, 2),
        seen("RUNNING", JOB, 3),
        seen("PENDING", replace(JOB, replica=1, node="gpu9"), 4),
    ]
    steps, _stands = decide([JOB, replace(JOB, replica=1)], there, SITE)
    assert {step.act for step in steps} == {"cancel", "submit"}
    assert [step.seen.id for step in withdrawn(steps) if step.seen] == [1]


def test_before_the_scheduler_waits_a_changed_job_ends_only_where_that_was_asked_for() -> None:
    there = [seen("RUNNING", JOB, 3)]
    changed = replace(JOB, memory_mib=9000)
    assert withdrawn(decide([changed], there, SITE)[0]) == ()
    (step,) = withdrawn(decide([changed], there, SITE, replace=True)[0])
    assert step.seen is there[0]


@pytest.mark.parametrize("there", [True, False])
def test_slurm_is_installed_where_its_commands_are(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if there:
        (tmp_path / "squeue").touch(mode=0o755)
    monkeypatch.setattr(f"{Cluster.__module__}.PATH", str(tmp_path))
    assert Cluster.installed() is there

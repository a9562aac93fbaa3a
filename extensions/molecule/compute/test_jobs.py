# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is planned for jobs and people is Slurm's, on the GPUs that nothing serves with."""

from __future__ import annotations

import re
import shlex

import pytest

from extensions.molecule.compute.hosts import GPU_HOSTS, SCHEDULER, device_files, on, placed, until

LOGS = "/var/lib/mlops/workload_jobs"
# Of the inventory: account, team, processors, memory in MiB, minutes.
PLANNED = {
    "train": ("anna", "vision", 1, 250, 120),
    "desk-ben": ("ben", "language", 1, 100, 180),
}


def queue(form: str, *more: str) -> list[str]:
    return on(SCHEDULER, f"squeue -h -o '{form}' {' '.join(more)}").splitlines()


def number(workload: str) -> str:
    """The number of the only job of a workload."""
    (found,) = queue("%A", f"--name={workload}")
    return found


def job(workload: str) -> dict[str, str]:
    """What the controller says of the job of a workload."""
    said = on(SCHEDULER, f"scontrol -o show job {number(workload)}")
    return dict(re.findall(r"(\S+?)=(\S*)", said))


def as_person(account: str, command: str, *, check: bool = True) -> str:
    """What a command says to somebody who has logged in where jobs are submitted."""
    line = shlex.join(["runuser", "-u", account, "--", "sh", "-c", f"cd /tmp && {command}"])
    return on(SCHEDULER, line, check=check)


def submit(account: str, words: str, command: str) -> str:
    """Submit a job as somebody does who has logged in."""
    line = f"sbatch --parsable --output=/dev/null {words} --wrap={shlex.quote(command)}"
    return as_person(account, line).strip()


def ended(identity: str) -> str:
    """How a job ended, in the words of the accounting."""

    def state() -> str:
        said = on(SCHEDULER, f"sacct -nPX -j {identity} -o State").split()
        return said[0] if said else ""

    until(
        lambda: state() not in {"", "PENDING", "RUNNING"},
        lambda: "\n".join([state(), *queue("%A %T %r %N")]),
    )
    return state()


def held() -> bool:
    """Whether cgroups hold jobs on these hosts: not every machine has any for them."""
    return "CgroupPlugin=disabled" not in on(SCHEDULER, "cat /etc/slurm/cgroup.conf")


@pytest.mark.parametrize("workload", sorted(PLANNED))
def test_it_runs_where_the_plan_put_it_with_the_planned_limits(workload: str) -> None:
    account, team, processors, memory, minutes = PLANNED[workload]
    until(lambda: job(workload)["JobState"] == "RUNNING", lambda: str(job(workload)))
    found = job(workload)
    assert found["NodeList"] == placed()[workload, 0]["host"]
    assert found["UserId"].split("(")[0] == account
    assert (found["Account"], found["QOS"]) == (team, team)
    assert found["NumCPUs"] == str(processors)
    assert f"mem={memory}M" in found["AllocTRES" if "AllocTRES" in found else "TRES"]
    assert found["TimeLimit"] == f"{minutes // 60:02}:{minutes % 60:02}:00"
    assert found["Comment"].startswith(f"mlops:site-of-the-tests:{workload}:")


def test_the_accounting_has_what_was_given() -> None:
    said = on(SCHEDULER, f"sacct -nPX -j {number('train')} -o User,Account,NodeList,AllocTRES")
    account, team, node, resources = said.strip().split("|")
    assert (account, team, node) == ("anna", "vision", placed()["train", 0]["host"])
    assert "gres/gpu=1" in resources
    assert "mem=250M" in resources


def test_slurm_gives_away_every_card_that_nothing_serves_with_and_denies_all_others() -> None:
    """The instances of the A100 have no files here by which jobs could be given them."""
    rows = placed().values()
    serving = {gpu for row in rows if row["workload"] == "iris" for gpu in row["gpu_ids"]}
    assert len(serving) == len(GPU_HOSTS)
    configured = on(SCHEDULER, "cat /etc/slurm/gres.conf").splitlines()
    asked = "nvidia-smi --query-gpu=uuid,name --format=csv,noheader"
    for host in GPU_HOSTS:
        files = device_files(host)
        told = [line for line in configured if f"NodeName={host} " in line]
        for line in on(host, asked).splitlines():
            gpu, model = line.split(", ")
            (found,) = [row for row in told if re.search(rf"{files[gpu]}\b", row)]
            given = "T4" in model and gpu not in serving
            assert f" Name={'gpu' if given else 'served'} " in found, (host, line, told)


def test_a_job_sees_the_gpu_it_was_given() -> None:
    row = placed()["train", 0]
    path = f"{LOGS}/train.{number('train')}.log"
    until(
        lambda: "CUDA_VISIBLE_DEVICES=" in on(row["host"], f"cat {path}", check=False),
        lambda: on(row["host"], f"ls -la {LOGS}; cat {path}", check=False),
    )
    log = on(row["host"], f"cat {path}")
    assert f"CUDA_VISIBLE_DEVICES={row['gpu_ids'][0]}" in log
    # Its device file can be opened, and there is no driver behind it.
    files = device_files(row["host"])
    assert f"cannot open {files[row['gpu_ids'][0]]}: No such device or address" in log
    if held():
        others = set(files.values()) - {files[gpu] for gpu in row["gpu_ids"]}
        assert all(f"cannot open {file}: Operation not permitted" in log for file in others)


def test_the_session_is_its_person_s_alone() -> None:
    host, identity = placed()["desk-ben", 0]["host"], number("desk-ben")
    step = f"srun --jobid={identity} --overlap hostname"
    assert as_person("ben", step).strip() == host
    assert "Access/permission denied" in as_person("anna", step, check=False)


def test_a_team_s_limit_holds_its_jobs() -> None:
    """vision has one GPU at once, and its training runs on it."""
    identity = submit("anna", "--gres=gpu:1 --mem=50", "true")
    until(
        lambda: queue("%T|%r", f"-j {identity}") == ["PENDING|QOSGrpGRES"],
        lambda: "\n".join(queue("%A %T %r")),
    )
    on(SCHEDULER, f"scancel {identity}")


def test_who_is_not_of_a_team_is_refused() -> None:
    line = "sbatch --parsable --account=language --wrap=true"
    assert "Invalid account" in as_person("anna", line, check=False)


def test_more_memory_than_asked_for_ends_a_job() -> None:
    if not held():
        pytest.skip("this machine has no cgroups for jobs in containers")
    hog = 'python3 -c "x = bytearray(300 << 20)"'
    assert ended(submit("ben", "--mem=50", hog)) == "OUT_OF_MEMORY"


def test_a_session_without_a_gpu_opens_none() -> None:
    if not held():
        pytest.skip("this machine has no cgroups for jobs in containers")
    row = placed()["train", 0]
    assert placed()["desk-ben", 0]["host"] == row["host"]
    file = device_files(row["host"])[row["gpu_ids"][0]]
    step = f"srun --jobid={number('desk-ben')} --overlap sh -c ': < {file}'"
    assert "Operation not permitted" in as_person("ben", step, check=False)


def test_the_command_lists_what_is_planned() -> None:
    said = on(SCHEDULER, "mlops-job list")
    for workload in PLANNED:
        assert re.search(rf"^{workload}\b.*\b{number(workload)}\b.*(?i:running)", said, re.M), said

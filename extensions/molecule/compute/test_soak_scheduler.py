# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What befalls a scheduler: its database, its controller and its nodes go away and come back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from extensions.molecule.compute.hosts import (
    SCHEDULER,
    applied_again,
    apply,
    inventory_with,
    on,
    placed,
    until,
    without_power,
    workloads,
)
from extensions.molecule.compute.test_jobs import (
    as_person,
    ended,
    number,
    queue,
    submit,
)

pytestmark = pytest.mark.soak
DATABASE = "cmdb"
JOBS = 20
# The node may be silent for twenty seconds (job_scheduler_node_timeout); a host boots in a few.
LONG = 180


def state_of(node: str) -> str:
    return on(SCHEDULER, f"sinfo -h -N -n {node} -o %T").strip()


def told() -> str:
    """All that the scheduler says of its nodes and jobs, for whoever reads a failure."""
    return on(
        SCHEDULER,
        "sinfo -N -o '%N %T %E'; squeue -o '%A %j %T %r %N'; sdiag | grep DBD; "
        "journalctl -u slurmctld -u slurmdbd -n 20 --no-pager",
        check=False,
    )


def runs_of(identity: str) -> list[str]:
    """How each run of a job ended, in the words of the accounting."""
    return on(SCHEDULER, f"sacct -nPXD -j {identity} -o State").split()


@pytest.fixture
def job_on_a_node() -> Iterator[str]:
    """A job that runs on cgpu1 and may begin anew, but nowhere else."""
    identity = submit("ben", "--mem=50 -w cgpu1 --requeue", "sleep 1200")
    until(lambda: queue("%T", f"-j {identity}") == ["RUNNING"], told)
    yield identity
    on(SCHEDULER, f"scancel {identity}")


def test_jobs_run_while_the_database_is_away_and_not_one_is_lost() -> None:
    on(DATABASE, "systemctl stop mariadb")
    try:
        said = as_person("ben", "srun -J away --mem=50 hostname")
        assert said.strip().startswith("cgpu")
        script = (
            f"for n in $(seq {JOBS}); do sbatch -o /dev/null -J away --mem=50 --wrap=true; done"
        )
        as_person("ben", script)
        until(lambda: queue("%A", "--name=away") == [], told)
        assert "COMPLETED" not in on(SCHEDULER, "sacct -nPX -a --name=away", check=False)
    finally:
        on(DATABASE, "systemctl start mariadb")
    asked = "sacct -nPX -a --name=away -o State"
    until(lambda: on(SCHEDULER, asked, check=False).split() == ["COMPLETED"] * (JOBS + 1), told)


def test_a_controller_that_was_killed_knows_its_jobs() -> None:
    before = {name: number(name) for name in ("train", "desk-ben")}
    process = on(SCHEDULER, "systemctl show slurmctld -p MainPID --value").strip()
    on(SCHEDULER, "systemctl kill --signal=KILL slurmctld")
    until(lambda: "is UP" in on(SCHEDULER, "scontrol ping", check=False), told)
    assert on(SCHEDULER, "systemctl show slurmctld -p MainPID --value").strip() != process
    assert {name: number(name) for name in before} == before
    assert ended(submit("ben", "--mem=50", "true")) == "COMPLETED"


def test_a_killed_host_s_job_is_given_back_to_the_queue_and_runs_when_the_host_is_back(
    job_on_a_node: str,
) -> None:
    with without_power("cgpu1"):
        until(lambda: "down" in state_of("cgpu1"), told, LONG)
        until(lambda: queue("%T", f"-j {job_on_a_node}") == ["PENDING"], told)
        until(lambda: "NODE_FAIL" in runs_of(job_on_a_node), told)
    # Nobody but the host itself starts anything there.
    until(lambda: queue("%T", f"-j {job_on_a_node}") == ["RUNNING"], told, LONG)


def test_a_node_leaves_and_comes_back_by_the_same_playbook() -> None:
    left = [row | ({"replicas": 1} if row["name"] == "iris" else {}) for row in workloads()]
    with inventory_with({"gpu": ["cgpu2"]}) as edited:
        apply(inventory=edited, mlops_workloads=left)
        assert on(SCHEDULER, "sinfo -h -N -o %N").split() == ["cgpu2"]
        assert "cgpu1" not in on(SCHEDULER, "cat /etc/slurm/slurm.conf /etc/slurm/gres.conf")
        assert {row["host"] for row in placed().values() if row["workload"] != "handbook"} == {
            "cgpu2"
        }
        units = "systemctl list-unit-files --no-legend 'mlops-workload*' 'slurm*' 'munge*'"
        assert on("cgpu1", units, check=False) == ""
        assert on("cgpu1", "ls /etc/munge/munge.key", check=False).count("No such file") == 1
        applied_again(inventory=edited, mlops_workloads=left)
    apply()
    assert sorted(on(SCHEDULER, "sinfo -h -N -o %N").split()) == ["cgpu1", "cgpu2"]
    assert as_person("ben", "srun -w cgpu1 --mem=50 hostname").strip() == "cgpu1"

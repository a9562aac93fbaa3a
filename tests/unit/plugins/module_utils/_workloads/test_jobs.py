# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From planned replicas to jobs with the planned limits, and every refusal with its sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._demand.running import (
    JobRun,
    ServingRun,
    UserRun,
)
from ansible_collections.mlops.onprem.plugins.module_utils._planner.mig.cards import CARDS
from ansible_collections.mlops.onprem.plugins.module_utils._supply.facts import gpus_of
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.jobs import (
    Around,
    JobRefused,
    _of_profile,
    job_of,
    jobs,
    problems,
)
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.placed import Placed

RUN = JobRun(("python3", "train.py"), "vision", account="anna", time_limit=3600)
TRAIN = Placed(
    "train",
    "training",
    0,
    "gpu1",
    gpu_ids=("GPU-a", "GPU-b"),
    cpu_cores=3.5,
    memory_mib=4096.2,
    run=RUN,
)
GPUS = [
    {"uuid": "GPU-a", "model": "NVIDIA L40S"},
    {"uuid": "GPU-b", "model": "NVIDIA L40S"},
    {
        "uuid": "GPU-m",
        "model": "NVIDIA A100-SXM4-80GB",
        "mig_instances": [
            # As capacity_facts has them: a driver names no profile.
            {"gpu_instance_id": 7, "compute_instance_id": 0, "memory_mib": 9728.0},
            {"gpu_instance_id": 2, "compute_instance_id": 0, "memory_mib": 40192.0},
        ],
    },
]
AROUND = Around(
    site="s",
    teams={"vision": ("anna", "ben"), "solo": ("carl",)},
    scheduler=("ctl1",),
    gpus={"gpu1": gpus_of({"gpus": {"gpus": GPUS}})},
)


def test_a_training_becomes_a_job_with_the_planned_limits_where_the_plan_put_it() -> None:
    job = job_of(TRAIN, AROUND)
    assert (job.node, job.cpus, job.memory_mib) == ("gpu1", 4, 4097)
    assert job.gres == "gpu:nvidia_l40s:2"
    assert (job.team, job.account, job.kind, job.time_limit) == ("vision", "anna", "batch", 3600)
    assert job.command == ("python3", "train.py")


def test_the_memory_limit_is_what_slurm_reserves() -> None:
    assert job_of(replace(TRAIN, memory_limit_mib=8192.0), AROUND).memory_mib == 8192
    assert job_of(replace(TRAIN, memory_mib=0.0), AROUND).memory_mib == 128


def test_a_card_may_be_divided_after_the_work_was_judged() -> None:
    one = replace(TRAIN, gpu_ids=("GPU-m",), profile="7g.80gb", slice=0)
    assert problems([one], AROUND) == ()
    with pytest.raises(JobRefused, match=r"a MIG instance 7g.80gb of GPU GPU-m, which has none"):
        jobs([one], AROUND)
    assert jobs([one], AROUND, check=True) == ()


def test_a_mig_instance_is_asked_for_by_the_type_that_the_node_offers() -> None:
    one = replace(TRAIN, gpu_ids=("GPU-m",), profile="3g.40gb", slice=0)
    assert job_of(one, AROUND).gres == "gpu:nvidia_a100_sxm4_80gb.mig_39gb:1"
    small = replace(one, profile="1g.10gb")
    assert job_of(small, AROUND).gres == "gpu:nvidia_a100_sxm4_80gb.mig_10gb:1"


@pytest.mark.parametrize("card", sorted(CARDS))
def test_an_instance_of_every_known_card_has_the_memory_of_one_size_of_profile(card: str) -> None:
    """By the names that NVIDIA gives profiles: slices, and the memory in GiB, rounded up."""
    sizes = {figures.memory_mib for figures in CARDS[card].profiles.values()}
    names = {size: f"1g.{-(-size // 1024)}gb" for size in sizes}
    for size in sizes:
        assert [other for other in sizes if _of_profile(other, names[size])] == [size]


def test_the_model_registry_is_named_to_a_job_unless_it_names_one_itself() -> None:
    around = replace(AROUND, tracking="https://ctl1/mlflow")
    assert dict(job_of(TRAIN, around).environment) == {"MLFLOW_TRACKING_URI": "https://ctl1/mlflow"}
    own = replace(TRAIN, run=replace(RUN, environment=(("MLFLOW_TRACKING_URI", "x"),)))
    assert dict(job_of(own, around).environment) == {"MLFLOW_TRACKING_URI": "x"}


def test_a_person_gets_an_allocation_that_is_given_back_when_idle() -> None:
    run = UserRun("solo", "carl", time_limit=28800, idle=3600)
    job = job_of(replace(TRAIN, kind="user", run=run), AROUND)
    assert (job.kind, job.account, job.idle, job.requeue) == ("session", "carl", 3600, False)
    assert (job.gres, job.memory_mib) == ("gpu:nvidia_l40s:2", 4097)


def test_the_only_member_of_a_team_need_not_be_named() -> None:
    one = replace(TRAIN, run=JobRun(("true",), "solo"))
    assert job_of(one, AROUND).account == "carl"


def test_only_what_a_scheduler_starts_becomes_a_job() -> None:
    serving = Placed("chat", "serving", 0, "gpu1", run=ServingRun("onnx"))
    plain = Placed("left", "training", 0, "gpu1")
    assert [job.workload for job in jobs([serving, plain, TRAIN], AROUND)] == ["train"]


@pytest.mark.parametrize(
    ("one", "around", "said"),
    [
        (TRAIN, replace(AROUND, scheduler=()), "the inventory has none; put a host into"),
        (
            replace(TRAIN, run=replace(RUN, team="nobody")),
            AROUND,
            r"the team nobody, which mlops_teams does not have \(it has solo, vision\)",
        ),
        (
            replace(TRAIN, run=replace(RUN, account="carl")),
            AROUND,
            r"runs as carl, who is no member of vision \(anna, ben\)",
        ),
        (
            replace(TRAIN, run=replace(RUN, account="")),
            AROUND,
            "does not say as whom it runs, and vision has 2 members",
        ),
        (replace(TRAIN, share=0.5), AROUND, "planned on 0.5 of a GPU, and the scheduler gives"),
        (
            replace(TRAIN, gpu_ids=("GPU-x",)),
            AROUND,
            "gpu1: train is planned on GPU GPU-x, which the host does not have",
        ),
    ],
)
def test_what_cannot_become_a_job_is_refused(one: Placed, around: Around, said: str) -> None:
    with pytest.raises(JobRefused, match=said):
        job_of(one, around)
    told = problems([one, replace(one, replica=1)], around)
    assert len(told) == 1

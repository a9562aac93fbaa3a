# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts of the scheduler: comparison with the plan, names of GPUs, metrics."""

from __future__ import annotations

from importlib import util
from pathlib import Path
from types import ModuleType

import pytest

FILES = Path(__file__).resolve().parents[3] / "roles" / "job_scheduler" / "files"


def load(name: str) -> ModuleType:
    spec = util.spec_from_file_location(f"job_scheduler_{name}", FILES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


health, gpus, metrics = load("health"), load("gpus"), load("metrics")
PLAN = {
    "memory_mib": 23808,
    "gpus": [
        {"uuid": "GPU-a", "files": ["/dev/nvidia0"]},
        {"uuid": "GPU-b", "files": ["/dev/nvidia2"]},
    ],
}
FILES_THERE = {"/dev/nvidia0", "/dev/nvidia2"}


@pytest.mark.parametrize(
    ("memory", "files", "uuids", "wrong"),
    [
        (24105, FILES_THERE, {"GPU-a", "GPU-b", "GPU-c"}, []),
        (24105, FILES_THERE, None, []),
        (16000, FILES_THERE, None, ["16000 MiB of memory, 23808 planned"]),
        (24105, {"/dev/nvidia0"}, None, ["no /dev/nvidia2 for GPU-b"]),
        (24105, FILES_THERE, {"GPU-a"}, ["GPU GPU-b does not answer"]),
    ],
)
def test_a_node_is_compared_with_the_plan(
    memory: float, files: set[str], uuids: set[str] | None, wrong: list[str]
) -> None:
    assert health.differences(PLAN, memory, files, uuids) == wrong


@pytest.mark.parametrize(
    ("state", "reason", "wrong", "words"),
    [
        ("IDLE", "", [], []),
        ("MIXED", "", ["x"], ["State=DRAIN", "Reason=mlops: differs: x"]),
        ("IDLE+DRAIN", "mlops: differs: x [root@now]", ["x"], []),
        ("IDLE+DRAIN", "mlops: differs: x [root@now]", [], ["State=RESUME"]),
        ("IDLE+DRAIN", "fan is broken", [], []),
        ("IDLE+DRAIN", "mlops: it leaves the cluster", [], []),
    ],
)
def test_a_node_is_drained_once_and_only_ours_comes_back(
    state: str, reason: str, wrong: list[str], words: list[str]
) -> None:
    assert health.step(state, reason, wrong) == words


def test_fields_of_slurm_may_hold_blanks() -> None:
    line = "NodeName=a State=IDLE+DRAIN Reason=mlops: differs: no file [root@2026] Comment=x"
    assert health.field(line, "State") == "IDLE+DRAIN"
    assert health.field(line, "Reason") == "mlops: differs: no file [root@2026]"


def test_gpus_are_named_by_what_cuda_knows() -> None:
    # Measured: with /dev/nvidia1 as the first file of a node, Slurm calls it 0.
    rows = [
        {"uuid": "GPU-a", "type": "a100", "files": ["/dev/nvidia1"]},
        {"uuid": "GPU-b", "type": "a100", "files": ["/dev/nvidia2"]},
        {
            "uuid": "GPU-c/3/0",
            "type": "a100",
            "files": ["/dev/nvidia3", "/dev/nvidia-caps/nvidia-cap3"],
        },
    ]
    assert gpus.named("0,1", rows) == "GPU-a,GPU-b"
    assert gpus.named("2", rows) == ""  # an instance of MIG
    assert gpus.named("7", rows) == ""
    assert (
        gpus.named("0", [*rows, {"uuid": "GPU-d", "type": "t4", "files": ["/dev/nvidia0"]}]) == ""
    )


def test_metrics_of_nodes_queue_and_people() -> None:
    text = metrics.render(
        [
            *metrics.nodes(
                "NodeName=gpu1 CPUAlloc=1 CPUTot=2 State=MIXED+DRAIN CfgTRES=cpu=2,gres/gpu=4,"
                "gres/gpu:a100=4 AllocTRES=cpu=1,gres/gpu=2\n"
                "NodeName=gpu2 CPUAlloc=0 CPUTot=2 State=DOWN* CfgTRES=cpu=2 AllocTRES=\n"
            ),
            *metrics.queue(
                metrics.bars(
                    "vision   |RUNNING |None      |900 |cpu=1,gres/gpu=2,node=1  \n"
                    "vision   |PENDING |QOSGrpGRES|100 |cpu=1,gres/gpu=2  \n"
                    "text     |PENDING |Resources |400 |cpu=1  \n"
                ),
                1000.0,
            ),
            *metrics.activity(
                "vision|anna|COMPLETED|60|cpu=1,gres/gpu=2\nvision|anna|CANCELLED by 0|5|\n"
            ),
            *metrics.backlog("DBD Agent queue size: 12\n"),
            *metrics.up({"controller": "x", "accounting": None}),
        ]
    )
    rows = set(text.splitlines())
    assert {
        'mlops_scheduler_node_state{node="gpu1",state="draining"} 1',
        'mlops_scheduler_node_state{node="gpu1",state="mixed"} 0',
        'mlops_scheduler_node_state{node="gpu2",state="down"} 1',
        'mlops_scheduler_node_gpus{node="gpu1"} 4',
        'mlops_scheduler_node_gpus_allocated{node="gpu1"} 2',
        'mlops_scheduler_jobs{team="vision",state="pending"} 1',
        'mlops_scheduler_team_gpus_allocated{team="vision"} 2',
        # The job that its team's limit holds is older, and is not stuck.
        "mlops_scheduler_waiting_seconds 600",
        'mlops_scheduler_user_jobs_day{team="vision",user="anna",state="cancelled"} 1',
        'mlops_scheduler_user_gpu_seconds_day{team="vision",user="anna"} 120',
        "mlops_scheduler_accounting_backlog 12",
        'mlops_scheduler_up{part="controller"} 1',
        'mlops_scheduler_up{part="accounting"} 0',
    } <= rows


def test_every_metric_has_its_help_and_times_keep_their_digits() -> None:
    text = metrics.render([("mlops_scheduler_measured_timestamp_seconds", {}, 1795900000.0)])
    assert text.splitlines() == [
        "# HELP mlops_scheduler_measured_timestamp_seconds When this was measured.",
        "# TYPE mlops_scheduler_measured_timestamp_seconds gauge",
        "mlops_scheduler_measured_timestamp_seconds 1795900000",
    ]

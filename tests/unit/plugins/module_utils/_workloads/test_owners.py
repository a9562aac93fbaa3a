# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._demand.workloads import (
    Known,
    parse_workload,
)
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.owners import (
    OwnedTwice,
    owners,
)
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.placed import Placed, placed


def test_what_serves_has_its_gpus_and_the_scheduler_every_other_one() -> None:
    replicas = [
        Placed("chat", "serving", 0, "g1", gpu_ids=("A",)),
        Placed("night", "training", 0, "g1", gpu_ids=("B",)),
    ]
    assert owners(replicas, {"g1": ["A", "B", "C"], "g2": ["D"]}) == {
        "g1": {"A": "serving", "B": "scheduler", "C": "scheduler"},
        "g2": {"D": "scheduler"},
    }


def test_a_gpu_planned_for_both_is_refused_by_name() -> None:
    replicas = [
        Placed("night", "batch", 0, "g1", gpu_ids=("A",)),
        Placed("chat", "serving", 0, "g1", gpu_ids=("A",)),
    ]
    with pytest.raises(OwnedTwice, match=r"^g1: GPU A is planned for chat and for the jobs of ni"):
        owners(replicas, {"g1": ["A"]})


def test_a_row_is_joined_with_its_workload_and_one_that_left_is_left_out() -> None:
    spec = parse_workload(
        {
            "name": "chat",
            "kind": "serving",
            "requests": {"cpu_cores": 2, "memory": "1GiB"},
            "limits": {"memory": "2GiB"},
            "run": {"engine": "llama_cpp", "model": "tiny", "version": 3},
        },
        Known(),
    )
    row = {"workload": "chat", "replica": 1, "host": "g1", "gpu_ids": ["A"]}
    [found] = placed([spec], [row, {"workload": "gone", "replica": 0, "host": "g1"}])
    assert (found.host, found.replica, found.gpu_ids) == ("g1", 1, ("A",))
    assert (found.cpu_cores, found.memory_limit_mib, found.cpu_limit) == (2, 2048, None)
    assert found.run is spec.run

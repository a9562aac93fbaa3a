# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of hosts, as people write it, becomes an answer and never ends the filter."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._slurm.asked import answer

ASKED: dict[str, Any] = {
    "controllers": ["ctl1"],
    "cluster": "lab",
    "nodes": [],
    "partitions": [{"name": "main", "default": True}],
}


def told(**more: Any) -> list[str]:
    """What speaks of a variable of a host."""
    findings = answer({**ASKED, **more})["findings"]
    return [row["found"] for row in findings if row["found"].startswith("job_scheduler_")]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"reserved": {"gpu1": 5}}, "job_scheduler_reserved.gpu1: must be a mapping"),
        ({"reserved": ["gpu1"]}, "job_scheduler_reserved: must be a mapping, but is a list"),
        (
            {"reserved": {"gpu1": {"memory": 5}}},
            "has the unknown key 'memory'; known are memory_mib",
        ),
        ({"reserved": {"gpu1": {"memory_mib": "1G"}}}, "gpu1.memory_mib: must be a number"),
        ({"reserved": {"gpu1": {"cpu_cores": -1}}}, "gpu1.cpu_cores: must be at least 0"),
        ({"owners": {"gpu1": "serving"}}, "job_scheduler_owners.gpu1: must be a mapping"),
        ({"owners": {"gpu1": {"GPU-1": "me"}}}, "gpu1.GPU-1: must be serving or scheduler"),
    ],
)
def test_what_cannot_be_read_of_a_host_is_a_finding(more: dict[str, Any], said: str) -> None:
    [found] = told(**more)
    assert said in found


def test_what_can_be_read_is_none() -> None:
    reserved = {"gpu1": {"memory_mib": "512", "cpu_cores": 0.5}, "gpu2": {}}
    assert told(reserved=reserved, owners={"gpu1": {"GPU-1": "serving"}}) == []

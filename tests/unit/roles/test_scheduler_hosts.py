# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts the scheduler has and which are lost, as the variables say it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

ROOT = Path(__file__).resolve().parents[3]
GROUPS = {
    "all": ["ctl1", "ctl2", "gpu1", "gpu2", "gpu3"],
    "scheduler": ["ctl2", "ctl1"],
    "gpu": ["gpu1", "gpu2"],
}


def rendered(page: str, name: str, **variables: Any) -> Any:
    loader = DataLoader()
    known = loader.load_from_file(str(ROOT / page), trusted_as_template=True)
    known = {**known, "inventory_hostname": "ctl1", "groups": GROUPS, **variables}
    return Templar(loader=loader, variables=known).template(known[name])


@pytest.mark.parametrize(
    "lost", [["gpu1", "gpu3"], "gpu1,gpu3", "gpu1, gpu3"], ids=["list", "words", "blanks"]
)
def test_lost_hosts_are_no_nodes_however_they_are_named(lost: object) -> None:
    page = "roles/job_scheduler/vars/main.yml"
    given = {"job_scheduler_node_groups": ["gpu", "scheduler_nodes"], "mlops_lost_hosts": lost}
    assert rendered(page, "__job_scheduler_lost", **given) == ["gpu1", "gpu3"]
    assert rendered(page, "__job_scheduler_nodes", **given) == ["gpu2"]


@pytest.mark.parametrize("lost", [{}, {"mlops_lost_hosts": []}, {"mlops_lost_hosts": None}])
def test_nothing_is_lost_where_nothing_is_declared(lost: dict[str, Any]) -> None:
    assert rendered("roles/job_scheduler/vars/main.yml", "__job_scheduler_lost", **lost) == []


def test_the_first_controller_is_that_of_the_inventory() -> None:
    page, name = "roles/workloads/vars/main.yml", "__workloads_schedulers"
    assert rendered(page, name) == ["ctl2", "ctl1"]
    away = {**GROUPS, "mlops_deferred": ["ctl2"]}
    assert rendered(page, name, groups=away) == ["ctl1"]

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: workloads
short_description: What runs where, as the plan has placed it
version_added: 0.3.0
author:
  - The mlops.onprem developers (@mlops-onprem)
description:
  - Joins C(mlops_workloads) with their placement and answers a question of the role C(workloads).
options:
  _input:
    description: The workloads, as C(mlops_workloads) has them.
    type: list
    elements: dict
    required: true
  question:
    description: What is asked.
    type: str
    required: true
    choices:
      - hosts
      - releases
      - units
      - owners
      - replicas
      - planned
      - environments
      - local
      - gateway
      - external
      - authorities
      - checks
      - gateway_checks
      - jobs
      - job_hosts
      - accounts
      - datasets
      - dataset_hosts
      - quadlets
      - gpu_owners
  placement:
    description:
      - Rows of the placement, each with C(workload), C(replica) and C(host); or such rows without
        C(host) under the names of their hosts.
    type: raw
    required: true
  host:
    description: The host that is asked about.
    type: str
    default: ""
  releases:
    description: What M(mlops.onprem.workload_releases) has brought, for V(units).
    type: dict
    default: {}
  facts:
    description: What was measured of the host (C(mlops_supply)), for V(units) and V(quadlets).
    type: dict
    default: {}
  instances:
    description:
      - Names of MIG instances by GPU and first slice, for V(units) and V(quadlets), where the
        driver does not tell them.
    type: dict
    default: {}
  check:
    description:
      - Nothing is changed, so what an earlier role would have made is not there. For V(units),
        V(quadlets) and V(jobs).
    type: bool
    default: false
  site:
    description: Identity of the site, for V(jobs).
    type: str
    default: ""
  members:
    description: Members by team, for V(jobs) and V(accounts).
    type: dict
    default: {}
  scheduler:
    description: Hosts of the scheduler, for V(jobs).
    type: list
    elements: str
    default: []
  supply:
    description: What was measured of each host, for V(jobs) and V(gpu_owners).
    type: dict
    default: {}
  tracking:
    description: Address of the model registry, for V(jobs).
    type: str
    default: ""
  registry:
    description: Our own registry, for V(quadlets).
    type: str
    default: ""
  login:
    description: File on the host with the account of that registry, for V(quadlets).
    type: str
    default: ""
  margin_percent:
    description: What a replica without a limit may take above its request, for V(units).
    type: float
    default: 25
  addresses:
    description: Where hosts are reached, for V(gateway).
    type: dict
    default: {}
  locks:
    description: Lock files by engine, for V(environments).
    type: dict
    default: {}
  url:
    description: The gateway, for V(gateway_checks).
    type: str
    default: ""
  token:
    description: The key that the checks show, for V(gateway_checks).
    type: str
    default: ""
  teams:
    description: Names of the teams, for V(gateway).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show which hosts have something to run
  ansible.builtin.debug:
    msg: "{{ mlops_workloads | mlops.onprem.workloads('hosts', placement=rows) }}"
"""

RETURN = r"""
_value:
  description: The answer.
  type: list
  elements: raw
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import ShapeError
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.containers import (
    ContainerRefused,
)
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.datasets import DatasetRefused
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.jobs import JobRefused
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.owners import OwnedTwice
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.placed import Rows
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.questions import (
    QUESTIONS,
    answer,
)
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.serving import Refused


def workloads(
    written: Sequence[Mapping[str, Any]],
    question: str,
    placement: Rows,
    host: str = "",
    **more: Any,
) -> Any:
    if question not in QUESTIONS:
        raise AnsibleFilterError(
            f"workloads knows no question {question!r}; it knows {', '.join(QUESTIONS)}."
        )
    try:
        return answer(written, placement, question, host, more)
    except (ShapeError, Refused, JobRefused, ContainerRefused, DatasetRefused, OwnedTwice) as error:
        raise AnsibleFilterError(f"{error}.") from None


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"workloads": workloads}

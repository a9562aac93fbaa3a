#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts are slower than others of the same shape."""

from __future__ import annotations

DOCUMENTATION = r"""
module: capacity_benchmark_compare
short_description: Find hosts that are slower than others of the same shape
version_added: 0.2.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - Compares measurements of M(mlops.onprem.capacity_benchmark) between hosts that have the same
    processor, memory, disks and GPUs, by the facts of M(mlops.onprem.capacity_facts).
  - A host below 0.9 times the median of its shape is a finding, and so is an C(fdatasync) whose
    99th percentile is not below 10 ms, which is etcd's rule for disks.
  - Only values that the same tool measured in the same way are compared. Of C(fdatasync) the
    median is compared, and may be at most the median of the shape divided by 0.9.
  - Runs on the controller and changes nothing.
options:
  results:
    description: The RV(mlops.onprem.capacity_benchmark#module:capacity_benchmark) of each host.
    type: dict
    required: true
  supply:
    description:
      - Facts of M(mlops.onprem.capacity_facts) by host. A host without facts is compared with no
        other.
    type: dict
    default: {}
  share:
    description: Share of the median that a host has to reach.
    type: float
    default: 0.9
  fdatasync_p99_ms:
    description: Milliseconds below which the 99th percentile of C(fdatasync) has to be.
    type: float
    default: 10
extends_documentation_fragment: [mlops.onprem.read_only]
seealso:
  - module: mlops.onprem.capacity_benchmark
"""

EXAMPLES = r"""
- name: Compare all hosts
  mlops.onprem.capacity_benchmark_compare:
    results: >-
      {{ dict(ansible_play_hosts | zip(ansible_play_hosts
         | map('extract', hostvars, ['measured', 'capacity_benchmark']))) }}
    supply: >-
      {{ dict(ansible_play_hosts | zip(ansible_play_hosts
         | map('extract', hostvars, ['facts', 'capacity_facts']))) }}
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
findings:
  description: Findings with C(id), C(host), C(severity), C(found), C(wanted), C(remedy).
  returned: always
  type: list
  elements: dict
not_compared:
  description: What was compared with no other host, in sentences.
  returned: always
  type: list
  elements: str
shapes:
  description: The hosts of each shape.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import ShapeError
from ansible_collections.mlops.onprem.plugins.module_utils._supply.speed.judge import (
    compare,
    shape_of,
)


def main() -> None:
    """Ansible's entry point."""
    module = AnsibleModule(
        argument_spec={
            "results": {"type": "dict", "required": True},
            "supply": {"type": "dict", "default": {}},
            "share": {"type": "float", "default": 0.9},
            "fdatasync_p99_ms": {"type": "float", "default": 10},
        },
        supports_check_mode=True,
    )
    share, limit = module.params["share"], module.params["fdatasync_p99_ms"]
    if not 0 < share <= 1:
        module.fail_json(msg=f"share must be above 0 and at most 1, but is {share}.")
    if not limit > 0:
        module.fail_json(msg=f"fdatasync_p99_ms must be above 0, but is {limit}.")
    supply = module.params["supply"]
    shapes = {
        host: shape_of(facts)
        for host, facts in supply.items()
        if isinstance(facts, dict) and "cpu" in facts
    }
    try:
        findings, alone = compare(module.params["results"], shapes, share, limit)
    except ShapeError as error:
        module.fail_json(msg=f"The results cannot be read: {error}.")
        return
    hosts: dict[str, list[str]] = {}
    for host, shape in sorted(shapes.items()):
        hosts.setdefault(shape, []).append(host)
    module.exit_json(
        changed=False,
        findings=[finding.as_dict() for finding in findings],
        not_compared=alone,
        shapes=hosts,
    )


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the preflight action; the work is done on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Take down what a role needs of a host and what its checks found
version_added: 0.1.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - Ends the preflight of a role. Adds the role's needs to the fact C(mlops_demand) and its findings
    to the fact C(mlops_findings) of the host, in place of what the same role declared before.
  - Runs on the controller only and changes nothing. The assessment adds up and judges the entries
    of all roles on all hosts afterwards, so a negative finding does not fail the task.
options:
  role:
    description: Name of the role that speaks, with or without the name of its collection.
    type: str
    required: true
  demand:
    description:
      - One entry for each service that the role places on the host. Of a role that does not give
        it, C(<role>_demand) in its C(vars/capacity.yml) is read.
      - Keys are C(service), C(unit), C(cpu_cores), C(memory_mib), C(gpus), C(source),
        C(disks) with entries of C(path), C(mib), C(why) and C(inodes), and
        C(ports) with entries of C(port), C(address) and C(protocol).
      - Services with the same C(unit) may share a port.
    type: list
    elements: raw
  findings:
    description:
      - One entry for each answer of a check.
      - Keys are C(id) as C(role.check), C(severity) (C(pass), C(warn), C(fail), or C(error) for a
        check that could not be made), C(found), C(wanted), C(remedy), and C(host), which is the
        current host if it is not given.
    type: list
    elements: raw
    default: []
  failed:
    description:
      - The variable C(ansible_failed_result) of a preflight that was rescued. Every variable that
        its argument specification refuses becomes a finding of severity C(fail); any other failure
        becomes one of severity C(error).
    type: dict
  reset:
    description: Forget first what all roles declared about this host earlier.
    type: bool
    default: false
extends_documentation_fragment: [mlops.onprem.read_only]
"""

EXAMPLES = r"""
- name: Declare needs and findings of the monitoring role
  mlops.onprem.preflight:
    role: monitoring
    demand:
      - service: Prometheus
        unit: mlops-prometheus.service
        cpu_cores: 0.3
        memory_mib: 150
        disks:
          - path: /var/lib/mlops/monitoring
            mib: 2048
            why: 15 days of samples
        ports:
          - port: 9090
            address: 127.0.0.1
        source: measured
    findings:
      - id: monitoring.retention
        severity: pass
        found: retention of 15 days
"""

RETURN = r"""
ansible_facts:
  description: The facts that the task adds to the host.
  returned: always
  type: dict
  contains:
    mlops_demand:
      description: Needs of all roles on this host so far, each with its C(role).
      returned: always
      type: list
      elements: dict
    mlops_findings:
      description: Findings of all roles on this host so far, each with its C(role).
      returned: always
      type: list
      elements: dict
"""

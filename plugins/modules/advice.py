#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the advice action; the work is done on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: advice
short_description: Advise what to request less or more of, from what was used
version_added: 0.3.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - Asks Prometheus what workloads, GPUs, models and file systems used in the last weeks. Answers
    for each request one of advise, keep and too little data, with the new value, what it saves and
    the evidence.
  - Plans the workloads again as if everything advised were done, on what the last assessment
    measured. The placement is checked by separate code, with every host lost in turn.
  - Writes C(advice.json) into a directory of the controller. The report is a record of the run and
    not counted as a change. Nothing is written in check mode, and nothing is ever applied.
  - Runs on the controller only.
options:
  days:
    description: How many days are looked at.
    type: int
    default: 28
  least_days:
    description: How many days must have been measured.
    type: int
    default: 14
  ahead_days:
    description: For how many days an advice is to hold.
    type: int
    default: 14
  chance:
    description: How many of all advices may turn out too low, as a part of 1.
    type: float
    default: 0.01
  exceeded:
    description: In how much of the time a workload may want more processors than it requests.
    type: float
    default: 0.01
  workloads:
    description: Work of the site, as C(mlops_workloads) has it.
    type: raw
    default: []
  offers:
    description: Hosts that could be bought, as C(mlops_host_offers) has them.
    type: raw
    default: []
  planning:
    description: How to plan, as M(mlops.onprem.assessment) is told.
    type: dict
    default: {}
  directory:
    description: Where C(assessment.json) and C(placement.json) of the last run are.
    type: path
    required: true
extends_documentation_fragment: [mlops.onprem.prometheus]
attributes:
  check_mode:
    support: full
    description: Advises as always, but writes no report.
  diff_mode:
    support: none
    description: There is nothing to compare.
seealso:
  - module: mlops.onprem.assessment
"""

EXAMPLES = r"""
- name: Advise what to request less or more of
  mlops.onprem.advice:
    url: https://mlops.example.com/prometheus
    user: admin
    password: "{{ gateway_admin_password }}"
    ca_file: "{{ inventory_dir }}/.state/ca-bundle.crt"
    workloads: "{{ mlops_workloads }}"
    directory: "{{ inventory_dir }}/.state"
"""

RETURN = r"""
text:
  description: The answers for people.
  returned: success
  type: str
  sample: |-
    Advised:
      mlops_workloads[chat].requests.memory_mib: 49,152 MiB -> 31,744 MiB  (saves 17,408 MiB in all)
        in 28 days it used at most 27,811 MiB; 28,640 MiB are expected of the time ahead
advices:
  description: The answers, as docs/schema/advice.schema.json describes them.
  returned: success
  type: list
  elements: dict
  sample: []
verified:
  description: Whether everything fits if all of it is done; null where nothing changes a request.
  returned: success
  type: dict
  sample: {holds: true, said: "with all of it together everything fits, checked by separate code"}
window_days:
  description: How many days were looked at.
  returned: success
  type: int
  sample: 28
"""

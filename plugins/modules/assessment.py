#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the assessment action; the work is done on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: assessment
short_description: Judge everything that was found about a site, and report it
version_added: 0.1.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - Collects what M(mlops.onprem.capacity_facts) and M(mlops.onprem.preflight) kept for each host,
    checks clocks, systems and package managers, adds up the demand as M(mlops.onprem.capacity_plan)
    does, applies the waivers of the site and gives one verdict over all hosts.
  - Plans the workloads of the site on what the roles leave, if there are any. That they do not fit
    is a finding like any other; so is that it could not be decided.
  - Writes C(assessment.json) and C(assessment.html) into a directory of the controller, and
    C(placement.json) if the verdict is to go. The report
    is a record of the run and not counted as a change. Nothing is written in check mode.
  - Runs on the controller only. A negative verdict does not fail the task; see
    P(mlops.onprem.verdict#lookup).
options:
  hosts:
    description: The hosts to judge.
    type: list
    elements: str
    required: true
  site:
    description: Name of the site, for the report.
    type: str
    required: true
  profile:
    description: Name of the profile that margins and rules come from, for the report.
    type: str
    required: true
  language:
    description: Language of the report's frame, C(en) or C(de). Findings are English.
    type: str
    default: en
  margins:
    description: Margins of M(mlops.onprem.capacity_plan).
    type: dict
    required: true
  rules:
    description:
      - What is asked of every host. C(clock_warn_seconds), C(clock_fail_seconds), C(systems),
        C(other_system), C(architectures), C(python), C(shared_machine_id), C(free_system_uids).
    type: dict
    required: true
  deferred_max:
    description:
      - Percent of the devices (hosts of the group C(edge) that others do not need) that may be
        switched off and are then left out of the run instead of stopping it. Two may be on a small
        site, as long as one answers. V(0) is for none.
    type: float
    default: 0.0
  lost:
    description:
      - Hosts that are declared lost, as C(mlops_lost_hosts) has them. They are left out, and what
        was placed on them is placed again; what cannot move is a finding and waits.
    type: raw
    default: []
  max_age:
    description: Seconds after which facts are too old.
    type: float
    required: true
  findings:
    description: Further findings, as from M(mlops.onprem.inventory_check).
    type: list
    elements: dict
    default: []
  hints:
    description: Variables that change a need, from M(mlops.onprem.inventory_check).
    type: dict
    default: {}
  waivers:
    description:
      - Findings that this site accepts, each with C(check), C(host), C(reason), C(owner),
        C(expires).
    type: raw
    default: []
  workloads:
    description: Work that the site should carry, as C(mlops_workloads) has it.
    type: raw
    default: []
  offers:
    description: Hosts that could be bought, as C(mlops_host_offers) has them.
    type: raw
    default: []
  planning:
    description: How to plan, as C(planning) of M(mlops.onprem.capacity_plan).
    type: dict
    default: {}
  what_if:
    description: Changes to try, as C(what_if) of M(mlops.onprem.capacity_plan).
    type: raw
    default: {}
  accept_undecided:
    description: Whether a plan that is not decided is a warning only.
    type: bool
    default: false
  directory:
    description: Directory of the controller for the report and the placement.
    type: path
    required: true
attributes:
  check_mode:
    support: full
    description: Judges as always, but writes no report.
  diff_mode:
    support: none
    description: There is nothing to compare.
"""

EXAMPLES = r"""
- name: Judge the site
  mlops.onprem.assessment:
    hosts: "{{ ansible_play_hosts_all }}"
    site: example
    profile: pilot
    margins:
      memory_reserve_mib: 512
    rules:
      clock_fail_seconds: 5
    max_age: 3600
    directory: /tmp/assessment
  run_once: true
  register: assessment
"""

RETURN = r"""
verdict:
  description: V(go), V(refused), or V(could not assess).
  returned: always
  type: str
exit_code:
  description: 0 go, 1 refused, 2 could not assess.
  returned: always
  type: int
counts:
  description: Number of findings by severity, and of those waived.
  returned: always
  type: dict
findings:
  description: All findings, the heaviest first, each with the waiver that covers it.
  returned: always
  type: list
  elements: dict
table:
  description: The arithmetic of M(mlops.onprem.capacity_plan).
  returned: always
  type: list
  elements: dict
workloads:
  description:
    - C(workloads) of M(mlops.onprem.capacity_plan); null without workloads.
    - C(days) are those on which something runs out, as the run before told them while they are
      near.
  returned: always
  type: dict
placement:
  description: For each host with work, the replicas placed there, as in C(workloads.placement).
  returned: always
  type: dict
text:
  description: The report as lines for a terminal.
  returned: always
  type: list
  elements: str
report:
  description: Path of the written page, empty in check mode.
  returned: always
  type: str
ansible_facts:
  description: The verdict, kept for P(mlops.onprem.verdict#lookup).
  returned: always
  type: dict
  contains:
    mlops_assessment:
      description: C(verdict), C(exit_code), C(headline), C(report), C(placement) and C(run).
      returned: always
      type: dict
"""

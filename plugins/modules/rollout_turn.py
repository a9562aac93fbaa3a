#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action rollout_turn; the work is done on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_turn
short_description: Carry a staged rollout on until devices are to be told something
version_added: 0.3.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - Runs on the controller, delegated to the control host. Hands what devices answered to
    M(mlops.onprem.rollout), and as long as nothing is to be ordered looks at the ring with
    M(mlops.onprem.rollout_look) and asks again. Says each decision and each look as it comes.
  - What devices that fetch their orders are to be told is published with
    M(mlops.onprem.rollout_channel). What came of it, and what they have counted, is read with
    M(mlops.onprem.fleet_states). No connection is made to them.
  - Decides nothing and touches no device. A run that is killed here is taken up by the next one.
  - When the rollout has ended, writes C(rollout-<id>.html) and C(rollout-<id>.json), see
    P(mlops.onprem.rollout_verdict#lookup).
options:
  asked:
    description: What a person asked for; C(model), C(action), C(approved_by).
    type: dict
    required: true
  limits:
    description: Limits and gates of the plan, as O(mlops.onprem.rollout#module:request) has them.
    type: dict
    default: {}
  release:
    description: What M(mlops.onprem.model_release_info) found.
    type: dict
    default: {}
  addresses:
    description: C(name), C(serving) and C(metrics) of every device.
    type: list
    elements: dict
    default: []
  hosts:
    description: The devices that the rollout is for.
    type: list
    elements: str
    required: true
  looked:
    description: Variable in which each device has what it said at first.
    type: str
    default: __rollout_looked
  answer:
    description: Variable in which each device has what came of its last order.
    type: str
    default: __rollout_answer
  fleet:
    description:
      - C(site), the identity of the site, and in C(devices) the devices that fetch their orders, by
        name, with the C(channel) that each follows and its C(device_class).
    type: dict
    default: {}
  last:
    description: What this returned the turn before; empty in the first turn of a run.
    type: dict
    default: {}
  local:
    description: Limits of the gates on the devices.
    type: dict
    default: {}
  prometheus:
    description: C(url), C(user), C(password), C(ca_file) of Prometheus, for the site's queries.
    type: dict
    default: {}
  journals:
    description: Directory of the journals on the control host.
    type: str
    required: true
  reports:
    description: Directory of the controller for the pages.
    type: str
    required: true
attributes:
  check_mode:
    description: Says what would be done, and the plan where a rollout would begin.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: Decide what comes next
  mlops.onprem.rollout_turn:
    asked: {model: defects, action: start}
    release: "{{ found }}"
    hosts: "{{ groups['edge'] }}"
    last: "{{ turn | default({}) }}"
    journals: /var/lib/mlops/rollout
    reports: /srv/site/.state/rollouts
  delegate_to: "{{ groups['control'][0] }}"
  run_once: true
  register: turn
"""

RETURN = r"""
orders:
  description: By device, what it is to be told with M(mlops.onprem.rollout_device).
  returned: success
  type: dict
pulled:
  description: By device that fetches its orders, what it has not answered yet.
  returned: success
  type: dict
channels:
  description: What channels are to say, see RV(mlops.onprem.rollout#module:channels).
  returned: success
  type: list
  elements: dict
published:
  description: By channel, what this run has published, for the next turn.
  returned: success
  type: dict
heard:
  description: By device, which answer was handed in last, for the next turn.
  returned: success
  type: dict
complained:
  description: By device, why it does not do what its channel says, for the next turn.
  returned: success
  type: dict
model:
  description: The model.
  returned: success
  type: str
generation:
  description: The generation of this run.
  returned: success
  type: int
rollout:
  description: Name of the rollout.
  returned: success
  type: str
outcome:
  description: How it ended, empty while it goes on.
  returned: success
  type: str
report:
  description: The report, as C(docs/schema/rollout.schema.json) describes it.
  returned: at the end
  type: dict
page:
  description: The page for people.
  returned: at the end
  type: str
exit_code:
  description: What the playbook ends with.
  returned: at the end
  type: int
ansible_facts:
  description: How it ended, kept for P(mlops.onprem.rollout_verdict#lookup).
  returned: at the end
  type: dict
  contains:
    mlops_rollouts:
      description: By model C(exit_code), C(said), C(page) and C(run).
      returned: at the end
      type: dict
"""

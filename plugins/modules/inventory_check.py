#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the inventory_check action; the work is done on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: inventory_check
short_description: Find what is wrong with the inventory
version_added: 0.1.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - Looks for unknown groups, variables that nothing reads because they are misspelt, malformed or
    overlapping networks in C(mlops_networks), hosts outside of them, addresses used twice, hosts in
    two rings, and groups that must have hosts but have none.
  - The names and values of variables are compared with the argument specifications of all roles of
    this collection. Variables of others are not looked at.
  - Looks too for what Ansible passes over with a warning or without a word. These are sources that
    it could not parse, keys of a YAML inventory that mean nothing, keys that stand twice, names of
    hosts that are a pattern, and files of variables that it does not read for their name or place.
  - Runs on the controller only and changes nothing. Negative findings do not fail the task.
options:
  ignore_groups:
    description: Groups made by the play itself, which are no part of the inventory.
    type: list
    elements: str
    default: []
extends_documentation_fragment: [mlops.onprem.read_only]
"""

EXAMPLES = r"""
- name: Check the inventory
  mlops.onprem.inventory_check:
  run_once: true
  register: inventory

- name: Show what is wrong
  ansible.builtin.debug:
    msg: "{{ inventory.findings | selectattr('severity', 'eq', 'fail') | map(attribute='found') }}"
"""

RETURN = r"""
findings:
  description: Findings with C(id), C(host), C(severity), C(found), C(wanted), C(remedy).
  returned: always
  type: list
  elements: dict
whole:
  description: Whether the inventory was read whole and has what every role needs to be asked.
  returned: always
  type: bool
unasked:
  description: Roles that are not asked, as a variable of theirs has a value that they do not take.
  returned: always
  type: list
  elements: str
hints:
  description:
    - Variables that change a need, by role and kind of resource, for
      M(mlops.onprem.capacity_plan).
  returned: always
  type: dict
"""

#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the site_identity action; the work is done on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: site_identity
short_description: Find out which site the hosts are, and whether the keys at hand are its own
version_added: 0.3.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - Compares what M(mlops.onprem.capacity_facts) or M(mlops.onprem.host_identity) read on the hosts
    with each other and with the secrets at hand. A site whose hosts say nothing gets a new one.
  - Runs on the controller only. Negative findings do not fail the task, unless O(refuse) is set.
options:
  hosts:
    description: Hosts of the play, also those that did not answer.
    type: list
    elements: str
    required: true
  site_id:
    description: Identity that the site is to have, for one that lost all its hosts.
    type: str
    default: ""
  rekey:
    description: V(true), or the names of the secrets that are changed on purpose.
    type: raw
    default: false
  directory:
    description: Where the controller remembers the site.
    type: path
    required: true
  secrets:
    description: Whether to compare the secrets at hand.
    type: bool
    default: true
  hold:
    description: Make up secrets that do not exist, and keep none of these, in this run.
    type: bool
    default: false
  refuse:
    description: Fail if a finding stands against it.
    type: bool
    default: false
  keep:
    description: Remember the site on the controller, and return the fingerprints of its secrets.
    type: bool
    default: false
extends_documentation_fragment: [mlops.onprem.read_only]
"""

EXAMPLES = r"""
- name: Find out which site this is
  mlops.onprem.site_identity:
    hosts: "{{ ansible_play_hosts_all }}"
    directory: "{{ mlops_state_dir }}"
  run_once: true
"""

RETURN = r"""
findings:
  description: Findings with C(id), C(host), C(severity), C(found), C(wanted), C(remedy).
  returned: always
  type: list
  elements: dict
fingerprints:
  description: Short fingerprints of the secrets at hand, by their names.
  returned: with O(keep=true)
  type: dict
ansible_facts:
  description: The site of this run.
  returned: always
  type: dict
  contains:
    mlops_site:
      description: Its C(id), whether it C(adopts), and its C(authority) as hosts trust it.
      type: dict
      returned: always
"""

#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action that writes kits; the work is done on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_kit
short_description: Write what a device that nobody reaches installs itself from
version_added: 0.3.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - Reads what roles place, install and run from their own tasks, with the variables of the host,
    and writes it as plain data into a directory of the controller, with the Python environments
    and the code that does the same over SSH. No connection is made to the host.
  - C(install.py) of the bundle does these tasks on the device. What it makes stands in the ledger
    of the host, as if a run over SSH had made it.
  - Last of all the digest of every file of the directory is written into C(manifest.json).
  - Runs on the controller only. Debian packages are not part of it; they have to be on the device.
options:
  directory:
    description: Directory of the controller, which has to exist.
    type: path
    required: true
  system:
    description: System of the device, such as V(debian 13), of the table of supported systems.
    type: str
    required: true
  machine:
    description: V(x86_64) or V(aarch64).
    type: str
    required: true
  site:
    description: The site that the device is to belong to, with C(id) and C(name).
    type: dict
    required: true
  roles:
    description: The roles, in the order in which a run would come to them.
    type: list
    elements: dict
    required: true
    suboptions:
      role:
        description: Name of the role.
        type: str
        required: true
      tasks:
        description: File of its tasks to begin with.
        type: str
        default: main.yml
      vars:
        description: Variables that whoever includes the role would give it.
        type: dict
        default: {}
"""

EXAMPLES = r"""
- name: Write what the device installs itself from
  mlops.onprem.host_kit:
    directory: "{{ mlops_state_dir }}/enrol-{{ inventory_hostname }}"
    system: debian 13
    machine: aarch64
    site: {id: example-company, name: Example}
    roles:
      - role: trust
      - role: model_serving
      - {role: common, tasks: nginx.yml, vars: {common_nginx_owner: model_serving}}
"""

RETURN = r"""
tasks:
  description: How many tasks the device will do.
  returned: success
  type: int
  sample: 17
"""

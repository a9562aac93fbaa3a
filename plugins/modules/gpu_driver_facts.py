#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has of GPUs and their drivers, and what the role would do about it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_driver_facts
short_description: Look at the GPU driver of a host and judge it
version_added: 0.3.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - Reads which GPUs are on the bus, which driver is loaded and installed and where it came from,
    its libraries and persistence daemon, what dkms built, which kernels there are and which one
    boots next, Secure Boot and the key of dkms, and which drivers apt knows.
  - Judges what a run in O(mode) would do, with a sentence for every pair of driver, card, kernel
    and CUDA that does not work.
  - Only reads.
options:
  mode:
    description: What a run may do. Adopting changes no driver.
    type: str
    choices: [adopt, install, upgrade]
    default: adopt
  source:
    description: Whose packages are installed.
    type: str
    choices: [debian, nvidia]
    default: debian
  branch:
    description: Branch of the driver, such as V(580); V(0) is the newest that fits.
    type: int
    default: 0
  module:
    description: Which kernel module; V(auto) is the open one where it fits.
    type: str
    choices: [auto, open, closed]
    default: auto
  cuda:
    description: Major version of CUDA that programs need; V(0) where none is known.
    type: int
    default: 0
  month:
    description: This month, as V(2026-11), by which ends of life are judged. Empty, they are not.
    type: str
    default: ""
  placement:
    description: What the plan puts on the host, as C(mlops_placement) has it.
    type: list
    elements: dict
    default: []
  measured:
    description: GPUs as M(mlops.onprem.capacity_facts) measured them.
    type: dict
    default: {}
  repository:
    description: Whether the role adds a repository from which apt will know further drivers.
    type: bool
    default: false
extends_documentation_fragment: [mlops.onprem.read_only]
"""

EXAMPLES = r"""
- name: Judge the driver of the GPUs
  mlops.onprem.gpu_driver_facts:
    mode: install
    cuda: 12
  register: driver

- name: Show what would be done
  ansible.builtin.debug:
    msg: "{{ driver.verdict.sentence }}"
"""

RETURN = r"""
gpu_driver:
  description: What was read.
  returned: success
  type: dict
  contains:
    version:
      description: The driver that is loaded, or else installed.
      type: str
      returned: always
    open:
      description: Whether its kernel module is the open one; null where that is not known.
      type: bool
      returned: always
    origin:
      description: C(debian), C(nvidia), C(runfile), C(elsewhere), or empty without a driver.
      type: str
      returned: always
    cards:
      description: Cards of NVIDIA with C(address), C(device), C(architecture) and C(driver).
      type: list
      elements: dict
      returned: always
    running:
      description: The kernel that runs.
      type: str
      returned: always
    next:
      description: The kernel that boots next.
      type: str
      returned: always
verdict:
  description:
    - C(action) (C(adopt), C(install), C(upgrade), C(refuse) or C(nothing)), C(sentence),
      C(packages), C(version), C(module), C(hold_kernel), C(clashes), and C(findings) as
      M(mlops.onprem.preflight) takes them.
  returned: success
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import finish
from ansible_collections.mlops.onprem.plugins.module_utils._gpu_driver.facts import parse
from ansible_collections.mlops.onprem.plugins.module_utils._gpu_driver.read import read
from ansible_collections.mlops.onprem.plugins.module_utils._gpu_driver.verdict import judge
from ansible_collections.mlops.onprem.plugins.module_utils._gpu_driver.wish import wish_of


def work(module: AnsibleModule) -> dict[str, Any]:
    facts = parse(read())
    verdict = judge(facts, wish_of(module.params))
    return {"changed": False, "gpu_driver": facts.as_dict(), "verdict": verdict.as_dict()}


def main() -> None:
    finish(
        AnsibleModule(
            argument_spec={
                "mode": {
                    "type": "str",
                    "choices": ["adopt", "install", "upgrade"],
                    "default": "adopt",
                },
                "source": {"type": "str", "choices": ["debian", "nvidia"], "default": "debian"},
                "branch": {"type": "int", "default": 0},
                "module": {"type": "str", "choices": ["auto", "open", "closed"], "default": "auto"},
                "cuda": {"type": "int", "default": 0},
                "month": {"type": "str", "default": ""},
                "placement": {"type": "list", "elements": "dict", "default": []},
                "measured": {"type": "dict", "default": {}},
                "repository": {"type": "bool", "default": False},
            },
            supports_check_mode=True,
        ),
        work,
    )


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads on a host what Slurm is configured by."""

from __future__ import annotations

DOCUMENTATION = r"""
module: slurm_probe
short_description: Read what Slurm is configured by, and whether somebody else runs one here
version_added: 0.3.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - Reads the host name, the version of cgroups with its controllers, the device files of NVIDIA
    GPUs with their minor numbers, and signs of a Slurm that the platform did not make.
  - Changes nothing. The answer becomes the fact C(mlops_slurm).
options:
  role:
    description: Role whose things in the host's ledger are the platform's own.
    type: str
    default: job_scheduler
  reach:
    description: Host, by name or address, whose addresses as this host sees them are told.
    type: str
    default: ""
  authority:
    description: File of authorities on the host of which is told what is wrong with it.
    type: path
    default: ""
extends_documentation_fragment: [mlops.onprem.read_only]
"""

EXAMPLES = r"""
- name: Read what Slurm is configured by
  mlops.onprem.slurm_probe:
"""

RETURN = r"""
ansible_facts:
  description: What was read.
  returned: always
  type: dict
  contains:
    mlops_slurm:
      description: The answers.
      type: dict
      returned: always
      contains:
        hostname: {description: Host name without a domain., type: str, returned: always}
        cgroup:
          description: C(version), C(controllers) and C(v1_mountpoints).
          type: dict
          returned: always
        devices: {description: Device files of NVIDIA GPUs., type: list, returned: always}
        minors:
          description: Minor numbers by PCI address and by UUID, as the driver tells them.
          type: dict
          returned: always
        reach:
          description: Addresses of O(reach). Empty where it is not known here.
          type: list
          returned: always
        authority:
          description: What is wrong with O(authority). Empty if nothing is, or none was named.
          type: str
          returned: always
        foreign:
          description: Signs of a Slurm or munge of somebody else.
          type: list
          returned: always
"""

import socket

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import finish
from ansible_collections.mlops.onprem.plugins.module_utils._host.system import Book
from ansible_collections.mlops.onprem.plugins.module_utils._slurm.probe import authority, probe
from ansible_collections.mlops.onprem.plugins.module_utils._supply.tree import Host


def addresses(name: str) -> list[str]:
    """Every address of a host, in one order; none where its name leads nowhere."""
    try:
        rows = socket.getaddrinfo(name, None, proto=socket.IPPROTO_TCP) if name else []
    except OSError:
        return []
    return sorted({str(row[4][0]) for row in rows})


def work(module: AnsibleModule) -> dict[str, object]:
    ours = bool(Book.peek().of(module.params["role"]))
    told = {
        **probe(Host(), ours),
        "reach": addresses(module.params["reach"]),
        "authority": authority(Host(), module.params["authority"]),
    }
    return {"changed": False, "ansible_facts": {"mlops_slurm": told}}


def main() -> None:
    finish(
        AnsibleModule(
            argument_spec={
                "role": {"type": "str", "default": "job_scheduler"},
                "reach": {"type": "str", "default": ""},
                "authority": {"type": "path", "default": ""},
            },
            supports_check_mode=True,
        ),
        work,
    )


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_remove
short_description: Take away from a host what was created for a role
version_added: 0.1.0
description:
  - Takes away what the host's ledger says was created for O(role), in this order. Services, Python
    applications, files (an adopted original is put back), packages with all that they leave,
    directories, users, groups.
  - What another role still wants stays until that role is removed. What was there before the
    platform is not in the ledger and is not touched.
  - What somebody else has begun to use is kept, named with the sign of it, and stays recorded.
    That is a package that came with the platform and has files or changed settings of others, a
    unit or a program that runs for others, or a mark of an administrator in apt; and files of
    others in directories that would go as a whole. A later removal takes it when it is free.
  - Otherwise nothing of the platform is left after the last role, the ledger included.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  site_id:
    description:
      - Identity of the site that the task is for, as the action plugin sends it. A host that says
        it belongs to another site is refused. Not for playbooks.
    type: str
  role:
    description: Role whose things go.
    type: str
    required: true
  keep:
    description:
      - Paths to keep, with what is in them. They stay recorded, so that a later removal without
        this takes them away. Users and groups that own a kept path stay, too.
    type: list
    elements: path
    default: []
  unless:
    description: Globs. While one of them matches anything, nothing is removed.
    type: list
    elements: str
    default: []
  only:
    description:
      - Names of services, users and packages, if not all of the role is to go. With a package goes
        what it brought and nothing else needs. Files and directories stay.
    type: list
    elements: str
    default: []
extends_documentation_fragment: [mlops.onprem.previewed]
seealso:
  - module: mlops.onprem.host_files
  - module: mlops.onprem.host_packages
  - module: mlops.onprem.host_service
"""

EXAMPLES = r"""
- name: Remove monitoring but keep its measurements
  mlops.onprem.host_remove:
    role: monitoring
    keep: [/var/lib/mlops/monitoring/prometheus]

- name: Remove one exporter of the monitoring
  mlops.onprem.host_remove:
    role: monitoring
    only: [mlops-node-exporter, prometheus-node-exporter]
"""

RETURN = r"""
removed:
  description: What was taken away, by kind.
  returned: success
  type: list
  elements: str
  sample: ["unit mlops-prometheus.service", "package prometheus"]
kept:
  description: What stays although it was created for the role, and why. Each is a warning, too.
  returned: success
  type: list
  elements: str
"""

import glob
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import finish
from ansible_collections.mlops.onprem.plugins.module_utils._host import remove_apply
from ansible_collections.mlops.onprem.plugins.module_utils._host.args import REMOVE, role_of
from ansible_collections.mlops.onprem.plugins.module_utils._host.files import absolute


def work(module: AnsibleModule) -> dict[str, Any]:
    role = role_of(module.params)
    for pattern in module.params["unless"]:
        found = glob.glob(pattern)
        if found:
            return {"changed": False, "removed": [], "kept": [f"all: {found[0]} is still there"]}
    keep = [absolute(path, "keep") for path in module.params["keep"]]
    done = remove_apply.converge(
        role, keep, module.check_mode, module.params["site_id"], module.params["only"]
    )
    for said in done["kept"]:
        module.warn(f"Kept: {said}")
    return done


def main() -> None:
    finish(
        AnsibleModule(
            argument_spec=dict(REMOVE),
            supports_check_mode=True,
        ),
        work,
    )


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: workload_retire
short_description: Remove what workloads that left a host have there
version_added: 0.3.0
description:
  - Each replica of a workload is remembered in the host's ledger under an owner of its own. Owners
    that begin with O(prefix) and are not in O(keep) are taken away, as M(mlops.onprem.host_remove)
    does for a role.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  prefix:
    description: How the owners begin.
    type: str
    required: true
  keep:
    description: Owners that stay.
    type: list
    elements: str
    required: true
extends_documentation_fragment: [mlops.onprem.previewed]
seealso:
  - module: mlops.onprem.host_remove
"""

EXAMPLES = r"""
- name: Keep one replica and remove every other one
  mlops.onprem.workload_retire:
    prefix: workload_unit_
    keep: [workload_unit_chat_0]
"""

RETURN = r"""
owners:
  description: Owners whose things were taken away.
  returned: success
  type: list
  elements: str
removed:
  description: What was taken away, by kind.
  returned: success
  type: list
  elements: str
kept:
  description: What stays although it was created for them, and why. Each is a warning, too.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import finish
from ansible_collections.mlops.onprem.plugins.module_utils._host import remove_apply
from ansible_collections.mlops.onprem.plugins.module_utils._host.args import role_of
from ansible_collections.mlops.onprem.plugins.module_utils._host.remove_plan import plan
from ansible_collections.mlops.onprem.plugins.module_utils._host.system import Book


def work(module: AnsibleModule) -> dict[str, Any]:
    prefix = role_of(module.params, "prefix")
    keep = set(module.params["keep"])
    removed: list[str] = []
    kept: list[str] = []
    with Book(module.check_mode) as book:
        owners = sorted({owner for thing in book.ledger for owner in thing.owners})
        gone = [one for one in owners if one.startswith(prefix) and one not in keep]
        for owner in gone:
            if not module.check_mode:
                remove_apply.finish_pending(book, owner)
            steps = plan(remove_apply.read(book.ledger, owner, []), book.ledger, owner, [])
            if not module.check_mode:
                steps = remove_apply.apply(steps, book, owner)
            removed += [said for step in steps for said in step.said]
            kept += [said for step in steps for said in step.kept]
    for said in kept:
        module.warn(f"Kept: {said}")
    return {
        "changed": bool(removed),
        "owners": gone,
        "removed": removed,
        "kept": kept,
        "diff": {"before": "".join(f"{line}\n" for line in removed), "after": ""},
    }


def main() -> None:
    finish(
        AnsibleModule(
            argument_spec={
                "prefix": {"type": "str", "required": True},
                "keep": {"type": "list", "elements": "str", "required": True},
            },
            supports_check_mode=True,
        ),
        work,
    )


if __name__ == "__main__":
    main()

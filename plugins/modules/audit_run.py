#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: audit_run
short_description: Tell the event stream who changes the site, from which commit, and what changed
version_added: 0.3.0
description:
  - Leaves records of runs where the collector of the role C(audit_log) reads them. Of this run, and
    of earlier ones that failed before they could say so.
  - What changed is known where the callback P(mlops.onprem.runs#callback) is enabled, up to the
    moment of the task.
  - The record is of the run itself and not counted as a change. In check mode nothing is told.
  - Where the host has no event stream yet, nothing happens.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  phase:
    description: What of this run is told. Empty is nothing; then only what earlier ones left is.
    type: str
    choices: [begun, ended, ""]
    default: ""
  directory:
    description: Directory of the controller with what earlier runs left.
    type: path
    required: true
  inbox:
    description: Where the collector looks.
    type: path
    default: /var/lib/mlops/audit_log/inbox
  site:
    description: Name of the site.
    type: str
    default: ""
  records:
    description: Records to leave; set by the action of the same name.
    type: list
    elements: dict
    default: []
extends_documentation_fragment: [mlops.onprem.read_only]
"""

EXAMPLES = r"""
- name: Say that this run begins
  mlops.onprem.audit_run:
    phase: begun
    directory: "{{ inventory_dir }}/.state/runs"
"""

RETURN = r"""
there:
  description: Whether the host has an event stream.
  returned: success
  type: bool
delivered:
  description: Number of records.
  returned: success
  type: int
directory:
  description: Where the callback leaves word if the run fails. Empty without an event stream.
  returned: success
  type: str
phase:
  description: What of this run was told.
  returned: success
  type: str
"""

import json
import re
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

ARGUMENTS: dict[str, Any] = {
    "phase": {"type": "str", "choices": ["begun", "ended", ""], "default": ""},
    "directory": {"type": "path", "required": True},
    "inbox": {"type": "path", "default": "/var/lib/mlops/audit_log/inbox"},
    "site": {"type": "str", "default": ""},
    "records": {"type": "list", "elements": "dict", "default": []},
}


def leave(inbox: Path, records: list[dict[str, Any]]) -> None:
    """One file each, whole from the moment it is there."""
    for record in records:
        name = re.sub(r"[^A-Za-z0-9_-]", "", f"{record.get('id', '')}-{record.get('phase', '')}")
        part = inbox / f"{name}.part"
        part.write_text(json.dumps(record), encoding="utf-8")
        part.chmod(0o640)
        part.replace(inbox / f"{name}.json")


def main() -> None:
    """Ansible's entry point."""
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    inbox = Path(module.params["inbox"])
    there = inbox.is_dir()
    records = module.params["records"] if there and not module.check_mode else []
    try:
        leave(inbox, records)
    except OSError as error:
        module.fail_json(msg=f"The event stream cannot be told of this run: {error}")
    module.exit_json(changed=False, there=there, delivered=len(records))


if __name__ == "__main__":
    main()

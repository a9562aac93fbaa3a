#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the accounts, users and QoS of Slurm's accounting to the teams of the site."""

from __future__ import annotations

DOCUMENTATION = r"""
module: slurm_accounts
short_description: Give every team its account, users and limits in Slurm's accounting
version_added: 0.3.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - Reads what C(sacctmgr) knows, and adds, changes and removes accounts, users of accounts and QoS
    so that they are those of O(teams).
  - What is ours bears O(site_id) in its description. An account or QoS without it is somebody
    else's. It is left alone, and refused where a team has its name.
  - Runs on a host with the commands of Slurm, as an administrator of Slurm, which root is.
options:
  cluster:
    description: Name of the cluster. It is added where the accounting does not know it.
    type: str
    required: true
  site_id:
    description: Identity of the site, which ours are told by.
    type: str
    required: true
  teams:
    description: The teams, as O(state=present) shall have them.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the team, its account and its QoS.
        type: str
        required: true
      members:
        description: Unix accounts of the team.
        type: list
        elements: str
        required: true
      gpus:
        description: GPUs that the team may use at once. Without it, any number.
        type: int
      fair_share:
        description: Share of the team beside the others.
        type: int
        default: 1
      max_jobs:
        description: Jobs of the team that may run at once. Without it, any number.
        type: int
  state:
    description: V(absent) takes away what is ours.
    type: str
    choices: [present, absent]
    default: present
  timeout:
    description: Seconds to wait for the accounting to answer.
    type: int
    default: 60
extends_documentation_fragment: [mlops.onprem.previewed]
"""

EXAMPLES = r"""
- name: Give the teams their accounts
  mlops.onprem.slurm_accounts:
    cluster: plant
    site_id: 0f8fad5b-d9cb-469f-a165-70867728950e
    teams:
      - {name: vision, members: [anna, ben], gpus: 4, fair_share: 2}
"""

RETURN = r"""
steps:
  description: What was changed, or would be.
  returned: success
  type: list
  elements: str
  sample: ["add the QoS vision: 4 GPUs at once", "add anna to vision"]
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import finish
from ansible_collections.mlops.onprem.plugins.module_utils._findings.sentence import diff_in_words
from ansible_collections.mlops.onprem.plugins.module_utils._host.system import Ran, run
from ansible_collections.mlops.onprem.plugins.module_utils._slurm import accounts
from ansible_collections.mlops.onprem.plugins.module_utils._slurm.errors import SlurmError

POLL_SECONDS = 1.0


def ask(words: list[str], until: float) -> str:
    """An answer of sacctmgr, which is waited for while the accounting starts."""
    while True:
        ran = run(["sacctmgr", "-nP", *words], timeout=60)
        if ran.rc == 0:
            return ran.out
        if time.monotonic() > until or ran.rc == 127:
            raise SlurmError(
                f"Slurm's accounting does not answer (sacctmgr {' '.join(words)}):"
                f" {_short(ran)}; see that slurmdbd runs and reaches its database, with"
                " journalctl -u slurmdbd -n 50"
            )
        time.sleep(POLL_SECONDS)


def _short(ran: Ran) -> str:
    return " ".join(ran.said.split())[-400:] or f"it ended with {ran.rc}"


def read(cluster: str, until: float) -> accounts.State:
    """What the accounting holds of the cluster."""
    return accounts.parse_state(
        ask(["show", "cluster", "format=cluster"], until),
        ask(["show", "qos", f"format={accounts.QOS_FIELDS}"], until),
        ask(["show", "account", f"format={accounts.ACCOUNT_FIELDS}"], until),
        ask(
            [
                "show",
                "assoc",
                "where",
                f"cluster={cluster}",
                f"format={accounts.ASSOCIATION_FIELDS}",
            ],
            until,
        ),
    )


def apply(changes: tuple[accounts.Change, ...]) -> None:
    for change in changes:
        ran = run(["sacctmgr", "-iQ", *change.argv], timeout=60)
        if ran.rc != 0:
            raise SlurmError(
                f"could not {change.text}: {_short(ran)}; jobs that still run under it have to"
                " end or be cancelled first (squeue), everything else is told by"
                " journalctl -u slurmdbd -n 50"
            )


def work(module: AnsibleModule) -> dict[str, object]:
    params = module.params
    mark = accounts.mark_of(params["site_id"])
    until = time.monotonic() + params["timeout"]
    if module.check_mode and run(["sacctmgr", "--version"], timeout=60).rc != 0:
        state = accounts.State()  # nothing is installed yet
    else:
        state = read(params["cluster"], until)
    if params["state"] == "present":
        teams = accounts.wanted_of(params["teams"])
        changes = accounts.plan(state, teams, params["cluster"], mark)
    else:
        changes = accounts.leave(state, params["cluster"], mark)
    if not module.check_mode:
        apply(changes)
    steps = [change.text for change in changes]
    return {
        "changed": bool(steps),
        "steps": steps,
        "diff": diff_in_words("Slurm's accounting", steps),
    }


def main() -> None:
    finish(
        AnsibleModule(
            argument_spec={
                "cluster": {"type": "str", "required": True},
                "site_id": {"type": "str", "required": True},
                "teams": {
                    "type": "list",
                    "elements": "dict",
                    "default": [],
                    "options": {
                        "name": {"type": "str", "required": True},
                        "members": {"type": "list", "elements": "str", "required": True},
                        "gpus": {"type": "int"},
                        "fair_share": {"type": "int", "default": 1},
                        "max_jobs": {"type": "int"},
                    },
                },
                "state": {
                    "type": "str",
                    "choices": ["present", "absent"],
                    "default": "present",
                },
                "timeout": {"type": "int", "default": 60},
            },
            supports_check_mode=True,
        ),
        work,
    )


if __name__ == "__main__":
    main()

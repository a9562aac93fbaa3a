#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_ask
short_description: Find out what the host modules would refuse, before anything is changed
version_added: 0.3.0
description:
  - Reads the tasks of roles with M(mlops.onprem.host_files), M(mlops.onprem.host_packages),
    M(mlops.onprem.host_python_app), M(mlops.onprem.host_service), M(mlops.onprem.host_quadlet) and
    M(mlops.onprem.host_certificate), templates them as a run would, and asks the host once what
    these modules would refuse.
  - Contents of files do not travel to the host; digests of them do.
  - Python environments that the host lacks are resolved on the controller for the host's machine
    and Python.
  - The host also tries the ways to the places that it will talk to, as far as the site knows them;
    one on which a firewall drops or rejects is told. That nobody listens yet is none.
  - The days that the host's certificate has left are told; when they are fewer than
    C(trust_renew_days), the next run of the site renews it.
  - Tasks that would change nothing on the host are told, too. Where the callback
    P(mlops.onprem.runs#callback) is enabled, they do not ask the host again in this run, as long as
    no task has changed anything or failed on any host, and they ask for exactly the same.
  - Adds what would be refused to the fact C(mlops_findings). A refusal does not fail the task.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  roles:
    description: Names of the roles, in the order in which they are applied.
    type: list
    elements: str
    required: true
  questions:
    description: The tasks as the action plugin sends them, in JSON. Not for playbooks.
    type: str
attributes:
  check_mode:
    support: full
    description: Never changes anything.
  diff_mode:
    support: none
    description: Never changes anything.
"""

EXAMPLES = r"""
- name: Ask whether the host would refuse anything
  mlops.onprem.host_ask:
    roles: [common, trust, monitoring]
"""

RETURN = r"""
ansible_facts:
  description: The facts that the task adds to the host.
  returned: always
  type: dict
  contains:
    mlops_findings:
      description: Findings of all roles on this host so far, each with its C(role).
      returned: always
      type: list
      elements: dict
settled:
  description:
    - For the tasks that would leave the host as it is, what they would return, by digests of what
      they ask. As long as nothing is changed in the run, these tasks take it from here.
  returned: success
  type: dict
"""

import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import finish
from ansible_collections.mlops.onprem.plugins.module_utils._host import certificate
from ansible_collections.mlops.onprem.plugins.module_utils._host.ask import Question, ask
from ansible_collections.mlops.onprem.plugins.module_utils._host.errors import HostError
from ansible_collections.mlops.onprem.plugins.module_utils._host.ways import tried


def work(module: AnsibleModule) -> dict[str, Any]:
    given = json.loads(module.params["questions"] or "null")
    if given is None:
        raise HostError("host_ask works only together with its action plugin.")
    answer = ask([Question(**row) for row in given["questions"]], given["key"], given.get("site"))
    places = [(str(address), int(port)) for address, port in given.get("places") or []]
    return {
        "changed": False,
        "places": tried(places),
        "certificate_days": certificate.days_left(),
        "refusals": [vars(one) for one in answer.refusals],
        "build": list(answer.build),
        "settled": {str(at): one for at, one in answer.settled.items()},
    }


def main() -> None:
    finish(
        AnsibleModule(
            argument_spec={
                "roles": {"type": "list", "elements": "str", "required": True},
                "questions": {"type": "str", "no_log": True},
            },
            supports_check_mode=True,
        ),
        work,
    )


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_quadlet
short_description: Run a container as a quadlet of podman
version_added: 0.3.0
description:
  - Writes a C(.container) file from which podman makes a systemd unit, starts that and waits until
    it is healthy. The unit is restarted when the file differs from what it was started with.
  - Refuses a host without podman 4.4 or later.
  - What is made is in the host's ledger, as that of M(mlops.onprem.host_service); removing it stops
    the container. Images stay in podman's store.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  site_id:
    description:
      - Identity of the site that the task is for, as the action plugin sends it. A host that says
        it belongs to another site is refused. Not for playbooks.
    type: str
  role:
    description: Owner of the container in the ledger.
    type: str
    required: true
  name:
    description: Name of the unit without C(.service).
    type: str
    required: true
  text:
    description: The file.
    type: str
    required: true
  restart_on:
    description: Files and directories that the container reads only at start.
    type: list
    elements: path
    default: []
  health:
    description: How to know that it works. Without O(health.url), the unit has to stay active.
    type: dict
    suboptions:
      url:
        description: Address that shall answer.
        type: str
        required: true
      timeout:
        description: Seconds to wait.
        type: int
        default: 300
extends_documentation_fragment: [mlops.onprem.previewed]
seealso:
  - module: mlops.onprem.host_service
"""

EXAMPLES = r"""
- name: Run an image of somebody else
  mlops.onprem.host_quadlet:
    role: workload_container_web_0
    name: mlops-workload-web-0
    text: |
      [Container]
      Image=registry.example.com/web@sha256:…
      PublishPort=127.0.0.1:8080:8080
      [Install]
      WantedBy=multi-user.target
    health:
      url: http://127.0.0.1:8080/
"""

RETURN = r"""
action:
  description: What was done to the container. One of V(nothing), V(start) and V(restart).
  returned: success
  type: str
changes:
  description: What was done, one short sentence each.
  returned: success
  type: list
  elements: str
waited:
  description: Seconds until it was healthy.
  returned: success
  type: float
"""

from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import finish
from ansible_collections.mlops.onprem.plugins.module_utils._host import (
    args,
    quadlet,
    service_apply,
)
from ansible_collections.mlops.onprem.plugins.module_utils._host.service_plan import plan
from ansible_collections.mlops.onprem.plugins.module_utils._host.steps import report
from ansible_collections.mlops.onprem.plugins.module_utils._host.system import Book


def work(module: AnsibleModule) -> dict[str, Any]:
    params, role = module.params, args.role_of(module.params)
    quadlet.refuse_podman()
    service = quadlet.quadlet_of(params)
    health = params["health"]
    follows = service_apply.Follows(
        params["restart_on"], [], [], {"status": [], **health} if health else None
    )
    with Book(module.check_mode, site=module.params["site_id"]) as book:
        before = service_apply.read(service, follows)
        # A unit that is made of a file starts with the host without being enabled.
        before = replace(before, shown={**before.shown, "UnitFileState": "generated"})
        planned = plan(before, service, book.ledger, role, trial=module.check_mode)
        waited = 0.0
        if not module.check_mode:
            waited = service_apply.apply(planned, before, service, follows, book, role)
    return {
        **report(planned.steps),
        "action": planned.action,
        "waited": round(waited, 2),
    }


def main() -> None:
    finish(
        AnsibleModule(
            argument_spec=dict(args.QUADLET),
            supports_check_mode=True,
        ),
        work,
    )


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_enrolment
short_description: Invite devices that nobody reaches, and let them in
version_added: 0.3.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - Runs on the control host. A device that fetches its orders hands its request for a certificate
    in at the gateway, with the token of a bundle that a person brought to it. A person approves it
    by the fingerprint that the device shows.
  - A token is good for one request and for a limited time, and for the name of its device alone.
    Every step is a line in C(journal.jsonl) of O(state_directory).
  - The certificate is signed on the controller; the key of the authority does not leave it.
options:
  step:
    description:
      - V(invite) makes a token of which O(hash) is the hash good for one request of O(name).
      - V(show) returns the request that waits.
      - V(approve) signs it on the controller and V(issue) lays the certificate out; the action does
        the second after the first.
      - V(tidy) forgets what was fetched or has expired.
    type: str
    choices: [invite, show, approve, issue, tidy]
    required: true
  name:
    description: Name of the device, which is also that in its certificate.
    type: str
    default: ""
  hash:
    description: The hash of the token as nginx compares it, with O(step=invite).
    type: str
  days:
    description: Days for which the invitation is good, with O(step=invite).
    type: float
    default: 7
  fingerprint:
    description: The fingerprint that the device shows, with O(step=approve).
    type: str
    default: ""
  names:
    description: Further names and addresses of the device, with O(step=approve).
    type: list
    elements: str
    default: []
  authority:
    description: Certificate of the authority in PEM, with O(step=approve).
    type: str
  authority_key:
    description: Its key in PEM, used on the controller alone.
    type: str
  certificate_days:
    description: Days for which the certificate is valid.
    type: int
    default: 397
  certificate:
    description: The certificate that was signed, with O(step=issue).
    type: str
  by:
    description: Who does it, for the journal.
    type: str
    default: ""
  directory:
    description: What the gateway serves.
    type: path
    default: /var/lib/mlops/fleet
  written_directory:
    description: What the gateway writes.
    type: path
    default: /var/lib/mlops/nginx/fleet
  state_directory:
    description: Where invitations and the journal are kept.
    type: path
    default: /var/lib/mlops/fleet_enrolment
attributes:
  check_mode:
    description: Says what would be done.
    support: full
"""

EXAMPLES = r"""
- name: Let a device in
  mlops.onprem.fleet_enrolment:
    step: approve
    name: edge7
    fingerprint: 29de-e44e-ca6e-b59f-5165-a134-83c3-d57d
    authority: "{{ lookup('ansible.builtin.file', 'ca.crt') }}"
    authority_key: "{{ lookup('mlops.onprem.secret', 'trust_ca_key', kind='private_key') }}"
"""

RETURN = r"""
fingerprint:
  description: The fingerprint of the key in the request.
  returned: with O(step=show) and O(step=approve)
  type: str
request:
  description: The request in PEM.
  returned: with O(step=show)
  type: str
at:
  description: When it came in, in seconds since 1970.
  returned: with O(step=show)
  type: float
again:
  description: When that name was let in before; 0 where it never was.
  returned: with O(step=show)
  type: float
forgotten:
  description: Names of which nothing is good any more.
  returned: with O(step=tidy)
  type: list
  elements: str
"""

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.renewal import alone
from ansible_collections.mlops.onprem.plugins.module_utils._release.enrolment import Enrolments
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError

OPTIONS: dict[str, Any] = {
    "step": {
        "type": "str",
        "choices": ["invite", "show", "approve", "issue", "tidy"],
        "required": True,
    },
    "name": {"type": "str", "default": ""},
    "hash": {"type": "str", "no_log": True},
    "days": {"type": "float", "default": 7.0},
    "fingerprint": {"type": "str", "default": ""},
    "names": {"type": "list", "elements": "str", "default": []},
    "authority": {"type": "str"},
    "authority_key": {"type": "str", "no_log": True},
    "certificate_days": {"type": "int", "default": 397},
    "certificate": {"type": "str"},
    "by": {"type": "str", "default": ""},
    "directory": {"type": "path", "default": "/var/lib/mlops/fleet"},
    "written_directory": {"type": "path", "default": "/var/lib/mlops/nginx/fleet"},
    "state_directory": {"type": "path", "default": "/var/lib/mlops/fleet_enrolment"},
}


def answer(enrolments: Enrolments, options: dict[str, Any], write: bool) -> dict[str, Any]:
    """Take the step."""
    step, name = options["step"], options["name"]
    if step == "tidy":
        gone = enrolments.tidy() if write else []
        return {"changed": bool(gone), "forgotten": gone}
    if step == "invite":
        if write:
            expires = time.time() + options["days"] * 86400
            enrolments.invite(name, options["hash"], expires, options["by"])
        return {"changed": True}
    if step == "issue":
        if write:
            wanted, certificate = options["fingerprint"], options["certificate"]
            enrolments.issue(name, wanted, certificate, options["by"])
        return {"changed": True}
    found = enrolments.asking(name)
    return {
        "changed": False,
        "fingerprint": found.fingerprint,
        "request": found.request,
        "at": found.at,
        "again": found.again,
    }


def main() -> None:
    """Ansible's entry point."""
    module = AnsibleModule(
        OPTIONS,
        supports_check_mode=True,
        required_if=[
            ("step", "invite", ["hash"]),
            ("step", "issue", ["certificate"]),
        ],
    )
    options = module.params
    if options["step"] == "approve":
        module.fail_json(msg="The step approve is done by the action of this module.")
    if options["step"] != "tidy" and not options["name"]:
        module.fail_json(msg="Found no name, wanted that of the device.")
    own = options["state_directory"]
    try:
        enrolments = Enrolments(
            Path(options["directory"]), Path(options["written_directory"]), Path(own), time.time()
        )
        with alone(own):
            result = answer(enrolments, options, not module.check_mode)
    except (RegistryError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()

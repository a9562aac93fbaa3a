#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says on a host which site it belongs to."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_identity
short_description: Say on a host which site it belongs to
version_added: 0.3.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - Reads or writes the random identity of the site in the ledger of the host, where only root reads
    it. It is written before anything else is made there, and goes with the last thing.
  - A host that belongs to another site is refused.
options:
  state:
    description:
      - V(read) only reads. V(present) writes. V(absent) takes the identity away where nothing else
        of the platform is left.
    type: str
    choices: [read, present, absent]
    default: read
  id:
    description: Identity of the site, 8 to 64 letters, digits, C(-) and C(_).
    type: str
    default: ""
  name:
    description: Name of the site, for sentences.
    type: str
    default: ""
  adopts:
    description: Whether the site was made before there were identities.
    type: bool
    default: false
  fingerprints:
    description: Short fingerprints of the secrets of the site by their names, to be kept.
    type: dict
extends_documentation_fragment: [mlops.onprem.previewed]
"""

EXAMPLES = r"""
- name: Say whose host this is
  mlops.onprem.host_identity:
    state: present
    id: 0f8fad5b-d9cb-469f-a165-70867728950e
    name: example company
"""

RETURN = r"""
platform:
  description: The C(site), the C(roles) that made something, the C(authority) trusted first.
  returned: always
  type: dict
ansible_facts:
  description: RV(platform) as C(mlops_platform).
  returned: always
  type: dict
  contains:
    mlops_platform:
      description: The same as RV(platform).
      type: dict
      returned: always
"""

import re
from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import finish
from ansible_collections.mlops.onprem.plugins.module_utils._host.errors import HostError
from ansible_collections.mlops.onprem.plugins.module_utils._host.ledger import Ledger
from ansible_collections.mlops.onprem.plugins.module_utils._host.system import Book
from ansible_collections.mlops.onprem.plugins.module_utils._supply.installed import platform
from ansible_collections.mlops.onprem.plugins.module_utils._supply.tree import Host


def wanted(ledger: Ledger, params: dict[str, Any]) -> Ledger:
    """The ledger as it has to be.

    Raises:
        HostError: The host belongs to another site, or the identity is none.
    """
    if params["state"] == "absent":
        return replace(ledger, site=None) if ledger.bare else ledger
    identity, old = params["id"], dict(ledger.site or {})
    if not re.fullmatch(r"[A-Za-z0-9_-]{8,64}", identity):
        raise HostError(
            f"The identity of a site has 8 to 64 letters, digits, - and _, not {identity!r}."
        )
    if old.get("id") not in (None, identity):
        raise HostError(
            f"This host belongs to another site, {old.get('name') or 'of no name'} ({old['id']}); "
            "remove that one from it first, with its own inventory."
        )
    new = {**old, "id": identity, "name": params["name"] or old.get("name", "")}
    if params["adopts"]:
        new["adopts"] = True
    if params["fingerprints"] is not None:
        new["fingerprints"] = dict(params["fingerprints"])
    return replace(ledger, site=new)


def told(ledger: Ledger) -> str:
    """What a person reads of the identity."""
    site = ledger.site or {}
    prints = site.get("fingerprints") or {}
    lines = [f"site {site['name']} ({site['id']})"] if site else []
    return "".join(f"{line}\n" for line in [*lines, *(f"{k}: {v}" for k, v in prints.items())])


def work(module: AnsibleModule) -> dict[str, Any]:
    changed, diff = False, {}
    if module.params["state"] != "read":
        with Book(module.check_mode) as book:
            before, after = book.ledger, wanted(book.ledger, module.params)
            changed = before != after
            diff = {"before": told(before), "after": told(after)}
            book.write(after)
    found = platform(Host())
    return {
        "changed": changed,
        "platform": found,
        "ansible_facts": {"mlops_platform": found},
        **({"diff": diff} if changed else {}),
    }


def main() -> None:
    finish(
        AnsibleModule(
            argument_spec={
                "state": {
                    "type": "str",
                    "choices": ["read", "present", "absent"],
                    "default": "read",
                },
                "id": {"type": "str", "default": ""},
                "name": {"type": "str", "default": ""},
                "adopts": {"type": "bool", "default": False},
                "fingerprints": {"type": "dict"},
            },
            supports_check_mode=True,
        ),
        work,
    )


if __name__ == "__main__":
    main()

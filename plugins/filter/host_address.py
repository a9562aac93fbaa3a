# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: host_address
short_description: The address at which the other hosts of the site reach a host
version_added: 0.1.0
author:
  - The mlops.onprem developers (@mlops-onprem)
description:
  - Answers C(mlops_address) of the host if it is set, else C(ansible_host), else its name in the
    inventory.
options:
  _input:
    description: Variables of the host, from C(hostvars).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show where the gateway is
  ansible.builtin.debug:
    msg: "https://{{ hostvars[groups['control'] | first] | mlops.onprem.host_address }}/"
"""

RETURN = r"""
_value:
  description: Address or name.
  type: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError


def host_address(variables: Mapping[str, Any]) -> str:
    if not isinstance(variables, Mapping):
        raise AnsibleFilterError(
            "host_address takes the variables of a host, as in hostvars[name]."
        )
    for name in ("mlops_address", "ansible_host", "inventory_hostname"):
        value = variables.get(name)
        if value:
            return str(value)
    raise AnsibleFilterError("host_address was given variables that are of no host.")


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., str]]:
        return {"host_address": host_address}

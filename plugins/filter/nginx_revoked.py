# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Withdrawn certificates, as nginx compares them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: nginx_revoked
author: The mlops.onprem developers
version_added: 0.3.0
short_description: Withdrawn certificates as patterns for nginx
description:
  - Returns a pattern in quotes for each certificate, or for all of a name, to be compared
    with the serial number and the subject of a client's certificate, a space between them.
options:
  _input:
    description:
      - What is withdrawn, each with C(name), the common name, or with C(serial), the number in
        hexadecimal digits as C(openssl x509 -noout -serial) shows it.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the patterns
  ansible.builtin.debug:
    msg: "{{ [{'name': 'edge7'}, {'serial': '4A:0F'}] | mlops.onprem.nginx_revoked }}"
"""

RETURN = r"""
_value:
  description: The patterns.
  type: list
  elements: str
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

# Names of hosts; what the platform's authority signs has no others.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SERIAL = re.compile(r"(serial=)?(0[xX])?([0-9A-Fa-f]{2}(:?[0-9A-Fa-f]{2})*)")


def pattern(entry: Any) -> str:
    """The pattern of one entry."""
    told = dict(entry) if isinstance(entry, Mapping) else {}
    name, serial = str(told.get("name") or ""), str(told.get("serial") or "")
    if bool(name) == bool(serial):
        raise AnsibleFilterError(
            f"Found {entry!r} in common_nginx_revoked, wanted either a name or a serial, such as "
            "{name: edge7}."
        )
    if name:
        if not NAME.fullmatch(name):
            raise AnsibleFilterError(
                f"Found the name {name!r} in common_nginx_revoked, wanted the name of a host."
            )
        return f'"~[ ,+]CN={name.replace(".", "[.]")}([,+]|\\z)"'
    found = SERIAL.fullmatch(serial.strip())
    if not found:
        raise AnsibleFilterError(
            f"Found the serial {serial!r} in common_nginx_revoked, wanted hexadecimal digits in "
            "quotes, as openssl x509 -noout -serial shows them."
        )
    digits = found[3].replace(":", "").upper().lstrip("0") or "0"
    return f'"~^0*{digits} "'


def nginx_revoked(entries: Any) -> list[str]:
    """One pattern for each entry."""
    if not isinstance(entries, (list, tuple)):
        raise AnsibleFilterError("common_nginx_revoked has to be a list, such as [{name: edge7}].")
    return [pattern(entry) for entry in entries]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"nginx_revoked": nginx_revoked}

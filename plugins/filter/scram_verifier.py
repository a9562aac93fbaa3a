# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PostgreSQL password as the server keeps it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: scram_verifier
author: The mlops.onprem developers (@mlops-onprem)
version_added: 0.1.0
short_description: The SCRAM-SHA-256 verifier of a PostgreSQL password
description:
  - Returns what PostgreSQL keeps instead of the password, so that the password itself neither
    reaches the host nor its log.
  - The same password and name always give the same verifier. The salt is derived from both.
options:
  _input:
    description: The password.
    type: str
    required: true
  name:
    description: What the password is for, such as a site and a role.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show a verifier
  ansible.builtin.debug:
    msg: "{{ 'a long random password' | mlops.onprem.scram_verifier('example/mlops_admin') }}"
"""

RETURN = r"""
_value:
  description: The verifier.
  type: str
  sample: SCRAM-SHA-256$4096:…$…:…
"""

import hashlib
import hmac
from collections.abc import Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.scram import (
    verifier,
)


def scram_verifier(password: str, name: str) -> str:
    if not isinstance(password, str) or not password:
        raise AnsibleFilterError(f"scram_verifier wants the password for {name}, but it is empty.")
    salt = hmac.new(password.encode(), name.encode(), hashlib.sha256).digest()[:16]
    return verifier(password, salt)


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., str]]:
        return {"scram_verifier": scram_verifier}

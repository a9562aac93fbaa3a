# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Password files for web servers, without a tool or package that may be missing."""

from __future__ import annotations

DOCUMENTATION = r"""
name: htpasswd
author: The mlops.onprem developers
version_added: 0.1.0
short_description: Accounts and passwords as a password file for nginx
description:
  - Returns the text of a password file, one account a line, with SHA-512 hashes.
  - The same accounts, passwords and salt give the same text, so that a file only changes when a
    password does. Keep the salt as a secret of its own.
positional: salt
options:
  _input:
    description: Passwords by account.
    type: dict
    required: true
  salt:
    description: Random letters and digits, 16 or more.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show a password file
  ansible.builtin.debug:
    msg: "{{ {'admin': password} | mlops.onprem.htpasswd(salt) }}"
  vars:
    password: "{{ lookup('mlops.onprem.secret', 'gateway_admin_password') }}"
    salt: "{{ lookup('mlops.onprem.secret', 'gateway_salt') }}"
"""

RETURN = r"""
_value:
  description: The text of the file.
  type: str
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.onprem.plugins.plugin_utils.crypts import crypt

ACCOUNT = re.compile(r"[A-Za-z0-9._-]+")
ROUNDS = 5000  # what SHA-512 crypt uses if nothing is said


def htpasswd(accounts: Mapping[str, str], salt: str) -> str:
    """One line for each account; accounts with the same password differ."""
    if not isinstance(accounts, Mapping):
        raise AnsibleFilterError("htpasswd wants passwords by account, such as {'admin': password}")
    if len(salt) < 16 or not salt.isalnum():
        raise AnsibleFilterError("the salt of htpasswd has to be 16 or more letters and digits")
    lines = []
    for account, password in accounts.items():
        if not ACCOUNT.fullmatch(account):
            raise AnsibleFilterError(f"{account!r} cannot be an account: use letters and digits")
        if not password:
            raise AnsibleFilterError(f"the account {account} has no password")
        own_salt = hashlib.sha256(f"{salt}:{account}".encode()).hexdigest()[:16]
        lines.append(f"{account}:{crypt(str(password), f'$6${own_salt}$', 'SHA-512')}\n")
    return "".join(lines)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"htpasswd": htpasswd}

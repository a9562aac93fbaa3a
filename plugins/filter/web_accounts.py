# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts for Prometheus and its family, as their option --web.config.file has them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: web_accounts
author: The mlops.onprem developers
version_added: 0.3.0
short_description: Accounts and passwords for Prometheus, Alertmanager and exporters
description:
  - Returns the text of a file for C(--web.config.file), with bcrypt hashes.
  - The same accounts and passwords give the same text, since the salt is made of them. The file is
    therefore for one reader, as a file with the passwords would be.
options:
  _input:
    description: Passwords by account.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show a file of accounts
  ansible.builtin.debug:
    msg: "{{ {'mlops': password} | mlops.onprem.web_accounts }}"
  vars:
    password: "{{ lookup('mlops.onprem.secret', 'monitoring_prometheus_password') }}"
"""

RETURN = r"""
_value:
  description: The text of the file, which is YAML.
  type: str
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.onprem.plugins.plugin_utils.crypts import crypt

ACCOUNT = re.compile(r"[A-Za-z0-9._-]+")
ROUNDS = 6  # 2^6: some milliseconds, once in the life of a program for each password that is right
MOST = 72  # bytes; bcrypt looks at no more
SALT = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
LAST = ".Oeu"  # the last letter of a salt carries two bits only


def salt_of(account: str, password: str) -> str:
    """The 22 letters of a salt, always the same for an account and its password."""
    digest = hashlib.sha256(f"web_accounts:{account}:{password}".encode()).digest()
    return "".join(SALT[byte & 63] for byte in digest[:21]) + LAST[digest[21] & 3]


def web_accounts(accounts: Mapping[str, str]) -> str:
    """The text of the file."""
    if not isinstance(accounts, Mapping) or not accounts:
        raise AnsibleFilterError(
            "web_accounts wants passwords by account, such as {'mlops': password}"
        )
    users = {}
    for account, password in accounts.items():
        if not ACCOUNT.fullmatch(account):
            raise AnsibleFilterError(f"{account!r} cannot be an account: use letters and digits")
        if not password:
            raise AnsibleFilterError(f"the account {account} has no password")
        text = str(password)
        if len(text.encode()) > MOST or "\0" in text:
            raise AnsibleFilterError(
                f"the password of {account} has to have at most {MOST} bytes, none of them zero"
            )
        users[account] = crypt(text, f"$2b${ROUNDS:02}${salt_of(account, text)}", "bcrypt")
    return f"{json.dumps({'basic_auth_users': users}, indent=2)}\n"


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"web_accounts": web_accounts}

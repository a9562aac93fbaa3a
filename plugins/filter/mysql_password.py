# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A password of MariaDB as the server keeps it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: mysql_password
author: The mlops.onprem developers (@mlops-onprem)
version_added: 0.3.0
short_description: A password of MariaDB as mysql_native_password keeps it
description:
  - Returns what MariaDB keeps instead of the password, so that the password itself neither reaches
    the host nor its log.
  - No salt is in it, so only long random passwords are kept safe by it.
options:
  _input:
    description: The password.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the form that is kept
  ansible.builtin.debug:
    msg: "{{ 'a long random password' | mlops.onprem.mysql_password }}"
"""

RETURN = r"""
_value:
  description: The form that is kept.
  type: str
  sample: "*6C8989366EAF75BB670AD8EA7A7FC1176A95CEF4"
"""

from collections.abc import Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.mysql.password import native


def mysql_password(password: str) -> str:
    if not isinstance(password, str) or not password:
        raise AnsibleFilterError("mysql_password wants a password, but it is empty.")
    return native(password)


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., str]]:
        return {"mysql_password": mysql_password}

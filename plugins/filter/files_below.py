# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: files_below
short_description: Texts by name as files of one directory
version_added: 0.3.0
author:
  - The mlops.onprem developers (@mlops-onprem)
description:
  - Gives one entry of C(files) of M(mlops.onprem.host_files) for each text.
options:
  _input:
    description: The texts by the names of their files.
    type: dict
    required: true
  directory:
    description: Directory that they lie in, an absolute path.
    type: str
    required: true
  suffix:
    description: What follows each name.
    type: str
    default: ""
  entry:
    description: What else every entry says, such as C(mode).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Place the rules
  mlops.onprem.host_files:
    role: monitoring
    files: >-
      {{ {'alerts': 'groups: []'}
         | mlops.onprem.files_below('/etc/mlops/rules', suffix='.yml', entry={'mode': '0644'}) }}
"""

RETURN = r"""
_value:
  description: Entries with C(path), C(content) and what O(entry) says.
  type: list
  elements: dict
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def files_below(
    texts: Mapping[str, str],
    directory: str,
    suffix: str = "",
    entry: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    for name in texts:
        if not NAME.fullmatch(str(name)):
            raise AnsibleFilterError(
                f"files_below was given {str(name)!r}, wanted the name of a file without a "
                "directory."
            )
    return [
        {"path": f"{directory}/{name}{suffix}", "content": text, **(entry or {})}
        for name, text in texts.items()
    ]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., list[dict[str, Any]]]]:
        return {"files_below": files_below}

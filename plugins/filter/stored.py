# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: stored
short_description: Whether what runs leave behind fits into the object store
version_added: 0.3.0
author:
  - The mlops.onprem developers (@mlops-onprem)
description:
  - Returns a finding of the assessment about the files of runs, deleted ones among them.
options:
  _input:
    description: What runs write and how long they stay, as C(object_store_runs).
    type: dict
    required: true
  room_gib:
    description: GiB that the object store holds. 0 is unknown.
    type: float
    default: 0
  quotas:
    description: GiB by account, as C(object_store_quotas).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show whether half a year of runs fits into 50 GiB
  ansible.builtin.debug:
    msg: "{{ runs | mlops.onprem.stored(50, {}) }}"
  vars:
    runs: {artifacts_mib_per_day: 200, runs_kept_days: 180, deleted_days: 30}
"""

RETURN = r"""
_value:
  description: The finding, without its host.
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._site.stored import finding


def stored(
    told: Mapping[str, Any], room_gib: Any = 0, quotas: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """The finding."""
    return finding(told, float(room_gib), quotas or {})


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"stored": stored}

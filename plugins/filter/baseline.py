# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: baseline
short_description: What the assessment found a host to be, as metrics
version_added: 0.3.0
author:
  - The mlops.onprem developers (@mlops-onprem)
description:
  - Tells processors, memory, links and what is planned on each volume in Prometheus' text format.
options:
  _input:
    description: What was measured of the host, as M(mlops.onprem.capacity_facts) returns it.
    type: dict
    required: true
  demand:
    description: What the roles need of the host, each with C(disks).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the baseline of a host
  ansible.builtin.debug:
    msg: >-
      {{ ansible_facts['mlops_supply'] | mlops.onprem.baseline(ansible_facts['mlops_demand']) }}
"""

RETURN = r"""
_value:
  description: Lines of metrics.
  type: str
"""

from collections.abc import Callable

from ansible_collections.mlops.onprem.plugins.module_utils._monitoring.baseline import page


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., str]]:
        return {"baseline": page}

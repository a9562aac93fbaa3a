# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_problems
short_description: What no rollout can be planned by
version_added: 0.3.0
author:
  - The mlops.onprem developers (@mlops-onprem)
description:
  - Answers what is wrong with the variables of the role C(rollout), in one part of a sentence each.
    An empty list if nothing is.
options:
  _input:
    description: The variables as they were written, by name without C(rollout_).
    type: dict
    required: true
  groups:
    description: The groups of the inventory with their hosts.
    type: dict
    required: true
  devices:
    description: The devices that releases are for.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show what is wrong with a share
  ansible.builtin.debug:
    msg: "{{ {'deferred_share': '20%'} | mlops.onprem.rollout_problems(groups=groups) }}"
"""

RETURN = r"""
_value:
  description: Parts of sentences, each beginning with a variable.
  type: list
  elements: str
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._rollout.settings import problems


def rollout_problems(
    given: Mapping[str, Any], groups: Mapping[str, Sequence[str]], devices: Sequence[str] = ()
) -> list[str]:
    return problems(given, groups, devices)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        return {"rollout_problems": rollout_problems}

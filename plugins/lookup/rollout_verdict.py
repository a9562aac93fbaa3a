# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place where a run ends with the exit code of a rollout."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_verdict
author: The mlops.onprem developers (@mlops-onprem)
version_added: 0.3.0
short_description: End the run with the exit code of its rollouts
description:
  - Meant for C(vars_files) of the play that follows the rollouts. Ansible evaluates it in the
    process that runs the playbook, so that the whole run ends with an exit code that Ansible itself
    does not use. 10 is rolled back, 11 paused or aborted, 12 completed in part.
  - Returns the path of an empty file of variables if every rollout of this run completed. Of
    several that did not, the smallest code counts.
options: {}
notes:
  - Does nothing when tasks are only listed or the syntax is checked.
"""

EXAMPLES = r"""
- name: End with the code of the rollout
  hosts: edge
  gather_facts: false
  vars_files:
    - "{{ lookup('mlops.onprem.rollout_verdict') }}"
"""

RETURN = r"""
_raw:
  description: Path of an empty file.
  type: list
  elements: str
"""

import os
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible_collections.mlops.onprem.plugins.plugin_utils.ending import (
    end,
    facts_of_this_run,
    is_of_this_run,
    only_looks,
)

FACT = "mlops_rollouts"


class LookupModule(LookupBase):  # type: ignore[misc]
    """Ansible's entry point."""

    def run(
        self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        if terms:
            raise AnsibleError("The lookup mlops.onprem.rollout_verdict takes no terms.")
        if only_looks():
            return [os.devnull]
        worst = worst_of(rollouts_of_this_run(variables or {}))
        if worst is not None:
            end(sentence_of(worst), int(worst["exit_code"]))
        return [os.devnull]


def rollouts_of_this_run(variables: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """By model, how the rollouts of this very run ended; facts of another one may be cached."""
    return {
        model: one
        for by_model in facts_of_this_run(variables, FACT)
        for model, one in by_model.items()
        if is_of_this_run(one)
    }


def worst_of(rollouts: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The rollout that the run ends with, None where all completed."""
    bad = [one for one in rollouts.values() if int(one["exit_code"])]
    return min(bad, key=lambda one: int(one["exit_code"]), default=None)


def sentence_of(rollout: Mapping[str, Any]) -> str:
    """What is said at the end."""
    page = f" Page: {rollout['page']}" if rollout.get("page") else ""
    return f"{rollout['said']}{page}"

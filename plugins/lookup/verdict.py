# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate between assessing a site and changing it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: verdict
author: The mlops.onprem developers (@mlops-onprem)
version_added: 0.1.0
short_description: Let the run go on only if the assessment said go
description:
  - Meant for C(vars_files) of the play that follows the assessment. Ansible evaluates it in the
    process that runs the playbook, before any task of that play, so that a refusal ends the whole
    run at once, on all hosts, with exit code 1. A failed task would give exit code 2, which is
    kept for an assessment that could not be made.
  - Returns the path of an empty file of variables if the verdict of this run is to go.
  - Refuses too if no assessment was made in this run.
options: {}
notes:
  - Does nothing when tasks are only listed or the syntax is checked.
"""

EXAMPLES = r"""
- name: Go on, or end here
  hosts: all
  gather_facts: false
  vars_files:
    - "{{ lookup('mlops.onprem.verdict') }}"
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

from ansible import context
from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible_collections.mlops.onprem.plugins.lookup.secret import let_go
from ansible_collections.mlops.onprem.plugins.plugin_utils.ending import (
    end,
    facts_of_this_run,
    is_of_this_run,
    only_looks,
)

FACT = "mlops_assessment"


class LookupModule(LookupBase):  # type: ignore[misc]
    """Ansible's entry point."""

    def run(
        self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        if terms:
            raise AnsibleError("The lookup mlops.onprem.verdict takes no terms.")
        if only_looks():
            return [os.devnull]
        found = assessment_of_this_run(variables or {})
        if found is None:
            end(not_assessed(context.CLIARGS))
        if found["exit_code"] != 0:
            end(f"{found['headline']} Report: {found['report'] or 'not written'}")
        let_go()  # from here on, secrets that do not exist are created and kept
        return [os.devnull]


def assessment_of_this_run(variables: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What this very run found."""
    return next((one for one in facts_of_this_run(variables, FACT) if is_of_this_run(one)), None)


def not_assessed(given: Mapping[str, Any]) -> str:
    """Why a run has no assessment, by the options with which it was called."""
    said = "This run has not assessed the site, so nothing is changed; "
    if given.get("start_at_task"):
        return (
            f"{said}it was begun in the middle: leave out --start-at-task, as every run assesses "
            "first and passes quickly over what is done already."
        )
    if given.get("skip_tags"):
        return (
            f"{said}leave out --skip-tags, or name tags other than {', '.join(given['skip_tags'])}."
        )
    if given.get("subset"):
        return f"{said}check that --limit names a host of the inventory."
    return f"{said}check that the inventory has hosts."

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate before everything: whether this machine can run the playbooks on this inventory."""

from __future__ import annotations

DOCUMENTATION = r"""
name: controller
author: The mlops.onprem developers (@mlops-onprem)
version_added: 0.3.0
short_description: Let the run begin only if the controller has what it needs
description:
  - Meant for C(vars_files) of the first play. Ansible evaluates it in the process that runs the
    playbook, so that a refusal ends the whole run at once with one sentence and exit code 1.
  - Looks for the version of ansible-core, the Python packages, collections and programs that the
    platform needs on the controller, for hosts in the inventory, and for tags that no task has.
  - Returns the path of an empty file of variables.
options:
  _terms:
    description:
      - V(inventory) refuses an inventory that was not read whole, too. The assessment does not ask
        for it, as it tells all that is wrong at once.
    type: list
    elements: str
    choices: [inventory]
notes:
  - Does nothing when tasks are only listed or the syntax is checked.
"""

EXAMPLES = r"""
- name: Look at this machine
  hosts: all
  gather_facts: false
  vars_files:
    - "{{ lookup('mlops.onprem.controller') }}"
"""

RETURN = r"""
_raw:
  description: Path of an empty file.
  type: list
  elements: str
"""

import os
import sys
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible.release import __version__ as CORE
from ansible_collections.mlops.onprem.plugins.module_utils._assess.controller_checks import too_old
from ansible_collections.mlops.onprem.plugins.plugin_utils.ending import end, only_looks
from ansible_collections.mlops.onprem.plugins.plugin_utils.preload import keep_variables

KEPT = ("vars/wiring.yml",)
NOTHING_DONE = "REFUSED: no host has been changed."


class LookupModule(LookupBase):  # type: ignore[misc]
    """Ansible's entry point."""

    def run(
        self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        if any(term != "inventory" for term in terms):
            raise AnsibleError("The lookup mlops.onprem.controller takes no term but inventory.")
        if only_looks():
            return [os.devnull]
        sentence = too_old(CORE, sys.executable)
        if not sentence:
            # Only now, since an old ansible-core may lack what this stands on.
            from ansible_collections.mlops.onprem.plugins.plugin_utils.controller import (  # noqa: PLC0415
                problems,
            )

            # The first play asks while all are being read: from here on each file is read once.
            keep_variables(self._loader, [self._loader.get_basedir()], KEPT)
            found = problems(variables or {}, self._loader, inventory="inventory" in terms)
            sentence = "\n".join(found)
        if sentence:
            end(f"{NOTHING_DONE} {sentence}")
        return [os.devnull]

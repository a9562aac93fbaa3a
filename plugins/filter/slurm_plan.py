# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of the scheduler, of what was measured and what the site says."""

from __future__ import annotations

DOCUMENTATION = r"""
name: slurm_plan
author: The mlops.onprem developers (@mlops-onprem)
version_added: 0.3.0
short_description: The configuration of Slurm, of measured hosts and what the site says
description:
  - Returns the files of Slurm, what each node is told, the teams, and findings. What cannot be
    planned becomes a finding, too, so that an assessment shows all of them.
options:
  _input:
    description:
      - A mapping of C(cluster), C(controllers), C(hosts), C(teams), C(partitions), C(database),
        C(cgroup) and the other settings, as the role job_scheduler puts it together.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show slurm.conf
  ansible.builtin.debug:
    msg: "{{ (__job_scheduler_asked | mlops.onprem.slurm_plan).slurm_conf }}"
"""

RETURN = r"""
_value:
  description: >-
    C(slurm_conf), C(gres_conf), C(cgroup_conf), C(slurmdbd_conf), C(nodes), C(teams), C(cgroup) and
    C(findings).
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.onprem.plugins.module_utils._slurm.asked import answer


def slurm_plan(asked: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(asked, Mapping):
        raise AnsibleFilterError("slurm_plan wants a mapping of what is asked.")
    return answer(asked)


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., dict[str, Any]]]:
        return {"slurm_plan": slurm_plan}

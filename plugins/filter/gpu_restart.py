# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host with GPUs is restarted now."""

from __future__ import annotations

DOCUMENTATION = r"""
name: gpu_restart
author: The mlops.onprem developers (@mlops-onprem)
version_added: 0.3.0
short_description: Whether a host is restarted for its GPU driver now, and why not
description:
  - Decides over what was found of the driver, the variables of the role gpu_driver, and the time.
options:
  _input:
    description:
      - A mapping of C(host), C(findings), C(missing), C(installed), C(container), C(local),
        C(check), C(reboot), C(window), C(clock) and C(before), as the role puts it together.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Say whether the host is restarted
  ansible.builtin.debug:
    msg: "{{ (__gpu_driver_restart_asked | mlops.onprem.gpu_restart).said }}"
"""

RETURN = r"""
_value:
  description: >-
    C(act), whether the host is restarted now, and C(said), a sentence, which is empty where nothing
    wants a restart.
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.onprem.plugins.module_utils._gpu_driver.restart import decide


def gpu_restart(asked: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(asked, Mapping):
        raise AnsibleFilterError("gpu_restart wants a mapping of what is asked.")
    return decide(asked).as_dict()


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., dict[str, Any]]]:
        return {"gpu_restart": gpu_restart}

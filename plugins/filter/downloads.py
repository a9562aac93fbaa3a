# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: downloads
short_description: Whether releases fit through the links that are declared
version_added: 0.3.0
author:
  - The mlops.onprem developers (@mlops-onprem)
description:
  - Returns a finding of the assessment. A number is the MiB of one device's releases over its own
    link; a list of models is what all devices fetch over what they share.
options:
  _input:
    description: MiB of the largest releases of a device, or the models of a site with their hosts.
    type: raw
    required: true
  mbit:
    description: Mbit/s of the link of the device, or of all downloads together. 0 is unknown.
    type: float
    default: 0
  seconds:
    description: Seconds that a device may take.
    type: float
    default: 3600
  window:
    description: When rings may begin, as C(rollout_window).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show what the download of 300 MiB takes
  ansible.builtin.debug:
    msg: "{{ 300 | mlops.onprem.downloads(mbit=20, seconds=600) }}"
"""

RETURN = r"""
_value:
  description: The finding, without its host.
  type: dict
"""

from collections.abc import Callable, Sequence
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._release.client import LEAST_RATE
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.downloads import (
    of_device,
    of_site,
)
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.errors import RolloutError
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.window import EXAMPLE, parse


def downloads(
    value: Any, mbit: Any = 0, seconds: Any = 3600, window: Sequence[str] = ()
) -> dict[str, str]:
    """A number is of a device, a list of the site."""
    if isinstance(value, (list, tuple)):
        try:
            lines = [window] if isinstance(window, str) else window
            return of_site(value, float(mbit), parse(";".join(lines)))
        except RolloutError as error:
            return {
                "id": "rollout.download",
                "severity": "fail",
                "found": str(error),
                "wanted": f"spans of time such as {EXAMPLE}",
                "remedy": "correct rollout_window",
            }
    return of_device(float(value), float(mbit), float(seconds), LEAST_RATE)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"downloads": downloads}

#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings cards to how they are to be, and reads again whether they are."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_settings
short_description: Set MIG layout, power limits, ECC and persistence mode of GPUs
version_added: 0.3.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - Reads how the cards are, gives C(nvidia-smi) the commands that are missing, and reads again.
    What counts is what the cards then say, since C(nvidia-smi -mig 1) can end with 0 and change
    nothing.
  - Never takes a MIG instance away to make room; a card that is divided otherwise than the plan has
    it is refused with the commands that free it.
  - Keeps in O(directory) what the cards were before, so that RV(changes) can be undone with
    O(state=absent), and a script that does the same after a start of the host.
  - Where NVIDIA's container toolkit is on the host, its description of the devices for containers
    (CDI) is written anew after every change, also after one of the driver.
options:
  state:
    description: With V(absent), what was set is put back to what it was before.
    type: str
    choices: [present, absent]
    default: present
  directory:
    description: Directory of the role's state, which exists.
    type: path
    required: true
  placement:
    description:
      - What the plan puts on the host, as C(mlops_placement) has it. Profiles make MIG instances.
    type: list
    elements: dict
    default: []
  persistence:
    description: Persistence mode of all cards. Without it, as it is.
    type: bool
  ecc:
    description: ECC of all cards, which takes effect at the next reset. Without it, as it is.
    type: bool
  power_limits:
    description: Watts by UUID or index of a card, or for C(all).
    type: dict
    default: {}
  cdi:
    description: File of the description for containers.
    type: path
    default: /etc/cdi/nvidia.yaml
extends_documentation_fragment: [mlops.onprem.previewed]
"""

EXAMPLES = r"""
- name: Divide the cards as planned
  mlops.onprem.gpu_settings:
    directory: /var/lib/mlops/gpu_driver
    placement: "{{ mlops_placement }}"
    power_limits: {all: 250}
"""

RETURN = r"""
changes:
  description: What was done, or would be done in check mode.
  returned: success
  type: list
  elements: str
  sample: ["GPU 0: MIG on", "GPU 0: MIG instance 3g.20gb:4"]
missing:
  description: What the cards say is not as it is to be, with what helps.
  returned: success
  type: list
  elements: str
script:
  description: The script for the start of the host; empty where there is nothing to be set.
  returned: success
  type: str
"""

import json
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import (
    PlatformError,
    finish,
)
from ansible_collections.mlops.onprem.plugins.module_utils._gpu_driver import settings
from ansible_collections.mlops.onprem.plugins.module_utils._gpu_driver.read import run
from ansible_collections.mlops.onprem.plugins.module_utils._host.system import must, write_whole


def cards() -> tuple[settings.Card, ...]:
    """The cards as they are now."""
    return settings.state(run(settings.QUERY), run(settings.LIST))


def kept(path: str) -> dict[str, Any]:
    """What an earlier run noted; nothing where there was none."""
    try:
        with open(path, encoding="utf-8") as stream:
            return dict(json.load(stream))
    except FileNotFoundError:
        return {}


def describe(module: AnsibleModule, changed: bool) -> list[str]:
    """Write the description for containers anew, if something changed or it is not there."""
    path = module.params["cdi"]
    version = run(("nvidia-ctk", "--version"))
    if not version or not (changed or not os.path.exists(path)):
        return []
    if not module.check_mode:
        must(["nvidia-ctk", "cdi", "generate", f"--output={path}"], "describe GPUs for containers")
    return [f"description for containers in {path}"]


def work(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    path = os.path.join(params["directory"], "before.json")
    noted, now = kept(path), cards()
    if params["state"] == "absent":
        todo = settings.back(now, noted.get("before", {}), noted.get("made", {}))
        lacking: tuple[str, ...] = ()
        goal: dict[str, settings.Wanted] = {}
    else:
        goal = settings.wanted(
            now,
            settings.layout(params["placement"]),
            params["persistence"],
            params["ecc"],
            {str(name): float(watts) for name, watts in params["power_limits"].items()},
        )
        refused = settings.refusals(now, goal)
        if refused:
            raise PlatformError("; ".join(refused) + ".")
        todo = settings.steps(now, goal)
        lacking = ()
    if todo and not module.check_mode:
        if params["state"] == "present":
            before = {**settings.original(now), **noted.get("before", {})}
            text = json.dumps({"before": before, "made": settings.goal_as_data(goal)}, indent=1)
            write_whole(path, text.encode(), 0o640)
        for step in todo:
            run(step.argv)
        now = cards()
    if params["state"] == "present" and not module.check_mode:
        lacking = settings.missing(now, goal)
    changes = [step.said for step in todo]
    changes += describe(module, bool(todo)) if params["state"] == "present" and now else []
    idle = all(aim == settings.Wanted() for aim in goal.values())
    return {
        "changed": bool(changes),
        "changes": changes,
        "missing": list(lacking),
        "script": "" if idle else settings.script(now, goal),
        "diff": {"before": "", "after": "".join(f"{one}\n" for one in changes)},
    }


def main() -> None:
    finish(
        AnsibleModule(
            argument_spec={
                "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                "directory": {"type": "path", "required": True},
                "placement": {"type": "list", "elements": "dict", "default": []},
                "persistence": {"type": "bool"},
                "ecc": {"type": "bool"},
                "power_limits": {"type": "dict", "default": {}},
                "cdi": {"type": "path", "default": "/etc/cdi/nvidia.yaml"},
            },
            supports_check_mode=True,
        ),
        work,
    )


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_states
short_description: Read what devices that fetch their orders have told the gateway
version_added: 0.3.0
description:
  - Runs on the control host. Reads the state that each device has left by PUT, and says what came
    of one step of a rollout, in the words in which a step that is pushed over SSH answers.
  - Whose a state is, is said by the name of its file, which nginx took from the certificate of the
    device. A state that cannot be read, or calls itself another device, counts as none.
  - Changes nothing and reaches no device.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  hosts:
    description: Devices to read of, by the name in their certificate.
    type: list
    elements: str
    required: true
  model:
    description: Name of the model.
    type: str
    required: true
  digest:
    description: Digest of the release that was ordered.
    type: str
    required: true
  rollout:
    description: Name of the rollout.
    type: str
    required: true
  generation:
    description: Generation of the controller; what was told of an earlier one does not count.
    type: int
    default: 0
  step:
    description:
      - The step that was ordered. With V(look), every device that told anything answers with where
        it is.
    type: str
    choices: [stage, activate, commit, revert, look]
    default: look
  within:
    description:
      - Seconds. A device whose state is older counts as silent. Zero takes every state.
    type: float
    default: 0
  directory:
    description: Where nginx keeps the states.
    type: path
    default: /var/lib/mlops/nginx/fleet/state
attributes:
  check_mode:
    description: Changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: See how far the first ring has come
  mlops.onprem.fleet_states:
    hosts: "{{ groups['ring_canary'] }}"
    model: defects
    digest: sha256:29dee44eca6eb59f5165a13483c3d57dffbaf6a8e144ef2566cf02c77d075a80
    rollout: defects-7
    generation: 1
    step: activate
  register: ring
  until: not ring.waiting
  retries: 20
  delay: 15
"""

RETURN = r"""
answers:
  description: What came of the step on each device that has come to an end with it.
  returned: success
  type: list
  elements: dict
  sample: [{host: edge1, step: activate, reached: true, phase: activated, served: "sha256:29de"}]
seen:
  description: Counters of the release on each device that told anything, with O(step=look).
  returned: success
  type: list
  elements: dict
  sample: [{host: edge1, digest: "sha256:29de", answered: true, requests: 120, errors: 0}]
waiting:
  description: Devices that told something, but have not come to an end with the step.
  returned: success
  type: list
  elements: str
silent:
  description: Devices that told nothing, nothing that can be read, or nothing lately.
  returned: success
  type: list
  elements: str
devices:
  description:
    - What else each device told, by its name - when (by the clock of the control host), the number
      of the channel that it believes, whether that has expired, why it refuses a document, its lock
      file, the end of its certificate, what it serves of the model, and why its state cannot be
      read.
  returned: success
  type: dict
  sample: {edge1: {at: 1800000000.0, sequence: 12, stale: false, lock: ""}}
"""

import os
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.states import (
    MAX_BYTES,
    Collected,
    Told,
    collect,
    read,
)

ABOUT = ("at", "ring", "root", "sequence", "stale", "refusal", "lock", "problem")


def read_all(directory: Path, hosts: Iterable[str]) -> dict[str, Told]:
    """The states of these devices that are there. Links are nothing that nginx makes."""
    found = {}
    for host in hosts:
        if os.sep in host:
            continue
        try:
            handle = os.open(directory / f"{host}.json", os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            continue
        with open(handle, "rb") as stream:
            at = os.fstat(stream.fileno()).st_mtime
            found[host] = read(stream.read(MAX_BYTES + 1), host, at)
    return found


def result(collected: Collected, model: str) -> dict[str, Any]:
    """The answer of the module."""
    return {
        "answers": [asdict(one) for one in collected.answers],
        "seen": [asdict(one) for one in collected.seen],
        "waiting": list(collected.waiting),
        "silent": list(collected.silent),
        "devices": {
            one.host: {
                **{name: getattr(one, name) for name in ABOUT},
                "machine": dict(one.machine),
                "certificate_expires": one.certificate_expires,
                "served": one.models[model].answer.served if model in one.models else "",
            }
            for one in collected.told
        },
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "hosts": {"type": "list", "elements": "str", "required": True},
            "model": {"type": "str", "required": True},
            "digest": {"type": "str", "required": True},
            "rollout": {"type": "str", "required": True},
            "generation": {"type": "int", "default": 0},
            "step": {
                "type": "str",
                "choices": ["stage", "activate", "commit", "revert", "look"],
                "default": "look",
            },
            "within": {"type": "float", "default": 0},
            "directory": {"type": "path", "default": "/var/lib/mlops/nginx/fleet/state"},
        },
        supports_check_mode=True,
    )
    params = module.params
    directory = Path(params["directory"])
    if not directory.is_dir():
        module.fail_json(
            msg=f"Found no directory {directory}, where nginx keeps the states of devices that "
            "fetch their orders. Run site.yml with rollout_transport: pull for at least one device."
        )
    since = time.time() - params["within"] if params["within"] else 0.0
    collected = collect(
        read_all(directory, params["hosts"]),
        params["hosts"],
        params["model"],
        params["rollout"],
        params["generation"],
        params["digest"],
        params["step"],
        since,
    )
    module.exit_json(changed=False, **result(collected, params["model"]))


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_device
short_description: Take one step of a staged rollout on an edge device
version_added: 0.3.0
description:
  - Runs on the device and does one step with one model. What a rollout decides is not decided
    here; this module does what it is told, judges what only the device can judge, and says what
    came of it. Also a step that was refused or did not work is an answer and no failure of the
    task; only what cannot be an order at all fails.
  - Each step may be repeated, also after a run that was killed at any point. The device serves one
    complete release or the other at any time.
  - An activation is undone by the device itself, with or without a network, when one of its gates
    fails, and when nobody has committed it by the deadline. A timer of the role C(model_serving)
    looks every few seconds, also after a restart of the device.
  - Setting the time of day moves no deadline. After a restart of the device, when the only other
    clock begins anew, the deadline has passed where the time of day says so, and at the latest when
    the device has been up for as long as the whole deadline was.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  step:
    description:
      - V(stage) fetches and verifies the release beside what is served.
      - V(activate) arms the deadline, switches, and judges. The model server has to load the
        release within the declared memory, its golden answers have to be those of the trainer, and
        to come within the limits of latency. If one of that fails, the device goes back at once.
      - V(commit) disarms the deadline. The release stays.
      - V(revert) goes back to the release that was served when this rollout activated its own,
        also after V(commit). A device that had none serves nothing then. One that has not taken
        part in this rollout is left as it is.
      - V(look) says what is and changes nothing.
    type: str
    choices: [stage, activate, commit, revert, look]
    required: true
  rollout:
    description: Identity of the rollout.
    type: str
    required: true
  generation:
    description:
      - Number of the controller that has taken over the rollout last. A lower one than this device
        has seen for the model is refused.
    type: int
    required: true
  model:
    description: Name of the model.
    type: str
    required: true
  digest:
    description: Digest of the release that is rolled out. V(look) can do without.
    type: str
    default: ""
  deadline:
    description:
      - Seconds after which an activated release that was not committed is reverted by the device.
        Needed for V(activate). A repeated V(activate) does not move it.
    type: float
    default: 0.0
  limits:
    description:
      - Limits of the device's own gates. C(memory_mib) is what loading the release may take above
        what the model server had before, measured as the growth of its resident memory.
        C(p95_ms) and C(p99_ms) are for the answers to C(golden_requests) golden requests over
        loopback (40, and at least each once); where a limit is exceeded, they are asked once more
        and the better try counts. A limit that is not given is not judged.
    type: dict
    default: {}
  rate:
    description: Bytes a second that fetching may take; 0 for no cap, else at least 32768.
    type: int
    default: 0
  rollback:
    description: Accept a release that is older than the newest one of its model that was here.
    type: bool
    default: false
  host:
    description: Name of the device in the answer.
    type: str
    default: ""
  timeout:
    description: Seconds to wait for the model server to answer and to load the model.
    type: int
    default: 60
  settings:
    description: File that the role wrote.
    type: path
    default: /etc/mlops/model_serving/release.json
  lock_file:
    description:
      - File by which an operator, or the device's own safety logic, refuses V(stage) and
        V(activate). What stands in it is the reason that is reported.
    type: path
    default: /etc/mlops/model_serving/rollout.lock
attributes:
  check_mode:
    description:
      - Says what the step would come to. For V(stage), manifest and signature are read from the
        registry and judged.
    support: full
  diff_mode:
    description: Shows phase and release before and after.
    support: full
seealso:
  - module: mlops.onprem.model_release
"""

EXAMPLES = r"""
- name: Fetch a release beside what is served, at most 1 MB a second
  mlops.onprem.rollout_device:
    step: stage
    rollout: defects-7
    generation: 3
    model: defects
    digest: sha256:29dee44eca6eb59f5165a13483c3d57dffbaf6a8e144ef2566cf02c77d075a80
    rate: 1000000

- name: Serve it for ten minutes at most, unless somebody commits
  mlops.onprem.rollout_device:
    step: activate
    rollout: defects-7
    generation: 3
    model: defects
    digest: sha256:29dee44eca6eb59f5165a13483c3d57dffbaf6a8e144ef2566cf02c77d075a80
    deadline: 600
    limits: {memory_mib: 352, p95_ms: 50}
"""

RETURN = r"""
host:
  description: O(host).
  returned: always
  type: str
  sample: edge1
step:
  description: O(step).
  returned: always
  type: str
  sample: activate
reached:
  description: Always true; a device that was not reached runs no module.
  returned: always
  type: bool
  sample: true
phase:
  description: Where the device is with this rollout (none, staged, activated, committed, reverted).
  returned: always
  type: str
  sample: activated
served:
  description: Digest that the model server says it serves of the model, empty if none.
  returned: always
  type: str
  sample: sha256:29dee44eca6eb59f5165a13483c3d57dffbaf6a8e144ef2566cf02c77d075a80
gates:
  description: Verdicts of the device's own gates.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: One of signature, load, golden and speed.
      type: str
      sample: speed
    verdict:
      description: One of PASS, FAIL, MISSING and LEFT_OUT.
      type: str
      sample: PASS
    said:
      description: A sentence.
      type: str
      sample: 95 % of 40 golden requests took 3.1 ms at most, which is within the limit.
    found:
      description: Numbers found, by name.
      type: dict
      sample: {p95_ms: 3.1, p99_ms: 3.4, requests: 40, tries: 1}
    wanted:
      description: Numbers wanted, by name.
      type: dict
      sample: {p95_ms: 50}
refused:
  description: Why the device or its operator refuses the step; empty if nobody does.
  returned: always
  type: str
  sample: ""
failure:
  description: What went wrong, a sentence; empty if nothing did.
  returned: always
  type: str
  sample: ""
moved:
  description: Bytes fetched by this run, also where it broke off.
  returned: always
  type: int
  sample: 14352
machine:
  description:
    - What kind of device this is, C(architecture), C(memory_mib) and C(accelerator), as measured.
      The first ring is to have one of every kind.
  returned: when O(step) is V(look)
  type: dict
  sample: {architecture: aarch64, memory_mib: 7812.4, accelerator: NVIDIA Jetson GPU}
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.machine import machine
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.orders import (
    LOOK,
    STEPS,
    Answer,
    Order,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.rollout import (
    LOCK_FILE,
    Rollouts,
    open_rollouts,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.settings import (
    SETTINGS_FILE,
    Settings,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError

ARGUMENTS = {
    "step": {"type": "str", "choices": list(STEPS), "required": True},
    "rollout": {"type": "str", "required": True},
    "generation": {"type": "int", "required": True},
    "model": {"type": "str", "required": True},
    "digest": {"type": "str", "default": ""},
    "deadline": {"type": "float", "default": 0.0},
    "limits": {"type": "dict", "default": {}},
    "rate": {"type": "int", "default": 0},
    "rollback": {"type": "bool", "default": False},
    "host": {"type": "str", "default": ""},
    "timeout": {"type": "int", "default": 60},
    "settings": {"type": "path", "default": SETTINGS_FILE},
    "lock_file": {"type": "path", "default": LOCK_FILE},
}


def order_of(params: dict[str, Any]) -> Order:
    """The order in the parameters of a task; raises RegistryError for what cannot be one."""
    limits = {}
    for name, value in params["limits"].items():
        try:
            limits[str(name)] = float(value)
        except (TypeError, ValueError):
            raise RegistryError(f"limits.{name} is {value!r}, wanted a number.") from None
    order = Order(
        params["step"],
        params["rollout"],
        params["generation"],
        params["model"],
        params["digest"],
        params["deadline"],
        limits,
        params["rate"],
        params["rollback"],
    )
    order.check()
    return order


def run(rollouts: Rollouts, order: Order, check_mode: bool) -> dict[str, Any]:
    """Take the step, or say what it would come to."""
    before = rollouts.stands(order)
    if check_mode:
        answer, changed = rollouts.foresee(order)
        after = before
    else:
        answer = rollouts.do(order)
        after = rollouts.stands(order)
        changed = before != after
    return {
        **answer.to_json(),
        **seen_of(order),
        "changed": changed,
        "diff": {"before": before, "after": after},
    }


def seen_of(order: Order) -> dict[str, Any]:
    """What a look tells besides: the kind of device this is."""
    return {"machine": machine()} if order.step == LOOK else {}


def uninstalled(order: Order, host: str, path: Path) -> dict[str, Any]:
    """What is said of a device without model serving."""
    failure = f"The file {path} is not there; apply the role model_serving to this device first."
    answer = Answer(host, order.step, True, failure=failure)
    return {"changed": False, **answer.to_json(), **seen_of(order)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    path = Path(params["settings"])
    try:
        order = order_of(params)
        if not path.exists():
            module.exit_json(**uninstalled(order, params["host"], path))
        rollouts = open_rollouts(
            Settings.parse(path.read_bytes(), str(path)),
            params["host"],
            params["rate"],
            float(params["timeout"]),
            params["lock_file"],
        )
    except RegistryError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"The settings {path} cannot be read: {error.strerror}.")
    module.exit_json(**run(rollouts, order, module.check_mode))


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_channel
short_description: Publish what devices that fetch their orders believe
version_added: 0.3.0
description:
  - Runs on the control host. Keeps the online key there, lays root documents out, and signs one
    channel document for each ring, which the gateway serves.
  - Every document is first judged by the rules of the devices. What they would refuse is not
    published, and the module fails with their sentence.
  - The online key never leaves the host. Root documents are made and signed on the controller, see
    M(mlops.onprem.rollout_root).
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  step:
    description:
      - V(key) makes the online key, if there is none, and returns its public half.
      - V(root) publishes a root document, and under it every channel anew.
      - V(publish) tells the devices of a ring what to be on.
      - V(probe) has devices of a ring that stay where they are send golden requests to themselves.
      - V(renew) publishes anew every channel that has used up half of its time.
    type: str
    choices: [key, root, publish, probe, renew]
    required: true
  site:
    description: Identity of the site.
    type: str
    required: true
  fresh:
    description: With O(step=key), make another key, which the next root document is to name.
    type: bool
    default: false
  root:
    description: The root document, with O(step=root).
    type: str
  signatures:
    description: The signatures of O(root), as they lie beside it.
    type: str
  ring:
    description: Name of the ring, with O(step=publish) and O(step=probe).
    type: str
  device_classes:
    description: The kinds of machine that the devices of the ring are, with O(step=publish).
    type: list
    elements: str
    default: [x86_64, aarch64]
  models:
    description:
      - What is wanted of each model, with O(step=publish). A model that is left out is told
        nothing, and its devices stay where they are.
    type: list
    elements: dict
    default: []
    suboptions:
      model:
        description: Name of the model.
        type: str
        required: true
      digest:
        description: Digest of the release.
        type: str
        required: true
      size:
        description: Bytes of all files of the release; devices fetch no more.
        type: int
        required: true
      counter:
        description: Counter in the release's own signature.
        type: int
        required: true
      minimum_counter:
        description: Releases with a lower counter are never installed again. It only ever grows.
        type: int
        default: 0
      step:
        description: What is to be done.
        type: str
        choices: [stage, activate, commit, revert]
        required: true
      rollout:
        description: Name of the rollout.
        type: str
        required: true
      generation:
        description: Generation of the controller.
        type: int
        required: true
      deadline:
        description: Seconds after which a device goes back by itself, unless it was told V(commit).
        type: float
        default: 0
      limits:
        description: Limits of the device's own gates.
        type: dict
        default: {}
      rate:
        description: Bytes a second that a download may take; 0 is no limit.
        type: int
        default: 0
      rollback:
        description: Whether the release is older than one that was ordered before.
        type: bool
        default: false
      probes:
        description:
          - Golden requests that a device sends to itself at each contact, serving the release.
        type: int
        default: 0
      probe_until:
        description: When it stops doing so, in seconds since 1970.
        type: int
        default: 0
  only:
    description:
      - Name of the one model that O(step=publish) or O(step=probe) is about. What the channel says
        of other models stays. Without it the channel says nothing but O(models).
    type: str
    default: ""
  probes:
    description: Golden requests at each contact, with O(step=probe).
    type: int
    default: 0
  probe_until:
    description: When they end, in seconds since 1970, with O(step=probe).
    type: int
    default: 0
  next_poll:
    description: Seconds after which a device of the ring is to ask again.
    type: int
    default: 300
  valid_days:
    description:
      - Days for which a channel is believed. After them devices keep serving, take nothing new and
        report that they are stale.
    type: int
    default: 30
  directory:
    description: What the gateway serves, with the directories C(root) and C(channel).
    type: path
    default: /var/lib/mlops/fleet
  key_directory:
    description: Where the online key and the last sequence are kept; nobody else reads it.
    type: path
    default: /var/lib/mlops/fleet_signer
attributes:
  check_mode:
    description: Says what would be published; no key is made and nothing is signed.
    support: full
"""

EXAMPLES = r"""
- name: Tell the first ring to switch
  mlops.onprem.rollout_channel:
    step: publish
    site: example
    ring: ring_canary
    next_poll: 20
    models:
      - model: defects
        digest: sha256:29dee44eca6eb59f5165a13483c3d57dffbaf6a8e144ef2566cf02c77d075a80
        size: 51200
        counter: 1800000000
        step: activate
        rollout: defects-7
        generation: 1
        deadline: 900
"""

RETURN = r"""
public_key:
  description: Public half of the online key, in PEM form.
  returned: with O(step=key), unless it would have to be made first
  type: str
root:
  description: The newest root document.
  returned: where there is one
  type: str
root_signatures:
  description: The signatures that lie beside it.
  returned: where there is one
  type: str
first_root:
  description: The first root document and its signatures, with which devices are enrolled.
  returned: where there is one
  type: dict
  sample: {root: "{}", signatures: "{}"}
sequence:
  description: Number of the channel that the ring has now.
  returned: with O(step=publish)
  type: int
expires:
  description: When that channel expires, in seconds since 1970.
  returned: with O(step=publish)
  type: int
rings:
  description: The rings whose channel was published anew.
  returned: with O(step=renew)
  type: list
  elements: str
"""

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.documents import (
    Signed,
    Target,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.publish import (
    Publisher,
    Wanted,
    read_target,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.renewal import alone
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError

STEPS = ["key", "root", "publish", "probe", "renew"]
OPTIONS: dict[str, Any] = {
    "step": {"type": "str", "choices": STEPS, "required": True},
    "site": {"type": "str", "required": True},
    "fresh": {"type": "bool", "default": False},
    "root": {"type": "str"},
    "signatures": {"type": "str"},
    "ring": {"type": "str"},
    "device_classes": {"type": "list", "elements": "str", "default": ["x86_64", "aarch64"]},
    "models": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "model": {"type": "str", "required": True},
            "digest": {"type": "str", "required": True},
            "size": {"type": "int", "required": True},
            "counter": {"type": "int", "required": True},
            "minimum_counter": {"type": "int", "default": 0},
            "step": {
                "type": "str",
                "choices": ["stage", "activate", "commit", "revert"],
                "required": True,
            },
            "rollout": {"type": "str", "required": True},
            "generation": {"type": "int", "required": True},
            "deadline": {"type": "float", "default": 0},
            "limits": {"type": "dict", "default": {}},
            "rate": {"type": "int", "default": 0},
            "rollback": {"type": "bool", "default": False},
            "probes": {"type": "int", "default": 0},
            "probe_until": {"type": "int", "default": 0},
        },
    },
    "only": {"type": "str", "default": ""},
    "probes": {"type": "int", "default": 0},
    "probe_until": {"type": "int", "default": 0},
    "next_poll": {"type": "int", "default": 300},
    "valid_days": {"type": "int", "default": 30},
    "directory": {"type": "path", "default": "/var/lib/mlops/fleet"},
    "key_directory": {"type": "path", "default": "/var/lib/mlops/fleet_signer", "no_log": False},
}


def answer(publisher: Publisher, options: dict[str, Any], write: bool) -> dict[str, Any]:
    """Take the step."""
    step = options["step"]
    if step == "key":
        before = set(publisher.keys.all())
        name = publisher.key(options["fresh"], write)
        found = {"public_key": publisher.keys.public(name)} if name else {}
        return {"changed": name not in before, **found, **roots(publisher)}
    if step == "root":
        signed = Signed(options["root"].encode(), options["signatures"].encode())
        return {"changed": publisher.install(signed, write), **roots(publisher)}
    if step == "renew":
        done = publisher.renew(write=write)
        return {"changed": bool(done), "rings": done, **roots(publisher)}
    if step == "probe":
        asked = options["probes"], options["probe_until"]
        told = publisher.probe(options["ring"], options["only"], *asked, write)
        return {"changed": told is not None and told.changed}
    targets = [
        read_target(row, 0, f"model {number}")
        for number, row in enumerate(options["models"], start=1)
    ]
    if options["only"]:
        targets = with_others(publisher, options["ring"], options["only"], targets)
    done_one = publisher.publish(
        Wanted(
            options["ring"],
            tuple(options["device_classes"]),
            tuple(targets),
            options["next_poll"],
            options["valid_days"] * 86400,
        ),
        write,
    )
    return {
        "changed": done_one.changed,
        "sequence": done_one.channel.sequence,
        "expires": done_one.channel.expires,
    }


def with_others(publisher: Publisher, ring: str, model: str, targets: list[Target]) -> list[Target]:
    """What a channel says once it says this of one model."""
    strangers = [target.model for target in targets if target.model != model]
    if strangers:
        raise RegistryError(f"Found the model {strangers[0]} in models, wanted only {model}.")
    before = publisher.channels().get(ring)
    others = [one for one in before.models if one.model != model] if before is not None else []
    return sorted([*others, *targets], key=lambda target: target.model)


def roots(publisher: Publisher) -> dict[str, Any]:
    """The first root document and the newest, as far as there are any."""
    found = publisher.roots()
    if not found:
        return {}
    texts = [(one.data.decode("ascii"), one.signatures.decode("ascii")) for one in found]
    return {
        "root": texts[-1][0],
        "root_signatures": texts[-1][1],
        "first_root": {"root": texts[0][0], "signatures": texts[0][1]},
    }


def main() -> None:
    """Ansible's entry point."""
    module = AnsibleModule(
        OPTIONS,
        supports_check_mode=True,
        required_if=[
            ("step", "root", ["root", "signatures"]),
            ("step", "publish", ["ring"]),
            ("step", "probe", ["ring"]),
        ],
    )
    options = module.params
    if module.check_mode and not Path(options["directory"]).is_dir():
        # Made by a run of site.yml, of which this is the forecast.
        module.exit_json(changed=options["step"] == "key")
    try:
        publisher = Publisher(
            options["site"], Path(options["directory"]), Path(options["key_directory"]), time.time()
        )
        with alone(options["key_directory"]):
            result = answer(publisher, options, not module.check_mode)
            if not module.check_mode:
                publisher.hand_over()
    except (RegistryError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout
short_description: Decide the next step of a staged rollout
version_added: 0.3.0
description:
  - Runs on the site's first control host. Keeps the journal of a model's rollouts there, and
    decides what comes next; it never touches a device. Who runs it carries out RV(orders) and
    looks at the devices of RV(watch), and says what came of it in the next call.
  - Every decision is on the disk before it is returned. A controller that was killed, or another
    one, goes on with O(ask=resume); an order that is given twice is the same order.
  - Only one controller leads a rollout. O(ask=resume), O(ask=abort) and O(ask=rollback) take over
    by a higher generation; devices refuse orders of a lower one, and O(ask=next) of the controller
    before fails with a sentence that names who leads since when.
  - The journal is one line of JSON per decision in C(<directory>/<model>/journal.jsonl).
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  ask:
    description:
      - V(plan) says what a rollout would be and writes nothing. V(begin) freezes that plan.
      - V(next) takes O(answers) and O(look), and says what to do next.
      - V(status) says where the rollout is, with its whole journal.
      - V(pause) stops all orders. Devices that are activated keep their commit deadline.
      - V(resume) goes on as a new controller. A rollout that has ended is opened again for devices
        that were deferred or are new in O(request); they take its release one by one.
      - V(abort) ends it; what is committed stays, what is not goes back. V(rollback) brings all
        of it back, after it has ended too.
    type: str
    choices: [plan, begin, next, status, pause, resume, abort, rollback]
    required: true
  model:
    description: Name of the model.
    type: str
    required: true
  holder:
    description: Who asks, as people know it, such as C(anna@laptop). Stands in the journal.
    type: str
    default: ""
  generation:
    description: The generation that V(begin), V(resume), V(abort) or V(rollback) returned.
    type: int
  reason:
    description: Why a person pauses, aborts or rolls back. Stands in the journal.
    type: str
    default: ""
  approved_by:
    description: The person who approves the next ring, where the plan demands it.
    type: str
    default: ""
  request:
    description:
      - What is planned, for V(plan) and V(begin); for V(resume) only C(devices) is read.
    type: dict
    default: {}
    suboptions:
      version:
        description: Version in the model registry, for people.
        type: str
      digest:
        description: Digest of the release.
        type: str
      counter:
        description: Its signed counter.
        type: int
      size:
        description: Its bytes.
        type: int
      devices:
        description:
          - By name of the host C(previous) (the digest that it serves, empty if none), C(transport)
            (V(push) or V(pull)), C(channel) (that one with V(pull) follows), C(online), and
            what was measured of it in C(architecture),
            C(memory_mib) and C(accelerator).
        type: dict
      groups:
        description: Hosts by group of the inventory; those named C(ring_*) are rings.
        type: dict
      rings:
        description: Groups in the order in which they get the release.
        type: list
        elements: str
      shares:
        description: Cumulative shares of the fleet, used where no group is a ring.
        type: list
        elements: float
      gates:
        description: Settings of the gates, as in C(rollout_gates).
        type: dict
      local:
        description: Limits of the gates on the device.
        type: dict
      approval:
        description: Persons of whom one has to approve, by ring.
        type: dict
      window:
        description: When rings begin and switch, such as V(Mon-Fri 22:00-04:00 Europe/Berlin).
        type: raw
      on_failure:
        description: What goes back when a ring fails, V(ring) or V(all).
        type: str
      bake_seconds:
        description: A ring bakes at least so long.
        type: float
      bake_limit_seconds:
        description: A ring without a verdict pauses after so long.
        type: float
      poll_seconds:
        description: Seconds between looks.
        type: float
      concurrent_downloads:
        description: Devices that download at once.
        type: int
      bandwidth_mbit:
        description: Cap of all downloads together. V(0) is none.
        type: float
      deferred_share:
        description: Share of a ring that may be deferred.
        type: float
      failed_share:
        description:
          - Share of a ring that may fail. By default C(device_failure_rate_max) of the gates.
        type: float
      min_requests:
        description: Requests that a verdict needs at least.
        type: int
      probe_requests:
        description: Golden requests that are sent to each device at each look.
        type: int
      contact_seconds:
        description: Seconds between contacts of devices that fetch orders, in a ring under way.
        type: float
      idle_seconds:
        description: Seconds between their contacts at other times.
        type: float
      changes:
        description:
          - Of a release that differs in its configuration alone, C(key), C(before) and C(after) of
            what is other, values as JSON.
        type: list
        elements: dict
      base:
        description: Version of the release that this one was made of.
        type: str
      fetched:
        description: Bytes that a device fetches which has that release.
        type: int
  answers:
    description:
      - What came of RV(orders). Each has the fields C(host), C(step), C(reached), C(phase),
        C(served), C(gates), C(refused), C(failure) and C(moved); others are ignored.
    type: list
    elements: dict
    default: []
  look:
    description:
      - What was seen of RV(watch), with C(ring) and C(control) (a list of counters of devices as
        they are, with C(host), C(digest), C(answered), C(requests), C(errors), C(latency),
        C(predictions) and C(at)), and C(queries). The difference to the first look is made here.
    type: dict
  directory:
    description: Where the journals are. The role C(rollout) makes it.
    type: path
    default: /var/lib/mlops/rollout
  metrics:
    description: File that Prometheus is handed. Not written where its directory is missing.
    type: path
    default: /var/lib/mlops/rollout_metrics/rollout.prom
attributes:
  check_mode:
    description: Says what would be decided and writes nothing.
    support: full
  diff_mode:
    description: There is no file whose change would tell more than RV(said).
    support: none
"""

EXAMPLES = r"""
- name: Show what a rollout would be
  mlops.onprem.rollout:
    ask: plan
    model: defects
    request:
      version: "7"
      digest: sha256:29dee44eca6eb59f5165a13483c3d57dffbaf6a8e144ef2566cf02c77d075a80
      size: 14352
      groups: {ring_canary: [edge1], ring_fleet: [edge2, edge3]}
      devices:
        edge1: {online: true}
        edge2: {online: true}
        edge3: {online: false}

- name: Take in what came of the orders
  mlops.onprem.rollout:
    ask: next
    model: defects
    generation: 4
    answers:
      - host: edge1
        step: stage
        reached: true
        phase: staged

- name: Stop giving orders
  mlops.onprem.rollout:
    ask: pause
    model: defects
    holder: anna@laptop
    reason: line 2 is being rebuilt
"""

RETURN = r"""
rollout:
  description: Name of the rollout, empty if there was none.
  returned: success
  type: str
  sample: defects-20260301T101500Z-29dee44e
generation:
  description: To be given with the next call.
  returned: success
  type: int
  sample: 4
mode:
  description: Where the rollout is, such as C(staging), C(baking) or C(finished).
  returned: success
  type: str
  sample: baking
outcome:
  description:
    - How it ended (C(COMPLETED), C(ROLLED_BACK), C(ROLLED_BACK_PARTIAL), C(PARTIAL),
      C(ABORTED)), or C(PAUSED). Empty while it goes on.
  returned: success
  type: str
  sample: ""
exit_code:
  description: What a playbook ends with. 0 while it goes on.
  returned: success
  type: int
  sample: 0
said:
  description: What was decided in this call, in sentences.
  returned: success
  type: list
  elements: str
  sample: [The ring ring_canary begins with 1 device.]
orders:
  description:
    - What to tell devices now, all at once. Each has C(host), C(transport), C(step), C(rollout),
      C(generation), C(model), C(digest), C(deadline), C(limits), C(rate) and C(rollback).
  returned: success
  type: list
  elements: dict
  sample: []
channels:
  description:
    - What devices that fetch their orders are to be told, by channel, as
      M(mlops.onprem.rollout_channel) publishes it. It follows from the journal, and is the same
      until something is decided. An empty C(step) is nothing more about the model.
  returned: success
  type: list
  elements: dict
  sample: [{channel: ring_canary, hosts: [edge1], step: stage, next_poll: 15}]
watch:
  description:
    - Whom to look at after RV(wait_seconds), for the next call. C(ring) and C(control) give the
      digest by host, C(probe_requests) the golden requests to send. Null if nothing is to be seen.
  returned: success
  type: dict
  sample: {ring: {edge1: "sha256:29de"}, control: {}, probe_requests: 20}
wait_seconds:
  description: When to ask again, after the orders were carried out. 0 is at once.
  returned: success
  type: float
  sample: 30.0
plan:
  description: The frozen plan.
  returned: when O(ask) is V(plan), V(begin) or V(status)
  type: dict
forecast:
  description:
    - Per ring C(hosts), C(classes), C(offline), the smallest C(detectable) defect rate, C(bytes),
      C(download_seconds), C(seconds) and C(approval).
  returned: when O(ask) is V(plan) or V(begin)
  type: list
  elements: dict
text:
  description: The plan, as people read it.
  returned: when O(ask) is V(plan) or V(begin)
  type: list
  elements: str
journal:
  description: All lines of the journal of this rollout.
  returned: when it has an outcome, or O(ask) is V(status)
  type: list
  elements: dict
committed:
  description: The release that each device was committed to last, by any rollout of the model.
  returned: when it has an outcome, or O(ask) is V(status)
  type: dict
release:
  description: The digest that the fleet was brought to last, empty if it never was.
  returned: success
  type: str
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import finish
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.desk import Asked, Desk

ASKS = ["plan", "begin", "next", "status", "pause", "resume", "abort", "rollback"]
REQUEST: dict[str, Any] = {
    "version": {"type": "str"},
    "digest": {"type": "str"},
    "counter": {"type": "int"},
    "size": {"type": "int"},
    "devices": {"type": "dict"},
    "groups": {"type": "dict"},
    "rings": {"type": "list", "elements": "str"},
    "shares": {"type": "list", "elements": "float"},
    "gates": {"type": "dict"},
    "local": {"type": "dict"},
    "approval": {"type": "dict"},
    "window": {"type": "raw"},
    "on_failure": {"type": "str"},
    "bake_seconds": {"type": "float"},
    "bake_limit_seconds": {"type": "float"},
    "poll_seconds": {"type": "float"},
    "concurrent_downloads": {"type": "int"},
    "bandwidth_mbit": {"type": "float"},
    "deferred_share": {"type": "float"},
    "failed_share": {"type": "float"},
    "min_requests": {"type": "int"},
    "probe_requests": {"type": "int"},
    "contact_seconds": {"type": "float"},
    "idle_seconds": {"type": "float"},
    "changes": {"type": "list", "elements": "dict"},
    "base": {"type": "str"},
    "fetched": {"type": "int"},
}


def work(module: AnsibleModule) -> Mapping[str, Any]:
    """Answer what was asked."""
    params = module.params
    request = {name: value for name, value in params["request"].items() if value is not None}
    asked = Asked(
        ask=params["ask"],
        model=params["model"],
        holder=params["holder"],
        generation=params["generation"],
        reason=params["reason"],
        approved_by=params["approved_by"],
        request=request,
        answers=params["answers"],
        look=params["look"],
    )
    desk = Desk(Path(params["directory"]), Path(params["metrics"]), module.check_mode)
    return desk.answer(asked, time.time())


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "ask": {"type": "str", "choices": ASKS, "required": True},
            "model": {"type": "str", "required": True},
            "holder": {"type": "str", "default": ""},
            "generation": {"type": "int"},
            "reason": {"type": "str", "default": ""},
            "approved_by": {"type": "str", "default": ""},
            "request": {"type": "dict", "default": {}, "options": REQUEST},
            "answers": {"type": "list", "elements": "dict", "default": []},
            "look": {"type": "dict"},
            "directory": {"type": "path", "default": "/var/lib/mlops/rollout"},
            "metrics": {
                "type": "path",
                "default": "/var/lib/mlops/rollout_metrics/rollout.prom",
            },
        },
        required_if=[("ask", "next", ("generation",))],
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()

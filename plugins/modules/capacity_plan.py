#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the demand of all roles and the workloads of the site fit on the hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: capacity_plan
short_description: Decide whether what is asked of each host fits on it
version_added: 0.1.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - Adds up, for each host, what all services placed on it need, what runs there already that is not
    the platform's, and what is kept for the operating system, and compares with what the host has.
  - Resources are processors, memory, the space and the inodes of every file system, GPUs, and
    ports. Paths are mapped to the file system that holds them; several paths on one file system
    add up.
  - Services of the platform that run already are not counted twice.
  - Facts that are too old or were measured on another host are refused.
  - With I(workloads) it also plans them on what is left, as replicas with GPUs, parts of GPUs and
    MIG instances. It answers whether they fit and where they go (checked by separate code), or why
    not, which host may not be lost, until when growth leaves room, what to buy, and what would be
    otherwise with hosts or workloads more or fewer. See docs/capacity.md.
  - Runs on the controller and changes nothing.
options:
  supply:
    description: Facts of M(mlops.onprem.capacity_facts) by host.
    type: dict
    required: true
  demand:
    description: Needs as M(mlops.onprem.preflight) collects them, a list by host.
    type: dict
    required: true
  margins:
    description: What is kept back on every host. The defaults suit a pilot.
    type: dict
    default: {}
    suboptions:
      memory_reserve_mib:
        description: Memory kept for the operating system's peaks, on top of what it uses now.
        type: float
        default: 512
      cpu_reserve_cores:
        description: Processors kept for the operating system.
        type: float
        default: 0.25
      cpu_overcommit:
        description:
          - Demand allowed for each real processor. Above V(1) services wait for each other.
        type: float
        default: 1
      disk_reserve_percent:
        description: Share of every file system that stays free.
        type: float
        default: 5
      disk_reserve_mib:
        description: Space of every file system that stays free, if that is more.
        type: float
        default: 1024
      inode_reserve_percent:
        description: Share of the inodes of every file system that stays free.
        type: float
        default: 5
      gpu_memory_reserve_percent:
        description: Share of the memory of every GPU that stays free where memory is asked for.
        type: float
        default: 5
  max_age:
    description: Seconds after which facts are too old.
    type: float
    default: 3600
  now:
    description: The time to judge by, in seconds since 1970. V(0) is the present.
    type: float
    default: 0
  hints:
    description:
      - Variables that change a need, by role and kind (V(memory), V(disk), V(cpu), V(port),
        V(gpu)), for the remedies.
    type: dict
    default: {}
  workloads:
    description:
      - Work to plan, a list of mappings with C(name), C(kind) (V(serving), V(training), V(dataset),
        V(service) or V(user)), and any of C(requests), C(limits), C(replicas), C(hosts), C(gpu),
        C(anti_affinity), C(max_per_host), C(growth) and C(priority).
    type: raw
    default: []
  groups:
    description: The hosts of each group of the inventory, for C(hosts.groups) of workloads.
    type: dict
    default: {}
  labels:
    description: Labels of each host, for C(hosts.labels) of workloads.
    type: dict
    default: {}
  resources:
    description:
      - What each host has of things that are counted one by one, such as licences or NPUs, a
        mapping of their names to whole numbers, for C(requests.resources) of workloads.
    type: dict
    default: {}
    version_added: 0.3.0
  offers:
    description:
      - Hosts that could be bought, a list of mappings with C(name), C(cpu_cores), C(memory), and
        any of C(disks), C(gpus), C(groups), C(labels), C(resources), C(price) and C(most).
    type: raw
    default: []
  planning:
    description: How to plan.
    type: dict
    default: {}
    suboptions:
      seconds:
        description: Seconds that all of it may take.
        type: float
        default: 30
      seed:
        description: The same seed and facts give the same plan.
        type: int
        default: 0
      horizon_years:
        description: Years to look ahead, where workloads grow.
        type: float
        default: 3
      survive_lost_host:
        description: Whether to look for a placement that survives the loss of any one host.
        type: bool
        default: false
  earlier:
    description:
      - A placement to keep as far as it still holds, a mapping with C(schema) V(1) and
        C(placement), which is a list as C(workloads.placement) has it.
    type: raw
  what_if:
    description:
      - Changes to try beside the plan. C(add_hosts) is a list of mappings with C(count) and either
        C(offer), the name of an offer, or the keys of one; C(remove_hosts) and C(remove_workloads)
        are names; C(add_workloads) is like I(workloads).
    type: raw
    default: {}
extends_documentation_fragment: [mlops.onprem.read_only]
"""

EXAMPLES = r"""
- name: Judge one host
  mlops.onprem.capacity_plan:
    supply:
      ctl1: "{{ measured.capacity_facts }}"
    demand:
      ctl1:
        - service: Prometheus
          memory_mib: 150
          disks:
            - path: /var/lib/mlops/monitoring
              mib: 2048
  delegate_to: localhost
  register: plan

- name: Show the verdict
  ansible.builtin.debug:
    msg: "{{ plan.verdict }}"

- name: Plan three replicas of a model server, half a GPU each, and ask for a second host
  mlops.onprem.capacity_plan:
    supply:
      gpu1: "{{ measured.capacity_facts }}"
    demand: {}
    groups: "{{ groups }}"
    workloads:
      - name: chat
        kind: serving
        replicas: 3
        requests: {cpu_cores: 8, memory: 48GiB}
        gpu: {share: 0.5, models: [A100]}
        hosts: {groups: [gpu]}
        growth: {percent_per_year: 40}
    offers:
      - name: two-cards
        cpu_cores: 64
        memory: 512GiB
        gpus: {count: 2, model: NVIDIA A100-SXM4-80GB, memory: 80GiB}
        groups: [gpu]
        price: 60000
    what_if:
      add_hosts:
        - offer: two-cards
          count: 1
  delegate_to: localhost
"""

RETURN = r"""
verdict:
  description:
    - C(FEASIBLE), C(INFEASIBLE), or C(UNDECIDED) if something needed could not be measured or it
      was not found out in time whether the workloads fit.
  returned: always
  type: str
  sample: FEASIBLE
hosts:
  description: The verdict for each host.
  returned: always
  type: dict
  sample: {"ctl1": "FEASIBLE"}
table:
  description: The arithmetic, one entry for each resource of each host.
  returned: always
  type: list
  elements: dict
  contains:
    host:
      description: Name of the host.
      type: str
      returned: always
    resource:
      description: CPU, memory, GPU, or disk or files with the mount points.
      type: str
      returned: always
    unit:
      description: cores, MiB, inodes or GPUs.
      type: str
      returned: always
    total:
      description: What the host has.
      type: float
      returned: always
    reserved:
      description: What is kept back by the margins.
      type: float
      returned: always
    foreign:
      description: What is in use and is not the platform's.
      type: float
      returned: always
    demanded:
      description: What the services placed here need, whether they run already or not.
      type: float
      returned: always
    free:
      description: total - reserved - foreign - demanded.
      type: float
      returned: always
    short:
      description: What is missing.
      type: float
      returned: always
    ours_now:
      description: The part of what is in use now that is the platform's own.
      type: float
      returned: always
    parts:
      description:
        - What each service adds to C(demanded), with C(service), C(role), C(amount), C(why).
      type: list
      elements: dict
      returned: always
findings:
  description: Findings with C(id), C(host), C(severity), C(found), C(wanted), C(remedy).
  returned: always
  type: list
  elements: dict
text:
  description: The plan of the workloads as lines for a terminal; empty without workloads.
  returned: always
  type: list
  elements: str
workloads:
  description:
    - The plan of the workloads, as docs/schema/capacity_plan.schema.json describes it; null without
      workloads, and where what is written cannot be read, which is a finding.
  returned: always
  type: dict
  contains:
    verdict:
      description: C(FEASIBLE), C(INFEASIBLE) or C(UNDECIDED).
      type: str
      returned: success
    placement:
      description:
        - Where each replica goes, with C(workload), C(replica), C(host), C(gpus) and C(gpu_ids)
          (the driver's numbers and names), C(profile) and C(slice) of a MIG instance.
      type: list
      elements: dict
      returned: success
    unplaced:
      description: Replicas left out of the best placement, by workload.
      type: dict
      returned: success
    certificates:
      description:
        - Why not all fits, with C(cause), C(resource), C(unit), C(demand), C(supply), C(short),
          C(unplaceable), C(shapes) and the C(steps) of the arithmetic.
      type: list
      elements: dict
      returned: success
    shortages:
      description:
        - For each certificate C(scope) (C(cluster) or C(host)), C(requested), C(reserved), C(used),
          C(short), C(free_total), and C(hosts) with the figures of each.
      type: list
      elements: dict
      returned: success
    lost_hosts:
      description:
        - For each host C(moves), the replicas that its loss would move, and C(stranded), those that
          would find no other place. Null if not all fits.
      type: list
      elements: dict
      returned: success
    horizon:
      description:
        - C(fits_until), C(ends) and C(proven) of the plan as a whole, and for each of C(resources)
          of each group of hosts what may be planned, what is needed, and the day it C(runs_out).
      type: dict
      returned: success
    purchase:
      description:
        - Hosts to buy so that all fits, with C(counts), C(price), the proven bound C(at_least) and
          its C(steps). C(verdict) is C(INFEASIBLE) if it is proven that nothing offered mends it.
          Null if nothing is missing or offered.
      type: dict
      returned: success
    purchase_for_horizon:
      description: The same for the last day of the horizon.
      type: dict
      returned: success
    what_if:
      description: C(changes), the figures C(before) and C(after), and the replicas that C(moved).
      type: dict
      returned: success
    hosts:
      description: What is planned on each host and what stays free there.
      type: list
      elements: dict
      returned: success
    workloads:
      description: Each workload with its replicas, how many are placed, and what each needs.
      type: list
      elements: dict
      returned: success
"""

import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlops.onprem.plugins.module_utils._assess.plan_report import plan_text
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.margins import Margins
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.site_sums import (
    Plan,
    plan,
    verdict_of,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import (
    Demand,
    parse_demand,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import (
    ShapeError,
    each,
    mapping,
)

MARGINS = {item.name: item.default for item in fields(Margins) if item.name != "max_age_seconds"}


def main() -> None:
    """Ansible's entry point."""
    module = AnsibleModule(
        argument_spec={
            "supply": {"type": "dict", "required": True},
            "demand": {"type": "dict", "required": True},
            "margins": {
                "type": "dict",
                "default": {},
                "options": {
                    name: {"type": "float", "default": value} for name, value in MARGINS.items()
                },
            },
            "max_age": {"type": "float", "default": 3600},
            "now": {"type": "float", "default": 0},
            "hints": {"type": "dict", "default": {}},
            "workloads": {"type": "raw", "default": []},
            "groups": {"type": "dict", "default": {}},
            "labels": {"type": "dict", "default": {}},
            "resources": {"type": "dict", "default": {}},
            "offers": {"type": "raw", "default": []},
            "planning": {
                "type": "dict",
                "default": {},
                "options": {
                    "seconds": {"type": "float", "default": 30},
                    "seed": {"type": "int", "default": 0},
                    "horizon_years": {"type": "float", "default": 3},
                    "survive_lost_host": {"type": "bool", "default": False},
                },
            },
            "earlier": {"type": "raw"},
            "what_if": {"type": "raw", "default": {}},
        },
        supports_check_mode=True,
    )
    try:
        demand = {
            host: _within(f"demand.{host}", rows) for host, rows in module.params["demand"].items()
        }
        supply = {host: mapping(facts) for host, facts in module.params["supply"].items()}
    except ShapeError as error:
        module.fail_json(msg=f"The demand cannot be read: {error}.")
        return
    margins = Margins(
        **{**MARGINS, **(module.params["margins"] or {})},
        max_age_seconds=module.params["max_age"],
    )
    now = module.params["now"] or time.time()
    found = plan(supply, demand, margins, now, module.params["hints"])
    answer = {**found.as_dict(), "workloads": None, "text": []}
    if module.params["workloads"]:
        answer.update(_workloads(module, found, supply, demand, margins, now))
    module.exit_json(changed=False, **answer)


def _workloads(
    module: AnsibleModule,
    found: Plan,
    supply: Mapping[str, Mapping[str, Any]],
    demand: Mapping[str, Sequence[Demand]],
    margins: Margins,
    now: float,
) -> dict[str, Any]:
    """What planning the workloads adds to the answer, and the verdict over both."""
    try:
        # Here, since only a site with workloads needs numpy and scipy.
        from ansible_collections.mlops.onprem.plugins.module_utils._assess.plan_findings import (  # noqa: PLC0415
            with_verdict,
        )
        from ansible_collections.mlops.onprem.plugins.module_utils._capacity.planning import (  # noqa: PLC0415
            plan_workloads,
        )
        from ansible_collections.mlops.onprem.plugins.module_utils._capacity.request import (  # noqa: PLC0415
            Written,
        )
        from ansible_collections.mlops.onprem.plugins.module_utils._planner.model import (  # noqa: PLC0415
            Cancelled,
        )
    except ImportError as error:
        module.fail_json(msg=missing_required_lib("numpy and scipy"), exception=str(error))
    hosts = sorted({*supply, *demand})
    asked_to_stop: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda which, _frame: asked_to_stop.append(which))
    try:
        planned = plan_workloads(
            Written(
                module.params["workloads"],
                module.params["offers"],
                module.params["labels"],
                module.params["groups"],
                module.params["what_if"],
                module.params["earlier"],
                module.params["resources"],
            ),
            hosts,
            supply,
            demand,
            margins,
            module.params["planning"] or {},
            time.monotonic,
            now,
            cancelled=lambda: bool(asked_to_stop),
        )
    except Cancelled:
        module.fail_json(msg="The planning was cancelled; nothing has been changed.")
    planned = with_verdict(planned)
    findings = [*found.findings, *planned.findings]
    data = None if planned.plan is None else planned.plan.as_dict()
    return {
        "verdict": verdict_of(findings),
        "findings": [finding.as_dict() for finding in findings],
        "workloads": data,
        "text": [] if data is None else plan_text(data),
    }


def _within(place: str, rows: Any) -> tuple[Demand, ...]:
    try:
        return each(rows, parse_demand)
    except ShapeError as error:
        raise error.within(place) from None


if __name__ == "__main__":
    main()

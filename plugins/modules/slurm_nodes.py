#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Empties nodes of Slurm before they change or leave, and gives them back to jobs afterwards."""

from __future__ import annotations

DOCUMENTATION = r"""
module: slurm_nodes
short_description: Let the jobs of a node of Slurm end before it changes or leaves
version_added: 0.3.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - With V(empty) for O(state), compares the nodes that the controller knows with O(nodes). One that
    leaves, or that will have less memory, fewer processors or other GPUs, is drained, and its jobs
    are waited for. One of O(lost) is given up instead, and its jobs go back to the queue at once.
  - With V(serve), gives back the nodes of O(nodes) that were drained for a change or a restart. A
    node that somebody else drained stays as it is.
  - With V(leave), drains every node of O(names) and waits until no job is on them. V(rest) does so
    with nodes whose host is restarted, which V(serve) gives back afterwards.
  - Where no controller answers there is nothing to wait for, unless O(controller_timeout) is set.
options:
  state:
    description: What the nodes are to do.
    type: str
    choices: [empty, serve, leave, rest]
    required: true
  nodes:
    description: The nodes of the plan by their names, each with C(cpus), C(memory_mib) and C(gres).
    type: dict
    default: {}
  names:
    description: Nodes to empty whatever they are, with V(leave) or V(rest) for O(state).
    type: list
    elements: str
    default: []
  lost:
    description: Nodes whose host is gone for good or for long, with V(empty) for O(state).
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds to wait for jobs to end.
    type: int
    default: 600
  controller_timeout:
    description:
      - Seconds within which a controller that is installed has to answer, as where its host
        has just started. Else the module fails. With 0, one that does not answer is taken for none.
    type: int
    default: 0
extends_documentation_fragment: [mlops.onprem.previewed]
"""

EXAMPLES = r"""
- name: Let the jobs end on nodes that change
  mlops.onprem.slurm_nodes:
    state: empty
    nodes:
      gpu1: {cpus: 64, memory_mib: 515072, gres: "gpu:nvidia_h100_pcie:2"}
"""

RETURN = r"""
steps:
  description: What was done, or would be.
  returned: success
  type: list
  elements: str
  sample: ["drain gpu1: its definition changes"]
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import finish
from ansible_collections.mlops.onprem.plugins.module_utils._findings.sentence import (
    diff_in_words,
    listing,
)
from ansible_collections.mlops.onprem.plugins.module_utils._host.system import (
    properties,
    run,
)
from ansible_collections.mlops.onprem.plugins.module_utils._slurm import draining
from ansible_collections.mlops.onprem.plugins.module_utils._slurm.errors import SlurmError

POLL_SECONDS = 1.0
PROGRAM = "/usr/sbin/slurmctld"
CONFIGURATION = "/etc/slurm/slurm.conf"
UNIT = "slurmctld.service"
# States of whole nodes, and the reason that Slurm is told.
AWAY = {"leave": draining.LEAVING, "rest": draining.RESTARTING}


def active() -> bool:
    """Whether the controller of this host runs."""
    return properties(UNIT, "ActiveState")["ActiveState"] == "active"


def alone() -> bool:
    """Whether no other controller may answer in place of this host's."""
    try:
        lines = Path(CONFIGURATION).read_text("utf-8").splitlines()
    except OSError:
        return True
    return sum(line.startswith("SlurmctldHost=") for line in lines) < 2


def look() -> tuple[draining.Present, ...] | None:
    """The nodes that the controller knows; None where no controller answers."""
    if os.path.exists(PROGRAM) and alone() and not active():
        return None  # it would be asked for twenty seconds
    ran = run(["scontrol", "show", "node", "-o"], timeout=60)
    return draining.parse_nodes(ran.out) if ran.rc == 0 else None


def known(module: AnsibleModule) -> tuple[draining.Present, ...]:
    """The same, once a controller that has to answer does so; no nodes where there is none."""
    seconds = module.params["controller_timeout"]
    there = look()
    if module.check_mode or not seconds or not os.path.exists(CONFIGURATION):
        return there or ()
    until = time.monotonic() + seconds
    while there is None:
        if time.monotonic() > until:
            raise SlurmError(silent(module.params))
        time.sleep(POLL_SECONDS)
        there = look()
    return there


def silent(params: Mapping[str, Any]) -> str:
    """What a controller that does not answer keeps from being done, and what helps."""
    serves = params["state"] == "serve"
    names = list(params["nodes"] if serves else params["names"] or params["nodes"])
    stays = "is not given back to jobs" if serves else "is not emptied, as its jobs are not known"
    again = f", or scontrol update NodeName={','.join(names)} State=RESUME" if serves else ""
    return (
        f"slurmctld does not answer within {params['controller_timeout']} s, so {listing(names)} "
        f"{stays}; see journalctl -u slurmctld -n 50, and when scontrol ping says UP, run again"
        f"{again}"
    )


def update(node: str, *words: str) -> None:
    ran = run(["scontrol", "update", f"NodeName={node}", *words], timeout=60)
    if ran.rc != 0:
        raise SlurmError(
            f"scontrol update {node} {words[0]}: {' '.join(ran.said.split())[-400:]}; see"
            " journalctl -u slurmctld -n 50"
        )


def wait(names: list[str], timeout: int) -> None:
    """Until no job is on the nodes; a controller that went away says nothing of them."""
    until = time.monotonic() + timeout
    while names:
        there = look()
        busy = [node.name for node in there or () if node.name in names and node.busy]
        if there is not None and not busy:
            return
        if time.monotonic() > until:
            raise SlurmError(unfinished(busy or names, timeout, there is not None))
        time.sleep(POLL_SECONDS)


def unfinished(busy: list[str], timeout: int, answers: bool) -> str:
    """Why a node is not empty, or not known to be."""
    if not answers:
        return (
            f"slurmctld went away while jobs were waited for, and whether any run on"
            f" {listing(busy)} is not known after {timeout} s; see journalctl -u slurmctld -n 50,"
            " and run again when scontrol ping says UP"
        )
    return (
        f"jobs still run on {listing(busy)} after {timeout} s (squeue --nodelist="
        f"{','.join(busy)}); it takes no new ones, so run again when they have ended,"
        " cancel them with scancel, or raise job_scheduler_drain_seconds"
    )


def give_up(there: tuple[draining.Present, ...], module: AnsibleModule) -> list[str]:
    names = draining.to_give_up(there, module.params["lost"])
    if not module.check_mode:
        for name in names:
            update(name, "State=DOWN", f"Reason={draining.LOST}")
    return [f"give up {name}: {draining.LOST.removeprefix(draining.REASON)}" for name in names]


def empty(there: tuple[draining.Present, ...], module: AnsibleModule) -> list[str]:
    params = module.params
    if params["state"] in AWAY:
        wanted = list(draining.to_leave(there, params["names"], AWAY[params["state"]]))
    else:
        wanted = [
            one
            for one in draining.to_drain(there, params["nodes"])
            if one.node not in params["lost"]
        ]
    drained = {node.name for node in there if node.drained}
    fresh = [one for one in wanted if one.node not in drained]
    steps = give_up(there, module) if params["state"] == "empty" else []
    if not module.check_mode:
        for one in fresh:
            update(one.node, "State=DRAIN", f"Reason={one.reason}")
        wait([one.node for one in wanted], params["timeout"])
    return steps + [
        f"drain {one.node}: {one.reason.removeprefix(draining.REASON)}" for one in fresh
    ]


def resume(name: str, seconds: int) -> None:
    """Give a node back. A controller that has just started refuses that until the node reports."""
    until = time.monotonic() + seconds
    while True:
        try:
            update(name, "State=RESUME")
        except SlurmError:
            there = look()
            if there is not None and not draining.to_resume(there, [name]):
                return  # it was refused, and is not drained any longer all the same
            if time.monotonic() > until:
                raise
        else:
            return
        time.sleep(POLL_SECONDS)


def serve(there: tuple[draining.Present, ...], module: AnsibleModule) -> list[str]:
    names = draining.to_resume(there, module.params["nodes"])
    if not module.check_mode:
        for name in names:
            resume(name, module.params["controller_timeout"])
    return [f"give {name} back to jobs" for name in names]


def work(module: AnsibleModule) -> dict[str, object]:
    act = serve if module.params["state"] == "serve" else empty
    steps = act(known(module), module)
    return {
        "changed": bool(steps),
        "steps": steps,
        "diff": diff_in_words("nodes of Slurm", steps),
    }


def main() -> None:
    finish(
        AnsibleModule(
            argument_spec={
                "state": {
                    "type": "str",
                    "choices": ["empty", "serve", "leave", "rest"],
                    "required": True,
                },
                "nodes": {"type": "dict", "default": {}},
                "names": {"type": "list", "elements": "str", "default": []},
                "lost": {"type": "list", "elements": "str", "default": []},
                "timeout": {"type": "int", "default": 600},
                "controller_timeout": {"type": "int", "default": 0},
            },
            supports_check_mode=True,
        ),
        work,
    )


if __name__ == "__main__":
    main()

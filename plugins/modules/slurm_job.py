#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: slurm_job
short_description: Submit, cancel and look at the jobs of a site's workloads
version_added: 0.3.0
description:
  - Runs on a host with Slurm's commands, as root. Each job bears a key in its comment,
    C(mlops:<site>:<workload>:<hash of what is asked for>), by which the same job is known again. It
    is never submitted twice, whether it waits, runs or has ended, also where the run that submitted
    it was broken off.
  - A job whose definition changed is cancelled and submitted anew if it has not started. One that
    runs goes on, unless O(replace) says otherwise.
  - Jobs of the site that are not in O(jobs) are cancelled with O(retire). Jobs of others are never
    touched.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  action:
    description:
      - V(submit) brings the queue to what O(jobs) says. V(cancel) ends the jobs of O(workloads).
        V(state) only looks. V(withdraw) only cancels what the site does not want any more, so that
        nobody waits for it; before Slurm is installed there is nothing to cancel.
    type: str
    choices: [submit, cancel, state, withdraw]
    default: submit
  site_id:
    description: Identity of the site.
    type: str
    required: true
  jobs:
    description: All jobs that the site wants, as C(mlops_workloads) and the plan make them.
    type: list
    elements: dict
    default: []
  again:
    description: Workloads whose jobs start anew where they have ended.
    type: list
    elements: str
    default: []
  replace:
    description: Whether a job that runs with a definition that changed is cancelled, too.
    type: bool
    default: false
  retire:
    description: Whether jobs of the site that are not in O(jobs) are cancelled.
    type: bool
    default: true
  workloads:
    description: For V(cancel), the workloads whose jobs end.
    type: list
    elements: str
    default: []
extends_documentation_fragment: [mlops.onprem.previewed]
"""

EXAMPLES = r"""
- name: Start what the plan placed
  mlops.onprem.slurm_job:
    site_id: 0f8fad5b-d9cb-469f-a165-70867728950e
    jobs:
      - workload: nightly
        site: 0f8fad5b-d9cb-469f-a165-70867728950e
        team: vision
        account: anna
        node: gpu1
        command: [python3, train.py]
        cpus: 4
        memory_mib: 8192
        gres: gpu:nvidia_l40s:1
"""

RETURN = r"""
jobs:
  description:
    - How each wanted job stands after the run. C(said) is a sentence, C(good) whether it waits,
      runs or has ended well.
  returned: success
  type: list
  elements: dict
  sample:
    - {workload: nightly, replica: 0, key: "mlops:0f8fad5b:nightly:3f1c", id: 12, state: RUNNING,
       node: gpu1, said: "job 12 runs on gpu1 for 1:02", good: true}
steps:
  description: What was done, or would be.
  returned: success
  type: list
  elements: str
others:
  description: Jobs of the site that are not wanted, with V(state) or without O(retire).
  returned: success
  type: list
  elements: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import (
    PlatformError,
    finish,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.sentence import diff_in_words
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.batch import (
    CANCEL,
    MARK,
    JobError,
    Stand,
    Step,
    decide,
    job_of,
    withdrawn,
)
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.cluster import Cluster


def row(stand: Stand, made: dict[str, int]) -> dict[str, Any]:
    job, seen = stand.job, stand.seen
    number = made.get(job.key, seen.id if seen is not None else 0)
    return {
        "workload": job.workload,
        "replica": job.replica,
        "key": job.key,
        "id": number,
        "state": seen.state if seen is not None else "PENDING",
        "node": (seen.node if seen is not None else "") or job.node,
        "said": stand.said,
        "good": stand.good,
    }


def steps_of(params: dict[str, Any], seen: Any) -> tuple[tuple[Step, ...], tuple[Stand, ...]]:
    jobs = [job_of({**row, "site": params["site_id"]}) for row in params["jobs"]]
    steps, stands = decide(
        jobs,
        seen,
        params["site_id"],
        again=params["again"],
        replace=params["replace"],
        retire=params["retire"] and params["action"] in ("submit", "withdraw"),
    )
    if params["action"] == "submit":
        return steps, stands
    if params["action"] == "withdraw":
        return withdrawn(steps), stands
    if params["action"] == "state":
        return (), stands
    ours = [one for one in seen if one.key.startswith(f"{MARK}:{params['site_id']}:")]
    return tuple(
        Step(CANCEL, f"{one.key.split(':')[2]} (job {one.id}): cancelled", seen=one, withdraw=False)
        for one in ours
        if not one.ended and one.key.split(":")[2] in params["workloads"]
    ), ()


def work(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    cluster = Cluster()
    try:
        none_yet = params["action"] == "withdraw" and not cluster.installed()
        seen = () if none_yet else cluster.seen()
        steps, stands = steps_of(params, seen)
        made = {} if module.check_mode else cluster.apply(steps)
    except JobError as error:
        raise PlatformError(f"{error}.") from None
    except TypeError as error:
        raise PlatformError(f"A job lacks something that it has to say: {error}.") from None
    wanted = {stand.job.key for stand in stands}
    texts = [f"{step.act} {step.text}" for step in steps]
    return {
        "changed": bool(steps),
        "jobs": [row(stand, made) for stand in stands],
        "others": [
            one.as_dict()
            for one in seen
            if one.key.startswith(f"{MARK}:{params['site_id']}:") and one.key not in wanted
        ],
        "steps": texts,
        "diff": diff_in_words("jobs of the site", texts),
    }


def main() -> None:
    finish(
        AnsibleModule(
            argument_spec={
                "action": {
                    "type": "str",
                    "choices": ["submit", "cancel", "state", "withdraw"],
                    "default": "submit",
                },
                "site_id": {"type": "str", "required": True},
                "jobs": {"type": "list", "elements": "dict", "default": []},
                "again": {"type": "list", "elements": "str", "default": []},
                "replace": {"type": "bool", "default": False},
                "retire": {"type": "bool", "default": True},
                "workloads": {"type": "list", "elements": "str", "default": []},
            },
            supports_check_mode=True,
        ),
        work,
    )


if __name__ == "__main__":
    main()

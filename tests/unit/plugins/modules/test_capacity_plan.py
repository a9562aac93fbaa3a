# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""capacity_plan as Ansible runs it, and the variable that tells each host what is placed on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from tests import example_site

PLAYBOOK = """\
- hosts: gpu1,mlops1
  gather_facts: false
  connection: local
  vars_files: [{wiring}]
  tasks:
    - ansible.builtin.copy:
        content: "{{{{ mlops_placement | to_json }}}}"
        dest: "{folder}/{{{{ inventory_hostname }}}}.json"
        mode: "0600"
- hosts: localhost
  gather_facts: false
  connection: local
  vars_files: [{folder}/arguments.json]
  tasks:
    - block:
        - mlops.onprem.capacity_plan: "{{{{ arguments }}}}"
          register: answer
      rescue:
        - ansible.builtin.debug:
            msg: "{{{{ answer.msg }}}}"
      always:
        - ansible.builtin.copy:
            content: "{{{{ answer | to_json }}}}"
            dest: "{folder}/answer.json"
            mode: "0600"
"""


def run(folder: Path, **changes: Any) -> dict[str, Any]:
    """The answer of the module for the example company."""
    variables, groups, labels = example_site.inventory()
    demand = example_site.demand(groups)
    arguments = {
        "supply": example_site.supply(groups),
        "demand": {host: [need.as_dict() for need in demand[host]] for host in demand},
        "now": example_site.NOW,
        "workloads": variables["mlops_workloads"],
        "offers": variables["mlops_host_offers"],
        "groups": groups,
        "labels": labels,
        "planning": {"seconds": 5, "horizon_years": 0},
        **changes,
    }
    (folder / "arguments.json").write_text(json.dumps({"arguments": arguments}, default=str))
    wiring = example_site.ROOT / "playbooks" / "vars" / "wiring.yml"
    (folder / "play.yml").write_text(PLAYBOOK.format(folder=folder, wiring=wiring))
    (folder / "hosts.yml").write_text(
        yaml.safe_dump({"all": {"hosts": {"gpu1": {}, "mlops1": {}}}})
    )
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            f"--inventory={folder / 'hosts.yml'}",
            f"--extra-vars=mlops_state_dir={folder}",
            f"--extra-vars=ansible_python_interpreter={sys.executable}",
            str(folder / "play.yml"),
        ],
        cwd=example_site.ROOT,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(example_site.ROOT / ".collections"),
            "ANSIBLE_HOME": str(folder / "ansible"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads((folder / "answer.json").read_text()))


def test_the_module_plans_and_the_wiring_tells_each_host_its_part(tmp_path: Path) -> None:
    row = {"workload": "chat", "replica": 0, "host": "gpu1", "gpus": [1]}
    kept = {"schema": 1, "placement": [row, {**row, "replica": 1, "host": "gpu2"}]}
    (tmp_path / "placement.json").write_text(json.dumps(kept))
    answer = run(tmp_path)
    schema = example_site.ROOT / "docs" / "schema" / "capacity_plan.schema.json"
    jsonschema.validate(answer["workloads"], json.loads(schema.read_text()))
    assert (answer["verdict"], answer["changed"]) == ("FEASIBLE", False)
    assert answer["workloads"]["verdict"] == "FEASIBLE"
    assert answer["text"][0].startswith("Workloads: FEASIBLE")
    assert json.loads((tmp_path / "gpu1.json").read_text()) == [row]
    assert json.loads((tmp_path / "mlops1.json").read_text()) == []


def test_the_module_answers_a_mistake_with_a_finding(tmp_path: Path) -> None:
    answer = run(tmp_path, workloads=[{"name": "a", "kind": "serving", "gpu": {"share": 1.4}}])
    assert (answer["verdict"], answer["workloads"]) == ("INFEASIBLE", None)
    assert [row["found"] for row in answer["findings"] if row["severity"] == "fail"] == [
        "mlops_workloads[0].gpu.share: 1.4 is more than one GPU; ask for gpu.count: 2"
    ]

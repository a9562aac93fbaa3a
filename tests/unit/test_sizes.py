# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server of the size that the README names for everything holds it, and not much more."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import example_site
from tests.playing import play

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = ROOT / "inventories" / "single_server"
GB = 1000**3 / 2**20  # in MiB
ENOUGH = 0.8  # of what is named has to be needed: nobody is sent to buy what stays idle
NOTHING: dict[str, Any] = {"findings": [], "hints": {}, "unasked": [], "whole": True}


def named(profile: str) -> tuple[int, int, int]:
    """Cores, GiB of memory and GB of free disk for a profile, by the README."""
    row = re.search(
        rf"^\| `mlops_profile: {profile}`[^|]*\| (\d+) \| (\d+) GiB \| (\d+) GB \|$",
        (ROOT / "README.md").read_text("utf-8"),
        re.MULTILINE,
    )
    assert row, f"no row for {profile}"
    return int(row[1]), int(row[2]), int(row[3])


def judged(folder: Path, profile: str, cores: int, memory: float, disk: float) -> dict[str, Any]:
    """The assessment of the inventory on a server that was measured, amounts in MiB."""
    shutil.copytree(INVENTORY / "group_vars", folder / "group_vars", dirs_exist_ok=True)
    site = folder / "group_vars/all/site.yml"
    site.write_text(
        re.sub("^mlops_profile: .*$", f"mlops_profile: {profile}", site.read_text(), flags=re.M)
    )
    hosts = yaml.safe_load((INVENTORY / "hosts.yml").read_text("utf-8"))
    hosts["all"]["vars"] = {
        "ansible_connection": "local",
        "ansible_become": False,
        "mlops_facts_max_age": 10**10,
        "__assess_inventory": NOTHING,
        "__assess_identity": {"findings": []},
    }
    (folder / "hosts.json").write_text(json.dumps(hosts))
    disks = [example_site.disk("/", "/dev/vda1", disk * 1.1, disk)]
    supply = example_site.facts("server1", cores, memory, disks)
    tasks = [
        {"ansible.builtin.set_fact": {"mlops_supply": supply, "cacheable": True}},
        {
            "ansible.builtin.include_tasks": str(ROOT / "playbooks/tasks/ask.yml"),
            "loop": "{{ lookup('mlops.onprem.site', 'roles_to_ask') }}",
            "loop_control": {"loop_var": "site_role"},
        },
        {"ansible.builtin.import_role": {"name": "mlops.onprem.assess", "tasks_from": "judge"}},
    ]
    head = {"hosts": "all", "gather_facts": False, "tasks": tasks}
    head["vars_files"] = [str(ROOT / "playbooks/vars/wiring.yml")]
    (folder / "play.json").write_text(json.dumps([head]))
    done = play(folder)
    report = folder / ".state" / "assessment.json"
    assert report.exists(), done.stdout + done.stderr
    found: dict[str, Any] = json.loads(report.read_text("utf-8"))
    return found


@pytest.mark.parametrize("profile", ["lab", "pilot"])
def test_a_server_of_the_size_that_is_named_holds_everything(profile: str, tmp_path: Path) -> None:
    cores, memory, disk = named(profile)
    found = judged(tmp_path, profile, cores, memory * 1024, disk * GB)
    assert [one["found"] for one in found["findings"] if one["severity"] in ("fail", "error")] == []
    assert found["verdict"] == "go"
    for row in found["table"]:
        if row["resource"] != "CPU":
            needed = row["demanded"] + row["foreign"] + row["reserved"]
            assert needed >= ENOUGH * row["total"], row

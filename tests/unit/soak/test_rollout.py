# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the campaign of rollouts reads from a report of pytest."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import tomllib

from tests.soak.rollout import ROOT, aged, cases, moved, network_of

REPORT = """<testsuites><testsuite name="pytest" tests="3">
<testcase name="test_good" time="61.23"/>
<testcase name="test_bad" time="2"><failure message="it was not undone">…</failure></testcase>
<testcase name="test_left_out" time="0"><skipped message="no"/></testcase>
</testsuite></testsuites>"""


def test_a_case_that_failed_or_was_left_out_has_not_passed() -> None:
    found = {one["case"]: (one["seconds"], one["passed"], one["said"]) for one in cases(REPORT)}
    assert found == {
        "test_good": (61.2, True, ""),
        "test_bad": (2.0, False, "it was not undone"),
        "test_left_out": (0.0, False, ""),
    }


def test_the_hosts_of_a_copy_have_the_other_network_and_the_tree_keeps_its_own(
    tmp_path: Path,
) -> None:
    one = tmp_path / "extensions/molecule/rollout"
    one.mkdir(parents=True)
    (one / "topology.toml").write_text('project = "rollout"\nnetwork = "10.208.0.0/24"\n')
    (one / "test_rollouts.py").write_text('gateway = "10.208.0.10"\n')
    (tmp_path / ".gitignore").write_text("build\nsecret\n")
    (tmp_path / "secret").write_text("of this tree")
    (tmp_path / "site.yml").write_text("# 10.208.0.10\n")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for _again in range(2):
        tree = moved("rollout", "10.216", tmp_path)
        there = tree / "extensions/molecule/rollout"
        assert network_of(tree, "rollout") == "10.216"
        assert 'project = "rollout-soak"' in (there / "topology.toml").read_text()
        assert (there / "test_rollouts.py").read_text() == 'gateway = "10.216.0.10"\n'
        assert (tree / "site.yml").read_text() == "# 10.208.0.10\n"
        assert not (tree / "secret").exists()
        assert (tree / ".collections/ansible_collections/mlops/onprem").resolve() == tree
    assert network_of(tmp_path, "rollout") == "10.208"


def test_some_hosts_of_the_scenario_can_be_debian_12() -> None:
    text = (ROOT / "extensions/molecule/rollout/topology.toml").read_text("utf-8")
    before = tomllib.loads(text)["hosts"]
    after = tomllib.loads(aged(text, ["rdev2", "rdev7"]))["hosts"]
    changed = {name: host for name, host in after.items() if host != before[name]}
    assert changed == {name: {**before[name], "system": "bookworm"} for name in ("rdev2", "rdev7")}
    with pytest.raises(SystemExit, match="no host rdev9, wanted rctl, rdev1"):
        aged(text, ["rdev2", "rdev9"])

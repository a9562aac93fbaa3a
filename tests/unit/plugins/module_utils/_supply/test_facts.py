# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts that planning must not trust."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import ShapeError
from ansible_collections.mlops.onprem.plugins.module_utils._supply import TOOL_VERSION, gather
from ansible_collections.mlops.onprem.plugins.module_utils._supply.facts import facts_of
from ansible_collections.mlops.onprem.plugins.module_utils._supply.gpu import parse_nvidia_smi


def problem_of(facts: object) -> str:
    """What is said of facts that cannot be used; empty if they can be."""
    try:
        facts_of(facts)
    except ShapeError as error:
        return str(error)
    return ""


FIXTURES = Path(__file__).resolve().parents[5] / "tests" / "fixtures" / "nvidia_smi"


def test_what_capacity_facts_measures_here_can_be_used() -> None:
    assert problem_of(json.loads(json.dumps(gather.gather("here", TOOL_VERSION)))) == ""


def test_a_host_of_which_nothing_is_known_can_be_used(tmp_path: Path) -> None:
    facts = gather.gather("empty", TOOL_VERSION, root=str(tmp_path), ask_driver=False, window=0)
    assert problem_of(facts) == ""


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.xml")), ids=lambda path: path.stem)
def test_what_the_driver_tells_can_be_used(path: Path) -> None:
    report = parse_nvidia_smi(path.read_text(encoding="utf-8")).as_dict()
    assert problem_of({"gpus": json.loads(json.dumps(report))}) == ""


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ([], "must be a mapping, but is a list"),
        ({"cpu": 4}, "cpu: must be a mapping, but is a number"),
        (
            {"cpu": {"usable_cores": math.nan}},
            "cpu.usable_cores: must be a finite number, but is nan",
        ),
        (
            {"memory": {"total_mib": -1}},
            "memory.total_mib: must be at least 0, but is -1",
        ),
        ({"filesystems": [{"mount": "/"}]}, "filesystems[0].size_mib: is missing"),
        (
            {"filesystems": [{"mount": "/", "size_mib": 1, "available_mib": "much"}]},
            "filesystems[0].available_mib: must be a number, but is 'much'",
        ),
        (
            {"filesystems": [{"mount": "/", "size_mib": 1, "available_mib": 1, "device": 9**9999}]},
            "filesystems[0].device: cannot be shown; it is a number",
        ),
        ({"services": {"ours": {}}}, "services.ours: must be a list, but is a mapping"),
        (
            {"gpus": {"gpus": [{"memory_mib": math.inf}]}},
            "gpus.gpus[0].memory_mib: must be a finite number, but is inf",
        ),
        (
            {"gpus": {"gpus": [{"mig_instances": [{"start": "first"}]}]}},
            "gpus.gpus[0].mig_instances[0].start: must be a number, but is 'first'",
        ),
    ],
)
def test_a_figure_that_is_none_is_told_with_its_place(facts: Any, problem: str) -> None:
    assert problem_of(facts) == problem

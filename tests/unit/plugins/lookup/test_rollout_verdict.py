# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exit code of a rollout: from one place, of this run only, the smallest of several."""

from __future__ import annotations

import os
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.lookup import rollout_verdict
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.shapes import EXIT_CODES


def variables(**codes: int) -> dict[str, Any]:
    facts = {
        model: {"exit_code": code, "said": f"{model} ended.", "page": "", "run": os.getpid()}
        for model, code in codes.items()
    }
    hostvars = {"edge1": {"ansible_facts": {"mlops_rollouts": facts}}, "edge2": {}}
    return {"groups": {"all": ["edge1", "edge2"]}, "hostvars": hostvars}


def run(given: dict[str, Any]) -> list[str]:
    lookup = rollout_verdict.LookupModule()
    lookup.set_options = lambda **_options: None
    return list(lookup.run([], given))


@pytest.fixture(autouse=True)
def not_only_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout_verdict, "only_looks", lambda: False)


@pytest.mark.parametrize("code", sorted({code for code in EXIT_CODES.values() if code}))
def test_the_run_ends_with_the_code_of_its_rollout(code: int) -> None:
    with pytest.raises(SystemExit) as ended:
        run(variables(iris=code))
    assert ended.value.code == code


def test_a_run_whose_rollouts_completed_goes_on() -> None:
    assert run(variables(iris=0, other=0)) == [os.devnull]
    assert run({"groups": {"all": []}, "hostvars": {}}) == [os.devnull]


def test_of_several_the_one_that_was_rolled_back_counts() -> None:
    with pytest.raises(SystemExit) as ended:
        run(variables(iris=12, flowers=10, third=0))
    assert ended.value.code == 10


def test_what_another_run_left_in_a_cache_ends_nothing() -> None:
    given = variables(iris=10)
    given["hostvars"]["edge1"]["ansible_facts"]["mlops_rollouts"]["iris"]["run"] = 1
    assert run(given) == [os.devnull]

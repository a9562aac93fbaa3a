# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's answer stands for a task only if it is the same task and nothing has happened since."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.mlops.onprem.plugins.callback.runs import CallbackModule
from ansible_collections.mlops.onprem.plugins.module_utils._host import args
from ansible_collections.mlops.onprem.plugins.plugin_utils import run_so_far, settled

VARIABLES = {"inventory_hostname": "edge1"}
GIVEN = {"role": "r", "name": ["nginx"]}
ANSWER = {"changed": False, "owners": ["r"]}
TASK = SimpleNamespace(delegate_to=None, async_val=0)


def name(given: dict[str, Any] = GIVEN) -> str:
    checked = ArgumentSpecValidator(dict(args.PACKAGES)).validate(given)
    return settled.name_of("host_packages", checked.validated_parameters)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> run_so_far.Run:
    """A run in which edge1 has said that it leaves GIVEN as it is."""
    this = run_so_far.Run(counted=True)
    for place in (run_so_far, settled):
        monkeypatch.setattr(place, "THIS", this)
    monkeypatch.setattr("ansible_collections.mlops.onprem.plugins.callback.runs.THIS", this)
    this.settled["edge1"] = {name(): ANSWER}
    return this


def told(given: dict[str, Any] = GIVEN, task: Any = TASK, host: str = "edge1") -> Any:
    return settled.told(task, "host_packages", given, {"inventory_hostname": host})


def test_the_same_call_is_answered_and_the_answer_is_the_tasks_own(run: run_so_far.Run) -> None:
    found = told()
    assert found == ANSWER
    found["owners"].append("q")
    assert told() == ANSWER
    assert told({**GIVEN, "install_recommends": False}) == ANSWER  # the default, said aloud


@pytest.mark.parametrize(
    "given",
    [
        {"role": "q", "name": ["nginx"]},
        {"role": "r", "name": ["nginx", "curl"]},
        {**GIVEN, "hold": []},
        {"role": "r"},
        {**GIVEN, "unknown": 1},
    ],
)
def test_another_call_goes_to_the_host(run: run_so_far.Run, given: dict[str, Any]) -> None:
    assert told(given) is None


def test_another_host_or_one_that_the_task_is_handed_to_is_asked(run: run_so_far.Run) -> None:
    assert told(host="edge2") is None
    assert told(task=SimpleNamespace(delegate_to="edge2", async_val=0)) is None
    assert told(task=SimpleNamespace(delegate_to=None, async_val=60)) is None


def test_without_the_callback_every_task_goes_to_its_host(run: run_so_far.Run) -> None:
    run.counted = False
    assert told() is None


def test_the_answers_of_another_run_are_not_known_again(run: run_so_far.Run) -> None:
    before = run.settled
    run.key = "another"
    run.settled = before
    assert told() is None


def result(host: str = "edge2", action: str = "x", **answer: Any) -> Any:
    return SimpleNamespace(
        host=SimpleNamespace(get_name=lambda: host),
        task=SimpleNamespace(action=action),
        result=answer,
    )


def test_after_any_change_or_failure_anywhere_hosts_are_asked_again(run: run_so_far.Run) -> None:
    callback = CallbackModule()
    callback.v2_runner_on_ok(result(changed=False))
    callback.v2_runner_on_unreachable(result())
    assert told() == ANSWER
    callback.v2_runner_on_ok(result(changed=True))
    assert told() is None


@pytest.mark.parametrize("ignored", [True, False])
def test_a_failed_task_may_have_changed_something(run: run_so_far.Run, ignored: bool) -> None:
    CallbackModule().v2_runner_on_failed(result(), ignored)
    assert told() is None


def test_what_a_host_was_asked_is_kept_for_the_run(run: run_so_far.Run) -> None:
    callback = CallbackModule()
    callback.v2_runner_on_ok(result(action="mlops.onprem.host_ask", settled={name(): ANSWER}))
    assert told(host="edge2") == ANSWER
    callback.v2_runner_on_ok(result(action="mlops.onprem.host_ask"))
    assert told(host="edge2") is None


def test_the_content_of_a_file_is_not_read_from_its_question(run: run_so_far.Run) -> None:
    row = settled.digested({"path": "/x"}, b"secret")
    assert b"secret" not in repr(row).encode()
    assert row == settled.digested({"path": "/x"}, b"secret")
    assert row != settled.digested({"path": "/x"}, b"Secret")
    run.key = "another"
    assert row != settled.digested({"path": "/x"}, b"secret")
    assert settled.digested({"path": "/x", "link": "/y"}, None) == {"path": "/x", "link": "/y"}

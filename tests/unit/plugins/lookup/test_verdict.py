# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate opens for the verdict of this very run and for nothing else."""

from __future__ import annotations

import multiprocessing
import os
from typing import Any

import pytest
from ansible import context
from ansible.errors import AnsibleError
from ansible.utils.context_objects import CLIArgs
from ansible.utils.display import Display
from ansible_collections.mlops.onprem.plugins.lookup.verdict import LookupModule

from tests.patience import PATIENCE


@pytest.fixture(autouse=True)
def a_real_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "CLIARGS", CLIArgs({}))
    monkeypatch.setattr(LookupModule, "set_options", lambda _self, **_options: None)


def ask(assessment: dict[str, Any] | None) -> list[str]:
    facts = {} if assessment is None else {"mlops_assessment": assessment}
    variables = {"groups": {"all": ["ctl1"]}, "hostvars": {"ctl1": {"ansible_facts": facts}}}
    return list(LookupModule().run([], variables))


def found(code: int, run: int | None = None) -> dict[str, Any]:
    return {
        "exit_code": code,
        "headline": "REFUSED: no host has been changed.",
        "report": "/x.html",
        "run": os.getpid() if run is None else run,
    }


def test_go_opens_the_gate_with_an_empty_file() -> None:
    assert ask(found(0)) == [os.devnull]


def refused(assessment: dict[str, Any] | None) -> str:
    """The sentence with which the run ends."""
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Display, "error", lambda _self, text, **_options: said.append(text))
        with pytest.raises(SystemExit) as caught:
            ask(assessment)
    assert caught.value.code == 1
    [sentence] = said
    return sentence


def test_a_refusal_says_where_the_report_is() -> None:
    assert refused(found(1)) == "REFUSED: no host has been changed. Report: /x.html"


@pytest.mark.parametrize("assessment", [None, found(0, run=1)])
def test_no_verdict_or_one_of_another_run_keeps_it_shut(assessment: Any) -> None:
    assert refused(assessment).endswith("nothing is changed; check that the inventory has hosts.")


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({"start_at_task": "Trust"}, "leave out --start-at-task, as every run assesses first"),
        ({"skip_tags": ("always",)}, "leave out --skip-tags, or name tags other than always."),
        ({"subset": "edge9"}, "check that --limit names a host of the inventory."),
    ],
)
def test_a_run_without_assessment_names_the_option_that_left_it_out(
    given: dict[str, Any], remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "CLIARGS", CLIArgs(given))
    assert remedy in refused(None)


def in_a_worker(assessment: dict[str, Any] | None) -> Any:
    """What a worker of Ansible, forked from the run, is answered."""
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    def work() -> None:
        try:
            answers.put(ask(assessment))
        except AnsibleError as error:
            answers.put(str(error))

    worker = context.Process(target=work)
    worker.start()
    answer = answers.get(timeout=PATIENCE)
    worker.join()
    return answer


def test_a_worker_that_reads_variables_is_let_through_where_the_run_was() -> None:
    assert in_a_worker(found(0)) == [os.devnull]


@pytest.mark.parametrize("assessment", [None, found(0, run=1), found(1)])
def test_a_worker_fails_its_task_and_does_not_vanish(assessment: Any) -> None:
    said = in_a_worker(assessment)
    assert "nothing is changed" in said or "no host has been changed" in said


def test_terms_are_a_mistake() -> None:
    with pytest.raises(AnsibleError, match="takes no terms"):
        LookupModule().run(["x"], {})


@pytest.mark.parametrize("option", ["syntax", "listtasks", "listtags", "listhosts"])
def test_listing_asks_for_no_verdict(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "CLIARGS", CLIArgs({option: True}))
    assert ask(None) == [os.devnull]

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate opens for the verdict of this very run and for nothing else."""

from __future__ import annotations

import os
from typing import Any

import pytest
from ansible import context
from ansible.errors import AnsibleError
from ansible.utils.context_objects import CLIArgs
from ansible_collections.mlops.onprem.plugins.lookup.verdict import LookupModule


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


def test_a_refusal_says_where_the_report_is() -> None:
    with pytest.raises(AnsibleError) as caught:
        ask(found(1))
    assert caught.value.message == "REFUSED: no host has been changed. Report: /x.html"


@pytest.mark.parametrize("assessment", [None, found(0, run=1)])
def test_no_verdict_or_one_of_another_run_keeps_it_shut(assessment: Any) -> None:
    with pytest.raises(AnsibleError, match="This run has not assessed the site"):
        ask(assessment)


def test_an_inventory_without_hosts_keeps_it_shut() -> None:
    with pytest.raises(AnsibleError, match="check that the inventory has hosts"):
        LookupModule().run([], {"groups": {"all": []}, "hostvars": {}})


@pytest.mark.parametrize("option", ["syntax", "listtasks", "listtags", "listhosts"])
def test_listing_asks_for_no_verdict(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "CLIARGS", CLIArgs({option: True}))
    assert ask(None) == [os.devnull]

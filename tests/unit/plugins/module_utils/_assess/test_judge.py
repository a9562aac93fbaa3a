# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts, and what waivers do to them."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._assess.judge import (
    GO,
    REFUSED,
    UNKNOWN,
    Judgement,
    judge,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import Finding
from ansible_collections.mlops.onprem.plugins.module_utils._findings.waivers import read_waivers

TODAY = datetime.date(2030, 6, 1)
FAIL = Finding("capacity.cpu", "ctl1", "fail", "short of CPU", "", "add some")
WARN = Finding("capacity.inodes", "ctl1", "warn", "few inodes", "", "remove files")
ERROR = Finding("trust.preflight", "ctl1", "error", "broke", "", "look")
PASS = Finding("assess.clock", "ctl1", "pass", "agrees")
WAIVER = {
    "check": "capacity.cpu",
    "host": "ctl1",
    "reason": "nightly only",
    "owner": "jane",
    "expires": "2030-12-31",
}


def judged(*findings: Finding, waivers: Any = ()) -> Judgement:
    return judge(findings, read_waivers(list(waivers), ["ctl1", "edge1"], TODAY))


@pytest.mark.parametrize(
    ("findings", "verdict", "code"),
    [
        ([], GO, 0),
        ([PASS, WARN], GO, 0),
        ([PASS, FAIL], REFUSED, 1),
        ([PASS, ERROR], UNKNOWN, 2),
        ([ERROR, FAIL], REFUSED, 1),
    ],
)
def test_the_heaviest_finding_decides(findings: list[Finding], verdict: str, code: int) -> None:
    found = judged(*findings)
    assert (found.verdict, found.exit_code) == (verdict, code)


def test_a_waiver_lets_the_site_go_and_is_shown() -> None:
    found = judged(FAIL, PASS, waivers=[WAIVER])
    assert found.verdict == GO
    assert found.findings[0].state == "waived"
    assert found.findings[0].as_dict()["waived"] == {
        "reason": "nightly only",
        "owner": "jane",
        "expires": "2030-12-31",
    }


def test_a_waiver_is_for_one_host_and_one_check() -> None:
    assert judged(FAIL, waivers=[{**WAIVER, "host": "edge1"}]).verdict == REFUSED
    assert judged(FAIL, waivers=[{**WAIVER, "check": "capacity.memory"}]).verdict == REFUSED


def test_a_waiver_holds_through_its_last_day() -> None:
    assert judged(FAIL, waivers=[{**WAIVER, "expires": "2030-06-01"}]).verdict == GO
    assert judged(FAIL, waivers=[{**WAIVER, "expires": datetime.date(2030, 6, 1)}]).verdict == GO


def test_an_expired_waiver_refuses_even_where_nothing_else_does() -> None:
    found = judged(PASS, waivers=[{**WAIVER, "expires": "2030-05-31"}])
    assert found.verdict == REFUSED
    assert found.findings[0].finding.sentence == (
        "ctl1: mlops_waivers[0] for capacity.cpu expired on 2030-05-31, wanted a waiver that is "
        "still valid; mend the finding, or let jane renew mlops_waivers[0].expires"
    )


def test_a_waiver_without_a_finding_is_pointed_at() -> None:
    found = judged(PASS, waivers=[WAIVER])
    assert found.verdict == GO
    assert "covers nothing any more" in found.findings[0].finding.found

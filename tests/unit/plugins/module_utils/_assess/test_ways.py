# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A blocked way is a finding that names source, target and port."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._assess.ways import (
    judged,
    lasting,
)

WAY = {
    "address": "10.0.0.5",
    "port": 443,
    "what": "gateway",
    "target": "ctl1",
    "there": False,
    "variable": "",
}


def one(answer: str, **changes: Any) -> tuple[str, str, str]:
    (found,) = judged("edge1", [{**WAY, **changes}], [answer])
    return found.severity, found.sentence, found.remedy


@pytest.mark.parametrize("answer", ["open", "refused"])
def test_a_way_on_which_nobody_listens_yet_is_free(answer: str) -> None:
    assert one(answer)[0] == "pass"


@pytest.mark.parametrize("answer", ["silent", "forbidden"])
def test_a_firewall_is_told_with_source_target_and_port(answer: str) -> None:
    severity, sentence, remedy = one(answer)
    assert severity == "fail"
    assert "ctl1 (10.0.0.5:443/tcp)" in sentence
    assert "allow 443/tcp from edge1 to ctl1" in remedy


def test_what_the_company_has_must_listen() -> None:
    severity, _sentence, remedy = one(
        "refused", what="database", target="", there=True, variable="metadata_db_host"
    )
    assert severity == "fail"
    assert "metadata_db_host" in remedy


def test_a_receiver_that_is_away_warns() -> None:
    severity, _sentence, remedy = one(
        "silent", what="alerts", target="", there=True, variable="monitoring_alert_receiver"
    )
    assert severity == "warn"
    assert "monitoring_alert_receiver" in remedy


def test_a_name_that_cannot_be_resolved_is_told() -> None:
    assert "cannot resolve" in one("unnamed")[1]


def test_no_way_is_no_finding() -> None:
    assert judged("edge1", [], []) == []


@pytest.mark.parametrize(
    ("days", "severity", "word"),
    [
        (300.0, "pass", "300 more days"),
        (60.0, "pass", "60 more days"),
        (59.4, "warn", "ends in 59 days"),
        (-2.0, "warn", "ended 2 days ago"),
    ],
)
def test_a_certificate_that_nobody_renews_is_told(days: float, severity: str, word: str) -> None:
    (found,) = lasting("edge1", days, 60)
    assert (found.severity, word in found.found) == (severity, True)


def test_a_host_without_certificate_is_told_nothing() -> None:
    assert lasting("edge1", None, 60) == []

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cause is listed once, and what follows from it beside it as what it is."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._assess.folding import alike, fold
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import Finding

BROKEN = [
    Finding("gateway.preflight", "ctl1", "error", "no tile", "", "x"),
    Finding("monitoring.preflight", "ctl1", "error", "no target", "", "x"),
    Finding("monitoring.preflight", "edge1", "error", "no target", "", "x"),
]
OTHER = Finding("gateway.admin_password", "ctl1", "fail", "short", "", "longer")


@pytest.mark.parametrize("cause", ["inventory.value", "inventory.template", "inventory.unread"])
def test_preflights_that_a_mistake_broke_are_one_finding(cause: str) -> None:
    mistake = Finding(cause, "site", "fail", "wrong", "", "mend")
    [first, second, folded] = fold([mistake, *BROKEN, OTHER])
    assert (first, second) == (mistake, OTHER)
    assert folded.severity == "error"
    assert folded.found == (
        "what gateway and monitoring would need and find on ctl1 and edge1 could not be asked"
    )
    assert folded.remedy == "mend the 1 mistake in the inventory, then assess again"


@pytest.mark.parametrize(
    "cause",
    [
        Finding("inventory.value", "site", "warn", "odd", "", ""),
        Finding("assess.system", "ctl1", "fail", "Debian 12", "", "x"),
    ],
)
def test_without_a_cause_every_preflight_speaks_for_itself(cause: Finding) -> None:
    assert fold([cause, *BROKEN]) == [cause, *BROKEN]


def row(host: str, found: str = "x", waived: object = None) -> dict[str, object]:
    return {
        "id": "a.b",
        "severity": "fail",
        "host": host,
        "found": found,
        "wanted": "",
        "remedy": "y",
        "waived": waived,
    }


def test_the_same_words_on_several_hosts_are_one_line_for_a_reader() -> None:
    shown = alike([row("e1"), row("e2"), row("e3", "other"), row("e4", waived={"reason": "r"})])
    assert [(one["host"], one["found"]) for one in shown] == [
        ("e1 and e2", "x"),
        ("e3", "other"),
        ("e4", "x"),
    ]
    many = alike([row(f"e{number}") for number in range(9)])
    assert [one["host"] for one in many] == ["e0, e1, e2 and 6 more"]


def test_hosts_that_differ_by_name_and_address_only_are_one_line() -> None:
    rows = [
        {**row(name, f"cannot be reached: root@{address}: denied"), "id": "assess.unreachable"}
        for name, address in (("e1", "10.0.0.1"), ("e2", "10.0.0.2"))
    ]
    rows = [{**one, "remedy": f"take {one['host']} out"} for one in rows]
    [shown] = alike(rows)
    assert (shown["host"], shown["remedy"]) == ("e1 and e2", "take e1 out")
    assert len(alike([{**one, "id": "capacity.port"} for one in rows])) == 2


def test_what_several_roles_are_told_in_the_same_words_is_told_once() -> None:
    said = [Finding(f"{role}.preflight", "ctl1", "error", "no secrets", "", "x") for role in "ab"]
    [told] = fold([*said, said[0]])
    assert (told.id, told.host, told.severity) == ("assess.roles", "ctl1", "error")
    assert told.found == "no secrets (asked for a and b)"
    assert fold(said[:1]) == said[:1]

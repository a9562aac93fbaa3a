# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a waiver is said with its place."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._findings.waivers import read_waivers

TODAY = datetime.date(2030, 6, 1)
WAIVER = {
    "check": "capacity.cpu",
    "host": "ctl1",
    "reason": "nightly only",
    "owner": "jane",
    "expires": "2030-12-31",
}


def sentences(waivers: Any) -> list[str]:
    return [row.sentence for row in read_waivers(waivers, ["ctl1"], TODAY).findings]


@pytest.mark.parametrize(
    ("waivers", "start"),
    [
        ("all", "site: mlops_waivers must be a list, but is a text, wanted a list of waivers"),
        ([{**WAIVER, "owner": None}], "site: mlops_waivers[0].owner: is missing, wanted"),
        (
            [{**WAIVER, "expires": "soon"}],
            "site: mlops_waivers[0].expires: must be a day like 2030-12-31, but is 'soon', wanted",
        ),
        (
            [{**WAIVER, "expires": "2030-02-30"}],
            "site: mlops_waivers[0].expires: must be a day like 2030-12-31, but is '2030-02-30'",
        ),
        (
            [WAIVER, {**WAIVER, "host": "ctl9"}],
            "site: mlops_waivers[1] is for host 'ctl9', which is not in the inventory, wanted",
        ),
        (
            [{**WAIVER, "check": "assess.unreachable"}],
            "site: mlops_waivers[0].check: assess.unreachable cannot be waived, wanted",
        ),
        ([{**WAIVER, "until": "x"}], "site: mlops_waivers[0]: has the unknown key 'until'; known"),
    ],
)
def test_a_wrong_waiver_is_refused_with_its_place(waivers: Any, start: str) -> None:
    [sentence] = sentences(waivers)
    assert sentence.startswith(start), sentence

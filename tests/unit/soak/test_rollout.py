# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the campaign of rollouts reads from a report of pytest."""

from __future__ import annotations

from tests.soak.rollout import cases

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

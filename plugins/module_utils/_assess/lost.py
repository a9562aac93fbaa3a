# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report says of hosts that are declared lost, by themselves."""

from __future__ import annotations

from .._demand.lost import PLACE, Lost
from .._findings.finding import FAIL, SITE, WARN, Finding


def mistakes(lost: Lost) -> list[Finding]:
    """Names that cannot be declared lost."""
    return [
        Finding("inventory.lost_hosts", SITE, FAIL, row.found, row.wanted, row.remedy)
        for row in lost.mistakes
    ]


def left_out(lost: Lost) -> list[Finding]:
    """That a run leaves the lost hosts out."""
    return [
        Finding(
            "assess.lost",
            host,
            WARN,
            f"is declared lost in {PLACE}; nothing on it is looked at or changed, and nothing is "
            "planned on it",
            "every host of the inventory",
            f"nothing now: take it out of {PLACE} when it is back; if it is gone for good, take it "
            "out of the inventory as well",
        )
        for host in lost.hosts
    ]

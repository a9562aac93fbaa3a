# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows from all findings of a site, once its waivers are taken off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._findings.finding import ERROR, FAIL, PASS, SEVERITIES, WARN, Finding
from .._findings.waivers import NOT_WAIVABLE, Waiver, Waivers

GO, REFUSED, UNKNOWN = "go", "refused", "could not assess"
EXIT_CODES = {GO: 0, REFUSED: 1, UNKNOWN: 2}


@dataclass(frozen=True)
class Judged:
    """A finding and the waiver that covers it."""

    finding: Finding
    waiver: Waiver | None = None

    @property
    def state(self) -> str:
        """The severity, or waived."""
        return "waived" if self.waiver else self.finding.severity

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        data: dict[str, Any] = {**self.finding.as_dict(), "waived": None}
        if self.waiver:
            data["waived"] = {
                "reason": self.waiver.reason,
                "owner": self.waiver.owner,
                "expires": self.waiver.expires.isoformat(),
            }
        return data


@dataclass(frozen=True)
class Judgement:
    """The verdict over a site."""

    verdict: str
    findings: tuple[Judged, ...]
    counts: Mapping[str, int]

    @property
    def exit_code(self) -> int:
        """0 go, 1 refused, 2 could not assess."""
        return EXIT_CODES[self.verdict]


def judge(findings: Sequence[Finding], waivers: Waivers) -> Judgement:
    """All findings, the heaviest first; the verdict is that of the heaviest one not waived."""
    judged = []
    used: set[Waiver] = set()
    for finding in dict.fromkeys((*findings, *waivers.findings)):
        waiver = None
        if finding.severity in (WARN, FAIL, ERROR) and finding.id not in NOT_WAIVABLE:
            waiver = next(
                (w for w in waivers.valid if w.check == finding.id and w.host == finding.host), None
            )
        if waiver:
            used.add(waiver)
        judged.append(Judged(finding, waiver))
    for waiver in waivers.valid:
        if waiver not in used:
            judged.append(
                Judged(
                    Finding(
                        "inventory.unused_waiver",
                        waiver.host,
                        WARN,
                        f"the waiver of {waiver.check} covers nothing any more",
                        "no waiver without a finding",
                        "take it out of mlops_waivers",
                    )
                )
            )
    order = {state: index for index, state in enumerate((FAIL, ERROR, "waived", WARN, PASS))}
    judged.sort(key=lambda row: (order[row.state], row.finding.host, row.finding.id))
    counts = dict.fromkeys((*SEVERITIES, "waived"), 0)
    for row in judged:
        counts[row.state] += 1
    verdict = REFUSED if counts[FAIL] else UNKNOWN if counts[ERROR] else GO
    return Judgement(verdict, tuple(judged), counts)

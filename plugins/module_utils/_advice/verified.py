# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a site still fits, and may still lose hosts, if it is changed as advised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._planner.model import FEASIBLE


@dataclass(frozen=True)
class Outcome:
    """A plan in short: its verdict, and the hosts of which one may not be lost."""

    verdict: str
    exposed: tuple[str, ...]


def outcome(plan: Mapping[str, Any]) -> Outcome:
    """The outcome of a plan as docs/schema/capacity_plan.schema.json describes it."""
    rows = plan.get("lost_hosts") or ()
    return Outcome(
        str(plan["verdict"]), tuple(sorted(row["host"] for row in rows if row.get("stranded")))
    )


@dataclass(frozen=True)
class Verified:
    """``holds``: everything fits with all advices taken, and no host more may not be lost."""

    holds: bool
    said: str


def compare(before: Outcome, after: Outcome) -> Verified:
    """What taking all advices does to the plan."""
    if after.verdict != FEASIBLE:
        return Verified(
            False, f"with all of it together the plan is {after.verdict}: see what it would need"
        )
    new = sorted(set(after.exposed) - set(before.exposed))
    if new:
        return Verified(False, f"with all of it together {', '.join(new)} may no longer be lost")
    freed = sorted(set(before.exposed) - set(after.exposed))
    more = f"; {', '.join(freed)} may be lost then" if freed else ""
    return Verified(
        True, f"with all of it together everything fits, checked by separate code{more}"
    )


def told(advices: Sequence[Mapping[str, Any]], verified: Verified | None) -> str:
    """The page for a terminal."""
    lines: list[str] = []
    for verdict, title in (
        ("advise", "Advised"),
        ("keep", "To be kept"),
        ("too little data", "Too little data"),
    ):
        rows = [row for row in advices if row["verdict"] == verdict]
        if not rows:
            continue
        lines += ["", f"{title}:"]
        for row in rows:
            what = f"{row['now']} -> {row['then']}" if verdict == "advise" else row["now"]
            lines.append(f"  {row['variable']}: {what}{_saving(row)}")
            lines.append(f"    {row['why']}")
    if not lines:
        lines = ["", "Nothing is measured that anything could be advised on."]
    if verified is not None:
        lines += ["", f"Planned again: {verified.said}."]
    return "\n".join(lines[1:])


def _saving(row: Mapping[str, Any]) -> str:
    saving = float(row["saving"])
    if not saving or row["verdict"] != "advise":
        return ""
    return f"  ({'saves' if saving > 0 else 'costs'} {abs(saving):,.5g} {row['unit']} in all)"

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of the workloads as a section of the page. Everything shown is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .plan_report import (
    HOST_HEAD,
    LOCAL,
    PURCHASES,
    RUNOUT_HEAD,
    Row,
    change_rows,
    changes_text,
    headline,
    host_rows,
    lasting,
    lost_rows,
    missing,
    purchase_text,
    runout_rows,
    shortage,
    value,
    workload_rows,
)

say = html.escape
KINDS = {"FEASIBLE": "go", "INFEASIBLE": "refused"}


def plan_html(plan: Mapping[str, Any], word: Mapping[str, str]) -> list[str]:
    """The plan: verdict, places, what is missing, what may not be lost, how long it lasts."""
    return [
        f"<h2>{word['workloads']}</h2>",
        f'<p class="verdict {KINDS.get(plan["verdict"], "unknown")}">{say(headline(plan))}</p>',
        table_html(
            ("workload", "kind", "replicas", "each needs", "where"), workload_rows(plan), (2,)
        ),
        table_html(HOST_HEAD, host_rows(plan), tuple(range(1, 7))),
        *(line for row in plan["shortages"] for line in shortage_html(row, word)),
        *lost_html(plan, word),
        *horizon_html(plan, word),
        *(
            line
            for key in PURCHASES
            if plan[key] is not None
            for line in (
                f"<h3>{word[key]}</h3><p>{say(purchase_text(plan, key))}</p>",
                list_html(plan[key]["steps"]),
            )
        ),
        *what_if_html(plan, word),
    ]


def scrolling(label: str) -> str:
    """The start of what scrolls within the page; who scrolls by the keyboard is told its name."""
    return f'<div class="wide" role="group" tabindex="0" aria-label="{say(label)}">'


def table_html(head: Row, rows: Sequence[Row], right: Sequence[int] = ()) -> str:
    """A table that scrolls within the page where it is wider than the screen."""

    def cells(start: str, row: Row) -> str:
        return "".join(
            f"<{start}{' class=n' if index in right else ''}>{say(cell)}"
            for index, cell in enumerate(row)
        )

    return (
        f"{scrolling(', '.join(filter(None, head)))}"
        f"<table><thead><tr>{cells('th scope=col', head)}</thead><tbody>"
        + "".join(f"<tr>{cells('td', row)}" for row in rows)
        + "</tbody></table></div>"
    )


def list_html(lines: Iterable[str]) -> str:
    """Sentences below one another."""
    return "<ul>" + "".join(f"<li>{say(line)}" for line in lines) + "</ul>"


def shortage_html(row: Mapping[str, Any], word: Mapping[str, str]) -> list[str]:
    """What is missing, the steps of its proof, and the hosts that were looked at."""
    unit = row["unit"]
    body = [f"<h3>{word['missing']}: {say(missing(row))}</h3><p>{say(shortage(row))}</p>"]
    if row["steps"]:
        body.append(list_html(row["steps"]))
    if row["hosts"]:
        rows: list[Row] = [
            (one["host"], *(value(one[key], unit) for key in LOCAL)) for one in row["hosts"]
        ]
        sums = (value(row[key], unit) for key in ("reserved", "used", "free_total"))
        rows.append(("all", "", *sums, ""))
        body.append(table_html(("host", *LOCAL), rows, tuple(range(1, 6))))
    return body


def lost_html(plan: Mapping[str, Any], word: Mapping[str, str]) -> list[str]:
    """Which host may not be lost."""
    lost = lost_rows(plan)
    return [f"<h3>{word['lost']}</h3>", list_html(lost)] if lost else []


def horizon_html(plan: Mapping[str, Any], word: Mapping[str, str]) -> list[str]:
    """When each resource runs out, and how long the plan lasts."""
    if plan["horizon"] is None:
        return []
    until = word["until"].format(day=plan["horizon"]["until"])
    outs = runout_rows(plan)
    return [
        f"<h3>{say(until)}</h3>",
        *([table_html(RUNOUT_HEAD, outs, (2, 3, 4))] if outs else []),
        f"<p>{say(lasting(plan['horizon']))}</p>",
    ]


def what_if_html(plan: Mapping[str, Any], word: Mapping[str, str]) -> list[str]:
    """What would be otherwise."""
    if plan["what_if"] is None:
        return []
    asked = word["what if"].format(changes=changes_text(plan["what_if"]["changes"]))
    return [f"<h3>{say(asked)}</h3>", table_html(("", "now", "then"), change_rows(plan["what_if"]))]

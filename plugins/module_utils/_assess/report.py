# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The assessment as text for a terminal, and the lines that both forms share."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from .._findings.sentence import printable
from .._supply.machine import Machine
from .figures import COLUMNS, capacity_rows, figure, promised
from .folding import alike
from .judge import GO, REFUSED
from .language import words
from .plan_report import plan_text

MARKS = {"fail": "FAIL", "error": "????", "waived": "WAIV", "warn": "WARN", "pass": "ok"}
COUNTED = ("fail", "error", "waived", "warn", "pass")


def state_of(row: Mapping[str, Any]) -> str:
    """What a finding is to its reader: its severity, or ``waived``."""
    return "waived" if row["waived"] else str(row["severity"])


def headline(report: Mapping[str, Any]) -> str:
    """The verdict in one sentence, with the counts behind it, in the report's language."""
    word = words(report.get("language"))
    counts = report["counts"]
    said = ", ".join(
        word[f"count.{key}"].format(count=counts[key]) for key in COUNTED if counts.get(key)
    )
    verdict = {GO: "go", REFUSED: "refused"}.get(report["verdict"], "unknown")
    return f"{word[verdict]} {word['checks']}: {said or word['none']}."


def grid(rows: Sequence[Sequence[str]], right_from: int = 99) -> list[str]:
    """Rows of text in columns."""
    if not rows:
        return []
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if index >= right_from else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]


def as_text(report: Mapping[str, Any], width: int = 100) -> str:
    """The report for a terminal. Passed checks are counted, not listed."""
    word = words(report.get("language"))
    title = word["title"].format(site=report["site"])
    lines = [f"{title} ({word['profile']} {report['profile']})", ""]
    rows = capacity_rows(report)
    if rows:
        head = [word[key] for key in ("host", "resource", *COLUMNS)]
        below = [word["short formula"], promised(report, word)]
        lines += [*grid([head, *rows], 2), *(f"  {said}" for said in below if said), ""]
    if report.get("workloads"):
        lines += [*plan_text(report["workloads"], width), ""]
    for row in alike(report["findings"]):
        if state_of(row) != "pass":
            lines += finding_text(row, width, word)
    if lines[-1]:
        lines.append("")
    lines.append(headline(report))
    return printable("\n".join(lines))


def finding_text(row: Mapping[str, Any], width: int, word: Mapping[str, str]) -> list[str]:
    """A finding: what was found, and below it what was wanted, the remedy and the waiver."""
    lines = textwrap.wrap(
        f"{MARKS[state_of(row)]:<5}{row['host']}: {row['found']}", width, subsequent_indent=" " * 5
    )
    below = [f"{word[key]}: {row[key]}" for key in ("wanted", "remedy") if row[key]]
    if row["waived"]:
        below.append(word["waived"].format(**row["waived"]))
    for said in below:
        lines += textwrap.wrap(
            said,
            width,
            initial_indent=" " * 5,
            subsequent_indent=" " * 13,
            # A path or a command that is broken cannot be copied.
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def host_row(name: str, machine: Machine) -> dict[str, Any]:
    """One line about a host for the report."""
    memory = machine.memory_mib
    return {
        "host": name,
        "system": machine.system_name or None,
        "kernel": machine.kernel or None,
        "cpu": f"{machine.cores or '?'} x {machine.cpu or 'unknown'}",
        "memory": figure(memory, "MiB") if memory is not None else "unknown",
        "gpu": ", ".join(machine.gpus) or "none",
        "measured": machine.measured_at or None,
        "unknown": list(machine.unknown),
    }

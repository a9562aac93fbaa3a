# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The assessment as text for a terminal, as JSON, and as one HTML page without any other file."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from .judge import GO, REFUSED
from .plan_report import plan_html, plan_text

MARKS = {"fail": "FAIL", "error": "????", "waived": "WAIV", "warn": "WARN", "pass": "ok"}
VERDICTS = {
    GO: "GO: nothing stands against it.",
    REFUSED: "REFUSED: no host has been changed.",
}
UNKNOWN_VERDICT = "COULD NOT ASSESS: no host has been changed."


def headline(report: Mapping[str, Any]) -> str:
    """The verdict in one sentence, with the counts behind it."""
    counts = report["counts"]
    said = ", ".join(
        f"{counts[key]} {word}"
        for key, word in (
            ("fail", "failed"),
            ("error", "could not be checked"),
            ("waived", "waived"),
            ("warn", "to look at"),
            ("pass", "passed"),
        )
        if counts.get(key)
    )
    return f"{VERDICTS.get(report['verdict'], UNKNOWN_VERDICT)} Checks: {said or 'none'}."


def figure(value: float, unit: str) -> str:
    """A number of the arithmetic; memory and disk in GiB where MiB would be unreadable."""
    if unit == "MiB":
        return f"{value / 1024:,.1f}G" if abs(value) >= 10240 else f"{value:,.0f}M"
    return f"{value:,.1f}" if unit == "cores" else f"{value:,.0f}"


COLUMNS = ("total", "reserved", "foreign", "demanded", "free", "short")


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


def capacity_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The arithmetic as cells, one line for each resource of each host."""
    return [
        (
            str(row["host"]),
            str(row["resource"]),
            *(figure(float(row[column]), str(row["unit"])) for column in COLUMNS),
        )
        for row in report["table"]
    ]


def as_text(report: Mapping[str, Any], width: int = 100) -> str:
    """The report for a terminal. Passed checks are counted, not listed."""
    lines = [f"Assessment of {report['site']} (profile {report['profile']})", ""]
    rows = capacity_rows(report)
    if rows:
        lines += grid([("host", "resource", *COLUMNS), *rows], 2)
        lines += ["  free = total - reserved - foreign - demanded; ours is in demanded only", ""]
    if report.get("workloads"):
        lines += [*plan_text(report["workloads"], width), ""]
    for row in report["findings"]:
        state = "waived" if row["waived"] else row["severity"]
        if state == "pass":
            continue
        head = f"{MARKS[state]:<5}{row['host']}: {row['found']}"
        lines += textwrap.wrap(head, width, subsequent_indent=" " * 5)
        if row["wanted"]:
            lines += textwrap.wrap(
                f"wanted: {row['wanted']}",
                width,
                initial_indent=" " * 5,
                subsequent_indent=" " * 13,
            )
        if row["remedy"]:
            lines += textwrap.wrap(
                f"remedy: {row['remedy']}",
                width,
                initial_indent=" " * 5,
                subsequent_indent=" " * 13,
                break_long_words=False,
                break_on_hyphens=False,
            )
        if row["waived"]:
            waived = row["waived"]
            lines += textwrap.wrap(
                f"waived until {waived['expires']} by {waived['owner']}: {waived['reason']}",
                width,
                initial_indent=" " * 5,
                subsequent_indent=" " * 13,
            )
    if lines[-1]:
        lines.append("")
    lines.append(headline(report))
    return "\n".join(lines)


STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;
color:#1a1a1a;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}th,td{padding:.3rem .6rem;text-align:left;
border-bottom:1px solid #ddd;vertical-align:top}td.n,th.n{text-align:right;
font-variant-numeric:tabular-nums}
.verdict{padding:.8rem 1rem;border-left:.4rem solid;font-weight:600}
.go{border-color:#187a3c;background:#eaf6ee}.refused{border-color:#b3261e;background:#fcebea}
.unknown{border-color:#9a6700;background:#fff6e0}
.fail{color:#b3261e;font-weight:600}.error,.warn{color:#855800;font-weight:600}
.waived{color:#5b4ba0;font-weight:600}.pass{color:#187a3c}.short{background:#fcebea}
small{color:#555}details{margin-top:.2rem}
@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#161616}th,td{border-color:#3a3a3a}
.go{background:#10281a}.refused,.short{background:#331513}.unknown{background:#2e2408}
.fail{color:#ff8a80}.error,.warn{color:#f0b429}.waived{color:#b3a5f5}.pass{color:#6fcf8f}
small{color:#aaa}}
""".strip()


def as_html(report: Mapping[str, Any]) -> str:
    """The report as a page of its own. Everything shown is escaped."""
    say = html.escape
    kind = {"go": "go", "refused": "refused"}.get(str(report["verdict"]), "unknown")
    title = f"Assessment of {report['site']}"
    body = [
        f"<h1>{say(title)}</h1>",
        f"<p><small>{say(str(report['assessed_at']))}, profile {say(str(report['profile']))}, "
        f"mlops.onprem {say(str(report['tool_version']))}</small></p>",
        f'<p class="verdict {kind}">{say(headline(report))}</p>',
        "<h2>Findings</h2>",
        "<table><thead><tr><th>verdict<th>host<th>check<th>found<th>wanted<th>remedy</thead><tbody>",
    ]
    for row in report["findings"]:
        state = "waived" if row["waived"] else row["severity"]
        extra = ""
        if row["waived"]:
            waived = row["waived"]
            extra = (
                f"<br><small>waived until {say(waived['expires'])} by {say(waived['owner'])}: "
                f"{say(waived['reason'])}</small>"
            )
        label = "not checked" if state == "error" else state
        body.append(
            f'<tr><td class="{state}">{label}<td>{say(row["host"])}'
            f"<td><code>{say(row['id'])}</code>"
            f"<td>{say(row['found'])}{extra}<td>{say(row['wanted'])}<td>{say(row['remedy'])}"
        )
    body.append("</tbody></table>")
    if report["table"]:
        body += [
            "<h2>Capacity</h2>",
            "<p>free = total &minus; reserved &minus; foreign &minus; demanded. "
            "What our own services use now is part of demanded, not of foreign.</p>",
            "<table><thead><tr><th>host<th>resource"
            + "".join(f'<th class="n">{column}' for column in COLUMNS)
            + "<th>demanded by</thead><tbody>",
        ]
        for row, cells in zip(report["table"], capacity_rows(report)):
            mark = ' class="short"' if float(row["short"]) > 0 else ""
            parts = ", ".join(
                f"{part['service']} {figure(float(part['amount']), str(row['unit']))}"
                + (f" ({part['why']})" if part.get("why") else "")
                for part in row["parts"]
            )
            body.append(
                f"<tr{mark}><td>{say(cells[0])}<td>{say(cells[1])}"
                + "".join(f'<td class="n">{say(cell)}' for cell in cells[2:])
                + f"<td><small>{say(parts)}</small>"
            )
        body.append("</tbody></table>")
    if report.get("workloads"):
        body += plan_html(report["workloads"])
    if report["hosts"]:
        body += [
            "<h2>Hosts</h2>",
            "<table><thead><tr><th>host<th>system<th>kernel<th>processor"
            '<th class="n">memory<th>GPU<th>measured<th>not known</thead><tbody>',
        ]
        for host in report["hosts"]:
            body.append(
                "<tr>"
                + "".join(
                    f"<td{' class=n' if key == 'memory' else ''}>{say(str(host.get(key) or ''))}"
                    for key in ("host", "system", "kernel", "cpu", "memory", "gpu", "measured")
                )
                + f"<td><small>{say('; '.join(host.get('unknown') or []))}</small>"
            )
        body.append("</tbody></table>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{say(title)}</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def host_row(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """One line about a host for the report."""
    memory = (facts.get("memory") or {}).get("total_mib")
    gpus = (facts.get("gpus") or {}).get("gpus") or []
    cpu = facts.get("cpu") or {}
    return {
        "host": name,
        "system": (facts.get("os") or {}).get("name"),
        "kernel": (facts.get("kernel") or {}).get("release"),
        "cpu": f"{cpu.get('usable_cores') or '?'} x {cpu.get('model') or 'unknown'}",
        "memory": figure(float(memory), "MiB") if memory is not None else "unknown",
        "gpu": ", ".join(str(gpu.get("model")) for gpu in gpus) or "none",
        "measured": facts.get("measured_at"),
        "unknown": [f"{row['what']}: {row['reason']}" for row in facts.get("unknown") or []],
    }

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The assessment as one HTML page without any other file.

It is read on a desk (1280 px), on a phone and on paper (A4): what has to be done comes first and
with its remedy, what passed is folded away, and no long path makes the page wider than its screen.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .figures import COLUMNS, capacity_rows, figure, promised
from .folding import alike
from .language import ENGLISH, LANGUAGES, words
from .plan_page import plan_html, scrolling
from .report import headline, state_of

# The order in which a reader needs them.
URGENCY = ("fail", "error", "warn", "waived", "pass")

STYLE = """
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:80rem;padding:0 1rem;
color:#1a1a1a;background:#fff;overflow-wrap:anywhere}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}th,td{padding:.3rem .6rem;text-align:left;
border-bottom:1px solid #ddd;vertical-align:top}td.n,th.n{text-align:right;
font-variant-numeric:tabular-nums;white-space:nowrap}th{overflow-wrap:normal}
table.findings{table-layout:fixed}
.findings th:nth-child(1){width:7rem}.findings th:nth-child(2){width:7rem}
.findings th:nth-child(3){width:11rem}
.wide{overflow-x:auto}.wide td,.wide th{overflow-wrap:break-word}
.verdict{padding:.8rem 1rem;border-left:.4rem solid;font-weight:600}
.go{border-color:#187a3c;background:#eaf6ee}.refused{border-color:#b3261e;background:#fcebea}
.unknown{border-color:#9a6700;background:#fff6e0}
.fail{color:#b3261e;font-weight:600}.error,.warn{color:#855800;font-weight:600}
.waived{color:#5b4ba0;font-weight:600}.pass{color:#187a3c}.short{background:#fcebea}
small{color:#555}summary{cursor:pointer;font-size:1.15rem;font-weight:600;margin-top:2rem}
@media(max-width:60rem){.findings thead{display:none}
.findings,.findings tbody,.findings tr,.findings td{display:block}
.findings tr{border-bottom:1px solid #ddd;padding:.6rem 0}
.findings td{border:0;padding:.1rem 0}.findings td:empty{display:none}
.findings td[data-is]::before{content:attr(data-is) ": ";color:#555;font-weight:400}}
@media print{body{font-size:9pt;margin:0;max-width:none;padding:0}@page{size:A4;margin:15mm}
tr{break-inside:avoid}th,td{padding:.15rem .3rem}.wide{overflow:visible}
.wide td:not(.n){overflow-wrap:anywhere}th.n{white-space:normal}
.findings th:nth-child(1),.findings th:nth-child(2){width:4.5rem}
.findings th:nth-child(3){width:6.5rem}}
@media(prefers-color-scheme:dark){@media screen{body{color:#e6e6e6;background:#161616}
th,td,.findings tr{border-color:#3a3a3a}
.go{background:#10281a}.refused,.short{background:#331513}.unknown{background:#2e2408}
.fail{color:#ff8a80}.error,.warn{color:#f0b429}.waived{color:#b3a5f5}.pass{color:#6fcf8f}
small,.findings td[data-is]::before{color:#aaa}}}
""".strip()

say = html.escape


def as_html(report: Mapping[str, Any]) -> str:
    """The report as a page of its own, in the language that it names. What it shows is escaped."""
    word = words(report.get("language"))
    language = report.get("language")
    title = word["title"].format(site=report["site"])
    kind = report["verdict"] if report["verdict"] in ("go", "refused") else "unknown"
    body = [
        f"<h1>{say(title)}</h1>",
        f"<p><small>{say(str(report['assessed_at']))}, "
        f"{word['profile']} {say(str(report['profile']))}, "
        f"mlops.onprem {say(str(report['tool_version']))}</small></p>",
        f'<p class="verdict {kind}">{say(headline(report))}</p>',
        *findings_html(report["findings"], word),
        *capacity_html(report, word),
        *(plan_html(report["workloads"], word) if report.get("workloads") else ()),
        *hosts_html(report["hosts"], word),
        *passed_html(report["findings"], word),
    ]
    return (
        f'<!doctype html>\n<html lang="{language if language in LANGUAGES else ENGLISH}">'
        '<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{say(title)}</title><style>{STYLE}</style></head><body><main>\n"
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


def heads(names: Iterable[str], word: Mapping[str, str], right: Sequence[str] = ()) -> str:
    """The head of a table."""
    cells = "".join(
        f'<th scope="col"{" class=n" if name in right else ""}>{say(word[name])}' for name in names
    )
    return f"<thead><tr>{cells}</thead>"


def findings_html(findings: Iterable[Mapping[str, Any]], word: Mapping[str, str]) -> list[str]:
    """What failed, could not be checked, is to be looked at or is waived; the gravest first."""
    rows = sorted(
        alike(row for row in findings if state_of(row) != "pass"),
        key=lambda row: URGENCY.index(state_of(row)),
    )
    body = [f"<h2>{word['findings']}</h2>"]
    if not rows:
        return [*body, f"<p>{word['nothing']}</p>"]
    columns = ("verdict", "host", "check", "found", "wanted", "remedy")
    body.append(f'<table class="findings">{heads(columns, word)}<tbody>')
    body += [finding_html(row, word) for row in rows]
    return [*body, "</tbody></table>"]


def finding_html(row: Mapping[str, Any], word: Mapping[str, str]) -> str:
    """One line of the findings; on a phone each cell is told what it is."""
    state = state_of(row)
    extra = ""
    if row["waived"]:
        extra = f"<br><small>{say(word['waived'].format(**row['waived']))}</small>"

    def told(key: str) -> str:
        return f'<td data-is="{word[key]}">{say(row[key])}' if row[key] else "<td>"

    return (
        f'<tr><td class="{state}">{word[f"state.{state}"]}<td data-is="{word["host"]}">'
        f"{say(row['host'])}<td><code>{say(row['id'])}</code><td>{say(row['found'])}{extra}"
        f"{told('wanted')}{told('remedy')}"
    )


def passed_html(findings: Iterable[Mapping[str, Any]], word: Mapping[str, str]) -> list[str]:
    """What passed, folded; it has nothing to remedy."""
    rows = [row for row in findings if state_of(row) == "pass"]
    if not rows:
        return []
    return [
        f"<details><summary>{word['passed']}: {len(rows)}</summary>",
        f"{scrolling(word['passed'])}<table>{heads(('host', 'check', 'found'), word)}<tbody>",
        *(
            f"<tr><td>{say(row['host'])}<td><code>{say(row['id'])}</code><td>{say(row['found'])}"
            for row in rows
        ),
        "</tbody></table></div></details>",
    ]


def capacity_html(report: Mapping[str, Any], word: Mapping[str, str]) -> list[str]:
    """The arithmetic of the hosts, with who demands what."""
    if not report["table"]:
        return []
    often = promised(report, word)
    told = [word["formula"], *([f"{often[:1].upper()}{often[1:]}."] if often else [])]
    body = [
        f"<h2>{word['capacity']}</h2>",
        f"<p>{say(' '.join(told))}</p>",
        f"{scrolling(word['capacity'])}<table>"
        f"{heads(('host', 'resource', *COLUMNS, 'demanded by'), word, COLUMNS)}<tbody>",
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
    return [*body, "</tbody></table></div>"]


def hosts_html(hosts: Sequence[Mapping[str, Any]], word: Mapping[str, str]) -> list[str]:
    """What each host is, and what of it is not known."""
    if not hosts:
        return []
    columns = ("host", "system", "kernel", "cpu", "memory", "gpu", "measured")
    body = [
        f"<h2>{word['hosts']}</h2>",
        f"{scrolling(word['hosts'])}<table>"
        f"{heads((*columns, 'not known'), word, ('memory',))}<tbody>",
    ]
    for host in hosts:
        cells = "".join(
            f"<td{' class=n' if key == 'memory' else ''}>{say(str(host.get(key) or ''))}"
            for key in columns
        )
        unknown = "; ".join(host.get("unknown") or [])
        body.append(f"<tr>{cells}<td><small>{say(unknown)}</small>")
    return [*body, "</tbody></table></div>"]

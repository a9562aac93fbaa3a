# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a rollout as one HTML page without any other file.

What stopped it comes first, with numbers; then the rings with their gates; then every device.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import Any

STYLE = """
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:80rem;padding:0 1rem;
color:#1a1a1a;background:#fff;overflow-wrap:anywhere}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}th,td{padding:.3rem .6rem;text-align:left;
border-bottom:1px solid #ddd;vertical-align:top}
.wide{overflow-x:auto}
.outcome{padding:.8rem 1rem;border-left:.4rem solid;font-weight:600}
.good{border-color:#187a3c;background:#eaf6ee}.bad{border-color:#b3261e;background:#fcebea}
.open{border-color:#9a6700;background:#fff6e0}
.FAIL{color:#b3261e;font-weight:600}.INCONCLUSIVE,.MISSING{color:#855800;font-weight:600}
.LEFT_OUT{color:#5b4ba0;font-weight:600}.PASS{color:#187a3c}
small{color:#555}
@media print{body{font-size:9pt;margin:0;max-width:none;padding:0}tr{break-inside:avoid}}
@media(prefers-color-scheme:dark){@media screen{body{color:#e6e6e6;background:#161616}
th,td{border-color:#3a3a3a}.good{background:#10281a}.bad{background:#331513}
.open{background:#2e2408}.FAIL{color:#ff8a80}.INCONCLUSIVE,.MISSING{color:#f0b429}
.LEFT_OUT{color:#b3a5f5}.PASS{color:#6fcf8f}small{color:#aaa}}}
""".strip()

say = html.escape


def number(value: float) -> str:
    """A figure as people read it: four significant digits, whole numbers whole."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value)}"
    return f"{value:.4g}"


def figures(given: Mapping[str, float]) -> str:
    """Plain numbers by name."""
    return ", ".join(f"{name} {number(value)}" for name, value in sorted(given.items()))


def row(*cells: str) -> str:
    """One line of a table; cells are escaped already."""
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def table(heads: Iterable[str], rows: Iterable[str]) -> str:
    """A table that never makes the page wider than its screen."""
    names = tuple(heads)
    head = "".join(f'<th scope="col">{say(name)}</th>' for name in names)
    label = say(", ".join(filter(None, names)))
    return (
        f'<div class="wide" role="group" tabindex="0" aria-label="{label}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>" + "".join(rows) + "</tbody></table></div>"
    )


def gate_row(where: str, gate: Mapping[str, Any]) -> str:
    """One verdict, with what was found and what was wanted."""
    verdict = str(gate["verdict"])
    return row(
        say(where),
        say(str(gate["name"])),
        f'<span class="{say(verdict)}">{say(verdict)}</span>',
        say(str(gate["said"])),
        say(figures(gate.get("found") or {})),
        say(figures(gate.get("wanted") or {})),
    )


GATE_HEADS = ("where", "gate", "verdict", "", "found", "wanted")


def stopped_html(report: Mapping[str, Any]) -> list[str]:
    """Which gate stopped it, and with which numbers."""
    stopped = report.get("stopped_by")
    if not stopped:
        return []
    where = str(stopped["ring"]) + (f", {stopped['host']}" if stopped.get("host") else "")
    return ["<h2>What stopped it</h2>", table(GATE_HEADS, [gate_row(where, stopped)])]


def ring_html(ring: Mapping[str, Any]) -> list[str]:
    """One ring: how it went, its gates, its devices."""
    told = f"{say(str(ring['state']))}, {len(ring['hosts'])} devices"
    if ring.get("seconds"):
        told += f", watched for {number(round(ring['seconds'], 1))} s in {ring['looks']} looks"
    body = [f"<h2>{say(str(ring['name']))}</h2>", f"<p>{told}</p>"]
    gates = [gate_row(str(ring["name"]), gate) for gate in ring["gates"]]
    for host in ring["hosts"]:
        gates += [
            gate_row(str(host["name"]), gate)
            for gate in host["gates"]
            if gate["verdict"] not in ("PASS",)
        ]
    if gates:
        body.append(table(GATE_HEADS, gates))
    heads = ("device", "phase", "serves", "bytes fetched", "")
    devices = [
        row(
            say(str(host["name"])),
            say(str(host["phase"])),
            f"<small>{say(str(host['served']))}</small>",
            number(host["moved"]),
            say(str(host["refused"] or host["failure"])),
        )
        for host in ring["hosts"]
    ]
    return [*body, table(heads, devices)]


def changes_html(report: Mapping[str, Any]) -> list[str]:
    """What is other about a configuration; null is what the role says."""
    if not report.get("changes"):
        return []
    lines = [
        row(*(f"<code>{say(str(one[name]))}</code>" for name in ("key", "before", "after")))
        for one in report["changes"]
    ]
    told = f"The model is that of version {report['base']}; null is what the role says."
    return [
        "<h2>What changed in the configuration</h2>",
        f"<p>{say(told)}</p>",
        table(("key", "before", "after"), lines),
    ]


def as_html(report: Mapping[str, Any]) -> str:
    """The report as a page of its own. What it shows is escaped."""
    title = f"Rollout of {report['model']} {report['version']}".strip()
    code = report["exit_code"]
    kind = "good" if code == 0 else "bad" if code == 10 else "open"
    about = (
        f"{report['id']}, {report['digest']}, by {report['by'] or 'nobody named'}, "
        f"{report['started_at']} to {report['ended_at'] or 'now'}, exit code {code}"
    )
    body = [
        f"<h1>{say(title)}</h1>",
        f"<p><small>{say(about)}</small></p>",
        f'<p class="outcome {kind}">{say(str(report["outcome"]))}: {say(str(report["said"]))}</p>',
        *stopped_html(report),
        *changes_html(report),
    ]
    if report["approvals"]:
        lines = [
            row(say(str(one["ring"])), say(str(one["person"])), say(str(one["at"])))
            for one in report["approvals"]
        ]
        body += ["<h2>Approvals</h2>", table(("ring", "person", "when"), lines)]
    for ring in report["rings"]:
        body += ring_html(ring)
    if report["deferred"]:
        names = ", ".join(str(name) for name in report["deferred"])
        body.append(f"<p>Left out, to be caught up: {say(names)}</p>")
    if report.get("lockouts"):
        lines = [
            row(
                say(str(one["channel"])),
                say(f"{one['first_at']} ({one['first']})"),
                say(f"{one['last_at']} ({one['last']})"),
            )
            for one in report["lockouts"]
        ]
        heads = ("ring", "the first device is locked out", "the last one")
        body += ["<h2>When certificates end that nobody renews</h2>", table(heads, lines)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{say(title)}</title><style>{STYLE}</style></head><body><main>\n"
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runbooks: read from the files of the roles, shown as pages and as a document.

A role with ``files/alerts.yml`` has a ``files/runbooks.yml`` beside it. Pages are plain HTML
without scripts: they have to open on a telephone at night, also when nothing else works.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from .._findings.shape import ShapeError, each, field, known_keys, mapping, shown, text

T = TypeVar("T")

# Where a command is run, in words.
PLACES: Mapping[str, str] = {
    "host": "On the host that the alert names",
    "monitoring": "On the monitoring host",
    "gateway": "On the gateway",
    "node": "On the node that the alert names",
    "controller_host": "On the first host of Slurm's controllers",
    "controller": "Where you run the playbooks",
}
FOLDER = "runbooks"
STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:1rem/1.55 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}"
    "h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}"
    "code,pre{font-family:ui-monospace,monospace;font-size:.9rem}"
    "pre{padding:.75rem;border-radius:.4rem;overflow-x:auto;"
    "border:1px solid color-mix(in srgb,currentcolor 25%,transparent)}"
    "a{color:light-dark(#1a4f8b,#9cc4f5)}li{margin:.4rem 0}p.where{margin:1rem 0 .25rem}"
)


@dataclass(frozen=True)
class Look:
    """A command that shows the trouble: where it is run, and what it tells."""

    where: str
    run: str
    tells: str


@dataclass(frozen=True)
class Runbook:
    """What somebody needs to know who is woken by an alert."""

    alert: str
    means: str
    see: tuple[Look, ...]
    do: tuple[str, ...]
    ignore: str


def parsed(page: object) -> tuple[Runbook, ...]:
    """The runbooks of one file, by name; a ShapeError says what is wrong with it."""
    rows = mapping(page)
    return tuple(field(rows, name, partial(_runbook, name)) for name in sorted(rows))


def _runbook(alert: str, row: object) -> Runbook:
    told = mapping(row)
    known_keys(told, ("means", "see", "do", "ignore"))
    return Runbook(
        alert,
        field(told, "means", _words),
        field(told, "see", lambda rows: _some(rows, _look)),
        field(told, "do", lambda rows: _some(rows, _words)),
        field(told, "ignore", _words),
    )


def _look(row: object) -> Look:
    told = mapping(row)
    known_keys(told, ("where", "run", "tells"))
    return Look(
        field(told, "where", _place), field(told, "run", text), field(told, "tells", _words)
    )


def _place(value: object) -> str:
    if value not in PLACES:
        raise ShapeError(f"{shown(value)} is not one of {', '.join(PLACES)}")
    return str(value)


def _some(value: object, parse: Callable[[object], T]) -> tuple[T, ...]:
    found = each(value, parse)
    if not found:
        raise ShapeError("must have at least one entry")
    return found


def _words(value: object) -> str:
    return " ".join(text(value).split())


def file_of(alert: str) -> str:
    """The name of the page of an alert."""
    return f"{alert}.html"


def address(gateway: str, alert: str) -> str:
    """Where the page of an alert is read."""
    return f"{gateway.rstrip('/')}/{FOLDER}/{file_of(alert)}"


def pages(runbooks: Iterable[Runbook]) -> dict[str, str]:
    """Every page by its file name, the list of them included."""
    books = sorted(runbooks, key=lambda book: book.alert)
    found = {file_of(book.alert): _page(book.alert, _body(book)) for book in books}
    rows = "".join(
        f'<li><a href="{file_of(book.alert)}">{html.escape(book.alert)}</a><br>'
        f"{_inline(_first(book.means))}</li>"
        for book in books
    )
    return {"index.html": _page("Runbooks", f"<h1>Runbooks</h1><ul>{rows}</ul>"), **found}


def _first(words: str) -> str:
    """The first sentence."""
    return re.split(r"(?<=[.!?]) ", words, maxsplit=1)[0]


def _page(title: str, body: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _body(book: Runbook) -> str:
    looks = "\n".join(
        f'<p class="where">{PLACES[look.where]}: {_inline(look.tells)}</p>\n'
        f'<pre tabindex="0"><code>{html.escape(look.run)}</code></pre>'
        for look in book.see
    )
    steps = "\n".join(f"<li>{_inline(step)}</li>" for step in book.do)
    return (
        f'<p><a href="./">All runbooks</a></p>\n<h1>{html.escape(book.alert)}</h1>\n'
        f"<h2>What it means</h2>\n<p>{_inline(book.means)}</p>\n"
        f"<h2>How to see it</h2>\n{looks}\n"
        f"<h2>What to do</h2>\n<ol>\n{steps}\n</ol>\n"
        f"<h2>When to ignore it</h2>\n<p>{_inline(book.ignore)}</p>\n"
        "<p>Words in capitals, such as HOST, stand for what the alert says.</p>"
    )


def _inline(words: str) -> str:
    """Text with commands between backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(words, quote=False))


def document(runbooks: Iterable[Runbook]) -> str:
    """All of them as one document in Markdown."""
    lines: list[str] = []
    for book in sorted(runbooks, key=lambda one: one.alert):
        lines += [f"## {book.alert}", "", book.means, ""]
        for look in book.see:
            lines += [f"{PLACES[look.where]}: {look.tells}", "", "```console", look.run, "```", ""]
        lines += [f"{at}. {step}" for at, step in enumerate(book.do, 1)]
        lines += ["", f"When to ignore it: {book.ignore}", ""]
    return "\n".join(lines).rstrip("\n")

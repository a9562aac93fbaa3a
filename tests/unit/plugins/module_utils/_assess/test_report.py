# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people read."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._assess.page import as_html
from ansible_collections.mlops.onprem.plugins.module_utils._assess.report import (
    as_text,
    headline,
    host_row,
)
from ansible_collections.mlops.onprem.plugins.module_utils._supply.machine import (
    machine_of,
)

REPORT: dict[str, Any] = {
    "site": "<lab>",
    "profile": "lab",
    "tool_version": "0.1.0",
    "assessed_at": "2030-01-01T00:00:00Z",
    "verdict": "refused",
    "counts": {"pass": 3, "warn": 0, "fail": 1, "error": 0, "waived": 1},
    "findings": [
        {
            "id": "capacity.memory",
            "host": "ctl1",
            "severity": "fail",
            "found": "too little <b>memory</b>",
            "wanted": "9,000 MiB",
            "remedy": "add 1,000 MiB",
            "waived": None,
        },
        {
            "id": "capacity.cpu",
            "host": "ctl1",
            "severity": "fail",
            "found": "short of CPU",
            "wanted": "",
            "remedy": "add some",
            "waived": {"reason": "nightly", "owner": "jane", "expires": "2030-12-31"},
        },
        {
            "id": "assess.clock",
            "host": "ctl1",
            "severity": "pass",
            "found": "agrees",
            "wanted": "",
            "remedy": "",
            "waived": None,
        },
    ],
    "table": [
        {
            "host": "ctl1",
            "resource": "memory",
            "unit": "MiB",
            "total": 8192.0,
            "reserved": 512.0,
            "foreign": 20480.0,
            "demanded": 9000.0,
            "free": 0.0,
            "short": 1320.0,
            "parts": [{"service": "MLflow", "role": "r", "amount": 9000.0, "why": "pool"}],
        }
    ],
    "hosts": [],
}


def test_the_text_shows_the_sum_and_everything_that_is_not_a_pass() -> None:
    assert as_text(REPORT, 80).splitlines() == [
        "Assessment of <lab> (profile lab)",
        "",
        "host  resource   total  reserved  foreign  demanded  free   short",
        "ctl1  memory    8,192M      512M    20.0G    9,000M    0M  1,320M",
        "  free = total - reserved - foreign - demanded; ours is in demanded only",
        "",
        "FAIL ctl1: too little <b>memory</b>",
        "     wanted: 9,000 MiB",
        "     remedy: add 1,000 MiB",
        "WAIV ctl1: short of CPU",
        "     remedy: add some",
        "     waived until 2030-12-31 by jane: nightly",
        "",
        "REFUSED: no host has been changed. Checks: 1 failed, 1 waived, 3 passed.",
    ]


def test_every_verdict_has_its_sentence() -> None:
    counts = {"pass": 2}
    assert headline({"verdict": "go", "counts": counts}) == (
        "GO: nothing stands against it. Checks: 2 passed."
    )
    assert headline({"verdict": "could not assess", "counts": {"error": 1}}) == (
        "COULD NOT ASSESS: no host has been changed. Checks: 1 could not be checked."
    )


class Page(HTMLParser):
    """Collects what a page would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.outside += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_needs_no_other_file_and_escapes_what_it_shows() -> None:
    page = Page()
    text = as_html(REPORT)
    page.feed(text)
    assert page.outside == []
    assert not page.tags & {"script", "link", "img", "b", "lab"}
    assert "too little &lt;b&gt;memory&lt;/b&gt;" in text
    assert "url(" not in text


def test_a_host_without_measured_memory_says_unknown() -> None:
    row = host_row(
        "a", machine_of({"memory": {"total_mib": None}, "unknown": [{"what": "x", "reason": "y"}]})
    )
    assert (row["memory"], row["gpu"], row["unknown"]) == ("unknown", "none", ["x: y"])


def test_a_host_cannot_steer_the_terminal_of_the_reader() -> None:
    row = {**REPORT["findings"][0], "found": "name \x1b]0;owned\x07 \x1b[2J\x9b1m \u202eabc"}
    text = as_text({**REPORT, "findings": [row]})
    assert not set(text) & {"\x1b", "\x07", "\x9b", "\u202e", "\r"}
    assert "\\x1b]0;owned\\x07" in text.replace("\n     ", " ")


def test_cores_that_are_promised_more_than_once_are_told_so() -> None:
    said = "total counts each core 4 times (assess_margins.cpu_overcommit)"
    assert said not in as_text({**REPORT, "margins": {"cpu_overcommit": 1.0}})
    assert f"  {said}" in as_text({**REPORT, "margins": {"cpu_overcommit": 4.0}}).splitlines()

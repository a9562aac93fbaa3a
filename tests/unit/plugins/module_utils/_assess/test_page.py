# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the assessment: what to do comes first, on every width, in the reader's language."""

from __future__ import annotations

import re
import string
from html.parser import HTMLParser
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._assess.language import WORDS
from ansible_collections.mlops.onprem.plugins.module_utils._assess.page import as_html
from ansible_collections.mlops.onprem.plugins.module_utils._assess.report import as_text, headline


def finding(severity: str, **more: Any) -> dict[str, Any]:
    return {
        "id": f"a.{severity}",
        "host": "ctl1",
        "severity": severity,
        "found": f"found {severity}",
        "wanted": f"wanted {severity}",
        "remedy": f"remedy {severity}",
        "waived": None,
        **more,
    }


WAIVER = {"reason": "nightly", "owner": "jane", "expires": "2030-12-31"}
REPORT: dict[str, Any] = {
    "site": "werk",
    "profile": "lab",
    "tool_version": "0.3.0",
    "assessed_at": "2030-01-01T00:00:00Z",
    "verdict": "refused",
    "counts": {"pass": 1, "warn": 1, "fail": 1, "error": 1, "waived": 1},
    "findings": [
        finding("pass"),
        finding("fail", id="a.waived", found="found waived", waived=WAIVER),
        finding("warn"),
        finding("error"),
        finding("fail"),
    ],
    "table": [],
    "hosts": [],
}


class Text(HTMLParser):
    """What stands on a page, with the element that each text is within."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.said: list[tuple[str, str]] = []
        self.language = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "html":
            self.language = dict(attrs).get("lang") or ""
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.said.append(("details" if "details" in self.open else "page", data.strip()))


def test_the_gravest_comes_first_and_what_passed_is_folded_away() -> None:
    said = Text(as_html(REPORT)).said
    found = [(where, text) for where, text in said if text.startswith("found ")]
    assert found == [
        ("page", "found fail"),
        ("page", "found error"),
        ("page", "found warn"),
        ("page", "found waived"),
        ("details", "found pass"),
    ]


def test_what_passed_has_nothing_to_remedy() -> None:
    page = as_html(REPORT)
    assert "remedy fail" in page
    assert "remedy pass" not in page
    assert "wanted pass" not in page


def test_a_site_that_goes_says_that_there_is_nothing_to_mend() -> None:
    page = as_html({**REPORT, "verdict": "go", "findings": [finding("pass")]})
    assert "Nothing to mend and nothing to look at." in page
    assert "Passed: 1" in page


def test_on_a_phone_each_cell_is_told_what_it_is() -> None:
    page = as_html(REPORT)
    assert '<td data-is="remedy">remedy fail' in page
    assert '<td data-is="wanted">wanted fail' in page
    # Without the width of the device a phone shows the page as on a desk, only smaller.
    assert "width=device-width" in page


def test_no_table_of_the_page_can_be_wider_than_its_screen() -> None:
    row = dict.fromkeys(("total", "reserved", "foreign", "demanded", "free", "short"), 1.0)
    table = [{"host": "a", "resource": "cpu", "unit": "cores", "parts": [], **row}]
    page = as_html({**REPORT, "table": table, "hosts": [{"host": "a"}]})
    tables = re.findall(r'(<div class="wide" [^>]+>)?<table( class="findings")?>', page)
    assert len(tables) == 4
    assert all(scrolls or findings for scrolls, findings in tables)


@pytest.mark.parametrize("language", sorted(WORDS))
def test_every_language_says_all_that_english_says(language: str) -> None:
    def fields(text: str) -> set[str]:
        return {name for _text, name, _form, _conversion in string.Formatter().parse(text) if name}

    assert WORDS[language].keys() == WORDS["en"].keys()
    for name, text in WORDS[language].items():
        assert text.strip(), name
        assert fields(text) == fields(WORDS["en"][name]), name


def test_the_frame_is_german_where_german_is_asked_for() -> None:
    report = {**REPORT, "language": "de"}
    page = as_html(report)
    assert Text(page).language == "de"
    assert headline(report) == (
        "ABGELEHNT: kein Host wurde verändert. Prüfungen: 1 nicht bestanden, 1 nicht prüfbar, "
        "1 ausgenommen, 1 anzusehen, 1 bestanden."
    )
    assert "<h2>Befunde</h2>" in page
    assert 'data-is="Abhilfe">remedy fail' in page
    text = as_text(report)
    assert text.startswith("Beurteilung von werk (Profil lab)")
    assert "     Abhilfe: remedy fail" in text
    english = {WORDS["en"][key] for key in ("findings", "remedy", "wanted", "passed")}
    assert not {said for _where, said in Text(page).said} & english


def test_cores_that_are_promised_more_than_once_are_told_below_the_arithmetic() -> None:
    figures = dict.fromkeys(("total", "reserved", "foreign", "demanded", "free", "short"), 1.0)
    row = {"host": "ctl1", "resource": "CPU", "unit": "cores", "parts": [], **figures}
    often = {"table": [row], "margins": {"cpu_overcommit": 2.5}}
    said = "Gesamt zählt jeden Kern 2.5-mal (assess_margins.cpu_overcommit)."
    assert said in as_html({**REPORT, **often, "language": "de"})
    assert "assess_margins.cpu_overcommit" not in as_html({**REPORT, "table": [row]})


def test_a_language_that_is_not_there_is_english() -> None:
    page = as_html({**REPORT, "language": "fr"})
    assert Text(page).language == "en"
    assert "<h2>Findings</h2>" in page

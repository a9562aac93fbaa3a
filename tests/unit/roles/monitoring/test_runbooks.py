# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every alert has a runbook that helps: with a command, a step, and names that exist."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import ShapeError
from ansible_collections.mlops.onprem.plugins.module_utils._monitoring import rules, runbooks
from ansible_collections.mlops.onprem.plugins.module_utils._monitoring.receivers import TEST

ROOT = Path(__file__).resolve().parents[4]
ROLES = sorted(path.parents[1].name for path in ROOT.glob("roles/*/files/alerts.yml"))


def alerts(role: str) -> set[str]:
    page = yaml.safe_load((ROOT / "roles" / role / "files" / "alerts.yml").read_text())
    return {rule["alert"] for group in page["groups"] for rule in group["rules"]}


def books(role: str) -> tuple[runbooks.Runbook, ...]:
    path = ROOT / "roles" / role / "files" / "runbooks.yml"
    return runbooks.parsed(yaml.safe_load(path.read_text()))


EVERY = [book for role in ROLES for book in books(role)]


@pytest.mark.parametrize("role", ROLES)
def test_every_alert_has_a_runbook_and_every_runbook_an_alert(role: str) -> None:
    # What a person sends, and what mlops_alert_watch.py posts.
    more = {TEST, "PrometheusDown"} if role == "monitoring" else set()
    assert {book.alert for book in books(role)} == alerts(role) | more


def said(book: runbooks.Runbook) -> str:
    looks = [f"`{look.run}` {look.tells}" for look in book.see]
    return "\n".join([book.means, *looks, *book.do, book.ignore])


@pytest.mark.parametrize("book", EVERY, ids=lambda book: str(book.alert))
def test_a_runbook_names_what_exists(book: runbooks.Runbook) -> None:
    text = said(book)
    for name in re.findall(r"playbooks/(\w+\.yml)", text):
        assert (ROOT / "playbooks" / name).is_file(), name
    for unit in set(re.findall(r"\bmlops-[a-z-]+(?=\.service|\.timer)", text)):
        assert unit in UNITS, unit
    known = VARIABLES | {book.alert for book in EVERY}
    for word in re.findall(r"`([a-z]+_[a-z_]+)`", text):
        assert word in known, word
    for word in re.findall(r"\bsee ([A-Z][A-Za-z]+[A-Z]\w+)", text):
        assert word in known, word
    assert len(book.means) > 40
    assert len(book.ignore) > 5


UNITS = {
    name
    for path in ROOT.glob("roles/*/tasks/*.yml")
    for name in re.findall(r"\bname: (mlops-[a-z-]+)$", path.read_text(), flags=re.MULTILINE)
}
# What others name: settings of PostgreSQL, Prometheus and of an entry of mlops_workloads.
OTHERS = {"max_connections", "scrape_config_files", "requests_per_minute"}
VARIABLES = OTHERS | {
    name
    for path in ROOT.glob("roles/*/meta/argument_specs.yml")
    for entry in yaml.safe_load(path.read_text())["argument_specs"].values()
    for name in (entry.get("options") or {})
}


@pytest.mark.parametrize("role", ROLES)
def test_a_placed_alert_leads_to_its_page(role: str) -> None:
    text = (ROOT / "roles" / role / "files" / "alerts.yml").read_text()
    placed = rules.with_runbooks(text, "https://gw/", {book.alert for book in books(role)})
    pages = runbooks.pages(EVERY)
    before: list[dict[str, Any]] = yaml.safe_load(text)["groups"]
    after: list[dict[str, Any]] = yaml.safe_load(placed)["groups"]
    for old, new in zip(before, after, strict=True):
        for bare, rule in zip(old["rules"], new["rules"], strict=True):
            url = rule["annotations"].pop("runbook_url")
            assert url == f"https://gw/runbooks/{rule['alert']}.html"
            assert url.rpartition("/")[2] in pages
            assert rule == bare


def test_an_alert_of_the_company_is_placed_as_it_is() -> None:
    text = (
        "groups:\n- name: x\n  rules:\n  - alert: Own\n    expr: up\n    annotations:\n      a: b\n"
    )
    assert rules.with_runbooks(text, "https://gw", {"Other"}) == text


class Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]


def test_pages_open_anywhere() -> None:
    pages = runbooks.pages(EVERY)
    assert len(pages) == len(EVERY) + 1
    for name, page in pages.items():
        seen = Seen()
        seen.feed(page)
        assert "script" not in seen.tags
        assert all(link == "./" or link in pages for link in seen.links), name
        assert seen.tags.count("h1") == 1
    assert "&quot;HOST&quot;" in pages["HostUnreachable.html"]  # a command stays as it is typed


@pytest.mark.parametrize(
    ("page", "wrong"),
    [
        ({"A": {"means": "m", "do": ["x"], "ignore": "i"}}, "A.see: is missing"),
        ({"A": {"means": "m", "see": [], "do": ["x"], "ignore": "i"}}, "A.see: must have"),
        (
            {"A": {"means": "m", "see": [{"where": "moon"}], "do": ["x"], "ignore": "i"}},
            "A.see[0].where: 'moon' is not one of host",
        ),
        ({"A": {"means": "m", "more": 1}}, "A: has the unknown key 'more'"),
    ],
)
def test_what_is_wrong_with_a_runbook_is_told_with_its_place(page: object, wrong: str) -> None:
    with pytest.raises(ShapeError) as caught:
        runbooks.parsed(page)
    assert str(caught.value).startswith(wrong)

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The start page and the closing words, in every language and for the site they speak of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible_collections.mlops.onprem.plugins.module_utils._assess.language import LANGUAGES

ROOT = Path(__file__).resolve().parents[3]
CLOSING = ROOT / "playbooks/templates/site_page.txt.j2"
START = ROOT / "roles/gateway/templates/index.html.j2"
WORDS: dict[str, dict[str, dict[str, str]]] = {
    "closing": yaml.safe_load((ROOT / "playbooks/vars/site_page.yml").read_text())["__site_page"],
    "start": yaml.safe_load((ROOT / "roles/gateway/vars/main.yml").read_text())["__gateway_words"],
}
SUMMARY = {
    "metadata_db": "db.example:5432",
    "metadata_db_mode": "existing",
    "object_store": "https://s3.example",
    "object_store_mode": "managed",
    "control": ["ctl1"],
    "gateway": "https://ctl1.example",
    "devices": [{"name": "edge1", "url": "https://edge1.example"}],
    "deferred": ["edge2"],
    "lost": ["gpu2"],
    "commands": {verb: f"type {verb}" for verb in ("pipeline", "check", "assess", "remove")},
}


def render(template: Path, **variables: Any) -> str:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, autoescape=False
    )
    return environment.from_string(template.read_text(encoding="utf-8")).render(variables)


def closing(language: str) -> str:
    return render(
        CLOSING,
        __site_page=WORDS["closing"],
        __site_summary={**SUMMARY, "language": language},
        __site_ca_bundle="/x/ca-bundle.crt",
        __site_state_dir="/x",
        inventory_dir="/inv",
        mlops_site_name="werk",
        mlops_people=[{"name": "anna"}],
    )


def start(language: str, **more: Any) -> str:
    return render(
        START,
        __gateway_words=WORDS["start"],
        __gateway_services=[{"name": "A<b>", "path": "/a/", "about": "All & more"}],
        mlops_language=language,
        **more,
    )


@pytest.mark.parametrize("page", sorted(WORDS))
def test_every_language_of_the_assessment_has_every_word(page: str) -> None:
    assert set(WORDS[page]) == set(LANGUAGES)
    for language, words in WORDS[page].items():
        assert words.keys() == WORDS[page]["en"].keys(), language
        assert all(str(word).strip() for word in words.values()), language


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_closing_words_name_this_site_and_its_commands(language: str) -> None:
    said = closing(language)
    for verb in ("pipeline", "check", "assess", "remove"):
        assert f"type {verb}\n" in said
    assert "make " not in said, "a command of another site"
    for word in WORDS["closing"][language].values():
        assert word in said or word in (
            WORDS["closing"][language]["managed"],
            WORDS["closing"][language]["existing"],
        )
    assert "/x/assessment.html" in said
    widths = {len(line.split("  ", 1)[0]) for line in said.splitlines() if "ctl1: MLflow" in line}
    assert widths, "no host of the control plane"


def test_a_language_that_is_not_there_is_english() -> None:
    assert closing("fr") == closing("en")
    assert start("fr") == start("en")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_start_page_is_one_language_and_escapes_what_it_shows(language: str) -> None:
    page = start(language)
    assert page.startswith("<!DOCTYPE html>")
    assert f'<html lang="{language}">' in page
    assert WORDS["start"][language]["passwords"] in page
    assert "A&lt;b&gt;" in page
    assert "All &amp; more" in page
    assert re.search(r"<main[^>]*>.*</main>", page, re.DOTALL)


def test_who_switches_the_language_finds_the_services_in_it() -> None:
    tile = {
        "name": "Metrics",
        "path": "/m/",
        "about": "All.",
        "languages": {"de": {"name": "Messwerte", "about": "Alles."}},
    }
    page = render(
        START, __gateway_words=WORDS["start"], __gateway_services=[tile], mlops_language="en"
    )
    assert 'data-en="Metrics" data-de="Messwerte">Metrics</a>' in page
    assert 'data-en="All." data-de="Alles.">All.</p>' in page


def test_the_page_and_its_script_say_the_same_words() -> None:
    """The page is drawn before the script speaks; what both say must not change then."""
    script = (ROOT / "roles/gateway/files/start/words.js").read_text(encoding="utf-8")
    for language, words in WORDS["start"].items():
        part = script.split(f"const {language} = ")[1].split("};")[0]
        for name in ("title", "skip", "services_here", "passwords"):
            said = words[name].encode("ascii", "backslashreplace").decode().replace("\\x", "\\u00")
            assert f'  {name}: "{said}",' in part, (language, name)


def test_the_script_has_every_word_in_every_language() -> None:
    script = (ROOT / "roles/gateway/files/start/words.js").read_text(encoding="utf-8")
    names = {
        language: re.findall(
            r"^  (\w+): ", script.split(f"const {language} = ")[1].split("};")[0], re.MULTILINE
        )
        for language in LANGUAGES
    }
    assert len(names["en"]) > 100
    for language in LANGUAGES:
        assert names[language] == names["en"]


def test_the_start_page_bears_the_name_of_the_site() -> None:
    assert "<title>Werk 1: Startseite</title>" in start("de", mlops_site_name="Werk 1")

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a new person reads."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._people.invitation import (
    ALLOWS,
    WORDS,
    Around,
    invitation,
)
from ansible_collections.mlops.onprem.plugins.module_utils._site.people import RIGHTS, Person

URL = "https://ctl1.example.com/"


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("rights", RIGHTS)
def test_it_says_where_as_whom_and_what(language: str, rights: str) -> None:
    said = invitation(
        Person("anna", rights=rights), "s3cret{}", Around("Plant 3", URL, language), ("vision",)
    )
    for word in ("Plant 3", URL, f"{URL}mlflow/", "anna", "s3cret{}", "vision", "renewed"):
        assert word in said
    assert ALLOWS[language][rights] in said
    assert all(len(line) <= 130 for line in said.splitlines())


def test_every_language_has_every_word() -> None:
    assert set(WORDS) == set(ALLOWS)
    for words in ALLOWS.values():
        assert tuple(words) == RIGHTS


def test_a_language_that_is_not_there_is_english() -> None:
    said = invitation(Person("anna"), "p", Around("Plant", URL, "fr"))
    assert said.startswith("Invitation to Plant")
    assert "Your teams" not in said

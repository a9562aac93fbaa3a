# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of rights in docs/people.md says what the roles' configuration says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._people.registry import LEVELS, Wanted
from ansible_collections.mlops.onprem.plugins.module_utils._site.people import RIGHTS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/people.md").read_text(encoding="utf-8")
GATEWAY = (ROOT / "roles/gateway/templates/site.conf.j2").read_text(encoding="utf-8")
SILENCE = "/alertmanager/api/v2/silence/0f8fad5b-d9cb-469f-a165-70867728950e"


def table() -> dict[str, dict[str, str]]:
    """The cells by what is asked for and the right."""
    rows = re.findall(r"^\|(.*)\|$", PAGE, re.MULTILINE)
    head, _line, *body = ([cell.strip(" `") for cell in row.split("|")] for row in rows)
    assert tuple(head[1:]) == RIGHTS
    return {row[0]: dict(zip(RIGHTS, row[1:], strict=True)) for row in body}


TABLE = table()


def may(method: str, path: str, rights: str) -> bool:
    """What nginx' map says, which is asked in its order."""
    block = re.search(r'map "\$request_method \$uri \$mlops_rights".*?\n}', GATEWAY, re.DOTALL)
    assert block is not None
    rules = re.findall(r'"~(.*)" (\w+);', block[0])
    assert {verdict for _rule, verdict in rules} == {"granted"}
    asked = f"{method} {path} {rights}"
    return any(re.search(rule.replace(r"\z", r"\Z"), asked) for rule, _verdict in rules)


ASKED = {
    "read": [
        ("GET", "/"),
        ("GET", "/alertmanager/api/v2/alerts"),
        ("GET", "/prometheus/api/v1/rules"),
    ],
    "ask": [("POST", "/prometheus/api/v1/query"), ("POST", "/prometheus/api/v1/labels")],
    "set and end silences": [("POST", "/alertmanager/api/v2/silences"), ("DELETE", SILENCE)],
    "everything": [("POST", "/prometheus/-/reload"), ("POST", "/alertmanager/api/v2/alerts")],
}
# What a word of the table includes.
INCLUDED = {
    "read": ["read"],
    "ask": ["read", "ask"],
    "read, set and end silences": ["read", "set and end silences"],
    "everything": ["read", "ask", "set and end silences", "everything"],
}
PLACES = {
    "pages of the gateway": re.compile("/"),
    "Prometheus": re.compile("/prometheus/.*"),
    "Alertmanager": re.compile("/alertmanager/.*"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("rights", RIGHTS)
def test_the_gateway_allows_what_the_table_says(place: str, rights: str) -> None:
    included = INCLUDED[TABLE[place][rights]]
    for word, questions in ASKED.items():
        for method, path in questions:
            if PLACES[place].fullmatch(path):
                assert may(method, path, rights) is (word in included), (method, path)


def test_mlflow_allows_what_the_table_says() -> None:
    row = TABLE["experiments, models, prompts in MLflow"]
    assert {rights: level for rights, level in row.items() if rights in LEVELS} == LEVELS
    assert row["administrator"] == "everything"
    assert "mlops-administrator" not in Wanted("ada", "administrator", "").roles


def test_the_page_names_every_right_and_no_other() -> None:
    named = set(re.findall(r"rights: ([a-z]+)}", PAGE))
    assert named <= set(RIGHTS)
    assert {"viewer", "operator", "administrator"} <= named

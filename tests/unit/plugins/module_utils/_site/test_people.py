# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""People of the inventory: every slip is a sentence with its place, what is right is understood."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._site.people import (
    RIGHTS,
    Person,
    parse_people,
    strangers,
    teams_of,
)
from ansible_collections.mlops.onprem.plugins.module_utils._site.teams import Team

GOOD = {"name": "anna", "mail": "anna@example.com", "rights": "viewer"}
TEAMS = (Team("vision", ("anna", "ben")), Team("text", ("ben", "cem")))


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"name": None}, "mlops_people[0].name: is missing"),
        ({"name": "Anna"}, "mlops_people[0].name: must be an account of at most 32 small letters"),
        ({"name": "a:b"}, "mlops_people[0].name: must be an account of at most 32 small letters"),
        ({"name": "admin"}, "mlops_people[0].name: admin is an account that several share"),
        ({"name": "root"}, "mlops_people[0].name: root is an account that several share"),
        (
            {"name": "mlops-x"},
            "mlops_people[0].name: 'mlops-x' begins with mlops-, as the",
        ),
        ({"mail": "anna"}, "mlops_people[0].mail: must be one address such as anna@example.com"),
        ({"mail": "a@b, c@d"}, "mlops_people[0].mail: must be one address such as"),
        ({"rights": "root"}, "mlops_people[0].rights: must be one of viewer, scientist,"),
        ({"renewed": -1}, "mlops_people[0].renewed: must be at least 0, but is -1"),
        (
            {"role": "x"},
            "mlops_people[0]: has the unknown key 'role'; known are name, mail",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(row: dict[str, Any], sentence: str) -> None:
    people, problems = parse_people([{**GOOD, **row}])
    assert people == ()
    assert [said[: len(sentence)] for said in problems] == [sentence]


def test_who_is_given_no_rights_is_a_scientist() -> None:
    people, problems = parse_people([{"name": "ben"}, GOOD])
    assert problems == ()
    assert people == (
        Person("ben", "", "scientist"),
        Person("anna", "anna@example.com", "viewer"),
    )


def test_a_site_may_name_nobody() -> None:
    assert parse_people(None) == ((), ())
    assert strangers((), TEAMS) == {}


def test_each_right_has_what_the_one_before_it_has() -> None:
    seen = [[Person("x", rights=mine).may(asked) for asked in RIGHTS] for mine in RIGHTS]
    assert seen == [
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, False],
        [True, True, True, True],
    ]


def test_one_name_is_one_person() -> None:
    assert parse_people([GOOD, GOOD])[1] == (
        "mlops_people[1].name: 'anna' is taken by mlops_people[0]",
    )


def test_names_whose_passwords_would_have_one_name_are_refused() -> None:
    problems = parse_people([{"name": "a.b"}, {"name": "a-b"}])[1]
    assert len(problems) == 1
    assert problems[0].startswith("mlops_people: a-b and a.b differ in '-', '.' and '_' only")


def test_a_renewed_password_is_another_secret() -> None:
    names = {Person("a-b", renewed=count).secret for count in (0, 1, 2)}
    names |= {Person("a-b_2").secret, Person("2_a-b").secret}
    assert "people_password_a_b" in names
    assert "people_password2_a_b" in names
    assert len(names) == 5


def test_a_person_is_in_the_teams_that_name_him() -> None:
    assert teams_of("ben", TEAMS) == ("vision", "text")
    assert teams_of("dora", TEAMS) == ()


def test_a_member_that_is_none_of_the_people_is_a_stranger() -> None:
    people = (Person("anna"), Person("ben"))
    assert strangers(people, TEAMS) == {"cem": ("text",)}

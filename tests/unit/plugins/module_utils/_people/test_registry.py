# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way from the accounts of MLflow to the people of a site, tried on a registry in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._people.registry import (
    LEVELS,
    MARK,
    Call,
    Plan,
    State,
    Wanted,
    foreign_roles,
    parse_state,
    plan,
    strangers,
    to_ask,
)

ANNA = Wanted("anna", "viewer", "pw-anna", ("vision",))
BEN = Wanted("ben", "scientist", "pw-ben", ("vision", "text"))
CEM = Wanted("cem", "operator", "pw-cem")
ADA = Wanted("ada", "administrator", "pw-ada")
ALL, TEAMS = (ANNA, BEN, CEM, ADA), ("vision", "text")


class Registry:
    """What MLflow keeps of accounts and roles, and what its API does with it."""

    def __init__(self) -> None:
        self.passwords = {"admin": "root", "trainer": "of the company"}
        self.administrators = {"admin"}
        self.roles: dict[str, dict[str, Any]] = {}
        self.holders: dict[str, list[str]] = {"trainer": []}
        self.count = 0

    def number(self) -> int:
        self.count += 1
        return self.count

    def role(self, name: str, about: str = "", **grants: str) -> None:
        rows = [self.grant(kind, "*", level) for kind, level in grants.items()]
        self.roles[name] = {
            "id": self.number(),
            "name": name,
            "description": about,
            "permissions": rows,
        }

    def grant(self, kind: str, pattern: str, level: str) -> dict[str, Any]:
        return {
            "id": self.number(),
            "resource_type": kind,
            "resource_pattern": pattern,
            "permission": level,
        }

    def state(self) -> State:
        users = [
            {
                "username": name,
                "is_admin": name in self.administrators,
                "roles": [self.roles[role] for role in self.holders.get(name, [])],
            }
            for name in self.passwords
        ]
        return parse_state({"users": users}, {"roles": list(self.roles.values())})

    def right(self, people: Sequence[Wanted]) -> list[str]:
        asked = to_ask(self.state(), people)
        return [one.name for one in asked if self.passwords[one.name] == one.password]

    def plan(self, people: Sequence[Wanted], teams: Sequence[str] = TEAMS) -> Plan:
        return plan(self.state(), people, teams, self.right(people))

    def bring(self, people: Sequence[Wanted], teams: Sequence[str] = TEAMS) -> Plan:
        found = self.plan(people, teams)
        for call in found.calls:
            self.do(call)
        return found

    def do(self, call: Call) -> None:
        body, what = call.body, call.path.partition("/mlflow/api/")[2].partition("mlflow/")[2]
        if what == "users/create":
            assert body["username"] not in self.passwords
            self.passwords[body["username"]] = body["password"]
            self.holders[body["username"]] = []
        elif what == "users/update-password":
            self.passwords[body["username"]] = body["password"]
        elif what == "users/update-admin":
            change = self.administrators.add if body["is_admin"] else self.administrators.discard
            change(body["username"])
        elif what == "users/delete":
            del self.passwords[body["username"]], self.holders[body["username"]]
        elif what == "roles/create":
            self.role(body["name"], body["description"])
        elif what == "roles/delete":
            del self.roles[call.role]
        elif what == "roles/assign":
            self.holders[body["username"]].append(call.role)
        elif what == "roles/unassign":
            self.holders[body["username"]].remove(call.role)
        elif what == "roles/permissions/add":
            row = self.grant(body["resource_type"], body["resource_pattern"], body["permission"])
            self.roles[call.role]["permissions"].append(row)
        else:
            self.permission(what, body["role_permission_id"], body.get("permission"))

    def permission(self, what: str, number: int, level: str | None) -> None:
        for role in self.roles.values():
            for row in list(role["permissions"]):
                if row["id"] == number and what == "roles/permissions/update":
                    row["permission"] = level
                elif row["id"] == number and what == "roles/permissions/remove":
                    role["permissions"].remove(row)

    def levels(self, role: str) -> dict[str, str]:
        return {row["resource_type"]: row["permission"] for row in self.roles[role]["permissions"]}


@pytest.fixture
def registry() -> Registry:
    return Registry()


def test_people_are_given_accounts_with_their_rights(registry: Registry) -> None:
    found = registry.bring(ALL)
    assert (found.made, found.renewed, found.removed) == (("anna", "ben", "cem", "ada"), (), ())
    assert registry.holders == {
        "trainer": [],
        "anna": ["mlops-people", "mlops-viewer"],
        "ben": ["mlops-people", "mlops-scientist", "mlops-team-vision", "mlops-team-text"],
        "cem": ["mlops-people", "mlops-operator"],
        "ada": ["mlops-people"],
    }
    assert registry.administrators == {"admin", "ada"}
    for rights, level in LEVELS.items():
        kinds = ("experiment", "registered_model", "prompt")
        assert registry.levels(f"mlops-{rights}") == dict.fromkeys(kinds, level)


def test_a_second_run_has_nothing_to_do(registry: Registry) -> None:
    registry.bring(ALL)
    assert registry.plan(ALL) == Plan()


def test_a_site_that_names_nobody_leaves_the_registry_alone(registry: Registry) -> None:
    assert registry.plan(()) == Plan()


def test_who_leaves_loses_the_account_and_nobody_else_does(registry: Registry) -> None:
    registry.bring(ALL)
    found = registry.bring((BEN, ADA))
    assert found.removed == ("anna", "cem")
    assert sorted(registry.passwords) == ["ada", "admin", "ben", "trainer"]
    assert registry.plan((BEN, ADA)) == Plan()


def test_where_the_last_one_leaves_nothing_of_the_site_stays(registry: Registry) -> None:
    registry.role("theirs", "made by hand")
    registry.bring(ALL)
    registry.bring((), ())
    assert sorted(registry.passwords) == ["admin", "trainer"]
    assert list(registry.roles) == ["theirs"]


def test_rights_that_change_are_given_and_taken(registry: Registry) -> None:
    registry.bring(ALL)
    swapped = (
        Wanted("anna", "administrator", "pw-anna"),
        Wanted("ben", "viewer", "pw-ben", ("vision",)),
        CEM,
        Wanted("ada", "scientist", "pw-ada"),
    )
    registry.bring(swapped)
    assert registry.administrators == {"admin", "anna"}
    assert registry.holders["ben"] == ["mlops-people", "mlops-viewer"]
    assert registry.holders["ada"] == ["mlops-people", "mlops-scientist"]
    assert registry.plan(swapped) == Plan()


def test_who_becomes_a_viewer_keeps_no_right_to_write_what_he_made(registry: Registry) -> None:
    registry.bring(ALL)
    registry.role("__user_7__")
    rows = [registry.grant("experiment", "3", "MANAGE"), registry.grant("experiment", "4", "READ")]
    registry.roles["__user_7__"]["permissions"] += rows
    registry.holders["ben"].append("__user_7__")
    assert registry.plan(ALL) == Plan()
    registry.bring((ANNA, Wanted("ben", "viewer", "pw-ben"), CEM, ADA))
    assert registry.levels("__user_7__") == {"experiment": "READ"}


def test_a_password_is_set_where_it_is_not_that_of_the_site(registry: Registry) -> None:
    registry.bring(ALL)
    registry.passwords["ben"] = "his own"
    found = registry.bring(ALL)
    assert found.renewed == ("ben",)
    assert [call.text for call in found.calls] == ["set the password of ben"]
    assert registry.passwords["ben"] == "pw-ben"


def test_an_account_of_somebody_else_is_a_stranger(registry: Registry) -> None:
    trainer = Wanted("trainer", "viewer", "pw")
    assert strangers(registry.state(), (trainer, ANNA), registry.right((trainer,))) == ("trainer",)


def test_an_account_with_the_password_of_the_site_is_taken_over(registry: Registry) -> None:
    """It was made in a run that was cut short, or its password was handed over."""
    trainer = Wanted("trainer", "viewer", "of the company")
    assert strangers(registry.state(), (trainer,), registry.right((trainer,))) == ()
    registry.bring((trainer,))
    assert registry.holders["trainer"] == ["mlops-people", "mlops-viewer"]
    assert registry.plan((trainer,)) == Plan()


def test_a_role_of_somebody_else_is_not_taken_for_ours(registry: Registry) -> None:
    registry.role(MARK, "ours, says the company")
    registry.holders["trainer"] = [MARK]
    assert foreign_roles(registry.state(), (ANNA,), ()) == (MARK,)
    assert registry.plan(()).removed == ()


def test_permissions_of_rights_are_put_right(registry: Registry) -> None:
    registry.bring(ALL)
    row = registry.roles["mlops-viewer"]["permissions"][0]
    row["permission"] = "MANAGE"
    registry.roles["mlops-scientist"]["permissions"].append(registry.grant("scorer", "*", "EDIT"))
    registry.bring(ALL)
    assert registry.levels("mlops-viewer")["experiment"] == "READ"
    assert "scorer" not in registry.levels("mlops-scientist")


def test_what_a_team_may_do_is_left_to_administrators(registry: Registry) -> None:
    registry.bring(ALL)
    given = registry.grant("experiment", "12", "MANAGE")
    registry.roles["mlops-team-vision"]["permissions"].append(given)
    assert registry.plan(ALL) == Plan()
    registry.bring(ALL, ("text",))
    assert "mlops-team-vision" not in registry.roles


def test_no_password_is_in_what_is_told(registry: Registry) -> None:
    found = registry.plan(ALL)
    assert "pw-" not in " ".join(call.text for call in found.calls)
    assert "pw-" not in repr(found)
    assert "pw-" not in repr(ANNA)

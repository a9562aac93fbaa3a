# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Teams of the inventory: every slip is a sentence with its place, what is right is understood."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import ShapeError
from ansible_collections.mlops.onprem.plugins.module_utils._site.teams import (
    Team,
    parse_teams,
    team_of,
)

GOOD = {"name": "vision", "members": ["anna", "ben"]}


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"name": "Vision"}, "mlops_teams[0].name: must be 1 to 63 small letters, digits and"),
        ({"name": "root"}, "mlops_teams[0].name: 'root' is a name that Slurm keeps for itself"),
        ({"members": None}, "mlops_teams[0].members: is missing"),
        ({"members": "anna"}, "mlops_teams[0].members: must be a list, but is a text"),
        ({"members": ["Anna"]}, "mlops_teams[0].members[0]: must be a Unix account of at most 32"),
        ({"members": ["a", "root"]}, "mlops_teams[0].members[1]: root is no person"),
        ({"members": ["a", "a"]}, "mlops_teams[0].members[1]: 'a' stands in this team already"),
        ({"gpus": -1}, "mlops_teams[0].gpus: must be at least 0, but is -1"),
        ({"gpus": 1.5}, "mlops_teams[0].gpus: must be a whole number, but is 1.5"),
        ({"fair_share": 0}, "mlops_teams[0].fair_share: must be at least 1, but is 0"),
        ({"max_jobs": 0}, "mlops_teams[0].max_jobs: must be at least 1, but is 0"),
        ({"gpu": 1}, "mlops_teams[0]: has the unknown key 'gpu'; known are name, members, gpus"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(row: dict[str, Any], sentence: str) -> None:
    teams, problems = parse_teams([{**GOOD, **row}])
    assert teams == ()
    assert [said[: len(sentence)] for said in problems] == [sentence]


def test_limits_are_open_unless_they_are_set() -> None:
    rows = [GOOD, {**GOOD, "name": "text", "gpus": 0, "fair_share": 3, "max_jobs": 5}]
    teams, problems = parse_teams(rows)
    assert problems == ()
    assert teams == (
        Team("vision", ("anna", "ben"), None, 1, None),
        Team("text", ("anna", "ben"), 0, 3, 5),
    )
    assert teams[1].as_dict()["gpus"] == 0


def test_two_teams_of_one_name_are_refused() -> None:
    assert parse_teams([GOOD, GOOD])[1] == (
        "mlops_teams[1].name: 'vision' is taken by mlops_teams[0]",
    )


def test_a_team_that_nobody_declared_is_named_with_those_there_are() -> None:
    teams, _problems = parse_teams([GOOD])
    with pytest.raises(ShapeError, match="mlops_teams has no team 'visoin'; it has vision"):
        team_of("visoin", teams)
    assert team_of("vision", teams).members == ("anna", "ben")

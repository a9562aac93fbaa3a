# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What roles are told of the people of a site."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.onprem.plugins.filter.people import people

TEAMS = [{"name": "vision", "members": ["anna"]}]


def test_each_person_comes_with_the_name_of_the_password_and_the_teams() -> None:
    assert people([{"name": "anna", "rights": "viewer"}, {"name": "ben", "renewed": 1}], TEAMS) == [
        {
            "name": "anna",
            "mail": "",
            "rights": "viewer",
            "renewed": 0,
            "secret": "people_password_anna",
            "teams": ["vision"],
        },
        {
            "name": "ben",
            "mail": "",
            "rights": "scientist",
            "renewed": 1,
            "secret": "people_password1_ben",
            "teams": [],
        },
    ]


def test_a_site_that_names_nobody_has_none() -> None:
    assert people([]) == people(None) == []


def test_what_cannot_be_read_is_a_sentence() -> None:
    with pytest.raises(AnsibleFilterError, match=r"mlops_people\[0\].rights: must be one of"):
        people([{"name": "anna", "rights": "boss"}])

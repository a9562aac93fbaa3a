# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: people
short_description: The people of a site, with the names of their passwords
version_added: 0.3.0
author:
  - The mlops.onprem developers (@mlops-onprem)
description:
  - Reads C(mlops_people). Each answer has C(name), C(mail), C(rights) and C(renewed), and
    C(secret), the name under which the password lies with the secrets of the site.
  - With O(teams), each has C(teams) as well, those of C(mlops_teams) that name the person.
positional: teams
options:
  _input:
    description: The people, as C(mlops_people) has them.
    type: list
    elements: dict
    required: true
  teams:
    description: The teams, as C(mlops_teams) has them.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Show who may set silences
  ansible.builtin.debug:
    msg: >-
      {{ mlops_people | mlops.onprem.people
         | selectattr('rights', 'in', ['operator', 'administrator']) | map(attribute='name') }}
"""

RETURN = r"""
_value:
  description: One entry each, in the order of the inventory.
  type: list
  elements: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.onprem.plugins.module_utils._site.people import (
    parse_people,
    teams_of,
)
from ansible_collections.mlops.onprem.plugins.module_utils._site.teams import parse_teams


def people(value: object, teams: object = None) -> list[dict[str, Any]]:
    found, problems = parse_people(value)
    grouped, more = parse_teams(teams)
    for problem in (*problems, *more):
        raise AnsibleFilterError(f"{problem}. Mend it in the inventory.")
    return [{**person.as_dict(), "teams": list(teams_of(person.name, grouped))} for person in found]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"people": people}

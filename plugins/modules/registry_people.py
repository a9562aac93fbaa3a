#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the accounts of MLflow to the people of the site, over the socket of its worker."""

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_people
short_description: Give people their accounts and rights in the model registry
version_added: 0.3.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - Reads the accounts and roles of MLflow, and adds, changes and removes accounts so that they are
    those of O(people), with their rights and the roles of their teams.
  - Accounts that the site made have the role C(mlops-people). One without it is somebody else's.
    It is left alone, and refused where a person has its name, unless it has the password that the
    site has for that person.
  - Experiments, runs and models of a person who is removed stay.
  - Before an account is made, or gets another password, an invitation is written on the controller
    into O(invitations). Those of people who are none any more are taken away.
options:
  socket:
    description: Socket of a worker of the registry, on the host.
    type: path
    required: true
  admin_password:
    description: Password of the account C(admin).
    type: str
    required: true
  people:
    description: The people, as P(mlops.onprem.people#filter) answers them.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Account of the person.
        type: str
        required: true
      mail:
        description: Address of the person.
        type: str
        default: ""
      rights:
        description: What the person may do.
        type: str
        choices: [viewer, scientist, operator, administrator]
        default: scientist
      renewed:
        description: How often the person was given a new password.
        type: int
        default: 0
      secret:
        description: Name of the password among the secrets of the site.
        type: str
        default: ""
      teams:
        description: Teams of the person.
        type: list
        elements: str
        default: []
  passwords:
    description: Passwords by account.
    type: dict
    default: {}
  teams:
    description: Names of all teams. Each has a role, to which administrators add what it may do.
    type: list
    elements: str
    default: []
  look:
    description: Only look, and answer what would be done and whose accounts are in the way.
    type: bool
    default: false
  invitations:
    description: Directory of the controller for invitations. Without it none are written.
    type: path
  site:
    description: Name of the site, for invitations.
    type: str
    default: MLOps platform
  url:
    description: Address of the gateway, for invitations.
    type: str
    default: ""
  language:
    description: Language of invitations.
    type: str
    default: en
extends_documentation_fragment: [mlops.onprem.previewed]
"""

EXAMPLES = r"""
- name: Give people their accounts
  mlops.onprem.registry_people:
    socket: /run/mlops-mlflow/mlflow.sock
    admin_password: "{{ model_registry_admin_password }}"
    people: "{{ mlops_people | mlops.onprem.people(mlops_teams) }}"
    passwords: "{{ {'anna': lookup('mlops.onprem.secret', 'people_password_anna')} }}"
    invitations: "{{ inventory_dir }}/.state/invitations"
    url: https://ctl1/
"""

RETURN = r"""
steps:
  description: What was changed, or would be.
  returned: success
  type: list
  elements: str
  sample: ["add the account anna", "give anna the role mlops-people"]
made:
  description: People who were given an account.
  returned: success
  type: list
  elements: str
renewed:
  description: People whose password was set anew.
  returned: success
  type: list
  elements: str
removed:
  description: Accounts that were taken away. What they made stays.
  returned: success
  type: list
  elements: str
strangers:
  description: People whose account somebody else made, which stops a run.
  returned: success
  type: list
  elements: str
invited:
  description: Files that were written, or would be.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import finish
from ansible_collections.mlops.onprem.plugins.module_utils._findings.sentence import diff_in_words
from ansible_collections.mlops.onprem.plugins.module_utils._people import registry
from ansible_collections.mlops.onprem.plugins.module_utils._people.errors import PeopleError
from ansible_collections.mlops.onprem.plugins.module_utils._people.socket_api import (
    Api,
    UnreachableError,
)

SPEC = {
    "socket": {"type": "path", "required": True},
    "admin_password": {"type": "str", "required": True, "no_log": True},
    "people": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "mail": {"type": "str", "default": ""},
            "rights": {
                "type": "str",
                "choices": ["viewer", "scientist", "operator", "administrator"],
                "default": "scientist",
            },
            "renewed": {"type": "int", "default": 0},
            "secret": {"type": "str", "default": "", "no_log": False},
            "teams": {"type": "list", "elements": "str", "default": []},
        },
    },
    "passwords": {"type": "dict", "default": {}, "no_log": True},
    "teams": {"type": "list", "elements": "str", "default": []},
    "look": {"type": "bool", "default": False},
    "invitations": {"type": "path"},
    "site": {"type": "str", "default": "MLOps platform"},
    "url": {"type": "str", "default": ""},
    "language": {"type": "str", "default": "en"},
}


def wanted_of(params: dict[str, object]) -> tuple[registry.Wanted, ...]:
    """The people, each with a password."""
    rows: list[dict[str, object]] = params["people"]  # type: ignore[assignment]
    passwords: dict[str, str] = params["passwords"]  # type: ignore[assignment]
    lacking = [str(row["name"]) for row in rows if not passwords.get(str(row["name"]))]
    if lacking:
        raise PeopleError(f"There is no password for {lacking[0]}; add one to passwords.")
    return tuple(
        registry.Wanted(
            str(row["name"]),
            str(row["rights"]),
            str(passwords[str(row["name"])]),
            tuple(row["teams"]),  # type: ignore[arg-type]
        )
        for row in rows
    )


def refuse(strangers: tuple[str, ...], roles: tuple[str, ...]) -> None:
    """Stop before anything of somebody else's is changed."""
    if strangers:
        raise PeopleError(
            f"The model registry has an account {strangers[0]} that this site did not make. Give"
            " the person another name in mlops_people, or remove that account; to take it over, set"
            " the person's password (people_password_<name>) to the one that it has."
        )
    if roles:
        raise PeopleError(
            f"The model registry has a role {roles[0]} that this site did not make; rename it."
        )


def work(module: AnsibleModule) -> dict[str, object]:
    params = module.params
    people, teams = wanted_of(params), tuple(params["teams"])
    api = Api(params["socket"], "admin", params["admin_password"])
    only_look = params["look"] or module.check_mode
    try:
        state = api.state()
    except UnreachableError:
        if not only_look:
            raise
        state = registry.State()  # nothing is installed yet
    right = tuple(one.name for one in registry.to_ask(state, people) if api.right(one))
    strangers = registry.strangers(state, people, right)
    if not params["look"]:
        refuse(strangers, registry.foreign_roles(state, people, teams))
    plan = registry.plan(state, people, teams, right)
    if not only_look:
        api.apply(plan, state)
    steps = [call.text for call in plan.calls]
    return {
        "changed": bool(steps) and not params["look"],
        "steps": steps,
        "made": list(plan.made),
        "renewed": list(plan.renewed),
        "removed": list(plan.removed),
        "strangers": list(strangers),
        "invited": [],
        "diff": diff_in_words("accounts of the model registry", steps),
    }


def main() -> None:
    finish(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), work)


if __name__ == "__main__":
    main()

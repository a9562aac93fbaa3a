# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts of people in MLflow: what is there, what is wanted, and the calls between.

MLflow 3 gives rights by roles: each has permissions on all resources of a kind or on a single one,
and nothing between, such as the names that begin with a word. So the site keeps a role for each of
its rights, and one for each team, to which administrators add what the team may do. A further role
without permissions marks the accounts that the site made: what lacks it is somebody else's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# MLflow's only workspace, as long as it is not told to have several.
WORKSPACE = "default"
MARK = "mlops-people"
OF_TEAMS = "mlops-team-"
VIEWER, ADMINISTRATOR = "viewer", "administrator"
KEPT = "Kept by mlops.onprem"
# What a person works with. Of everything else in MLflow the default permission is the right.
KINDS = ("experiment", "registered_model", "prompt")
LEVELS: Mapping[str, str] = {"viewer": "READ", "scientist": "EDIT", "operator": "EDIT"}
# What a viewer may have been left from greater rights.
WRITES = ("EDIT", "MANAGE")
API, API3 = "/mlflow/api/2.0/mlflow", "/mlflow/api/3.0/mlflow"


@dataclass(frozen=True)
class Wanted:
    """A person as the site has him."""

    name: str
    rights: str
    password: str = field(repr=False)
    teams: tuple[str, ...] = ()

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of the site that the account has. A viewer only reads, whatever teams may."""
        if self.rights == VIEWER:
            return (MARK, role_of(self.rights))
        own = () if self.rights == ADMINISTRATOR else (role_of(self.rights),)
        return (MARK, *own, *(OF_TEAMS + team for team in self.teams))


@dataclass(frozen=True)
class Grant:
    """One permission of a role."""

    number: int
    kind: str
    pattern: str
    level: str


@dataclass(frozen=True)
class Role:
    """A role, with what it says of itself."""

    number: int
    name: str
    about: str = ""
    grants: tuple[Grant, ...] = ()

    @property
    def ours(self) -> bool:
        return self.about.startswith(KEPT)


@dataclass(frozen=True)
class User:
    """An account; ``own`` are permissions that were given to it alone, such as by creating."""

    name: str
    administrator: bool = False
    roles: tuple[str, ...] = ()
    own: tuple[Grant, ...] = ()


@dataclass(frozen=True)
class State:
    """All accounts and roles of the registry."""

    users: Mapping[str, User] = field(default_factory=dict)
    roles: Mapping[str, Role] = field(default_factory=dict)

    def ours(self, name: str) -> bool:
        """Whether the site made this account."""
        user = self.users.get(name)
        return user is not None and MARK in user.roles and self.kept(MARK)

    def kept(self, role: str) -> bool:
        """Whether the site made this role."""
        found = self.roles.get(role)
        return found is not None and found.ours


@dataclass(frozen=True)
class Call:
    """One call of MLflow's API. ``role`` is put into it as its number, known by then."""

    text: str
    method: str
    path: str
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)
    role: str = ""


@dataclass(frozen=True)
class Plan:
    """The calls in their order, and whose account is made, gets a new password, or goes."""

    calls: tuple[Call, ...] = ()
    made: tuple[str, ...] = ()
    renewed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def role_of(rights: str) -> str:
    """The role that has these rights."""
    return f"mlops-{rights}"


def parse_state(users: Mapping[str, Any], roles: Mapping[str, Any]) -> State:
    """What the API answers of users and roles."""
    found = {one.name: one for one in map(_role, roles.get("roles") or ())}
    return State(
        users={one.name: one for one in map(_user, users.get("users") or ())},
        roles={name: role for name, role in found.items() if not _of_one(name)},
    )


def _of_one(role: str) -> bool:
    """Permissions of a single account are kept by MLflow as a role of this name."""
    return role.startswith("__user_")


def _role(row: Mapping[str, Any]) -> Role:
    return Role(
        number=int(row["id"]),
        name=str(row["name"]),
        about=str(row.get("description") or ""),
        grants=tuple(_grant(one) for one in row.get("permissions") or ()),
    )


def _grant(row: Mapping[str, Any]) -> Grant:
    return Grant(
        int(row["id"]),
        str(row["resource_type"]),
        str(row["resource_pattern"]),
        str(row["permission"]),
    )


def _user(row: Mapping[str, Any]) -> User:
    roles = [_role(one) for one in row.get("roles") or ()]
    return User(
        name=str(row["username"]),
        administrator=bool(row.get("is_admin")),
        roles=tuple(one.name for one in roles if not _of_one(one.name)),
        own=tuple(grant for one in roles if _of_one(one.name) for grant in one.grants),
    )


def to_ask(state: State, people: Sequence[Wanted]) -> tuple[Wanted, ...]:
    """People whose password is to be tried: those that have an account already."""
    return tuple(one for one in people if one.name in state.users)


def strangers(state: State, people: Sequence[Wanted], right: Sequence[str]) -> tuple[str, ...]:
    """People whose account somebody else made.

    Whose password is the one of the site was made by it, in a run that was cut short, or is handed
    over on purpose.
    """
    return tuple(
        one.name
        for one in to_ask(state, people)
        if not state.ours(one.name) and one.name not in right
    )


def foreign_roles(state: State, people: Sequence[Wanted], teams: Sequence[str]) -> tuple[str, ...]:
    """Roles that the site needs and somebody else made."""
    needed = wanted_roles(teams) if people else ()
    return tuple(name for name in needed if name in state.roles and not state.kept(name))


def wanted_roles(teams: Sequence[str]) -> tuple[str, ...]:
    """All roles of a site that names people."""
    return (MARK, *(role_of(rights) for rights in LEVELS), *(OF_TEAMS + team for team in teams))


def plan(
    state: State, people: Sequence[Wanted], teams: Sequence[str], right: Sequence[str]
) -> Plan:
    """The way from what is there to these people. ``right`` are those whose password is right.

    Accounts and roles of others are left alone; who asks has refused a person with such a name.
    """
    names = {one.name for one in people}
    removed = tuple(sorted(name for name in state.users if name not in names and state.ours(name)))
    made = tuple(one.name for one in people if one.name not in state.users)
    renewed = tuple(one.name for one in to_ask(state, people) if one.name not in right)
    calls: list[Call] = _roles(state, teams) if people else []
    for one in people:
        calls += _account(state.users.get(one.name), one, one.name in renewed)
    # Who left goes last: what others need is there even if this is cut short.
    calls += [
        Call(f"remove the account {name}", "DELETE", f"{API}/users/delete", {"username": name})
        for name in removed
    ]
    calls += _leave_roles(state, wanted_roles(teams) if people else ())
    return Plan(tuple(calls), made, renewed, removed)


def _roles(state: State, teams: Sequence[str]) -> list[Call]:
    """The roles that lack, and permissions of rights that are not as they should be."""
    calls = []
    for name in wanted_roles(teams):
        if name not in state.roles:
            body = {"name": name, "workspace": WORKSPACE, "description": _about(name)}
            calls.append(Call(f"add the role {name}", "POST", f"{API3}/roles/create", body))
    for rights, level in LEVELS.items():
        calls += _grants(state.roles.get(role_of(rights)), role_of(rights), level)
    return calls


def _about(role: str) -> str:
    if role == MARK:
        return f"{KEPT}: accounts of the inventory's mlops_people, which come and go with it."
    if role.startswith(OF_TEAMS):
        team = role[len(OF_TEAMS) :]
        return f"{KEPT}: members of the team {team}. Add here what the team may do."
    return f"{KEPT}: what people with these rights may do. Changes are taken back."


def _grants(role: Role | None, name: str, level: str) -> list[Call]:
    """Bring the permissions of a role of rights to one level on everything people work with."""
    there = {(one.kind, one.pattern): one for one in (role.grants if role else ())}
    calls = []
    for kind in KINDS:
        found = there.pop((kind, "*"), None)
        about = f"{name}: {level} on every {kind.replace('_', ' ')}"
        if found is None:
            body = {"resource_type": kind, "resource_pattern": "*", "permission": level}
            calls.append(Call(about, "POST", f"{API3}/roles/permissions/add", body, name))
        elif found.level != level:
            number = {"role_permission_id": found.number, "permission": level}
            calls.append(Call(about, "PATCH", f"{API3}/roles/permissions/update", number))
    return calls + [_ungrant(name, one) for one in there.values()]


def _ungrant(whose: str, grant: Grant) -> Call:
    return Call(
        f"{whose}: no {grant.level} on the {grant.kind.replace('_', ' ')} {grant.pattern}",
        "DELETE",
        f"{API3}/roles/permissions/remove",
        {"role_permission_id": grant.number},
    )


def _account(user: User | None, one: Wanted, renew: bool) -> list[Call]:
    """Make an account, or bring the one that is there to what is wanted."""
    named = {"username": one.name}
    calls = []
    if user is None:
        body = {**named, "password": one.password}
        calls.append(Call(f"add the account {one.name}", "POST", f"{API}/users/create", body))
        user = User(one.name)
    elif renew:
        body = {**named, "password": one.password}
        text = f"set the password of {one.name}"
        calls.append(Call(text, "PATCH", f"{API}/users/update-password", body))
    for role in (MARK, *one.roles):
        if role not in user.roles and role not in [call.role for call in calls]:
            text = f"give {one.name} the role {role}"
            calls.append(Call(text, "POST", f"{API3}/roles/assign", named, role))
    for role in user.roles:
        if role not in one.roles and _site_gives(role):
            text = f"take the role {role} from {one.name}"
            calls.append(Call(text, "DELETE", f"{API3}/roles/unassign", named, role))
    wanted = one.rights == ADMINISTRATOR
    if user.administrator != wanted:
        text = f"{one.name} {'becomes' if wanted else 'is no longer'} administrator"
        change: dict[str, Any] = {**named, "is_admin": wanted}
        calls.append(Call(text, "PATCH", f"{API}/users/update-admin", change))
    if one.rights == VIEWER:
        calls += [_ungrant(one.name, own) for own in user.own if own.level in WRITES]
    return calls


def _site_gives(role: str) -> bool:
    """Whether a role is one that the site gives and takes."""
    return role.startswith(OF_TEAMS) or role in (MARK, *map(role_of, LEVELS))


def _leave_roles(state: State, wanted: Sequence[str]) -> list[Call]:
    """Roles of the site that nobody needs any more, such as that of a team that is no more."""
    return [
        Call(f"remove the role {name}", "DELETE", f"{API3}/roles/delete", {}, name)
        for name in sorted(state.roles)
        if state.kept(name) and _site_gives(name) and name not in wanted
    ]

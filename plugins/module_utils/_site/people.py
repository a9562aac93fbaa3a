# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The people of a site as the inventory names them: parsed once, refused in a sentence.

``mlops_people`` becomes a tuple of ``Person``. Every problem begins with the place of the value,
such as ``mlops_people[1].rights``. A person's teams are those of ``mlops_teams`` that name him.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .._demand.entries import entries
from .._demand.quantities import counted
from .._findings.shape import ShapeError, field, known_keys, mapping, optional, shown, text
from .teams import ACCOUNT, Team

PLACE = "mlops_people"
PERSON_KEYS = ("name", "mail", "rights", "renewed")
VIEWER, SCIENTIST, OPERATOR, ADMINISTRATOR = "viewer", "scientist", "operator", "administrator"
# Each has what the one before it has, and more.
RIGHTS = (VIEWER, SCIENTIST, OPERATOR, ADMINISTRATOR)
# The shared account of the site, and that of the machine: neither says who it was.
KEPT = ("admin", "root")
# The accounts of services, which no person logs in with.
OF_SERVICES = "mlops-"
# One address, without a name before it: what a mail program is handed.
MAIL = re.compile(r"[^\s@<>,;:\"]{1,64}@[A-Za-z0-9][A-Za-z0-9.-]{0,252}")
MOST_RENEWALS = 9_999
# How the names of passwords begin; no other secret of the site does.
SECRET = "people_password"  # noqa: S105, a name


@dataclass(frozen=True)
class Person:
    """One person. ``renewed`` counts the passwords that he was given anew."""

    name: str
    mail: str = ""
    rights: str = SCIENTIST
    renewed: int = 0

    @property
    def secret(self) -> str:
        """Under which name the password lies with the secrets of the site."""
        count = str(self.renewed) if self.renewed else ""
        return f"{SECRET}{count}_{_worded(self.name)}"

    def may(self, rights: str) -> bool:
        """Whether the person has these rights, be it as a part of greater ones."""
        return RIGHTS.index(self.rights) >= RIGHTS.index(rights)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for modules."""
        return {**asdict(self), "secret": self.secret}


def _worded(name: str) -> str:
    """A name as the part of a variable's name."""
    return re.sub(r"[^a-z0-9_]", "_", name)


def _name(value: object) -> str:
    found = text(value)
    if found in KEPT:
        raise ShapeError(
            f"{found} is an account that several share; give each person a name of his own"
        )
    if found.startswith(OF_SERVICES):
        raise ShapeError(
            f"{shown(found)} begins with {OF_SERVICES}, as the accounts of services do; choose"
            " another name"
        )
    if not ACCOUNT.fullmatch(found):
        raise ShapeError(
            "must be an account of at most 32 small letters, digits, '_', '-' and '.', but is"
            f" {shown(found)}"
        )
    return found


def _mail(value: object) -> str:
    found = text(value)
    if not MAIL.fullmatch(found):
        raise ShapeError(f"must be one address such as anna@example.com, but is {shown(found)}")
    return found


def _rights(value: object) -> str:
    found = text(value)
    if found not in RIGHTS:
        raise ShapeError(f"must be one of {', '.join(RIGHTS)}, but is {shown(found)}")
    return found


def parse_person(data: object) -> Person:
    """One entry of ``mlops_people``. Raises ShapeError with the field that is wrong."""
    given = mapping(data)
    known_keys(given, PERSON_KEYS)
    return Person(
        name=field(given, "name", _name),
        mail=optional(given, "mail", _mail, ""),
        rights=optional(given, "rights", _rights, SCIENTIST),
        renewed=optional(given, "renewed", counted(0, MOST_RENEWALS), 0),
    )


def parse_people(value: object, place: str = PLACE) -> tuple[tuple[Person, ...], tuple[str, ...]]:
    """All people that can be read, and a sentence for each entry that cannot."""
    people, problems = entries(value, parse_person, place)
    return people, (*problems, *_same_secret(people))


def _same_secret(people: Sequence[Person]) -> list[str]:
    """Names that differ in a sign only would share the variable of their password."""
    first: dict[str, str] = {}
    return [
        f"{PLACE}: {person.name} and {other} differ in '-', '.' and '_' only, and their passwords"
        " would have one name; rename one of them"
        for person in people
        if (other := first.setdefault(_worded(person.name), person.name)) != person.name
    ]


def teams_of(name: str, teams: Iterable[Team]) -> tuple[str, ...]:
    """The teams that name a person, in their order."""
    return tuple(team.name for team in teams if name in team.members)


def strangers(people: Sequence[Person], teams: Sequence[Team]) -> Mapping[str, tuple[str, ...]]:
    """Members of teams that are none of the people, with their teams.

    Nobody is a stranger on a site that names no people.
    """
    if not people:
        return {}
    known = {person.name for person in people}
    members = dict.fromkeys(member for team in teams for member in team.members)
    return {name: teams_of(name, teams) for name in members if name not in known}

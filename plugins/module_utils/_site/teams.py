# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The teams of a site as people write them: parsed once, refused in a sentence.

``mlops_teams`` becomes a tuple of ``Team``. Every problem begins with the place of the value, such
as ``mlops_teams[1].members[0]``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .._demand.entries import entries
from .._demand.quantities import counted
from .._demand.words import name_of
from .._findings.shape import ShapeError, each, field, known_keys, mapping, optional, shown, text

PLACE = "mlops_teams"
TEAM_KEYS = ("name", "members", "gpus", "fair_share", "max_jobs")
# What Slurm keeps for itself: the account that all others hang on, and the QoS that comes with it.
KEPT = ("root", "normal")
# sacctmgr writes names in small letters, so that a name with others would never be found again.
ACCOUNT = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
MOST_SHARES, MOST_JOBS, MOST_GPUS = 65_535, 1_000_000, 1_000_000


@dataclass(frozen=True)
class Team:
    """One team. Of ``gpus`` and ``max_jobs``, None means no limit; 0 GPUs means none at all."""

    name: str
    members: tuple[str, ...]
    gpus: int | None = None
    fair_share: int = 1
    max_jobs: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for modules."""
        return {
            "name": self.name,
            "members": list(self.members),
            "gpus": self.gpus,
            "fair_share": self.fair_share,
            "max_jobs": self.max_jobs,
        }


def _name(value: object) -> str:
    found = name_of(value)
    if found in KEPT:
        raise ShapeError(f"{shown(found)} is a name that Slurm keeps for itself; choose another")
    return found


def _member(value: object) -> str:
    found = text(value)
    if found == "root":
        raise ShapeError("root is no person; name the accounts that people log in with")
    if not ACCOUNT.fullmatch(found):
        raise ShapeError(
            "must be a Unix account of at most 32 small letters, digits, '_', '-' and '.', but is"
            f" {shown(found)}"
        )
    return found


def _members(value: object) -> tuple[str, ...]:
    found = each(value, _member)
    for index, name in enumerate(found):
        if name in found[:index]:
            raise ShapeError(f"{shown(name)} stands in this team already", f"[{index}]")
    return found


def parse_team(data: object) -> Team:
    """One entry of ``mlops_teams``. Raises ShapeError with the field that is wrong."""
    given = mapping(data)
    known_keys(given, TEAM_KEYS)
    return Team(
        name=field(given, "name", _name),
        members=field(given, "members", _members),
        gpus=optional(given, "gpus", counted(0, MOST_GPUS), None),
        fair_share=optional(given, "fair_share", counted(1, MOST_SHARES), 1),
        max_jobs=optional(given, "max_jobs", counted(1, MOST_JOBS), None),
    )


def parse_teams(value: object, place: str = PLACE) -> tuple[tuple[Team, ...], tuple[str, ...]]:
    """All teams that can be read, and a sentence for each that cannot."""
    return entries(value, parse_team, place)


def team_of(name: str, teams: Sequence[Team], place: str = "team") -> Team:
    """The team of that name. Raises ShapeError where there is none."""
    for team in teams:
        if team.name == name:
            return team
    known = ", ".join(team.name for team in teams) or "none"
    raise ShapeError(f"{PLACE} has no team {shown(name)}; it has {known}", place)

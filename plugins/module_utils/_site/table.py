# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ordered table of roles and groups (``playbooks/vars/site.yml``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._findings.shape import each, field, known_keys, mapping, optional, text
from .errors import SiteError

EVERYWHERE = "all"
Groups = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Row:
    """A role, and the group of hosts that it runs on.

    ``otherwise`` names the group whose first host stands in where ``group`` has none: from there
    a role looks after a service that is not the platform's own. ``single`` roles are asked on
    their first host only. Where ``group`` has hosts, those of the groups in ``also`` take part. A
    role that is not ``applied`` is called by other roles and has no play
    of its own, but is asked what it needs as every other one. Of a role with an ``endpoint`` a
    part is asked from the controller, for a host that is not reached. A group that is ``made``
    stands in no inventory: a run makes it of the hosts that it finds, and may find none.
    """

    role: str
    group: str
    otherwise: str = ""
    single: bool = False
    applied: bool = True
    endpoint: bool = False
    made: bool = False
    also: tuple[str, ...] = ()

    def hosts(self, groups: Groups) -> tuple[str, ...]:
        """The hosts that the role runs on, in the order of the inventory."""
        own = tuple(groups.get(self.group) or ())
        more = [host for name in self.also for host in groups.get(name) or ()] if own else []
        return tuple(dict.fromkeys((*own, *more))) or tuple(groups.get(self.otherwise) or ())[:1]

    def asked(self, groups: Groups) -> tuple[str, ...]:
        """The hosts on which the role is asked what it needs and finds."""
        return self.hosts(groups)[:1] if self.single else self.hosts(groups)


def parse_table(rows: object) -> tuple[Row, ...]:
    """Read the table; a role may stand in it once."""
    found = tuple(each(rows, _row))
    names = [row.role for row in found]
    for name in names:
        if names.count(name) > 1:
            raise SiteError(f"the role {name} stands {names.count(name)} times in the table")
    return found


def _row(value: object) -> Row:
    given: Mapping[str, Any] = mapping(value)
    keys = ("role", "group", "otherwise", "single", "applied", "endpoint", "made", "also")
    known_keys(given, keys)
    return Row(
        role=field(given, "role", text),
        group=field(given, "group", text),
        otherwise=optional(given, "otherwise", text, ""),
        single=optional(given, "single", bool, False),
        applied=optional(given, "applied", bool, True),
        endpoint=optional(given, "endpoint", bool, False),
        made=optional(given, "made", bool, False),
        also=optional(given, "also", lambda found: each(found, text), ()),
    )


def groups_of(table: Sequence[Row], more: Sequence[str]) -> tuple[str, ...]:
    """Every group that the platform knows, in the order in which it is told to people."""
    rows = [row for row in table if row.group != EVERYWHERE and not row.made]
    named = [name for row in rows for name in (row.group, *row.also)]
    return tuple(dict.fromkeys([*named, *more]))

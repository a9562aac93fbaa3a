# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A list that people write: every entry is read by itself, each has a name of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from .._findings.shape import (
    ShapeError,
    items,
    shown,
)

# Of a list that is wrong throughout, this many problems are told one by one.
TOLD = 20


class Named(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str:
        """By which it is told from the others."""


N = TypeVar("N", bound=Named)


def entries(
    value: object, parse: Callable[[Any], N], place: str
) -> tuple[tuple[N, ...], tuple[str, ...]]:
    """Every entry by itself, so that one that is wrong does not hide the others."""
    found: list[N] = []
    problems: list[str] = []
    more = 0
    names: dict[str, int] = {}
    try:
        rows: Sequence[Any] = items([] if value is None else value)
    except ShapeError as error:
        return (), (str(error.within(place)),)
    for index, row in enumerate(rows):
        try:
            parsed = parse(row)
            first = names.setdefault(parsed.name, index)
            if first != index:
                raise ShapeError(f"{shown(parsed.name)} is taken by {place}[{first}]", "name")
            found.append(parsed)
        except ShapeError as error:
            if len(problems) < TOLD:
                problems.append(str(error.within(f"{place}[{index}]")))
            else:
                more += 1
    if more:
        problems.append(f"{place}: {more:,} more entries are wrong as well")
    return tuple(found), tuple(problems)

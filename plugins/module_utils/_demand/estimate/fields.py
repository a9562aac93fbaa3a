# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fields of an estimate: typed, with their unit in their name and with bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..._findings.shape import ShapeError, field, number, shown, text, whole
from ..quantities import ENDINGS, in_mib, number_of_cores, sizes_given
from .formats import BITS

# Larger figures are slips of the pen; below it no product of an estimate leaves what floats hold.
MOST, LEAST = 1e15, 1e-9


def within(low: float, high: float) -> Callable[[Any], float]:
    """A number from ``low`` to ``high``."""

    def parse(value: object) -> float:
        found = number(value)
        if not low <= found <= high:
            raise ShapeError(f"must be between {low:g} and {high:g}, but is {shown(value)}")
        return found

    return parse


def above_zero(value: object) -> float:
    """A number above 0, by at least a thousandth of a millionth."""
    found = number(value)
    if not LEAST <= found <= MOST:
        raise ShapeError(f"must be above 0 and at most {MOST:g}, but is {shown(value)}")
    return found


def amount(value: object) -> float:
    """A number of at least 0."""
    return within(0, MOST)(value)


def cores(value: object) -> float:
    """Cores, also in thousandths."""
    return amount(number_of_cores(value))


def share(value: object) -> float:
    """A share above 0 and below 1, by at least a thousandth of a millionth."""
    found = number(value)
    if not LEAST <= found <= 1 - LEAST:
        raise ShapeError(f"must be above 0 and below 1, but is {shown(value)}")
    return found


def count(value: object) -> int:
    """A whole number of at least 1."""
    found = whole(value)
    if not 1 <= found <= MOST:
        raise ShapeError(f"must be between 1 and {MOST:g}, but is {shown(value)}")
    return found


def up_to(most: int, least: int = 1) -> Callable[[Any], int]:
    """A whole number from ``least`` to ``most``."""

    def parse(value: object) -> int:
        found = whole(value)
        if not least <= found <= most:
            raise ShapeError(f"must be between {least} and {most}, but is {shown(value)}")
        return found

    return parse


def choice(*allowed: str) -> Callable[[Any], str]:
    """One of these words."""

    def parse(value: object) -> str:
        found = text(value).lower()
        if found not in allowed:
            raise ShapeError(f"must be one of {', '.join(allowed)}, but is {shown(value)}")
        return found

    return parse


def bits(value: object) -> tuple[str, float]:
    """The name of a type of number, and its bits."""
    found = text(value).lower().replace("-", "_")
    if found not in BITS:
        raise ShapeError(f"must be one of {', '.join(BITS)}, but is {shown(value)}")
    return found, BITS[found]


def size(data: Mapping[str, Any], name: str, default: float | None = None) -> float:
    """A size in bytes, from the one field that gives it."""
    given = sizes_given(data, name)
    if len(given) > 1:
        raise ShapeError(f"gives {given[0]} and {given[1]}; give one of them")
    if not given:
        if default is not None:
            return default
        raise ShapeError("is missing; units are " + ", ".join(ENDINGS), f"{name}_gib")
    return field(data, given[0], in_mib(given[0], name, amount)) * 2**20


def texts(value: object) -> tuple[str, ...]:
    """One text, or a list of texts."""
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        if not value:
            raise ShapeError("must not be empty")
        return tuple(text(one) for one in value)
    return (text(value),)

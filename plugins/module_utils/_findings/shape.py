# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small typed getters for data that people write: one error, which grows the path to its place."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
# A number with a comma, in percent, in thousandths, or as a part of another.
ELSEWHERE = re.compile(
    r"(?=[.,]?[0-9])([0-9]{0,9})(?:[,.]([0-9]{1,9}))?\s*(%|m|/\s*([1-9][0-9]{0,8}))?"
)


class ShapeError(Exception):
    """A value is not what it has to be. Reads as a sentence that begins with the value's place."""

    def __init__(self, problem: str, path: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.path = path

    def within(self, place: str) -> ShapeError:
        """The same error, seen from one level further out."""
        joint = "" if not self.path or self.path.startswith("[") else "."
        return ShapeError(self.problem, f"{place}{joint}{self.path}")

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" if self.path else self.problem


def kind_of(value: object) -> str:
    """The everyday name of a value's type."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, Sequence):
        return "a list"
    if isinstance(value, datetime.date):
        return "a date"
    return f"a {type(value).__name__}"


def shown(value: object) -> str:
    """A value for a sentence: short, on one line, even if it is ten megabytes or lists in lists."""
    if isinstance(value, str):
        said = repr(str(value[:80]))
    else:
        try:
            said = str(value)
        except (ValueError, RecursionError):  # such as a number of more digits than Python prints
            said = kind_of(value)
    said = " ".join(said.split())
    return said if len(said) <= 60 else said[:57] + "..."


def mapping(value: object) -> Mapping[str, Any]:
    """The value as a mapping."""
    if not isinstance(value, Mapping):
        raise ShapeError(f"must be a mapping, but is {kind_of(value)}")
    for key in value:
        if isinstance(key, int) and not isinstance(key, bool) and value[key] is None:
            raise ShapeError(
                f"has the key {key}, which is no text; a comma within braces begins a new key, so"
                " write 0.5 for 0,5"
            )
        if not isinstance(key, str):
            raise ShapeError(f"has the key {shown(key)}, which is no text")
    return value


def items(value: object) -> Sequence[Any]:
    """The value as a list."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise ShapeError(f"must be a list, but is {kind_of(value)}")
    return value


def each(value: object, parse: Callable[[Any], T]) -> tuple[T, ...]:
    """Every element of a list, parsed; an error names the index."""
    found = []
    for index, element in enumerate(items(value)):
        try:
            found.append(parse(element))
        except ShapeError as error:
            raise error.within(f"[{index}]") from None
    return tuple(found)


def known_keys(data: Mapping[str, Any], allowed: Sequence[str]) -> None:
    """Refuse keys that nothing reads."""
    for key in data:
        if key not in allowed:
            raise ShapeError(f"has the unknown key {shown(key)}; known are {', '.join(allowed)}")


def field(data: Mapping[str, Any], key: str, parse: Callable[[Any], T]) -> T:
    """A required field, parsed; an error names the field."""
    if key not in data or data[key] is None:
        raise ShapeError("is missing", key)
    return _parsed(data[key], key, parse)


def optional(data: Mapping[str, Any], key: str, parse: Callable[[Any], T], default: T) -> T:
    """A field that may be absent."""
    value = data.get(key)
    return default if value is None else _parsed(value, key, parse)


def _parsed(value: object, key: str, parse: Callable[[Any], T]) -> T:
    try:
        return parse(value)
    except ShapeError as error:
        raise error.within(key) from None


def text(value: object) -> str:
    """A text that is not empty. Numbers and dates are taken as people write them."""
    if isinstance(value, (Mapping, list, tuple, bool)) or value is None:
        raise ShapeError(f"must be a text, but is {kind_of(value)}")
    try:
        said = str(value).strip()
    except ValueError:  # a number of more digits than Python prints
        raise ShapeError("must be a text, but is a number of too many digits") from None
    if not said:
        raise ShapeError("must not be empty")
    return said


def number(value: object) -> float:
    """A number of at least 0. Text that reads as one is taken: templates often give text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ShapeError(f"must be a number, but is {kind_of(value)}")
    try:
        found = float(value)
    except (ValueError, OverflowError):
        raise ShapeError(f"must be a number, but is {shown(value)}{_written(value)}") from None
    if not math.isfinite(found):
        raise ShapeError(f"must be a finite number, but is {shown(value)}")
    if found < 0:
        raise ShapeError(f"must be at least 0, but is {shown(value)}")
    return found


def _written(value: object) -> str:
    """How a number is written here that is written otherwise elsewhere, as the end of a sentence.

    Commas, percent, parts and thousandths: ``0,5``, ``33%``, ``1/3``, ``500m``.
    """
    said = value.strip()[:64] if isinstance(value, str) else ""
    found = ELSEWHERE.fullmatch(said)
    if found is None:
        return ""
    whole_, digits, sign, below = found.groups()
    if sign is None:
        return f"; write {whole_ or 0}.{digits}" if digits else ""
    number_ = float(f"{whole_ or 0}.{digits or 0}")
    times = {"%": 0.01, "m": 0.001}.get(sign) or 1 / int(below)
    return f"; write {number_ * times:.4g}"


def whole(value: object) -> int:
    """A whole number of at least 0."""
    found = number(value)
    if found != int(found):
        raise ShapeError(f"must be a whole number, but is {shown(value)}")
    return int(found)

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, words of a list and labels as people write them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .._findings.shape import (
    ShapeError,
    each,
    mapping,
    shown,
    text,
)

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
NO_WORDS: tuple[str, ...] = ()


def name_of(value: object) -> str:
    """A name that can also be one of a service or a host."""
    found = text(value)
    if not NAME.fullmatch(found):
        raise ShapeError(
            f"must be 1 to 63 small letters, digits and inner hyphens, but is {shown(found)}"
        )
    return found


def one_of(choices: Sequence[str]) -> Callable[[Any], str]:
    """One word of several."""

    def check(value: object) -> str:
        found = text(value)
        if found not in choices:
            raise ShapeError(
                f"must be one of {', '.join(choices)}, but is {shown(found)}"
                + meant(found, choices)
            )
        return found

    return check


def meant(name: str, known: Iterable[str]) -> str:
    """The closest known word, as the end of a sentence."""
    close = difflib.get_close_matches(name[:64], sorted(known), 1, 0.6)
    return f"; did you mean {close[0]}?" if close else ""


def labels_of(value: object) -> tuple[tuple[str, str], ...]:
    """Labels: a mapping of short words. Numbers and switches are taken as people write them."""
    found = []
    for key, told in mapping(value).items():
        if not LABEL.fullmatch(key):
            raise ShapeError(f"has the key {shown(key)}, which is no short word")
        said = str(told).lower() if isinstance(told, bool) else told
        try:
            word = text(said)
            if not LABEL.fullmatch(word):
                raise ShapeError(f"must be a short word, but is {shown(word)}")
        except ShapeError as error:
            raise error.within(key) from None
        found.append((key, word))
    return tuple(sorted(found))


def words(value: object) -> tuple[str, ...]:
    """A list of texts, each once, at least one."""
    found = each(value, text)
    if not found:
        raise ShapeError("must name at least one")
    for index, word in enumerate(found):
        if word in found[:index]:
            raise ShapeError(f"{shown(word)} is there twice", f"[{index}]")
    return found


def parse_labels(
    values: Mapping[str, object], place: str = "mlops_host_labels"
) -> tuple[dict[str, tuple[tuple[str, str], ...]], tuple[str, ...]]:
    """The labels of each host, and a sentence for each host whose labels cannot be read."""
    found = {}
    problems = []
    for host, value in values.items():
        try:
            found[host] = labels_of(value)
        except ShapeError as error:
            problems.append(f"{error.within(place)} ({host[:63]})")
    return found, tuple(problems)

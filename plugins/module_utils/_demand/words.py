# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, words of a list and labels as people write them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from .._findings.shape import (
    ShapeError,
    each,
    mapping,
    shown,
    text,
    whole,
)

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
NO_WORDS: tuple[str, ...] = ()
MOST_COUNTED = 1_000_000
# What people may take for a countable thing of their own.
MEASURED = {
    "cpu": "ask for requests.cpu_cores",
    "cores": "ask for requests.cpu_cores",
    "memory": "ask for requests.memory",
    "disk": "ask for requests.disks",
    "gpu": "ask for gpu.count",
    "gpus": "ask for gpu.count",
}

_Found = TypeVar("_Found")


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


def countables(value: object) -> tuple[tuple[str, int], ...]:
    """Numbers of things that are counted one by one, such as licences or NPUs, by their names."""
    found = []
    for key, told in mapping(value).items():
        try:
            name = name_of(key)
        except ShapeError:
            raise ShapeError(
                f"has the key {shown(key)}; names are 1 to 63 small letters, digits and inner"
                " hyphens"
            ) from None
        if name in MEASURED:
            raise ShapeError(f"is measured and need not be said: {MEASURED[name]}", name)
        try:
            number = whole(told)
        except ShapeError as error:
            raise error.within(name) from None
        if number > MOST_COUNTED:
            raise ShapeError(f"must be at most {MOST_COUNTED:,}, but is {number}", name)
        found.append((name, number))
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
    return _of_hosts(values, labels_of, place)


def parse_host_resources(
    values: Mapping[str, object], place: str = "mlops_host_resources"
) -> tuple[dict[str, tuple[tuple[str, int], ...]], tuple[str, ...]]:
    """What there is of each countable thing on each host, and what cannot be read, by host."""
    return _of_hosts(values, countables, place)


def _of_hosts(
    values: Mapping[str, object], read: Callable[[object], _Found], place: str
) -> tuple[dict[str, _Found], tuple[str, ...]]:
    found = {}
    problems = []
    for host, value in values.items():
        try:
            found[host] = read(value)
        except ShapeError as error:
            problems.append(f"{error.within(place)} ({host[:63]})")
    return found, tuple(problems)

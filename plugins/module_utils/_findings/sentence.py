# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Words that sentences about findings share."""

from __future__ import annotations

import re
from collections.abc import Iterable

_SPACE = re.compile(r"\s+")


def one_line(text: object, secrets: Iterable[str] = ()) -> str:
    """What somebody else said, on one line and without the secrets that were sent to it."""
    line = _SPACE.sub(" ", str(text)).strip()
    for secret in secrets:
        if secret:
            line = line.replace(secret, "********")
    return line


def brief(value: object, limit: int = 400) -> str:
    """Any message as one short line without a full stop."""
    said = " ".join(str(value).split()).rstrip(".").replace("Task failed: ", "", 1)
    return said if len(said) <= limit else said[: limit - 3] + "..."


def listing(names: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    items = list(names)
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def count(number: int, noun: str) -> str:
    """``1 connection``, ``2 connections``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def counted(number: int, noun: str) -> str:
    """``1 replica``, ``2,000 replicas``: the same with thousands set apart."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def amount(value: float, digits: int) -> str:
    """A number for a sentence: thousands apart, digits only where they mean something."""
    return f"{value:,.{digits}f}" if digits else f"{round(value):,}"


def plain(value: float, digits: int) -> str:
    """A figure without zeros at its end."""
    said = amount(value, digits)
    return said.rstrip("0").rstrip(".") if "." in said else said

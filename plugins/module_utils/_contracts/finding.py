# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Words that findings about contracts share."""

from __future__ import annotations

import re
from collections.abc import Iterable

_SPACE = re.compile(r"\s+")


def one_line(text: object, secrets: Iterable[str] = ()) -> str:
    """What a server said, on one line and without the secrets that were sent to it."""
    line = _SPACE.sub(" ", str(text)).strip()
    for secret in secrets:
        if secret:
            line = line.replace(secret, "********")
    return line


def listing(names: Iterable[str]) -> str:
    """C(a), C(a and b), C(a, b and c)."""
    items = list(names)
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def count(number: int, noun: str) -> str:
    """C(1 connection), C(2 connections)."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

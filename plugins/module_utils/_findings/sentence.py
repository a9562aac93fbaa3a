# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Words that sentences about findings share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_SPACE = re.compile(r"\s+")
# What steers a terminal, and what turns the direction of the text around it.
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """A text of many lines that shows what would steer the terminal, and so steers nothing."""
    return _STEERING.sub(_shown, text.replace("\r\n", "\n"))


def _shown(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"


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


def diff_in_words(header: str, steps: Sequence[str]) -> dict[str, str]:
    """The diff of a module that took steps: each is a line."""
    return {
        "before_header": header,
        "after_header": header,
        "before": "",
        "after": "".join(f"{step}\n" for step in steps),
    }

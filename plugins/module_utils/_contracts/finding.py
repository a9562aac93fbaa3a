# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings about a contract, and the words that they share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .._findings.finding import FAIL, PASS, WARN, Finding

_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class Contract:
    """Names a contract in findings: C(metadata_db) gives ids and variables their first part.

    C(address) is the suffixes of the variables that say where it is, the name first.
    """

    name: str
    host: str
    address: tuple[str, ...]

    def variable(self, suffix: str) -> str:
        return f"{self.name}_{suffix}"

    @property
    def name_variable(self) -> str:
        return self.variable(self.address[0])

    @property
    def address_variables(self) -> str:
        return listing(self.variable(suffix) for suffix in self.address)

    def passed(self, check: str, found: str, wanted: str) -> Finding:
        return Finding(f"{self.name}.{check}", self.host, PASS, found, wanted)

    def warned(self, check: str, found: str, wanted: str, remedy: str) -> Finding:
        return Finding(f"{self.name}.{check}", self.host, WARN, found, wanted, remedy)

    def failed(self, check: str, found: str, wanted: str, remedy: str) -> Finding:
        return Finding(f"{self.name}.{check}", self.host, FAIL, found, wanted, remedy)


def sentences_of_failures(findings: Iterable[Finding]) -> list[str]:
    return [finding.sentence for finding in findings if finding.severity == FAIL]


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

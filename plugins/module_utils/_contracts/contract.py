# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A contract by name, and the findings about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .._findings.finding import FAIL, PASS, WARN, Finding
from .._findings.sentence import listing


@dataclass(frozen=True)
class Contract:
    """Names a contract in findings: ``metadata_db`` gives ids and variables their first part.

    ``address`` is the suffixes of the variables that say where it is, the name first.
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

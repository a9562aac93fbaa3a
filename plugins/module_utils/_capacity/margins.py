# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept back on every host, and which facts are to be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .._findings.finding import ERROR, Finding
from .._findings.sentence import amount, brief
from .._findings.shape import ShapeError
from .._supply.facts import Facts, facts_of


@dataclass(frozen=True)
class Margins:
    """What is kept back on every host, and how old facts may be."""

    memory_reserve_mib: float = 512.0
    cpu_reserve_cores: float = 0.25
    cpu_overcommit: float = 1.0
    disk_reserve_percent: float = 5.0
    disk_reserve_mib: float = 1024.0
    inode_reserve_percent: float = 5.0
    max_age_seconds: float = 3600.0
    gpu_memory_reserve_percent: float = 5.0


def read_facts(
    name: str, given: Mapping[str, Any], margins: Margins, now: float
) -> Facts | Finding:
    """The facts of a host, or why they must not be used: unreadable, of another one, or too old."""
    again = "measure again with: ansible-playbook playbooks/assess.yml"
    try:
        facts = facts_of(given)
    except ShapeError as wrong:
        return Finding(
            "capacity.bad_facts",
            name,
            ERROR,
            f"the facts cannot be read: {wrong}",
            "facts as capacity_facts gives them",
            again,
        )
    if facts.host != name:
        return Finding(
            "capacity.foreign_facts",
            name,
            ERROR,
            "the facts under this name were measured on "
            f"{brief(facts.host, 80) or 'an unnamed host'}",
            f"facts of {name}",
            again,
        )
    if facts.measured is None:
        return Finding(
            "capacity.undated_facts",
            name,
            ERROR,
            "the facts do not say when they were measured",
            "facts with a time",
            again,
        )
    age = now - facts.measured
    if age > margins.max_age_seconds or age < -margins.max_age_seconds:
        when = (
            f"{amount(age, 0)} seconds old" if age > 0 else f"from {amount(-age, 0)} seconds ahead"
        )
        return Finding(
            "capacity.stale_facts",
            name,
            ERROR,
            f"the facts are {when}",
            f"at most {amount(margins.max_age_seconds, 0)} seconds (mlops_facts_max_age)",
            again,
        )
    return facts

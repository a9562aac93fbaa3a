# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services that the platform brought to a host, where the site now uses existing ones instead.

They hold data, so no run takes them away by itself: it is refused until somebody has decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .._findings.finding import FAIL, Finding
from .._findings.sentence import listing
from .._supply.facts import Facts

EXISTING = "existing"


@dataclass(frozen=True)
class Brought:
    """What a role brings while its mode is managed, and what becomes of it.

    ``units`` are those that the mode decides about; all of the role if empty.
    """

    role: str
    mode: str
    what: str
    data: str
    command: str
    units: tuple[str, ...] = ()


def _of_data(role: str, what: str, data: str) -> Brought:
    return Brought(
        role,
        f"{role}_mode",
        what,
        data,
        f"put it into the group {role} for that and run: ansible-playbook playbooks/remove.yml "
        f"--tags {role} -e {role}_mode=managed -e {role}_keep=false",
    )


BROUGHT = (
    _of_data("metadata_db", "PostgreSQL", "databases"),
    _of_data("object_store", "object store", "buckets"),
    _of_data("accounting_db", "MariaDB", "accounts of the scheduler"),
    Brought(
        "monitoring",
        "monitoring_mode",
        "Prometheus and Alertmanager",
        "measurements",
        "run: ansible-playbook playbooks/remove.yml --tags monitoring",
        ("mlops-prometheus.service", "mlops-alertmanager.service", "mlops-alert-watch.service"),
    ),
)


def modes_of(entries: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The modes as the inventory says them: the first host that says one speaks for the site."""
    found: dict[str, str] = {}
    for entry in entries:
        for one in BROUGHT:
            if one.mode not in found and entry.get(one.mode) is not None:
                found[one.mode] = str(entry[one.mode])
    return found


def check_left_behind(
    host: str, facts: Facts, own: Mapping[str, str], site: Mapping[str, str]
) -> list[Finding]:
    """A refusal for each service of ours beside an existing one.

    ``own`` are the modes of the host, ``site`` those of the site where the host says none.
    """
    findings = []
    brought = {row.role: row.units for row in facts.brought}
    for one in BROUGHT:
        there = [
            unit
            for unit in brought.get(one.role, ())
            if unit.endswith(".service") and (not one.units or unit in one.units)
        ]
        if there and own.get(one.mode, site.get(one.mode)) == EXISTING:
            findings.append(
                Finding(
                    f"{one.role}.left_behind",
                    host,
                    FAIL,
                    f"still has the {one.what} that the platform brought ({listing(there)}), while "
                    f"{one.mode} is existing",
                    "no service of the platform beside the existing one",
                    f"see that nobody wants its {one.data} any more, or take them over, as they go "
                    f"with it; {one.command}, then the site again",
                )
            )
    return findings

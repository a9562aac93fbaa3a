# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Consequences are not listed beside their cause as if they were causes themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .._findings.finding import ERROR, FAIL, SITE, Finding
from .._findings.sentence import count, listing

CAUSES = (
    "inventory.unread",
    "inventory.value",
    "inventory.file",
    "inventory.template",
    "inventory.models",
    "inventory.people",
    "inventory.teams",
    "inventory.required_group",
    "inventory.no_hosts",
)
PREFLIGHT = ".preflight"


def fold(findings: Sequence[Finding]) -> list[Finding]:
    """The findings, with all preflights that a mistake in the inventory broke as one of them.

    It stays a check that could not be made, so that nobody goes on if the cause is waived.
    """
    causes = [row for row in findings if row.id in CAUSES and row.severity == FAIL]
    broken = [row for row in findings if row.id.endswith(PREFLIGHT) and row.severity == ERROR]
    if not causes or not broken:
        return _joined(findings)
    return [*(row for row in findings if row not in broken), not_asked(broken, len(causes))]


def _joined(findings: Sequence[Finding]) -> list[Finding]:
    """What several roles were told in the same words is told once."""
    broken: dict[tuple[str, str], list[Finding]] = {}
    for row in findings:
        if row.id.endswith(PREFLIGHT) and row.severity == ERROR:
            broken.setdefault((row.found, row.remedy), []).append(row)
    joined = {}
    for rows in broken.values():
        if len({row.id for row in rows}) > 1:
            roles = listing(sorted({row.id.removesuffix(PREFLIGHT) for row in rows}))
            place = rows[0].host if len({row.host for row in rows}) == 1 else SITE
            told = replace(
                rows[0], id="assess.roles", host=place, found=f"{rows[0].found} (asked for {roles})"
            )
            joined.update({id(row): told for row in rows})
    return list(dict.fromkeys(joined.get(id(row), row) for row in findings))


def not_asked(broken: Iterable[Finding], causes: int) -> Finding:
    """The one finding about preflights that a mistake in the inventory broke."""
    rows = list(broken)
    roles = sorted({row.id.removesuffix(PREFLIGHT) for row in rows})
    hosts = sorted({row.host for row in rows})
    where = listing(hosts) if len(hosts) < 4 else f"{len(hosts)} hosts"
    return Finding(
        "assess.roles",
        SITE,
        ERROR,
        f"what {listing(roles)} would need and find on {where} could not be asked",
        "an answer of every role",
        f"mend the {count(causes, 'mistake')} in the inventory, then assess again",
    )


def alike(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a report for a reader: what is said of several hosts in the same words, once."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    hosts: dict[tuple[Any, ...], list[str]] = {}
    for row in rows:
        key = _kind(row)
        found.setdefault(key, dict(row))
        hosts.setdefault(key, []).append(str(row["host"]))
    for key, names in hosts.items():
        if len(names) > 1:
            shown = names if len(names) < 5 else [*names[:3], f"{len(names) - 3} more"]
            found[key]["host"] = listing(shown)
    return list(found.values())


ADDRESS = re.compile(r"\b\d{1,3}(\.\d{1,3}){3}\b")


def _kind(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What a row says, whichever host it says it of; of a way to a host, whichever address."""
    parts = [str(row.get(key)) for key in ("found", "wanted", "remedy")]
    if str(row["id"]).startswith("assess."):
        name = re.compile(rf"(?<![\w.-]){re.escape(str(row['host']))}(?![\w-])")
        parts = [ADDRESS.sub("ADDRESS", name.sub("HOST", part)) for part in parts]
    return (str(row["id"]), str(row["severity"]), str(row.get("waived")), *parts)

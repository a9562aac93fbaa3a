# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings that a site accepts: on one host, for a reason, until a day."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .finding import FAIL, Finding
from .shape import ShapeError, each, field, known_keys, mapping, text

# Nobody can accept these: without them nothing can be applied or nothing is known.
NOT_WAIVABLE = (
    "assess.unreachable",
    "assess.host_key",
    "assess.facts",
    "assess.python",
    "assess.privileges",
    "assess.room",
    "assess.account",
    "assess.roles",
    "capacity.no_facts",
    "capacity.foreign_facts",
    "capacity.undated_facts",
    "capacity.stale_facts",
    "inventory.unread",
    "inventory.waiver",
)
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class Waiver:
    """A finding that this site accepts, on one host, for a reason, until a day."""

    check: str
    host: str
    reason: str
    owner: str
    expires: datetime.date


WAIVER_KEYS = ("check", "host", "reason", "owner", "expires")


def _day(value: object) -> datetime.date:
    if isinstance(value, datetime.datetime):
        return value.date()
    if isinstance(value, datetime.date):
        return value
    said = text(value)
    if DAY.fullmatch(said):
        try:
            return datetime.date.fromisoformat(said)
        except ValueError:
            pass
    raise ShapeError(f"must be a day like 2030-12-31, but is {said!r}")


def parse_waiver(data: object) -> Waiver:
    """A waiver as written in the inventory."""
    given = mapping(data)
    known_keys(given, WAIVER_KEYS)
    waiver = Waiver(
        check=field(given, "check", text),
        host=field(given, "host", text),
        reason=field(given, "reason", text),
        owner=field(given, "owner", text),
        expires=field(given, "expires", _day),
    )
    if waiver.check in NOT_WAIVABLE:
        raise ShapeError(f"{waiver.check} cannot be waived", "check")
    return waiver


@dataclass(frozen=True)
class Waivers:
    """The waivers of a site and what is wrong with those that do not count."""

    valid: tuple[Waiver, ...]
    findings: tuple[Finding, ...]


def read_waivers(data: object, hosts: Sequence[str], today: datetime.date) -> Waivers:
    """Every waiver by itself: one that is wrong does not hide the others."""
    valid: list[Waiver] = []
    findings: list[Finding] = []

    def refuse(found: str, wanted: str, remedy: str, host: str = "site") -> None:
        findings.append(Finding("inventory.waiver", host, FAIL, found, wanted, remedy))

    try:
        rows = each(data if data is not None else [], lambda row: row)
    except ShapeError as error:
        refuse(
            f"mlops_waivers {error}",
            "a list of waivers",
            "write mlops_waivers as a list of mappings",
        )
        rows = ()
    for index, row in enumerate(rows):
        place = f"mlops_waivers[{index}]"
        try:
            waiver = parse_waiver(row)
        except ShapeError as error:
            refuse(
                str(error.within(place)),
                "check, host, reason, owner and expires",
                f"mend {place} in the inventory",
            )
            continue
        if waiver.host not in hosts and waiver.host != "site":
            refuse(
                f"{place} is for host {waiver.host!r}, which is not in the inventory",
                "a host of the inventory, or site",
                f"mend {place}.host",
            )
        elif waiver.expires < today:
            refuse(
                f"{place} for {waiver.check} expired on {waiver.expires.isoformat()}",
                "a waiver that is still valid",
                f"mend the finding, or let {waiver.owner} renew {place}.expires",
                waiver.host,
            )
        else:
            valid.append(waiver)
    return Waivers(tuple(valid), tuple(findings))

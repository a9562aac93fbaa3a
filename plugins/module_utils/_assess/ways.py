# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host found on its ways to others, and how long its certificate opens them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._findings.finding import FAIL, PASS, WARN, Finding
from .._findings.sentence import count

ID = "ways.blocked"
LASTING = "trust.certificate_days"
SAID = {
    "silent": "gives no answer",
    "forbidden": "is not to be reached: a firewall or a router on the way refuses",
    "unnamed": "is a name that this host cannot resolve",
    "refused": "is reached, but nothing listens there",
}


def judged(host: str, ways: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> list[Finding]:
    """One finding for each way that is blocked, or one that says that all are free."""
    found = [
        _finding(host, way, answer)
        for way, answer in zip(ways, answers)
        if answer != "open" and (answer != "refused" or way["there"])
    ]
    if ways and not found:
        free = f"{count(len(ways), 'way')} to other hosts and services free"
        found = [Finding(ID, host, PASS, free)]
    return found


def _finding(host: str, way: Mapping[str, Any], answer: str) -> Finding:
    place = f"{way['address']}:{way['port']}/tcp"
    who = way["target"] if way["target"] not in ("", way["address"]) else ""
    named = f"{who} ({place})" if who else place
    return Finding(
        ID,
        host,
        # Who is told of alerts may be away for an hour; the platform runs without.
        WARN if way["what"] == "alerts" else FAIL,
        f"{named}, for {way['what']}, {SAID[answer]}",
        f"a free way from {host} to {named}",
        _remedy(host, way, answer, named),
    )


def _remedy(host: str, way: Mapping[str, Any], answer: str, named: str) -> str:
    variable = way["variable"] or ("mlops_address" if way["target"] else "")
    corrected = f"correct {variable}" if variable else "correct its address"
    if answer == "unnamed":
        return f"{corrected}, or give {host} a resolver that knows it"
    if answer == "refused":
        return f"start what shall listen there, or {corrected}"
    return (
        f"allow {way['port']}/tcp from {host} to {named} in every firewall on the way, that of the "
        f"other host included, or {corrected}"
    )


def lasting(host: str, days: float | None, renew_days: float) -> list[Finding]:
    """How long the certificate on the host lasts; nothing if it has none yet."""
    if days is None:
        return []
    wanted = f"at least {renew_days:.0f} days, so that a run in time renews it"
    if days >= renew_days:
        return [Finding(LASTING, host, PASS, f"a certificate for {days:.0f} more days", wanted)]
    found = f"a certificate that ends in {days:.0f} days"
    if days <= 0:
        found = f"a certificate that ended {-days:.0f} days ago"
    remedy = (
        "run the site, which renews it and lets the services read it; a timer on this machine does "
        "that in time, see docs/automation.md"
    )
    return [Finding(LASTING, host, WARN, found, wanted, remedy)]

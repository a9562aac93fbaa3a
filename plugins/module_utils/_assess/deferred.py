# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices that are switched off: left out of this run and caught up by the next one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .._findings.finding import FAIL, SITE, WARN, Finding

UNREACHABLE = "assess.unreachable"
# A device that answers and lets nobody in, or has no address, is not switched off.
NO_ANSWER = "cannot be reached:"
DEVICES = "edge"
# Whoever is in one of these is needed by all others.
NEEDED = ("control", "metadata_db", "object_store")
# So many may be off however small the site is, as long as one device answers.
FEW = 2


def devices_of(groups: Mapping[str, Sequence[str]]) -> list[str]:
    """The hosts that serve models and nothing that other hosts need."""
    needed = {host for group in NEEDED for host in groups.get(group) or ()}
    return [host for host in groups.get(DEVICES) or () if host not in needed]


def at_most(devices: int, percent: float) -> int:
    """How many devices of a site may be off; none at 0 percent."""
    if percent <= 0:
        return 0
    return max(min(FEW, devices - 1), int(devices * percent // 100))


def defer(
    findings: Sequence[Finding], groups: Mapping[str, Sequence[str]], percent: float
) -> tuple[list[Finding], list[str]]:
    """The findings once devices that cannot be reached are deferred, and these devices.

    Too many of them stay what they were, with one finding that says so: the network is more likely
    to be gone than all of them.
    """
    devices = devices_of(groups)
    off = [row.host for row in findings if _is_off(row) and row.host in devices]
    if not off:
        return list(findings), []
    most = at_most(len(devices), percent)
    if len(off) > most:
        return [*findings, _too_many(len(off), len(devices), most, percent)], []
    return [_deferred(row) if row.host in off and _is_off(row) else row for row in findings], off


def _is_off(row: Finding) -> bool:
    return row.id == UNREACHABLE and row.found.startswith(NO_ANSWER)


def _deferred(row: Finding) -> Finding:
    return Finding(
        "assess.deferred",
        row.host,
        WARN,
        f"{row.found}; this run leaves the device out",
        "a device that answers over SSH",
        f"nothing now: the next run of site.yml catches it up; {row.remedy}",
    )


def _too_many(off: int, devices: int, most: int, percent: float) -> Finding:
    return Finding(
        "assess.devices",
        SITE,
        FAIL,
        f"{off} of {devices} devices cannot be reached",
        f"at most {most} (mlops_deferred_devices_max is {percent:g} percent)",
        "look at the network to the devices, or raise mlops_deferred_devices_max",
    )

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of the scheduler, and those that were: of the latter it is taken away."""

from __future__ import annotations

from .placement import without
from .site import SCHEDULER, Site

ROLE = "job_scheduler"
HOSTS_FILE = "scheduler_hosts.json"


def hosts_now(site: Site) -> list[str]:
    """Its controllers and nodes. A lost one stays one: it comes back with all that is on it."""
    row = next(row for row in site.table if row.role == ROLE)
    return list(row.hosts(site.everyone)) if site.everyone.get(SCHEDULER) else []


def hosts_known(site: Site) -> list[str]:
    """What was taken down at the end of the last run."""
    return list(site.state(HOSTS_FILE) or ())


def _gone(site: Site) -> list[str]:
    """Hosts that are in the inventory still, but not with the scheduler."""
    now = hosts_now(site)
    there = [name for name in hosts_known(site) if name in (site.everyone.get("all") or ())]
    return without(there, now)


def hosts_left(site: Site) -> list[str]:
    """Hosts from which it is taken away in this run."""
    return without(_gone(site), site.away)


def hosts_kept(site: Site) -> list[str]:
    """What is taken down at the end: a host that was away is tidied when it is back."""
    away = [name for name in _gone(site) if name in site.away]
    return sorted({*hosts_now(site), *away})

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan puts where, and the hosts that have, or had, something to run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .._findings.shape import ShapeError
from .._workloads.placed import Rows, rows_of
from .._workloads.questions import answer
from .errors import SiteError
from .site import CONTROL, SCHEDULER, Site
from .teams import PLACE as TEAMS
from .teams import Team, parse_teams

WORKLOADS = "mlops_workloads"
PLACEMENT_FILE = "placement.json"
HOSTS_FILE = "workload_hosts.json"


def written(site: Site, host: str) -> Sequence[Mapping[str, Any]]:
    """The workloads of the site."""
    return site.value(host, WORKLOADS) or []


def placement(site: Site, host: str) -> Rows:
    """All that is placed, of this run's assessment or else of the last that went."""
    judged = (site.fact(host, "mlops_assessment") or {}).get("placement")
    if judged is not None:
        return judged  # type: ignore[no-any-return]  # the assessment wrote it
    return (site.state(PLACEMENT_FILE) or {}).get("placement") or []


def here(site: Site, host: str) -> list[Mapping[str, Any]]:
    """What is placed on a host."""
    found = placement(site, host)
    if isinstance(found, Mapping):
        return list(found.get(host) or ())
    return [row for row in found if row["host"] == host]


def planned(site: Site, host: str) -> list[Mapping[str, Any]]:
    """What the plan sets aside for the units of workloads on a host.

    Nothing where they cannot be read, which is told where they are planned.
    """
    rows = rows_of({host: here(site, host)})
    try:
        found: list[Mapping[str, Any]] = answer(written(site, host), rows, "planned", host, {})
    except ShapeError:
        return []
    return found


def hosts_now(site: Site, host: str) -> list[str]:
    """Hosts with something to run."""
    workloads = written(site, host)
    if not workloads:
        return []
    found: list[str] = answer(workloads, placement(site, host), "hosts", "", {})
    return found


def hosts_known(site: Site) -> list[str]:
    """Hosts that had something to run, as it was taken down at the end of earlier runs."""
    return list(site.state(HOSTS_FILE) or ())


def hosts_kept(site: Site, host: str) -> list[str]:
    """What is taken down before anything is started: nobody is forgotten yet."""
    return sorted({*hosts_now(site, host), *hosts_known(site)})


def hosts_left(site: Site, host: str) -> list[str]:
    """What is taken down at the end: a host that was away is tidied when it is back."""
    return sorted(
        {*hosts_now(site, host), *(name for name in hosts_known(site) if name in site.away)}
    )


def group(site: Site, host: str) -> list[str]:
    """The hosts that the role of the workloads runs on.

    Those with something to run, and those that had, which are tidied; then also the gateway and
    the scheduler. None where there is nothing to do.
    """
    now = hosts_now(site, host)
    present = [
        name for name in joined(now, hosts_known(site)) if name in site.everyone.get("all", ())
    ]
    reached = without(present, site.away)
    if not (reached or now):
        return []
    schedulers = without(site.everyone.get(SCHEDULER) or (), site.away)
    return joined((site.everyone.get(CONTROL) or ())[:1], reached, schedulers)


def joined(*lists: Iterable[str]) -> list[str]:
    """Every name once, in the order in which they come."""
    return list(dict.fromkeys(name for names in lists for name in names))


def without(names: Iterable[str], others: Sequence[str]) -> list[str]:
    """The names that are not among the others."""
    return [name for name in names if name not in others]


def teams(site: Site, host: str) -> tuple[Team, ...]:
    """The teams of the site."""
    found, problems = parse_teams(site.value(host, TEAMS) or [])
    if problems:
        raise SiteError("; ".join(problems))
    return found


def team_names(site: Site, host: str) -> list[str]:
    """The teams by their names."""
    return [team.name for team in teams(site, host)]


def members(site: Site, host: str) -> dict[str, list[str]]:
    """The members of each team."""
    return {team.name: list(team.members) for team in teams(site, host)}

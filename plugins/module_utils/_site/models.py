# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The models of the site, and those that each device is to have."""

from __future__ import annotations

from typing import Any

from .._demand.models import PLACE, Model, parse_models
from .errors import SiteError
from .site import CONTROL, Site


def written(site: Site) -> object:
    """What the inventory says, the same for all hosts; None where it says nothing."""
    for host in site.groups.get(CONTROL) or site.groups.get("all") or ():
        value = site.value(host, PLACE)
        if value:
            return value
    return None


def _parsed(site: Site) -> tuple[Model, ...]:
    found, problems = parse_models(written(site), site.groups)
    if problems:
        raise SiteError("; ".join(problems))
    return found


def models(site: Site) -> list[dict[str, Any]]:
    """Every model with its fields and C(hosts), the devices that it is for."""
    return [model.as_dict(site.groups) for model in _parsed(site)]


def of_host(site: Site, host: str) -> list[dict[str, Any]]:
    """What a device has to know of its models: their names and what they take."""
    return [
        {
            "name": model.name,
            "memory_mib": model.memory_mib,
            "release_max_mib": model.release_max_mib,
        }
        for model in _parsed(site)
        if host in model.hosts(site.groups)
    ]


def declared(site: Site) -> bool:
    """Whether the inventory names models, so that a device has those and no others."""
    return bool(written(site))

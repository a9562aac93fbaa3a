# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The devices of the site and what people are told of it."""

from __future__ import annotations

import os
from typing import Any

from .commands import commands
from .site import Site

RING = "ring_"
SERVING = "model_serving"


def deferred(site: Site) -> list[str]:
    """The devices that were switched off when this run looked, which the next one catches up."""
    return list(site.groups.get("mlops_deferred") or ())


def roles_to_ask(site: Site, host: str) -> list[str]:
    """The roles that are asked on a host before anything is changed."""
    return [row.role for row in site.table if host in row.asked(site.groups)]


def endpoints_to_ask(site: Site, host: str) -> list[str]:
    """The roles of which a part is asked from the controller, for a host that is not reached."""
    return [
        row.role for row in site.table if row.endpoint and row.hosts(site.groups)[:1] == (host,)
    ]


def devices(site: Site) -> list[dict[str, str]]:
    """C(name), C(url) and C(ring) of every device."""
    return [
        {"name": host, "url": site.url(SERVING, host), "ring": ring_of(site, host)}
        for host in site.hosts(SERVING)
    ]


def releases(site: Site) -> dict[str, Any]:
    """What bringing the release to each device came to; a device not tried counts as skipped."""
    return {
        host: site.value(host, "__pipeline_release") or {"skipped": True}
        for host in site.hosts(SERVING)
        if host not in deferred(site)
    }


def asked(site: Site) -> list[dict[str, str]]:
    """The devices that took the release, and so are asked for predictions."""
    came = releases(site)
    without = ("failed", "unreachable", "skipped")
    return [
        {"name": device["name"], "url": device["url"]}
        for device in devices(site)
        if device["name"] in came and not any(came[device["name"]].get(word) for word in without)
    ]


def ring_of(site: Site, host: str) -> str:
    """The ring of a device, empty if it is in none."""
    rings = [name for name in site.groups if name.startswith(RING) and host in site.groups[name]]
    return min(rings, default="")


def summary(site: Site) -> dict[str, Any]:
    """What the closing page of a run says: where everything is."""
    database = site.database
    return {
        "metadata_db": f"{database['host']}:{database['port']}",
        "metadata_db_mode": "managed" if site.managed("metadata_db") else "existing",
        "object_store": site.object_store["endpoint"],
        "object_store_mode": "managed" if site.managed("object_store") else "existing",
        "control": list(site.groups.get("control") or ()),
        "gateway": site.gateway_url,
        "devices": [one for one in devices(site) if one["name"] not in deferred(site)],
        "deferred": deferred(site),
        "language": str(site.value(site.control, "mlops_language") or "en"),
        "commands": commands(
            site.value(site.control, "ansible_inventory_sources") or [],
            site.root,
            os.path.exists(os.path.join(site.root, "Makefile")),
        ),
    }

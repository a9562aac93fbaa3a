# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The devices of the site and what people are told of it."""

from __future__ import annotations

import os
from typing import Any

from .commands import commands
from .measured import metrics_port
from .pulling import SERVING, pulling
from .site import Site, url_of

RING = "ring_"
LAST_RING = "ring_fleet"
FLEET_PORT = 8444
ASSESSMENT_FILE = "assessment.json"


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


def seen(site: Site) -> dict[str, Any]:
    """What the start page knows of the inventory, so that it shows what was never seen."""
    found = [{"name": one["name"], "ring": one["ring"]} for one in devices(site)]
    names = [one["name"] for one in found]
    return {
        "devices": found,
        "hosts": sorted(host for host in site.everyone.get("all") or () if host not in names),
    }


def plan(site: Site) -> dict[str, Any]:
    """The plan of the last assessment: on which day something runs out."""
    return (site.state(ASSESSMENT_FILE) or {}).get("workloads") or {}


def gateway_url(site: Site) -> str:
    """Where devices fetch their orders."""
    port = site.value(site.control, "gateway_fleet_port") or FLEET_PORT
    return url_of(site.address(site.control), int(port))


def channel_of(site: Site, host: str) -> str:
    """The ring whose channel a device follows; one that is in none follows the last."""
    return ring_of(site, host) or LAST_RING


def rollout_channels(site: Site) -> dict[str, dict[str, str]]:
    """C(channel) and C(device_class) of every device that fetches its orders, by name."""
    return {
        host: {
            "channel": channel_of(site, host),
            "device_class": str(site.value(host, "model_serving_device_class") or ""),
        }
        for host in pulling(site)
    }


def rollout_devices(site: Site) -> list[dict[str, str]]:
    """C(name) of every device, and where it serves and tells what it counts."""
    return [
        {
            "name": one["name"],
            "serving": one["url"],
            "metrics": f"https://{site.address(one['name'])}:{metrics_port(site, one['name'])}",
        }
        for one in devices(site)
    ]


def rollout_planned(site: Site) -> dict[str, dict[str, float]]:
    """By device, the MiB of the largest request and of the whole model server."""
    return {
        one["name"]: {
            "request_max_mib": float(site.value(one["name"], "model_serving_request_max_mib")),
            "memory_mib": float(site.value(one["name"], "model_serving_memory_max_mib")),
        }
        for one in devices(site)
    }


def outcomes(site: Site) -> dict[str, Any]:
    """By model, what the pipeline of this run has found and published."""
    found: dict[str, Any] = site.value(site.control, "__pipeline_found") or {}
    return found


def published(site: Site) -> list[dict[str, str]]:
    """C(name) and C(digest) of every release that is to be rolled out."""
    return [
        {"name": name, "digest": str(one["published"]["digest"])}
        for name, one in outcomes(site).items()
        if one.get("by_rollout") and (one.get("published") or {}).get("digest")
    ]


def wanted(site: Site, host: str) -> list[dict[str, str]]:
    """C(name) and C(digest) of every release that a device is to have after this run."""
    return [
        {"name": name, "digest": str(one["published"]["digest"])}
        for name, one in outcomes(site).items()
        if host in one["hosts"] and (one.get("published") or {}).get("digest")
    ]


def releases(site: Site, model: str) -> dict[str, Any]:
    """What bringing the release of a model to each of its devices came to.

    A device that was not tried counts as skipped.
    """
    found: dict[str, Any] = {}
    for host in site.hosts(SERVING):
        if host in deferred(site) or host not in outcomes(site)[model]["hosts"]:
            continue
        said = site.value(host, "__pipeline_release") or {"skipped": True}
        by_model = said.get("outcomes")
        # Without outcomes nothing was tried: the device was gone, or the task could not begin.
        found[host] = said if by_model is None else by_model.get(model) or {"skipped": True}
    return found


def asked(site: Site) -> list[dict[str, Any]]:
    """Each published model with C(asked), the devices that took it, to be asked for predictions."""
    without = ("failed", "unreachable", "skipped")
    found = []
    for name, one in outcomes(site).items():
        came = releases(site, name)
        took = [
            {"name": device["name"], "url": device["url"]}
            for device in devices(site)
            if device["name"] in came
            and not any(came[device["name"]].get(word) for word in without)
        ]
        if took and (one.get("published") or {}).get("digest"):
            found.append({**one, "asked": took})
    return found


def answers(site: Site, model: str) -> list[dict[str, Any]]:
    """What the devices of a model have answered to its golden requests."""
    said = site.value(site.control, "__pipeline_answers") or {}
    for row in said.get("results") or ():
        if (row.get("__pipeline_one") or {}).get("name") == model:
            return list(row.get("devices") or ())
    return []


def counted(site: Site) -> list[dict[str, Any]]:
    """The models whose requests Prometheus should know of, with the devices that answered well."""
    found = []
    for one in asked(site):
        well = [row for row in answers(site, one["name"]) if row.get("ok")]
        if well:
            published = one["published"]
            found.append(
                {
                    "digest": published["digest"],
                    "model_name": published["model_name"],
                    "model_version": published["model_version"],
                    "devices": [row["name"] for row in well],
                    "requests": min(int(row["requests"]) for row in well),
                }
            )
    return found


def judged(site: Site) -> list[dict[str, Any]]:
    """All that was found of each model, as it is judged in the end."""
    measured = site.value(site.control, "__pipeline_metrics") or {}
    by_model = measured.get("models") or {}
    return [
        {
            "name": name,
            "steps": one["steps"],
            "releases": releases(site, name),
            "release_bytes": int((one.get("published") or {}).get("bytes") or 0),
            "devices": answers(site, name),
            "metrics": {
                **{key: measured[key] for key in ("error", "seconds") if key in measured},
                **(by_model.get((one.get("published") or {}).get("model_name")) or {}),
            },
        }
        for name, one in outcomes(site).items()
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
        "lost": list(site.lost),
        "language": str(site.value(site.control, "mlops_language") or "en"),
        "commands": commands(
            site.value(site.control, "ansible_inventory_sources") or [],
            site.root,
            os.path.exists(os.path.join(site.root, "Makefile")),
        ),
    }

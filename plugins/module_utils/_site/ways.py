# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways between the hosts of a site, and from them to what the company has already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from .._monitoring import company, receivers
from . import measured, receiver
from .provides import ACCOUNTING_DB
from .site import CONTROL, HTTPS, SCHEDULER, Site

Way = dict[str, Any]
LOOPBACK = ("localhost", "127.", "::1")


def ways(site: Site, host: str) -> list[Way]:
    """Where a host will connect to: C(address), C(port), C(target) (a host of the site, or empty),
    C(what), C(there) (whether somebody listens already) and C(variable) (what names the place).

    Places on the host itself are left out.
    """
    if not site.groups.get(CONTROL):
        return []
    found: dict[tuple[str, int], Way] = {}
    for way in _all(site, host):
        place = (way["address"], way["port"])
        known = found.setdefault(place, way)
        if way["what"] not in known["what"].split(", "):
            known["what"] += f", {way['what']}"
    own = site.address(host)
    return [
        way
        for (address, _port), way in found.items()
        if address != own and way["target"] != host and not address.startswith(LOOPBACK)
    ]


def _all(site: Site, host: str) -> Iterator[Way]:
    if host == site.control:
        yield from _measured(site)
        yield from _alerts(site)
    if host in site.hosts("model_serving"):
        given = site.value(host, "model_serving_registry")
        url = given.get("url") if isinstance(given, Mapping) else None
        yield _of_url(
            site,
            str(url or site.gateway_url),
            "gateway",
            "" if not url else "model_serving_registry",
        )
    if host in site.groups[CONTROL]:
        yield from _stores(site)
    if host in (site.groups.get(SCHEDULER) or ()):
        yield from _accounting(site)


def _measured(site: Site) -> Iterator[Way]:
    """What the monitoring reads and asks, unless the company's own Prometheus does it."""
    if (site.value(site.control, "monitoring_mode") or "managed") != "managed":
        return
    given = site.value(site.control, "monitoring_targets")
    computed = measured.targets(site) if given is None else given
    for target in [*computed, *(site.value(site.control, "monitoring_extra_targets") or ())]:
        port = int(target.get("port") or measured.METRICS_PORT)
        yield _way(str(target["address"]), port, "metrics", target=str(target["host"]))


def _alerts(site: Site) -> Iterator[Way]:
    if (site.value(site.control, "monitoring_mode") or "managed") == "managed":
        for address, port in receiver.places(site.value(site.control, receiver.VARIABLE)):
            yield _way(address, port, "alerts", there=True, variable=receiver.VARIABLE)
        names = (receivers.MAIL, receivers.WEBHOOKS, receivers.HEARTBEAT)
        for variable, address, port in receivers.goes(
            *(site.value(site.control, name) for name in names)
        ):
            yield _way(address, port, "alerts", there=True, variable=variable)
        for variable, address, port in company.goes(site.value(site.control, company.VARIABLE)):
            yield _way(address, port, "alerts", there=True, variable=variable)


def _stores(site: Site) -> Iterator[Way]:
    database = site.database
    managed = site.managed("metadata_db")
    yield _way(
        database["host"],
        database["port"],
        "database",
        target=site.first("metadata_db") if managed else "",
        there=not managed,
        variable="" if managed else "metadata_db_host",
    )
    endpoint = site.object_store["endpoint"]
    if endpoint:
        own = site.managed("object_store")
        way = _of_url(site, endpoint, "object store", "" if own else "object_store_endpoint")
        yield {**way, "target": site.first("object_store") if own else ""}


def _accounting(site: Site) -> Iterator[Way]:
    """The scheduler keeps its accounts in a database of its own kind."""
    database, managed = site.accounting, site.accounts_managed
    if database["host"]:
        yield _way(
            database["host"],
            database["port"],
            "accounting database",
            target=site.first(ACCOUNTING_DB) if managed else "",
            there=not managed,
            variable="" if managed else "accounting_db_host",
        )


def _of_url(site: Site, url: str, what: str, variable: str) -> Way:
    parts = urlsplit(url)
    port = parts.port or (80 if parts.scheme == "http" else HTTPS)
    return _way(
        parts.hostname or "",
        port,
        what,
        target="" if variable else site.control,
        there=bool(variable),
        variable=variable,
    )


def _way(
    address: str, port: int, what: str, *, target: str = "", there: bool = False, variable: str = ""
) -> Way:
    return {
        "address": address,
        "port": port,
        "what": what,
        "target": target,
        "there": there,
        "variable": variable,
    }

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured and shown: scrape targets, probes, tiles, and the questions of the selfcheck."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from .site import Site

Entry = dict[str, Any]
METRICS_PORT = 9443
UP = '"__name__":"up"'


def metrics_port(site: Site, host: str) -> int:
    """The port of a host's metrics server."""
    return int(site.value(host, "common_nginx_metrics_port") or METRICS_PORT)


def targets(site: Site) -> list[Entry]:
    """Every set of metrics of the site, as C(monitoring_targets) has it."""
    found = []
    for row in site.table:
        for job in site.provides[row.role].metrics:
            hosts = row.hosts(site.groups)
            for host in hosts[:1] if job.first_host else sorted(hosts):
                if site.holds(host, job.when):
                    found.append(
                        {
                            "job": job.job,
                            "host": host,
                            "address": site.address(host),
                            "port": metrics_port(site, host),
                            "series": job.series,
                        }
                    )
    return found


def probes(site: Site) -> list[Entry]:
    """Every address to ask as a client does, as C(monitoring_probes) has it."""
    found = []
    for row in site.table:
        for probe in site.provides[row.role].probes:
            # What answers through the gateway is asked where people reach it.
            hosts = [site.control] if probe.through == "gateway" else sorted(row.asked(site.groups))
            for host in hosts:
                url = site.endpoint(probe.through, host) + probe.path
                found.append({"name": probe.name, "host": host, "url": url})
    return found


def rules(site: Site) -> dict[str, str]:
    """Files with alert rules by the role that wrote them, as C(monitoring_rules) has them."""
    return {
        row.role: f"{site.root}/roles/{row.role}/files/{site.provides[row.role].alerts}"
        for row in site.table
        if site.provides[row.role].alerts
    }


def tiles(site: Site) -> list[Entry]:
    """The entries of the start page in the site's language, as C(gateway_services) has it."""
    found = [
        tile
        for row in site.table
        for tile in site.provides[row.role].tiles
        if site.holds(site.control, tile.when)
    ]
    found.sort(key=lambda tile: tile.order)
    language = str(site.value(site.control, "mlops_language") or "")
    return [
        {
            "name": tile.name,
            "about": tile.about,
            **tile.languages.get(language, {}),
            "path": tile.path,
        }
        for tile in found
    ]


def checks(
    query: str,
    loopback: Sequence[Mapping[str, Any]],
    scraped: Sequence[Mapping[str, Any]],
    probed: Sequence[Mapping[str, Any]],
    database: Mapping[str, Any],
) -> list[Entry]:
    """One question to Prometheus for each target, so that an answer of none names it.

    ``query`` is the URL of an instant query up to the expression.
    """

    def ask(title: str, expression: str, contains: str = UP) -> Entry:
        return {"title": title, "url": query + quote(expression, safe=""), "contains": contains}

    found = [
        ask(f"metrics of {target['job']}", f'up{{job="{target["job"]}"}}==1') for target in loopback
    ]
    found += [
        ask(
            f"metrics of {target['job']} on {target['host']}",
            f'up{{job="{target["job"]}",host="{target["host"]}"}}==1',
        )
        for target in scraped
    ]
    found += [
        ask(
            f"answer of {probe['url']}",
            f'probe_success{{instance="{probe["url"]}"}}==1',
            '"__name__":"probe_success"',
        )
        for probe in probed
    ]
    if database:
        title = f"metrics of the database {database['host']}"
        found.append(ask(title, "pg_up==1", '"__name__":"pg_up"'))
    return found

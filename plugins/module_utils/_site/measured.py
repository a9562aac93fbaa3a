# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured and shown: scrape targets, probes, tiles, and the questions of the selfcheck."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from .models import scheduled
from .pulling import pulling, pulls, pushing
from .site import Site
from .table import Row

Entry = dict[str, Any]
METRICS_PORT = 9443
POSTGRESQL_PORT = 5432
PROMETHEUS_PORT = 9090
PROMETHEUS_ACCOUNT = "mlops"


def metrics_port(site: Site, host: str) -> int:
    """The port of a host's metrics server."""
    return int(site.value(host, "common_nginx_metrics_port") or METRICS_PORT)


def reader(site: Site) -> str:
    """The one that reads all metrics, as its certificate names it."""
    given = str(site.value(site.control, "trust_host_certificate_file") or "")
    return (site.subject(given) if given else "") or site.control


def readers(site: Site, host: str) -> list[str]:
    """Who reads the metrics of a host; a device that writes them reads its own."""
    if not (pulls(site, host) and host in pushing(site)):
        return [reader(site)]
    given = str(site.value(host, "trust_host_certificate_file") or "")
    return [reader(site), (site.subject(given) if given else "") or host]


def write_url(site: Site) -> str:
    """Where the managed Prometheus takes samples; nowhere where the company has one of its own."""
    if site.value(site.control, "monitoring_mode") == "existing":
        return ""
    port = int(site.value(site.control, "monitoring_prometheus_port") or PROMETHEUS_PORT)
    return f"http://127.0.0.1:{port}/prometheus/api/v1/write"


def shows_account(site: Site, host: str, variable: str, ours: str) -> bool:
    """Whether what a host asks is the platform's own Prometheus, which alone is shown its account.

    ``variable`` may name another one, ``ours`` is what it is handed.
    """
    return bool(ours) and str(site.value(host, variable) or ours) == ours


def absent(site: Site, row: Row) -> bool:
    """Whether a role has nothing to do on this site today."""
    return row.made and not row.hosts(site.groups)


def targets(site: Site) -> list[Entry]:
    """Every set of metrics of the site that is scraped, as C(monitoring_targets) has it."""
    found = []
    written = pushing(site)
    for row in site.table:
        for job in site.provides[row.role].metrics:
            if (job.pull and not pulling(site)) or (job.pushed and not written):
                continue
            if job.scheduled and not scheduled(site):
                continue
            hosts = [host for host in row.hosts(site.groups) if host not in written]
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
    written = pushing(site)
    for row in site.table:
        for probe in site.provides[row.role].probes:
            # What answers through the gateway is asked where people reach it.
            hosts = [site.control] if probe.through == "gateway" else sorted(row.asked(site.groups))
            for host in (one for one in hosts if one not in written):
                url = site.endpoint(probe.through, host) + probe.path
                found.append({"name": probe.name, "host": host, "url": url})
    return found


def rules(site: Site) -> dict[str, str]:
    """Files with alert rules by the role that wrote them, as C(monitoring_rules) has them."""
    return {
        row.role: f"{site.root}/roles/{row.role}/files/{site.provides[row.role].alerts}"
        for row in site.table
        if site.provides[row.role].alerts and not absent(site, row)
    }


def tiles(site: Site) -> list[Entry]:
    """The entries of the start page in the site's language, as C(gateway_services) has it."""
    found = [
        tile
        for row in site.table
        if not absent(site, row)
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
            # The page can be switched to another language than the site's.
            "languages": {"en": {"name": tile.name, "about": tile.about}, **tile.languages},
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
    found = [_own_check(query, target) for target in loopback]
    found += [_target_check(query, target) for target in scraped]
    found += [_probe_check(query, probe) for probe in probed]
    if database:
        found.append(_database_check(query, database))
    return found


def _question(query: str, expression: str, metric: str = "up") -> Entry:
    return {"url": query + quote(expression, safe=""), "contains": f'"__name__":"{metric}"'}


def _why(query: str, **where: str) -> Entry:
    """Where Prometheus says what its last attempt came to."""
    url = query.partition("/api/v1/")[0] + "/api/v1/targets?state=active"
    return {"url": url, "say": "lastError", "where": where}


def _own_check(query: str, target: Mapping[str, Any]) -> Entry:
    return {
        "title": f"metrics of {target['job']} on this host ({target['target']})",
        **_question(query, f'up{{job="{target["job"]}"}}==1'),
        "otherwise": "Prometheus cannot read them",
        "because": _why(query, job=str(target["job"])),
        "remedy": "see which service of the platform is not active: systemctl status 'mlops-*'",
    }


def _target_check(query: str, target: Mapping[str, Any]) -> Entry:
    job, host = str(target["job"]), str(target["host"])
    address, port = target["address"], target.get("port") or METRICS_PORT
    return {
        "title": f"metrics of {job} on {host} ({address}, port {port})",
        **_question(query, f'up{{job="{job}",host="{host}"}}==1'),
        "otherwise": f"Prometheus on this host cannot read them from {host}",
        "because": _why(query, job=job, host=host),
        "remedy": (
            f"let this host reach port {port} of {host} through every firewall between them "
            f"(common_nginx_metrics_port moves it), and see on {host}: systemctl status 'mlops-*'"
        ),
    }


def _probe_check(query: str, probe: Mapping[str, Any]) -> Entry:
    url = str(probe["url"])
    return {
        "title": f"answer of {probe['name']} on {probe['host']} ({url})",
        **_question(query, f'probe_success{{instance="{url}"}}==1', "probe_success"),
        "otherwise": "it does not answer to this host as it does to a client",
        "remedy": (
            f"let this host reach it through every firewall, and ask by hand: "
            f"curl -v --cacert /etc/mlops/tls/ca.crt {url}"
        ),
    }


def _database_check(query: str, database: Mapping[str, Any]) -> Entry:
    host, port = database["host"], database.get("port") or POSTGRESQL_PORT
    return {
        "title": f"metrics of the database {host} (port {port})",
        **_question(query, "pg_up==1", "pg_up"),
        "otherwise": f"the exporter on this host cannot log in to {host}",
        "remedy": (
            f"let this host reach port {port} of {host}, and read: "
            "journalctl -u mlops-postgres-exporter -n 50"
        ),
    }

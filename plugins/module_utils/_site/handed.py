# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each variable is handed, by its name. The inventory's own value always goes before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from . import (
    events,
    fleet,
    measured,
    models,
    placement,
    pullers,
    pulling,
    samples,
    scheduler,
    signing,
    stored,
)
from .accounts import (
    handed_accounts,
    handed_databases,
    provided_accounts,
    provided_databases,
)
from .errors import SiteError
from .provides import ACCOUNTING_DB
from .site import Site
from .teams import PLACE as TEAMS
from .ways import ways

REPOSITORY = "models"
# Variables of the whole site that are read here, and in no page of a role or a playbook.
INPUTS = frozenset((TEAMS, placement.WORKLOADS, signing.SIGNER, signing.KEY))


def account_of_the_registry(site: Site, kind: str) -> dict[str, str]:
    """How the artifact registry is reached by the account that pulls, or the one that pushes."""
    return {
        "url": site.gateway_url,
        "repository": REPOSITORY,
        "user": str(site.of("artifact_registry", f"{kind}_user")),
        "password": _password(site, f"artifact_registry_{kind}_password"),
    }


def _registry_of_host(site: Site, host: str) -> dict[str, str]:
    """How a host pulls: with the account of its own, if it has one."""
    account = pullers.own_account(site, host)
    shared = account_of_the_registry(site, "pull")
    return {**shared, "user": account[0], "password": account[1]} if account else shared


def _password(site: Site, name: str) -> str:
    """A password as the control host sees it, else the secret of that name."""
    return str(site.value(site.control, name) or site.secret(name))


def _tracking(site: Site) -> dict[str, str]:
    return {
        "url": f"{site.gateway_url}/mlflow",
        "user": "admin",
        "password": _password(site, "model_registry_admin_password"),
    }


def _account_of_prometheus(
    variable: str, address: Callable[[Site, str], str], prefix: str
) -> dict[str, Callable[[Site, str], str]]:
    """The account, and its password, of whoever asks Prometheus at the address in a variable."""

    def shown(site: Site, host: str) -> bool:
        return measured.shows_account(site, host, variable, address(site, host))

    return {
        f"{prefix}_user": lambda site, host: (
            measured.PROMETHEUS_ACCOUNT if shown(site, host) else ""
        ),
        f"{prefix}_password": lambda site, host: (
            _password(site, "monitoring_prometheus_password") if shown(site, host) else ""
        ),
    }


def _prometheus(site: Site) -> dict[str, str]:
    return {
        "url": f"{site.gateway_url}/prometheus",
        "user": "admin",
        "password": _password(site, "gateway_admin_password"),
    }


# By variable, in the order of the table of roles.
HANDED: Mapping[str, Callable[[Site, str], Any]] = {
    "common_nginx_metrics_clients": measured.readers,
    "site_id": lambda site, _host: site.identity,
    "metadata_db_site_id": lambda site, _host: site.identity,
    "metadata_db_adopt_named_marks": lambda site, _host: site.adopts or site.managed("metadata_db"),
    "object_store_site_id": lambda site, _host: site.identity,
    "trust_known_authority": lambda site, _host: site.authority,
    "metadata_db_databases": lambda site, _host: provided_databases(site),
    "accounting_db_mode": lambda site, _host: "managed" if site.accounts_managed else "existing",
    "accounting_db_site_id": lambda site, _host: site.identity,
    "accounting_db_databases": lambda site, _host: provided_databases(site, ACCOUNTING_DB),
    "object_store_accounts": lambda site, _host: provided_accounts(site),
    "model_registry_hosts": lambda site, _host: [site.address(site.control), site.control],
    "model_registry_truth_devices": lambda site, _host: [
        {"name": one["name"], "url": one["url"]}
        for one in fleet.devices(site)
        if not pulling.pulls(site, one["name"])
    ],
    "model_registry_samples": lambda site, _host: samples.kept(site),
    "model_registry_sample_devices": lambda site, _host: samples.devices(site),
    "gateway_fleet": lambda site, _host: bool(pulling.pulling(site)),
    "gateway_metrics": lambda site, host: host == site.control and bool(pulling.pushing(site)),
    "gateway_metrics_devices": lambda site, _host: pulling.pushing(site),
    "gateway_metrics_write_url": lambda site, _host: measured.write_url(site),
    **_account_of_prometheus(
        "gateway_metrics_write_url",
        lambda site, _host: measured.write_url(site),
        "gateway_metrics_write",
    ),
    "gateway_services": lambda site, _host: measured.tiles(site),
    "gateway_inventory": lambda site, _host: fleet.seen(site),
    "gateway_plan": lambda site, _host: fleet.plan(site),
    "gateway_measured_here": lambda site, _host: site.managed("monitoring"),
    "audit_log_witness": lambda site, _host: events.witness(site),
    "audit_log_prometheus_url": events.prometheus_url,
    **_account_of_prometheus(
        "audit_log_prometheus_url", events.prometheus_url, "audit_log_prometheus"
    ),
    "audit_log_slurm": events.slurm,
    "job_scheduler_site_id": lambda site, _host: site.identity,
    "object_store_runs": lambda site, _host: stored.of_runs(site),
    "artifact_registry_pull_accounts": lambda site, _host: pullers.own_accounts(site),
    "model_serving_registry": _registry_of_host,
    "model_serving_public_key": signing.public_key,
    "model_serving_site_id": lambda site, _host: site.identity,
    "model_serving_models": models.of_host,
    "model_serving_samples": samples.of_host,
    "model_serving_samples_token_hash": samples.token_hash,
    "model_serving_samples_key": samples.key,
    "model_serving_transport": lambda site, host: "pull" if pulling.pulls(site, host) else "push",
    "model_serving_fleet_url": lambda site, _host: fleet.gateway_url(site),
    "model_serving_fleet_ring": fleet.channel_of,
    "model_serving_metrics": lambda site, host: host in pulling.pushing(site),
    "model_serving_reconcile": lambda site, _host: models.declared(site),
    "workloads_planned": placement.written,
    "workloads_placement": placement.placement,
    "workloads_members": placement.members,
    "workloads_teams": placement.team_names,
    "workloads_tracking": lambda site, _host: f"{site.gateway_url}/mlflow",
    "workloads_addresses": lambda site, _host: {
        name: site.address(name) for name in sorted(site.groups.get("all") or ())
    },
    "monitoring_server": lambda site, host: host == site.control,
    "monitoring_external_url": lambda site, _host: site.gateway_url,
    "monitoring_targets": lambda site, _host: measured.targets(site),
    "monitoring_probes": lambda site, _host: measured.probes(site),
    "monitoring_planned": placement.planned,
    "monitoring_rules": lambda site, _host: measured.rules(site),
    "monitoring_metrics_port": measured.metrics_port,
    "pipelines_models": lambda site, host: models.scheduled(site) if host == site.control else [],
    "pipelines_site_id": lambda site, _host: site.identity,
    "pipeline_mlflow": lambda site, _host: _tracking(site),
    "pipeline_registry": lambda site, _host: account_of_the_registry(site, "push"),
    "pipeline_prometheus": lambda site, _host: _prometheus(site),
    # For playbooks.
    "signing_key": signing.key,
    "placed_here": placement.here,
    "workload_hosts_now": placement.hosts_now,
    "workload_hosts_kept": placement.hosts_kept,
    "workload_hosts_left": placement.hosts_left,
    "workload_group": placement.group,
    "scheduler_hosts_now": lambda site, _host: scheduler.hosts_now(site),
    "scheduler_hosts_known": lambda site, _host: scheduler.hosts_known(site),
    "scheduler_hosts_left": lambda site, _host: scheduler.hosts_left(site),
    "scheduler_hosts_kept": lambda site, _host: scheduler.hosts_kept(site),
    "lost_hosts": lambda site, _host: list(site.lost),
    "roles_to_ask": fleet.roles_to_ask,
    "ways": ways,
    "endpoints_to_ask": fleet.endpoints_to_ask,
    "devices": lambda site, _host: fleet.devices(site),
    "rollout_devices": lambda site, _host: fleet.rollout_devices(site),
    "rollout_planned": lambda site, _host: fleet.rollout_planned(site),
    "rollout_channels": lambda site, _host: fleet.rollout_channels(site),
    "pipeline_wanted": fleet.wanted,
    "pipeline_published": lambda site, _host: fleet.published(site),
    "models": lambda site, _host: models.models(site),
    "pipeline_asked": lambda site, _host: fleet.asked(site),
    "pipeline_counted": lambda site, _host: fleet.counted(site),
    "pipeline_judged": lambda site, _host: fleet.judged(site),
    "summary": lambda site, _host: fleet.summary(site),
}


def handed(site: Site, name: str, host: str) -> Any:
    """The value that the site has for a variable of a role on a host.

    Raises:
        SiteError: The site computes no value of that name, or cannot say it.
    """
    if name in HANDED:
        return HANDED[name](site, host)
    for found in (handed_databases(site, name), handed_accounts(site, name)):
        if found is not None:
            return found
    known = sorted([*HANDED, *names_told(site)])
    raise SiteError(f"the site computes no {name}; it computes {', '.join(known)}")


def names_told(site: Site) -> list[str]:
    """The variables that are told databases and accounts."""
    found: list[str] = []
    for provides in site.provides.values():
        for database in provides.databases:
            found += database.handed_as
        for account in provides.accounts:
            found += account.handed_as
    return found

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of the right type that cannot be meant, and every number of the roles with its bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.onprem.plugins.module_utils._assess.bounds import (
    ABOVE_ZERO,
    FORMS,
    LEAST,
    MOST,
    misfit,
    out_of_bounds,
)

ROOT = Path(__file__).resolve().parents[5]
# Where 0 means something, or nothing is spoilt by it, though the description need not say so.
MAY_BE_ZERO = {
    "assess_horizon_years",
    "assess_seconds",
    "assess_seed",
    "audit_log_events_per_day",
    "job_scheduler_drain_seconds",
    "job_scheduler_health_interval",
    "job_scheduler_reserved_memory_mib",
    "mlops_deferred_devices_max",
    "mlops_facts_max_age",
    "model_serving_drift_features",
    "monitoring_certificate_days",
    "monitoring_disk_free_percent",
    "monitoring_quality_margin",
    "trust_renew_days",
    "workloads_limit_margin_percent",
}


def numbers() -> dict[str, dict[str, Any]]:
    """Every number that a role documents."""
    found: dict[str, dict[str, Any]] = {}
    for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values():
            for name, option in (entry.get("options") or {}).items():
                if option["type"] in ("int", "float"):
                    found[name] = option
    return found


def test_every_number_has_a_least_one_or_says_what_0_means() -> None:
    undecided = []
    for name, option in numbers().items():
        said = " ".join(
            [option["description"]]
            if isinstance(option["description"], str)
            else option["description"]
        )
        bounded = name in LEAST or name in ABOVE_ZERO or name in MAY_BE_ZERO
        judged = name.startswith("rollout_") or name.endswith("_port")
        if not (bounded or judged or "0 " in said or "V(0)" in said):
            undecided.append(name)
    assert undecided == []


def test_every_bound_is_of_a_variable_that_there_is_and_lets_its_default_through() -> None:
    known = numbers()
    assert {*LEAST, *ABOVE_ZERO, *MOST} - known.keys() == set()
    for name, option in known.items():
        if isinstance(option.get("default"), (int, float)):
            assert out_of_bounds(name, option["default"]) == ""


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("monitoring_scrape_interval", 0, "monitoring_scrape_interval is 0, which is below 1"),
        ("gateway_metrics_queue_mib", 511, "which is below 512"),
        (
            "monitoring_latency_seconds",
            0,
            "monitoring_latency_seconds is 0, which has to be above it",
        ),
        ("monitoring_disk_free_percent", 150, "which is above 100"),
        ("audit_log_most_mib", 0, ""),
        ("audit_log_most_mib", -1, "audit_log_most_mib is -1, which is below 0"),
        ("gateway_port", 0, "gateway_port is 0, which is no port"),
        ("gateway_port", 70000, "gateway_port is 70000, which is no port"),
        ("monitoring_latency_seconds", float("inf"), "which is no number"),
    ],
)
def test_numbers_out_of_bounds(name: str, value: float, said: str) -> None:
    found = out_of_bounds(name, value)
    assert said in found
    assert bool(said) == bool(found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gpu_driver_dcgm_url", "127.0.0.1:9400"),
        ("monitoring_existing_url", "ftp://prometheus.example.com"),
        ("monitoring_existing_url", "https://"),
        ("monitoring_existing_url", "https://h:99999/"),
        ("monitoring_existing_url", "https://h/a b"),
        ("audit_log_syslog_host", "siem.example.com:6514"),
        ("audit_log_syslog_host", "https://siem.example.com"),
        ("job_scheduler_allowed_networks[1]", "10.0.0.0/33"),
        ("artifact_registry_allowed_networks[0]", "nonsense"),
        ("job_scheduler_client_ports", "60999-60001"),
        ("job_scheduler_client_ports", "60001"),
        ("job_scheduler_cluster", "My Cluster"),
        ("job_scheduler_state_dir", "relative"),
        ("gpu_driver_cdi_file", "etc/cdi"),
        ("monitoring_extra_probes[0].url", "not-a-url"),
        ("monitoring_extra_targets[2].job", "x y"),
    ],
)
def test_texts_that_cannot_be_meant(name: str, value: str) -> None:
    assert misfit(name, value).startswith(f"{name} is ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("monitoring_existing_url", ""),
        ("monitoring_existing_url", "https://[fd00::1]:9090/prometheus"),
        ("audit_log_syslog_host", "fd00::1"),
        ("audit_log_syslog_host", "siem_1.example.com."),
        ("job_scheduler_allowed_networks[0]", "10.0.0.7/24"),
        ("job_scheduler_allowed_networks[0]", "localhost"),
        ("job_scheduler_client_ports", "60001-60001"),
        ("mlops_site_name", "any: thing"),
        ("gpu_driver_repository.url", "file:/srv/company-drivers/"),
        ("monitoring_extra_targets[2].job", "node"),
    ],
)
def test_texts_that_can_be_meant(name: str, value: str) -> None:
    assert misfit(name, value) == ""


def test_a_secret_in_an_address_is_not_told() -> None:
    assert "geheim" not in misfit("monitoring_existing_url", "htps://mlops:geheim@h/")


def test_forms_are_of_variables_that_there_are() -> None:
    pages = [path.read_text() for path in (ROOT / "roles").glob("*/meta/argument_specs.yml")]
    assert [
        name for name in FORMS if not any(f" {name.partition('.')[0]}:" in page for page in pages)
    ] == []

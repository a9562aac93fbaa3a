# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of variables that are of the right type and still cannot be meant, each in a sentence.

A specification of a role has no bounds; what lies beyond them would fail where it is used: in the
middle of a run, in a program of somebody else, or never, in an alert that nobody gets.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from .._findings.shape import shown

# The least, by the names of variables; 0 is the least of all others, and means something there.
ONE = (
    *("accounting_db_size_gib", "metadata_db_size_gib", "metadata_db_min_version"),
    "assess_connect_timeout",
    *("audit_log_seconds", "audit_log_device_seconds", "audit_log_retention_days"),
    "audit_log_witness_seconds",
    *("common_nginx_worker_connections", "gateway_logins_per_address"),
    "gpu_driver_reboot_timeout",
    *("job_scheduler_node_timeout", "job_scheduler_metrics_seconds"),
    *("model_registry_workers", "model_registry_samples_seconds", "model_registry_truth_seconds"),
    *("model_registry_truth_days", "model_registry_truth_mib"),
    *("model_serving_release_max_mib", "model_serving_download_seconds", "model_serving_threads"),
    *("model_serving_parallel", "model_serving_memory_max_mib", "model_serving_request_max_mib"),
    *("model_serving_drift_window_seconds", "model_serving_drift_window_requests"),
    "model_serving_metrics_seconds",
    *("monitoring_scrape_interval", "monitoring_retention_days", "monitoring_late_hours"),
    *("object_store_osd_size_gib", "object_store_replicas", "object_store_probe_seconds"),
    *("pipelines_memory_mib", "pipelines_limit_seconds", "pipelines_disk_max_mib"),
    *("trust_days", "workloads_read_timeout", "workloads_collect_seconds"),
    "workloads_idle_look_seconds",
)
LEAST: Mapping[str, float] = {
    **dict.fromkeys(ONE, 1),
    "gateway_metrics_queue_mib": 512,
    "model_registry_connections_per_pool": 4,
    "model_serving_metrics_queue_mib": 512,
    "model_serving_releases_kept": 2,
    "object_store_osd_memory_mib": 896,
}
ABOVE_ZERO = frozenset(("monitoring_latency_seconds", "pipelines_cpu_cores"))
MOST: Mapping[str, float] = {
    "mlops_deferred_devices_max": 100,
    "monitoring_disk_free_percent": 100,
    "monitoring_quality_margin": 1,
}
# Of earlier versions and without effect, which the assessment tells by itself.
ANY_PORT = (
    "artifact_registry_loopback_port",
    "model_registry_loopback_port",
    "model_registry_metrics_port",
    "model_registry_worker_port",
)
SPECIAL_NETWORKS = ("any", "localhost", "link-local", "multicast")  # words of systemd


def out_of_bounds(name: str, value: float) -> str:
    """What is wrong with a number; "" if nothing is."""
    if not math.isfinite(value):
        return f"{name} is {value}, which is no number"
    if name.endswith("_port") and name not in ANY_PORT and not 0 < value < 65536:
        return f"{name} is {value:g}, which is no port (1 to 65535)"
    least = LEAST.get(name, 0)
    if value < least:
        return f"{name} is {value:g}, which is below {least:g}"
    if name in ABOVE_ZERO and not value:
        return f"{name} is 0, which has to be above it"
    if value > MOST.get(name, math.inf):
        return f"{name} is {value:g}, which is above {MOST[name]:g}"
    return ""


def misfit(name: str, value: str) -> str:
    """What is wrong with a text; "" if nothing is. One that is left empty is none."""
    if not value:
        return ""
    place = re.sub(r"\[[0-9]+\]", "", name)
    if place.endswith(("_url", ".url")) and place not in OTHER_ADDRESSES:
        return "" if is_url(value) else f"{name} is no address such as https://host:8443/path"
    form = NETWORK if place.endswith("_networks") else FORMS.get(place)
    if form is None or form[0](value):
        return ""
    return f"{name} is {shown(value)}, which is no {form[1]}"


def is_url(value: str) -> bool:
    """Whether a text is the address of something that speaks HTTP."""
    try:
        parts = urlsplit(value)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and not re.search(r"[\s\x00-\x1f\x7f]", value)
        )
    except ValueError:
        return False


def is_host(value: str) -> bool:
    """Whether a text is a name or an address, without a port, a scheme or a path."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return bool(re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252}[A-Za-z0-9_.])?", value))
    return True


def _network(value: str) -> bool:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        return value in SPECIAL_NETWORKS
    return True


def _ports(value: str) -> bool:
    found = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", value)
    return found is not None and 0 < int(found[1]) <= int(found[2]) < 65536


def _path(value: str) -> bool:
    return value.startswith("/") and not re.search(r"[\x00-\x1f\x7f]", value)


def _word(value: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", value))


def _cluster(value: str) -> bool:
    return bool(re.fullmatch(r"[a-z0-9_]{1,40}", value))


NETWORK = (_network, "network such as 10.0.0.0/24")
# What apt takes as well, such as file:/srv/drivers; its role judges it.
OTHER_ADDRESSES = ("gpu_driver_repository.url",)
FORMS: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "audit_log_syslog_host": (is_host, "name or address alone; its port is audit_log_syslog_port"),
    "gpu_driver_cdi_file": (_path, "path from the root"),
    "job_scheduler_client_ports": (_ports, "range of ports such as 60001-60999"),
    "job_scheduler_cluster": (_cluster, "name of at most 40 small letters, digits and '_'"),
    "job_scheduler_mail_program": (_path, "path from the root"),
    "job_scheduler_state_dir": (_path, "path from the root"),
    "monitoring_extra_targets.job": (_word, "word of letters, digits, '_', '-' and '.'"),
    "monitoring_targets.job": (_word, "word of letters, digits, '_', '-' and '.'"),
}

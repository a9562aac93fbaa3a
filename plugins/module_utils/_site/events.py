# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the stream of events is told of the site."""

from __future__ import annotations

from .measured import PROMETHEUS_PORT
from .placement import joined, without
from .site import CONTROL, SCHEDULER, Site

# Where the fewest things happen comes first.
QUIET = ("object_store", "metadata_db", "gpu", "edge", "all")


def witness(site: Site) -> str:
    """The host that keeps the hash of the last event; never one of the control plane."""
    groups = site.everyone
    others = joined(*(groups.get(name) or () for name in QUIET))
    return next(iter(without(others, groups.get(CONTROL) or ())), "")


def prometheus_url(site: Site, host: str) -> str:
    """Where alerts are read, on the host that has the platform's own Prometheus."""
    if host != site.control or (site.value(host, "monitoring_mode") or "managed") != "managed":
        return ""
    port = int(site.value(host, "monitoring_prometheus_port") or PROMETHEUS_PORT)
    return f"http://127.0.0.1:{port}/prometheus"


def slurm(site: Site, host: str) -> bool:
    """Whether the events of the scheduler are read on a host."""
    return host in (site.everyone.get(SCHEDULER) or ())

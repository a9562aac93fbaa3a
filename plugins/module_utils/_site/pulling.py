# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which devices fetch their orders themselves."""

from __future__ import annotations

from .site import Site

SERVING = "model_serving"


def pulls(site: Site, host: str) -> bool:
    """Whether a device fetches its orders itself."""
    return bool(site.value(host, "rollout_transport") == "pull")


def pulling(site: Site) -> list[str]:
    """The devices that fetch their orders themselves."""
    return [host for host in site.hosts(SERVING) if pulls(site, host)]


def pushing(site: Site) -> list[str]:
    """The devices that write what they measure, and are not scraped: those nobody may reach."""
    found = pulling(site)
    if not found:
        return []
    wanted = site.value(site.control, "gateway_metrics")
    return [] if str(wanted).lower() in ("false", "no") else found

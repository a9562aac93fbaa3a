# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that pull releases with an account of their own, which can be withdrawn for one of them."""

from __future__ import annotations

from collections.abc import Mapping

from .errors import SiteError
from .site import Site

USER, PASSWORD = "artifact_registry_pull_user", "artifact_registry_pull_password"
SHARED = "pull"


def own_account(site: Site, host: str) -> tuple[str, str] | None:
    """The account and the password that a host has for itself; nothing where it shares one."""
    user, password = (str(site.value(host, name) or "") for name in (USER, PASSWORD))
    shared = [str(site.value(site.control, name) or "") for name in (USER, PASSWORD)]
    if user in ("", SHARED, shared[0]):
        return None
    if password in ("", shared[1]):
        raise SiteError(
            f"{host} has the account {user!r} of its own at the artifact registry and no password "
            f"of its own; set {PASSWORD} beside {USER}"
        )
    return user, password


def own_accounts(site: Site) -> dict[str, str]:
    """The passwords by account; a host whose name is withdrawn has none."""
    withdrawn = {
        str(entry.get("name") or "")
        for entry in site.value(site.control, "common_nginx_revoked") or ()
        if isinstance(entry, Mapping)
    }
    taken = {
        str(site.of("artifact_registry", f"{kind}_user") or kind): "" for kind in ("push", "pull")
    }
    found: dict[str, str] = {}
    # Ansible tells the hosts of all groups in another order each time.
    for host in sorted(site.groups.get("all") or ()):
        account = own_account(site, host)
        if account is None:
            continue
        user, password = account
        if taken.setdefault(user, host) != host:
            raise SiteError(
                f"{host} has the account {user!r} at the artifact registry, which is that of "
                f"{taken[user] or 'the site'}; give it another {USER}"
            )
        if host not in withdrawn:
            found[user] = password
    return found

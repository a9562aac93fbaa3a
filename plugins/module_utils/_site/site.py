# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The site: its table, what its roles provide, and where its services are reached.

Whatever describes a service is read from the host that runs it, here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import SiteError
from .provides import ACCOUNTING_DB, Conditions, Provides
from .table import Groups, Row

HTTPS = 443
CONTROL = "control"
SCHEDULER = "scheduler"
DEFERRED = "mlops_deferred"


def _nothing(*_asked: str) -> Any:
    """What is known of a site that has not been looked at."""
    return None


def url_of(address: str, port: int) -> str:
    """A URL as people write it: without the port that everybody knows."""
    return f"https://{address}" + ("" if port == HTTPS else f":{port}")


@dataclass(frozen=True)
class Site:
    """Inventory values and what roles provide.

    ``value(host, variable)`` is what a role sees on that host: what the play or the inventory says,
    else the role's default; None where the default is itself computed from the site.
    ``secret(name, kind=, length=)`` returns a secret, created on first use.
    ``address(host)`` is where other hosts reach a host, ``root`` where the collection lies;
    ``subject(file)`` is that of a certificate on the controller, empty if it cannot be read.
    ``lost`` are hosts that are declared lost, which ``groups`` no longer has; ``inventory`` are the
    groups with them. ``fact(host, name)`` is what was found out about a host, ``state(file)`` what
    a run before this one left beside the inventory; both None where there is nothing.
    ``public_half(key)`` is that of a private key, both as PEM.
    ``identity`` is the random one that its hosts bear, ``adopts`` whether it was made before there
    were any, ``authority`` the certificate that its hosts trust and whose key is at hand.
    """

    table: Sequence[Row]
    provides: Mapping[str, Provides]
    groups: Groups
    value: Callable[[str, str], Any]
    secret: Callable[..., str]
    address: Callable[[str], str]
    root: str = ""
    lost: Sequence[str] = ()
    inventory: Groups | None = None
    fact: Callable[[str, str], Any] = _nothing
    state: Callable[[str], Any] = _nothing
    subject: Callable[[str], str] = str
    public_half: Callable[[str], str] = str
    identity: str = ""
    adopts: bool = False
    authority: str = ""

    @property
    def everyone(self) -> Groups:
        """The groups of the inventory, with the hosts that are declared lost."""
        return self.groups if self.inventory is None else self.inventory

    @property
    def away(self) -> tuple[str, ...]:
        """Hosts that this run does not go to: switched off when it looked, or declared lost."""
        return tuple(self.everyone.get(DEFERRED) or ())

    def hosts(self, role: str) -> tuple[str, ...]:
        """The hosts that a role runs on."""
        for row in self.table:
            if row.role == role:
                return row.hosts(self.groups)
        raise SiteError(f"the role {role} does not stand in playbooks/vars/site.yml")

    def first(self, role: str) -> str:
        """The first host of a role."""
        hosts = self.hosts(role)
        if not hosts:
            raise SiteError(f"the inventory has no host for the role {role}")
        return hosts[0]

    @property
    def control(self) -> str:
        """The host that reads the metrics of all others, and whose gateway people use."""
        hosts = tuple(self.groups.get(CONTROL) or ())
        if not hosts:
            raise SiteError(
                f"the group {CONTROL} has no host; put the host of the control plane into it"
            )
        return hosts[0]

    def of(self, role: str, name: str) -> Any:
        """A variable of a role as its first host sees it."""
        return self.value(self.first(role), f"{role}_{name}")

    def managed(self, role: str) -> bool:
        """Whether a service is the platform's own."""
        return (self.of(role, "mode") or "managed") == "managed"

    def holds(self, host: str, conditions: Conditions) -> bool:
        """Whether an entry with these conditions counts on a host."""
        return all(self.value(host, name) == wanted for name, wanted in conditions.items())

    def port(self, role: str, host: str) -> int:
        """The port at which others reach a role on a host."""
        port = self.provides[role].port
        if port is None:
            raise SiteError(f"the role {role} provides no port that others reach")
        return int(self.value(host, port.variable) or HTTPS)

    def url(self, role: str, host: str) -> str:
        """The URL of a role on a host, without a path."""
        return url_of(self.address(host), self.port(role, host))

    @property
    def gateway_url(self) -> str:
        """The entrance of the control plane."""
        return self.url("gateway", self.control)

    @property
    def database(self) -> dict[str, Any]:
        """``host`` and ``port`` of the metadata database, and how strictly its name is taken."""
        managed = self.managed("metadata_db")
        host = None if managed else self.of("metadata_db", "host")
        mode = "" if managed else str(self.of("metadata_db", "sslmode") or "")
        return {
            "host": str(host or self.address(self.first("metadata_db"))),
            "port": int(self.of("metadata_db", "port") or 5432),
            **({"sslmode": mode} if mode else {}),
        }

    @property
    def accounts_managed(self) -> bool:
        """Whether the accounting database is the platform's own: where its group has a host."""
        given = self.of(ACCOUNTING_DB, "mode")
        return bool(given == "managed" if given else self.groups.get(ACCOUNTING_DB))

    @property
    def accounting(self) -> dict[str, Any]:
        """``host`` and ``port`` of the accounting database."""
        host = None if self.accounts_managed else self.of(ACCOUNTING_DB, "host")
        own = self.address(self.first(ACCOUNTING_DB)) if self.accounts_managed else ""
        return {"host": str(host or own), "port": int(self.of(ACCOUNTING_DB, "port") or 3306)}

    @property
    def object_store(self) -> dict[str, str]:
        """``endpoint`` and ``region`` of the object store."""
        endpoint = (
            self._managed_endpoint()
            if self.managed("object_store")
            else self.of("object_store", "endpoint")
        )
        return {
            "endpoint": str(endpoint or ""),
            "region": str(self.of("object_store", "region") or "us-east-1"),
        }

    def _managed_endpoint(self) -> str:
        host = self.first("object_store")
        address = self.of("object_store", "address") or self.address(host)
        return url_of(str(address), self.port("object_store", host))

    def endpoint(self, role: str, host: str) -> str:
        """The URL at which a role is asked: its host's, or that of an existing service."""
        return self.object_store["endpoint"] if role == "object_store" else self.url(role, host)

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gateway passes on: one address for each workload over the hosts of its replicas."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .._demand.running import EXTERNAL, ContainerRun, ServingRun
from .engines import ENGINES
from .placed import Placed
from .serving import Refused, socket_of

# The platform itself, which asks as everybody does to see that it works.
CHECKS = "platform"
EXTERNAL_PATHS = r"[A-Za-z0-9/._-]*"


@dataclass(frozen=True)
class Away:
    """A host with replicas, as the gateway reaches it; ``weight`` is how many there are."""

    host: str
    address: str
    weight: int


@dataclass(frozen=True)
class Entrance:
    """One workload at the gateway.

    ``hosts`` are empty for an endpoint of somebody else, which has ``url`` instead. ``teams`` may
    call it. ``per_minute`` holds for each key, 0 is no limit.
    """

    name: str
    engine: str
    paths: str
    hosts: tuple[Away, ...] = ()
    url: str = ""
    health: str = ""
    metrics: str = ""
    ca_file: str = ""
    teams: tuple[str, ...] = ()
    per_minute: int = 0
    request_mib: int = 4

    @property
    def id(self) -> str:
        """Its name as a word of nginx."""
        return self.name.replace("-", "_")

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a template."""
        parts = urlsplit(self.url)
        return {
            "name": self.name,
            "id": self.id,
            "engine": self.engine,
            "paths": self.paths,
            "hosts": [vars(one) for one in self.hosts],
            "url": self.url.rstrip("/"),
            "server_name": parts.hostname or "",
            "tls": parts.scheme == "https",
            "health": self.health,
            "metrics": self.metrics,
            "ca_file": self.ca_file,
            "teams": list(self.teams),
            "per_minute": self.per_minute,
            # All of a minute may come at once; after that they come evenly.
            "burst": self.per_minute,
            "request_mib": self.request_mib,
        }


def teams_of(names: Sequence[str], known: Sequence[str] | None, workload: str) -> tuple[str, ...]:
    """The teams that may call a workload: those that are named, else all."""
    if known is None:
        return ()
    unknown = [name for name in names if name not in known]
    if unknown:
        said = ", ".join(known) if known else "none"
        raise Refused(
            f"{workload}: run.teams names {unknown[0]}, which is no team of mlops_teams; it has "
            f"{said}"
        )
    return tuple(names) or tuple(known)


def _request_mib(run: ServingRun) -> int:
    return max(1, math.ceil(run.request_mib))


def entrances(
    placed: Sequence[Placed], addresses: Mapping[str, str], teams: Sequence[str] | None
) -> tuple[Entrance, ...]:
    """Every workload that answers through the gateway, by its name.

    ``teams`` is None where nobody wants to know who may call.

    Raises:
        Refused: A team is not one of the site.
    """
    found = {}
    for one in placed:
        if one.workload in found or not isinstance(one.run, (ServingRun, ContainerRun)):
            continue
        if isinstance(one.run, ServingRun):
            found[one.workload] = _serving(one, one.run, placed, addresses, teams)
        elif one.run.port:
            found[one.workload] = Entrance(
                name=one.workload,
                engine="container",
                paths=EXTERNAL_PATHS,
                hosts=_hosts(one.workload, placed, addresses),
                health=one.run.health,
                teams=teams_of(one.run.teams, teams, one.workload),
            )
    return tuple(found[name] for name in sorted(found))


def _serving(
    one: Placed,
    run: ServingRun,
    placed: Sequence[Placed],
    addresses: Mapping[str, str],
    teams: Sequence[str] | None,
) -> Entrance:
    external = run.engine == EXTERNAL
    return Entrance(
        name=one.workload,
        engine=run.engine,
        paths=EXTERNAL_PATHS if external else ENGINES[run.engine].paths,
        hosts=() if external else _hosts(one.workload, placed, addresses),
        url=run.url,
        health=run.health,
        metrics=run.metrics,
        ca_file=run.ca_file,
        teams=teams_of(run.teams, teams, one.workload),
        per_minute=run.requests_per_minute,
        request_mib=_request_mib(run),
    )


def _hosts(
    workload: str, placed: Sequence[Placed], addresses: Mapping[str, str]
) -> tuple[Away, ...]:
    names = [one.host for one in placed if one.workload == workload]
    return tuple(
        Away(host, addresses.get(host, host), names.count(host)) for host in sorted(set(names))
    )


@dataclass(frozen=True)
class Local:
    """One workload on a host, as its nginx passes it on: to sockets, or to a port of loopback."""

    name: str
    paths: str
    servers: tuple[str, ...]
    request_mib: int

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a template."""
        return {
            "name": self.name,
            "id": self.name.replace("-", "_"),
            "paths": self.paths,
            "servers": list(self.servers),
            "request_mib": self.request_mib,
        }


def locals_of(placed: Sequence[Placed], host: str) -> tuple[Local, ...]:
    """What the nginx of a host passes on."""
    found: dict[str, Local] = {}
    for one in placed:
        local = _local(one) if one.host == host else None
        if local is not None:
            before = found.get(one.workload)
            servers = (*(before.servers if before else ()), *local.servers)
            found[one.workload] = Local(local.name, local.paths, servers, local.request_mib)
    return tuple(found[name] for name in sorted(found))


def _local(one: Placed) -> Local | None:
    run = one.run
    if isinstance(run, ServingRun) and run.engine != EXTERNAL:
        paths, server = ENGINES[run.engine].paths, f"unix:{socket_of(one)}"
        return Local(one.workload, paths, (server,), _request_mib(run))
    if isinstance(run, ContainerRun) and run.port:
        server = f"127.0.0.1:{run.port + one.replica}"
        return Local(one.workload, EXTERNAL_PATHS, (server,), 4)
    return None

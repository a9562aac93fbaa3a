# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role asks about the workloads of a site, one function a question, plain data out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .._demand.running import EXTERNAL, ServingRun
from .._supply.facts import gpus_of
from . import asked
from .engines import CODE, ENGINES
from .entrance import Entrance, entrances, locals_of
from .mig import divided
from .placed import Placed, Rows, of_inventory
from .serving import (
    MARGIN_PERCENT,
    Host,
    Loaded,
    NotDivided,
    Refused,
    owner_of,
    replicas_of,
    socket_of,
    unit,
    unit_name,
)

More = Mapping[str, Any]


def _version(text: str) -> tuple[int, int]:
    found = re.match(r"([0-9]+)\.([0-9]+)", text)
    return (int(found[1]), int(found[2])) if found else (3, 13)


def host_of(name: str, facts: More, instances: More) -> Host:
    """A host by its measured facts; what was not measured is taken to be in order."""
    gpus = [gpu for gpu in gpus_of(facts) if gpu.uuid]
    return Host(
        name=name,
        python=_version(str((facts.get("python") or {}).get("version") or "")),
        machine=str((facts.get("kernel") or {}).get("architecture") or "x86_64"),
        gpus={gpu.uuid: gpu.minor for gpu in gpus},
        gpu_mib={gpu.uuid: gpu.memory_mib for gpu in gpus},
        mig=divided(gpus, instances),
    )


def loaded_of(row: More) -> Loaded:
    """A release as the module workload_releases has brought it."""
    config = row.get("config") or {}
    return Loaded(
        directory=str(row["directory"]),
        kind=str(row["kind"]),
        size_mib=float(row.get("size") or 0) / 2**20,
        token_bytes=int(config.get("token_bytes") or 0),
        context_tokens=int(config.get("context_tokens") or 0),
    )


def hosts(placed: Sequence[Placed], _host: str, _more: More) -> list[str]:
    """The hosts with something to run."""
    return sorted({one.host for one in placed if one.run is not None})


def releases(placed: Sequence[Placed], host: str, _more: More) -> list[dict[str, str]]:
    """What the module workload_releases is to bring to a host."""
    found = {}
    for one in replicas_of(placed, host):
        if isinstance(one.run, ServingRun):
            found[one.workload] = {
                "workload": one.workload,
                "model": one.run.model,
                **({"version": str(one.run.version)} if one.run.version else {}),
                **({"digest": one.run.digest} if one.run.digest else {}),
            }
    return [found[name] for name in sorted(found)]


def units(placed: Sequence[Placed], host: str, more: More) -> list[dict[str, Any]]:
    """The units of a host, of those workloads whose release is there.

    Where nothing is changed (check mode), also without those whose MIG instance is not made yet.
    """
    brought = more.get("releases") or {}
    machine = host_of(host, more.get("facts") or {}, more.get("instances") or {})
    margin = float(more.get("margin_percent") or MARGIN_PERCENT)
    found = []
    for one in replicas_of(placed, host):
        if one.workload in brought:
            try:
                found.append(unit(one, loaded_of(brought[one.workload]), machine, margin).as_dict())
            except NotDivided:
                if not more.get("check"):
                    raise
    return found


def owners(placed: Sequence[Placed], host: str, _more: More) -> list[str]:
    """The owners of the ledger that stay on a host."""
    return [owner_of(one) for one in replicas_of(placed, host)]


def replicas(placed: Sequence[Placed], host: str, _more: More) -> list[dict[str, str]]:
    """What the exporter of a host asks."""
    found = []
    for one in replicas_of(placed, host):
        if isinstance(one.run, ServingRun):
            row = {"workload": one.workload, "replica": str(one.replica)}
            found.append({**row, "engine": one.run.engine, "socket": socket_of(one)})
    return found


def planned(placed: Sequence[Placed], host: str, _more: More) -> list[dict[str, Any]]:
    """What is set aside for each unit on a host, to be compared with what it uses."""
    return [
        {
            "unit": f"{unit_name(one)}.service",
            "service": f"{one.workload}[{one.replica}]",
            "cpu_cores": one.cpu_cores,
            "memory_mib": one.memory_mib,
        }
        for one in replicas_of(placed, host)
    ]


def environments(placed: Sequence[Placed], host: str, more: More) -> list[dict[str, Any]]:
    """The engines whose environment a host needs, and the lock file of each.

    Raises:
        Refused: There is none for an engine.
    """
    locks = more.get("locks") or {}
    found = {}
    for one in replicas_of(placed, host):
        if isinstance(one.run, ServingRun) and one.run.engine not in locks:
            raise Refused(
                f"{one.workload}: the collection has no environment of {one.run.engine}, which "
                f"depends on the card; set workloads_environments.{one.run.engine} to a lock file "
                "with hashes"
            )
        if isinstance(one.run, ServingRun):
            found[one.run.engine] = str(locks[one.run.engine])
    return [
        {"engine": name, "requirements": found[name], "debian": list(ENGINES[name].debian)}
        for name in sorted(found)
    ]


def external(placed: Sequence[Placed], _host: str, _more: More) -> list[dict[str, str]]:
    """What the exporter of the gateway asks of somebody else's endpoints."""
    return [
        {
            "workload": one.name,
            "replica": "0",
            "engine": one.engine,
            "url": one.url.rstrip("/"),
            "health": one.health,
            "metrics": one.metrics,
            "ca": authority_of(one) if one.ca_file else "",
        }
        for one in entrances(placed, {}, None)
        if one.url
    ]


def authority_of(one: Entrance) -> str:
    """Where the gateway keeps the authority of somebody else's endpoint."""
    return f"/etc/mlops/workloads/{one.name}.crt"


def authorities(placed: Sequence[Placed], _host: str, _more: More) -> list[dict[str, str]]:
    """The files of authorities that the gateway needs."""
    return [
        {"path": authority_of(one), "source": one.ca_file}
        for one in entrances(placed, {}, None)
        if one.ca_file
    ]


def checks(placed: Sequence[Placed], host: str, more: More) -> list[dict[str, Any]]:
    """What the selfcheck asks on a host: each unit, and its golden requests once more."""
    brought = more.get("releases") or {}
    found: list[dict[str, Any]] = []
    for one in replicas_of(placed, host):
        name = unit_name(one)
        found.append({"unit": f"{name}.service"})
        if isinstance(one.run, ServingRun) and one.workload in brought:
            found.append(
                {
                    "title": f"golden answers of {one.workload}, replica {one.replica}",
                    "command": [
                        f"{CODE}/mlops-workload",
                        "check",
                        f"--engine={one.run.engine}",
                        f"--directory=/run/{name}",
                        f"--release={brought[one.workload]['directory']}",
                    ],
                    "remedy": f"read journalctl -u {name} -n 50",
                }
            )
    return found


def gateway_checks(placed: Sequence[Placed], _host: str, more: More) -> list[dict[str, Any]]:
    """What the selfcheck asks at the gateway: each workload, as those do who have a key."""
    found: list[dict[str, Any]] = []
    for one in entrances(placed, {}, None):
        path = one.health if one.engine not in ENGINES else ENGINES[one.engine].ready
        url = f"{more.get('url')}/workloads/{one.name}"
        if path:
            found.append(
                {
                    "title": f"workload {one.name} at the gateway",
                    "url": f"{url}{path}",
                    "headers": {"Authorization": f"Bearer {more.get('token')}"},
                    "remedy": f"see on its hosts: systemctl status 'mlops-workload-{one.name}-*'",
                }
            )
        found.append(
            {
                "title": f"workload {one.name} at the gateway turns away who shows no key",
                "url": f"{url}/",
                "status": [401],
                "remedy": "run site.yml again, which writes the gateway's configuration",
            }
        )
    return found


def local(placed: Sequence[Placed], host: str, _more: More) -> list[dict[str, Any]]:
    """What the nginx of a host passes on."""
    return [one.as_dict() for one in locals_of(placed, host)]


def at_gateway(placed: Sequence[Placed], _host: str, more: More) -> list[dict[str, Any]]:
    """What the gateway passes on."""
    found = entrances(placed, more.get("addresses") or {}, more.get("teams") or [])
    return [one.as_dict() for one in found]


def known_engines() -> list[str]:
    """Every engine that can be named."""
    return [*ENGINES, EXTERNAL]


QUESTIONS: Mapping[str, Callable[[Sequence[Placed], str, More], Any]] = {
    "hosts": hosts,
    "releases": releases,
    "units": units,
    "owners": owners,
    "replicas": replicas,
    "planned": planned,
    "environments": environments,
    "local": local,
    "gateway": at_gateway,
    "external": external,
    "authorities": authorities,
    "checks": checks,
    "gateway_checks": gateway_checks,
    **asked.QUESTIONS,
}


def answer(
    workloads: Sequence[Mapping[str, Any]],
    placement: Rows,
    question: str,
    host: str,
    more: More,
) -> Any:
    """The answer to a question; raises ShapeError or Refused with a sentence."""
    placed = of_inventory(workloads, placement)
    return QUESTIONS[question](placed, host, more)

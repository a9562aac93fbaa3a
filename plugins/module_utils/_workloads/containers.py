# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a replica of somebody else's image to a quadlet of podman, or a refusal in a sentence."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .._demand.running import ContainerRun
from .mig import Divided, NoInstance
from .placed import Placed

PREFIX = "mlops-workload-"
OWNER = "workload_container_"
"""Quadlets came with podman 4.4 (its release notes of February 2023)."""

FIRST_UID, RANGE, RANGES = 1_879_048_192, 65_536, 4096
"""Where users of containers are mapped to: 0x70000000 and up, in 4096 ranges of 65,536. systemd
keeps clear of what lies above its own containers' (0x6fffffff) and below 2^31."""

_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+")


class ContainerRefused(Exception):
    """A container cannot run as it is written. Reads as a sentence."""


@dataclass(frozen=True)
class Quadlet:
    """One replica as a quadlet: the unit that podman makes of it has its name."""

    name: str
    owner: str
    workload: str
    replica: int
    port: int
    health: str
    image: str
    text: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a task."""
        return {
            "name": self.name,
            "owner": self.owner,
            "workload": self.workload,
            "replica": self.replica,
            "port": self.port,
            "health": self.health,
            "image": self.image,
            "text": self.text,
        }


def contained(one: Placed) -> bool:
    """Whether a replica is an image of somebody else."""
    return isinstance(one.run, ContainerRun)


def collisions(placed: Sequence[Placed], host: str) -> tuple[str, ...]:
    """A sentence for each port of loopback that two replicas of a host would listen on."""
    taken: dict[int, str] = {}
    found = []
    for one in placed:
        if one.host != host or not isinstance(one.run, ContainerRun) or not one.run.port:
            continue
        port, name = one.run.port + one.replica, f"{one.workload} {one.replica}"
        other = taken.setdefault(port, name)
        if other != name:
            found.append(
                f"{host}: {name} and {other} both answer on port {port} (run.port and the number of"
                " the replica); give them ports that are further apart in mlops_workloads"
            )
    return tuple(found)


def quadlets(
    placed: Sequence[Placed],
    host: str,
    mig: Divided,
    margin_percent: float,
    login: tuple[str, str] = ("", ""),
    check: bool = False,
) -> tuple[Quadlet, ...]:
    """The quadlets of a host. ``login`` is a registry, and the file that lets us in there.

    With ``check`` without those whose MIG instance is not made yet.

    Raises:
        ContainerRefused: One of them cannot run as it is planned.
    """
    wrong = collisions(placed, host)
    if wrong:
        raise ContainerRefused(wrong[0])
    found = []
    for one in placed:
        if one.host == host and contained(one):
            try:
                found.append(quadlet(one, mig, margin_percent, login))
            except NoInstance as error:
                if not check:
                    raise ContainerRefused(str(error)) from None
    return tuple(found)


def quadlet(
    one: Placed,
    mig: Divided,
    margin_percent: float,
    login: tuple[str, str] = ("", ""),
) -> Quadlet:
    """The quadlet of one replica. ``mig`` are the MIG instances of its host.

    Raises:
        ContainerRefused: It cannot run as it is planned.
        NoInstance: The host has not the instance that it is planned on.
    """
    run = one.run
    if not isinstance(run, ContainerRun):
        raise ContainerRefused(f"{one.workload} has no image")
    name = f"{PREFIX}{one.workload}-{one.replica}"
    port = run.port + one.replica if run.port else 0
    lines = [
        "# Written by mlops.onprem; changes made here are overwritten.",
        "[Unit]",
        f"Description=Replica {one.replica} of the workload {one.workload}",
        "Wants=network-online.target",
        "After=network-online.target",
        "[Container]",
        f"Image={run.image}",
        f"ContainerName={name}",
        "NoNewPrivileges=true",
        *_mapping(name),
        *([f"PodmanArgs=--authfile={login[1]}"] if _of(run.image, login[0]) else []),
        *([f"PublishPort=127.0.0.1:{port}:{run.port}"] if port else []),
        *(f"Environment={_word(f'{key}={value}')}" for key, value in run.environment),
        *(f"Volume={_path(there)}:{_path(here)}" for there, here in run.volumes),
        *(f"AddDevice=nvidia.com/gpu={name_}" for name_ in devices(one, mig)),
        *([f"Exec={' '.join(map(_word, run.command))}"] if run.command else []),
        "[Service]",
        "Slice=mlops.slice",
        "Restart=always",
        "RestartSec=5",
        "TimeoutStartSec=900",
        *_limits(one, margin_percent),
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return Quadlet(
        name,
        f"{OWNER}{one.workload.replace('-', '_')}_{one.replica}",
        one.workload,
        one.replica,
        port,
        run.health,
        run.image,
        "\n".join(lines) + "\n",
    )


def _of(image: str, registry: str) -> bool:
    return bool(registry) and image.startswith(f"{registry}/")


def base_uid(name: str) -> int:
    """The first user that a container's users are on the host; its root is nobody there."""
    slot = int(hashlib.sha256(name.encode()).hexdigest(), 16) % RANGES
    return FIRST_UID + slot * RANGE


def _mapping(name: str) -> list[str]:
    base = base_uid(name)
    # Words for podman, since keys of quadlets for this came later than quadlets.
    return [f"PodmanArgs=--uidmap=0:{base}:{RANGE} --gidmap=0:{base}:{RANGE}"]


def _limits(one: Placed, margin_percent: float) -> list[str]:
    spare = 1 + margin_percent / 100
    memory = one.memory_limit_mib if one.memory_limit_mib is not None else one.memory_mib * spare
    cores = one.cpu_limit if one.cpu_limit is not None else one.cpu_cores * spare
    return [
        *([f"MemoryMax={math.ceil(memory)}M"] if memory else []),
        *([f"CPUQuota={math.ceil(cores * 100)}%"] if cores else []),
    ]


def devices(one: Placed, mig: Divided) -> list[str]:
    """The names of its GPUs in the host's CDI description: UUIDs of cards or of MIG instances."""
    return [mig.of(one).name] if one.profile else list(one.gpu_ids)


def _word(value: str) -> str:
    """One word as systemd takes it literally."""
    if "\n" in value or "\0" in value:
        raise ContainerRefused(f"a quadlet cannot hold {value!r}: it has a line break in it")
    value = value.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$")
    if _PLAIN.fullmatch(value):
        return value
    return '"' + value.replace('"', '\\"') + '"'


def _path(value: str) -> str:
    if not re.fullmatch(r"/[A-Za-z0-9_@+=,./-]*", value):
        raise ContainerRefused(
            f"the path {value!r} has signs that a quadlet takes for others; mend run.volumes in"
            " mlops_workloads"
        )
    return value

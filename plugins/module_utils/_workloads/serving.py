# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From replicas that serve to systemd units, with exactly the limits of the plan; or a refusal."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from .._demand.running import EXTERNAL, ServingRun
from .engines import CODE, ENGINES, Engine, Started
from .mig import Divided, Instance, NoInstance
from .placed import Placed

PREFIX = "mlops-workload-"
OWNER = "workload_unit_"
USER = "mlops-workloads"
PROXY_GROUP = "mlops-nginx"
ANSWER, ENGINE_SOCKET = "answer.sock", "engine.sock"
MARGIN_PERCENT = 25
"""What a replica without a limit may take above its request. A process that serves is not of the
same size at all times; a quarter is what the planner's own reserve for peers comes to."""

CUDA_DEVICES = ("/dev/nvidiactl rw", "/dev/nvidia-uvm rw", "/dev/nvidia-uvm-tools rw")
CAPABILITIES = "/proc/driver/nvidia/capabilities"
READY_SECONDS = 900
NUMBERS = re.compile(r"[0-9.]+|[0-9a-f]*:[0-9a-f:.]*")


class Refused(Exception):
    """A replica cannot run as it is written. Reads as a sentence."""


class NotDivided(Refused):
    """The host has not the MIG instance that a replica is planned on, or not yet."""


@dataclass(frozen=True)
class Host:
    """What of a host decides whether an engine runs there.

    ``gpus`` are the minor numbers of its GPUs, which name their device files, by the driver's name
    (UUID); None where the driver does not tell. ``gpu_mib`` is their memory, ``mig`` their MIG
    instances.
    """

    name: str
    python: tuple[int, int] = (3, 13)
    machine: str = "x86_64"
    gpus: Mapping[str, int | None] = field(default_factory=dict)
    gpu_mib: Mapping[str, float] = field(default_factory=dict)
    mig: Divided = field(default_factory=Divided)


@dataclass(frozen=True)
class Loaded:
    """A release that is on the host, verified: where it lies, what it is and takes.

    ``token_bytes`` is what one token of context takes (keys and values of attention), 0 where the
    release does not say; ``context_tokens`` the longest context that the model was made for.
    """

    directory: str
    kind: str
    size_mib: float = 0.0
    token_bytes: int = 0
    context_tokens: int = 0


@dataclass(frozen=True)
class Unit:
    """One replica as a systemd unit of the platform."""

    name: str
    owner: str
    workload: str
    replica: int
    engine: str
    description: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    settings: Mapping[str, Mapping[str, Any]]
    socket: str
    restart_on: tuple[str, ...]
    ready: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a task."""
        return {
            "name": self.name,
            "owner": self.owner,
            "workload": self.workload,
            "replica": self.replica,
            "engine": self.engine,
            "description": self.description,
            "command": list(self.command),
            "environment": dict(self.environment),
            "settings": {section: dict(lines) for section, lines in self.settings.items()},
            "socket": self.socket,
            "restart_on": list(self.restart_on),
            "ready": self.ready,
        }


def unit_name(one: Placed) -> str:
    """The unit of a replica, without its ending."""
    return f"{PREFIX}{one.workload}-{one.replica}"


def owner_of(one: Placed) -> str:
    """Under which name the host's ledger remembers what a replica has there."""
    return f"{OWNER}{one.workload.replace('-', '_')}_{one.replica}"


def socket_of(one: Placed) -> str:
    """Where nginx of the host reaches a replica once it has proved itself."""
    return f"/run/{unit_name(one)}/{ANSWER}"


def serves(one: Placed) -> bool:
    """Whether a replica is an engine of ours, run as a unit on its host."""
    return isinstance(one.run, ServingRun) and one.run.engine != EXTERNAL


def bounded(limit: float | None, request: float, margin_percent: float) -> float:
    """The most of something that a replica may use: its limit, else its request and a margin.

    0 where the plan says neither.
    """
    return limit if limit is not None else request * (1 + margin_percent / 100)


def cpu_quota(one: Placed, margin_percent: float = MARGIN_PERCENT) -> int:
    """``CPUQuota`` in percent of one core; 0 is none."""
    return math.ceil(bounded(one.cpu_limit, one.cpu_cores, margin_percent) * 100)


def memory_max(one: Placed, margin_percent: float = MARGIN_PERCENT) -> int:
    """``MemoryMax`` in MiB; 0 is none."""
    return math.ceil(bounded(one.memory_limit_mib, one.memory_mib, margin_percent))


def visible_devices(one: Placed, host: Host) -> str:
    """What CUDA is to see: names of GPUs, or that of the MIG instance."""
    return instance_of(one, host).name if one.profile else ",".join(one.gpu_ids)


def instance_of(one: Placed, host: Host) -> Instance:
    """The MIG instance of a replica that has one, with all files that open it."""
    try:
        found = host.mig.of(one)
    except NoInstance as error:
        raise NotDivided(str(error)) from None
    if not found.files:
        raise NotDivided(
            f"{one.host}: the files that open the MIG instance {found.name} for {one.workload} are "
            f"not known or not there; make them with nvidia-modprobe -f {CAPABILITIES}"
            "/gpu<minor>/mig/gi<instance>/access, and the same of ci<instance>/access in it"
        )
    return found


def devices(one: Placed, host: Host) -> list[str]:
    """``DeviceAllow``: the GPUs of the replica and what every user of CUDA needs; nothing else.

    Of a card that is divided, only the files of the planned instance are opened: whoever may open
    those of another one computes there.
    """
    cards = card_files(one, host)
    instance = instance_of(one, host).files if one.profile else ()
    # The driver lets nobody write to these.
    return [*CUDA_DEVICES, *cards, *(f"{file} r" for file in instance)] if cards else []


def card_files(one: Placed, host: Host) -> list[str]:
    """The files of the cards of a replica."""
    unknown = [gpu for gpu in one.gpu_ids if gpu not in host.gpus]
    if unknown:
        raise Refused(
            f"{one.host}: {one.workload} is planned on GPU {unknown[0]}, which the host does not "
            "have now; assess the site again, or mend the card"
        )
    nameless = [gpu for gpu in one.gpu_ids if host.gpus[gpu] is None]
    if nameless:
        raise Refused(
            f"{one.host}: {one.workload} is planned on GPU {nameless[0]}, and the driver does not "
            "say which device file it has; look there whether nvidia-smi -q tells its Minor Number,"
            " or bring a newer driver (role gpu_driver)"
        )
    return [f"/dev/nvidia{host.gpus[gpu]} rw" for gpu in one.gpu_ids]


def check_environment(one: Placed, engine: Engine, host: Host) -> None:
    """Refuse an engine whose locked environment has no wheels for the host."""
    if host.machine not in engine.machines or host.python < engine.pythons:
        least = ".".join(map(str, engine.pythons))
        found = ".".join(map(str, host.python))
        raise Refused(
            f"{one.host}: the environment of {engine.name} for {one.workload} has wheels for "
            f"Python {least} and later on {' and '.join(engine.machines)}; the host has Python "
            f"{found} on {host.machine}; place it elsewhere with hosts in mlops_workloads"
        )


def check_release(one: Placed, engine: Engine, run: ServingRun, loaded: Loaded) -> None:
    """Refuse a release that the engine does not load."""
    if loaded.kind not in engine.kinds:
        raise Refused(
            f"{one.workload}: the release of {run.model} is {loaded.kind}, and {engine.name} loads "
            f"{' and '.join(engine.kinds)}; choose another engine in mlops_workloads, or publish "
            "the model in that form"
        )


def check_context(one: Placed, engine: Engine, run: ServingRun, at: Loaded, host: Host) -> None:
    """Refuse a context that the model was not made for, or that the planned memory cannot hold.

    Weights, what the engine takes without a model, and keys and values of every token of every
    request at a time: 2 x layers x heads of keys x size of a head x 2 bytes for each token, as
    llama.cpp lays them out in half precision (and vLLM).
    """
    wanted = run.context_tokens or at.context_tokens
    if at.context_tokens and wanted > at.context_tokens:
        raise Refused(
            f"{one.workload}: context_tokens is {wanted:,}, and the model {run.model} was made for "
            f"{at.context_tokens:,}; lower context_tokens in mlops_workloads"
        )
    tokens = wanted * run.parallel
    need = engine.base_mib + at.size_mib + tokens * at.token_bytes / 2**20
    have = planned_mib(one, host)
    if have and need > have:
        raise Refused(
            f"{one.workload}: {wanted:,} tokens x {run.parallel} at a time take "
            f"{tokens * at.token_bytes / 2**20:,.0f} MiB beside {at.size_mib:,.0f} MiB of weights "
            f"and {engine.base_mib} MiB of the engine, {need:,.0f} MiB in all; {have:,.0f} MiB are "
            "planned; lower context_tokens or parallel, or plan more memory in mlops_workloads"
        )


def planned_mib(one: Placed, host: Host) -> float:
    """The memory that holds the model: that of the GPUs where it has some, else the host's."""
    if one.profile:
        return 0.0  # what an instance has is the driver's to say
    if one.gpu_ids:
        share = one.share or 1.0
        return sum(host.gpu_mib.get(gpu, 0.0) for gpu in one.gpu_ids) * share
    return float(memory_max(one))


def foreseen(replicas: Sequence[Placed], hosts: Mapping[str, Host]) -> list[str]:
    """What is known to fail before anything is fetched: a sentence each, for the assessment.

    Releases are looked at where they are fetched to, and MIG instances once the cards are divided.
    """
    found = []
    for one in replicas:
        if not isinstance(one.run, ServingRun):
            continue
        parts = urlsplit(one.run.url)
        if parts.scheme == "https" and NUMBERS.fullmatch(parts.hostname or ""):
            found.append(
                f"{one.workload} is at {one.run.url}, and nginx holds certificates against names "
                "only; give run.url in mlops_workloads the name in its certificate"
            )
        if serves(one) and one.host in hosts:
            try:
                check_environment(one, ENGINES[one.run.engine], hosts[one.host])
                card_files(one, hosts[one.host])
            except Refused as refused:
                found.append(str(refused))
    return found


def replicas_of(placed: Sequence[Placed], host: str) -> tuple[Placed, ...]:
    """The replicas that are units on a host."""
    return tuple(one for one in placed if one.host == host and serves(one))


def unit(one: Placed, loaded: Loaded, host: Host, margin_percent: float = MARGIN_PERCENT) -> Unit:
    """The unit of one replica.

    Raises:
        Refused: It cannot run there as it is planned.
    """
    run = one.run
    if not isinstance(run, ServingRun) or run.engine not in ENGINES:
        raise Refused(
            f"{one.workload} has no engine that runs as a unit; set run.engine to one of "
            f"{', '.join(ENGINES)}"
        )
    engine = ENGINES[run.engine]
    check_environment(one, engine, host)
    check_release(one, engine, run, loaded)
    check_context(one, engine, run, loaded, host)
    name = unit_name(one)
    engine_socket = f"/run/{name}/{ENGINE_SOCKET}"
    memory, quota = memory_max(one, margin_percent), cpu_quota(one, margin_percent)
    threads = max(1, quota // 100)
    started = Started(
        run,
        loaded.directory,
        engine_socket,
        threads,
        memory,
        bool(one.gpu_ids),
        one.share,
        f"/opt/mlops/{engine.app}/bin/python",
    )
    return Unit(
        name=name,
        owner=owner_of(one),
        workload=one.workload,
        replica=one.replica,
        engine=engine.name,
        description=f"Replica {one.replica} of the workload {one.workload} ({engine.name})",
        command=tuple(engine.command(started)),
        environment=_environment(one, engine, host, threads),
        settings={"Service": _settings(one, engine, loaded, host, memory, quota)},
        socket=socket_of(one),
        restart_on=(
            f"/opt/mlops/{engine.app}/mlops-app.json",
            *([f"{CODE}/{engine.package}"] if engine.package else []),
        ),
        ready=engine.ready,
    )


def _environment(one: Placed, engine: Engine, host: Host, threads: int) -> dict[str, str]:
    found = {
        **engine.environment,
        "PYTHONPATH": CODE,
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": str(threads),
        # Without a GPU of the plan it sees none, whatever the host has.
        "CUDA_VISIBLE_DEVICES": "",
    }
    if one.gpu_ids:
        found["CUDA_VISIBLE_DEVICES"] = visible_devices(one, host)
        found["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    return found


def _settings(
    one: Placed, engine: Engine, loaded: Loaded, host: Host, memory: int, quota: int
) -> dict[str, Any]:
    name = unit_name(one)
    tool = f"{CODE}/mlops-workload"
    place = f"/run/{name}"
    families = "AF_UNIX AF_INET" if engine.local_network else "AF_UNIX"
    found: dict[str, Any] = {
        "RuntimeDirectory": name,
        "RuntimeDirectoryMode": "0750",
        # nginx alone reaches the socket: the directory is for its group, the engine is not in it.
        "UMask": "0000",
        # Until its golden answers are right, nobody finds the replica. systemd gives the directory
        # back to the engine's group before each command, so nginx is let in last.
        "ExecStartPost": [
            f"{tool} admit --engine={engine.name} --directory={place}"
            f" --release={loaded.directory} --timeout={READY_SECONDS - 30}",
            f"+/usr/bin/chgrp {PROXY_GROUP} {place}",
        ],
        "ExecStop": f"{tool} drain --engine={engine.name} --directory={place}",
        "TimeoutStartSec": READY_SECONDS,
        "TimeoutStopSec": 90,
        "RestrictAddressFamilies": families,
        "IPAddressDeny": "any",
    }
    if engine.local_network:
        found["IPAddressAllow"] = "localhost"
    if memory:
        found["MemoryMax"] = f"{memory}M"
    if quota:
        found["CPUQuota"] = f"{quota}%"
    allowed = devices(one, host)
    if allowed:
        found.update(
            PrivateDevices=None,
            DevicePolicy="closed",
            DeviceAllow=allowed,
            # CUDA compiles for the card as it starts.
            MemoryDenyWriteExecute=None,
        )
    return found

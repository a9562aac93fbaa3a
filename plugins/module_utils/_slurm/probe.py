# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host tells that Slurm is configured by, read from its files or recorded ones."""

from __future__ import annotations

import re
import socket
from typing import Any

from .._supply.tree import Host
from .nodes import bus_of
from .texts import MARK

PROC = "/proc/driver/nvidia/gpus"
CARD = re.compile(r"nvidia\d+")
# What only a Slurm, or a munge, that somebody set up has.
SIGNS = (
    "/etc/slurm/slurm.conf",
    "/etc/slurm/slurmdbd.conf",
    "/etc/slurm-llnl/slurm.conf",
    "/etc/munge/munge.key",
)
PEM = "-----BEGIN CERTIFICATE-----"
RUNNING = ("/run/slurmctld.pid", "/run/slurmd.pid", "/run/slurmctld/slurmctld.pid")


def probe(host: Host, ours: bool, hostname: str = "") -> dict[str, Any]:
    """The fact ``mlops_slurm``. Where the role has made things already, signs are its own."""
    return {
        "hostname": (hostname or socket.gethostname()).partition(".")[0],
        "cgroup": cgroup(host),
        "devices": [f"/dev/{name}" for name in host.names("/dev") if CARD.fullmatch(name)],
        "minors": minors(host),
        "foreign": [] if ours else foreign(host),
    }


def authority(host: Host, path: str) -> str:
    """What is wrong with a file of authorities, in the words that end a sentence; "" if nothing."""
    if not path or PEM in host.read(path):
        return ""
    if not host.exists(path):
        return "which does not exist there"
    return "which holds no certificate in PEM form"


def cgroup(host: Host) -> dict[str, Any]:
    """The version that systemd uses, the controllers of version 2, and where version 1 is mounted.

    With both at once (hybrid), the file of controllers is not at the root: that is version 1.
    """
    controllers = host.read("/sys/fs/cgroup/cgroup.controllers").split()
    mounted = [line.split() for line in host.read("/proc/self/mounts").splitlines()]
    first = [row[1] for row in mounted if len(row) > 3 and row[2] == "cgroup"]
    return {
        "version": "v2" if controllers else "v1" if first else "none",
        "controllers": controllers,
        "v1_mountpoints": sorted({path.rpartition("/")[0] for path in first}),
    }


def minors(host: Host) -> dict[str, int]:
    """Minor numbers by PCI address and by UUID, as the driver tells them."""
    found: dict[str, int] = {}
    for name in host.names(PROC):
        lines = host.read(f"{PROC}/{name}/information").splitlines()
        parts = [line.partition(":") for line in lines]
        said = {key.strip(): value.strip() for key, _colon, value in parts}
        minor = said.get("Device Minor", "")
        if minor.isdecimal():
            found[bus_of(name)] = int(minor)
            if said.get("GPU UUID"):
                found[said["GPU UUID"]] = int(minor)
    return found


def foreign(host: Host) -> list[str]:
    """Signs of a Slurm or munge that the platform did not make."""
    found = [path for path in SIGNS if host.exists(path) and MARK not in host.read(path)]
    return found + [path for path in RUNNING if host.exists(path)]

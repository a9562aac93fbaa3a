# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The systems that hosts may have: which are tested, which are expected to work, which are refused.

The README's table is made of this one, and the locks of Python packages are tried for each row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TESTED, PARTLY, EXPECTED, REFUSED = "tested", "tested in parts", "expected", "refused"
# Groups whose hosts carry more than a device does; what runs there is made for Debian 13.
SERVER_GROUPS = ("control", "metadata_db", "object_store", "accounting_db", "scheduler")
# Roles that come to a device, and to hosts of workloads.
DEVICE_ROLES = ("common", "trust", "gpu_driver", "workloads", "model_serving", "monitoring")
NARROW = ("armv", "armhf", "i386", "i486", "i586", "i686")


@dataclass(frozen=True)
class System:
    """A release of a distribution on one kind of machine, with what its python3 is."""

    id: str  # ID and VERSION_ID of /etc/os-release
    version: str
    machine: str
    python: str
    libc: str
    device: str
    server: str
    how: str  # how it was tested, or what makes one expect that it works
    known_as: str = ""

    @property
    def label(self) -> str:
        return f"{self.id} {self.version}"

    def takes(self, role: str) -> bool:
        """Whether a role may come to a host with this system."""
        return role in DEVICE_ROLES or self.server != REFUSED


@dataclass(frozen=True)
class Refusal:
    """A system that is refused, by the begin of its label, with what helps."""

    begins: str
    because: str
    remedy: str
    known_as: str = ""


MATRIX = (
    System(
        *("debian", "13", "x86_64", "3.13", "glibc 2.41", TESTED, TESTED),
        how="every role on hosts with systemd",
    ),
    System(
        *("debian", "13", "aarch64", "3.13", "glibc 2.41", PARTLY, EXPECTED),
        how="the model server and a release under emulation; units and packages are Debian's own",
        known_as="Raspberry Pi OS 13, 64-bit",
    ),
    System(
        *("debian", "12", "x86_64", "3.11", "glibc 2.36", PARTLY, REFUSED),
        how="trust, model server, agent and rollouts on hosts with systemd, in a campaign",
    ),
    System(
        *("debian", "12", "aarch64", "3.11", "glibc 2.36", EXPECTED, REFUSED),
        how="the same packages as on x86_64",
        known_as="Raspberry Pi OS 12, 64-bit",
    ),
    System(
        *("ubuntu", "24.04", "x86_64", "3.12", "glibc 2.39", EXPECTED, REFUSED),
        how="packages of the same names, Python environment resolved",
    ),
    System(
        *("ubuntu", "24.04", "aarch64", "3.12", "glibc 2.39", EXPECTED, REFUSED),
        how="packages of the same names, Python environment resolved",
        known_as="NVIDIA Jetson with JetPack 7",
    ),
    System(
        *("ubuntu", "22.04", "x86_64", "3.10", "glibc 2.35", EXPECTED, REFUSED),
        how="packages of the same names, model server tested with Python 3.10",
    ),
    System(
        *("ubuntu", "22.04", "aarch64", "3.10", "glibc 2.35", EXPECTED, REFUSED),
        how="packages of the same names, Python environment resolved",
        known_as="NVIDIA Jetson with JetPack 6",
    ),
)
REFUSALS = (
    Refusal(
        "raspbian",
        "has 32 bits, for which the packages of the model server are not made",
        "install Raspberry Pi OS in the 64-bit edition, which every Pi from the 3 on runs",
        known_as="Raspberry Pi OS, 32-bit",
    ),
    Refusal(
        "ubuntu 20.04",
        "brings Python 3.8, which the packages of the model server do not take",
        "install Ubuntu 22.04 or 24.04; on a Jetson, JetPack 6 or newer",
    ),
    Refusal(
        "ubuntu 18.04",
        "brings Python 3.6, which nothing here runs on",
        "install Ubuntu 22.04 or 24.04; on a Jetson, JetPack 6 or newer",
    ),
    Refusal(
        "debian 11",
        "brings Python 3.9, which the packages of the model server do not take",
        "upgrade it to Debian 12 or 13",
    ),
)


def state_of(label: str, machine: str, device: bool) -> tuple[str, System | None]:
    """How far a system is known to work, for a device or for a server."""
    for row in MATRIX:
        if row.label == label and row.machine == machine:
            return (row.device if device else row.server), row
    return REFUSED, None


def only_machine(label: str, machine: str) -> bool:
    """Whether the system is known, and only for other machines; a check of its own tells that."""
    rows = [row for row in MATRIX if row.label == label]
    return bool(rows) and machine not in {row.machine for row in rows}


def refusal_of(label: str) -> Refusal | None:
    """What is known about a system that is refused."""
    return next((row for row in REFUSALS if (label + " ").startswith(row.begins + " ")), None)


def wanted(device: bool) -> str:
    """The systems that pass, for a sentence."""
    labels = [row.label for row in MATRIX if device or row.server != REFUSED]
    return " or ".join(label.title() for label in dict.fromkeys(labels))


def narrow(machine: str, bits: int | None) -> bool:
    """Whether the system has 32 bits, as on a 64-bit kernel it may have."""
    return machine.startswith(NARROW) or bits == 32


def is_device(groups: Mapping[str, Any], host: str) -> bool:
    """Whether a host carries nothing but what a device does."""
    return not any(host in (groups.get(group) or ()) for group in SERVER_GROUPS)

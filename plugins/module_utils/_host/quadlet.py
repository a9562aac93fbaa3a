# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers as systemd runs them: podman makes the unit of a text that lies in its folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import unit
from .errors import HostError
from .system import run

FOLDER = "/etc/containers/systemd"
LEAST_PODMAN = (4, 4)


@dataclass(frozen=True)
class Quadlet(unit.Service):
    """A service of which podman writes the unit."""

    text: str = ""

    @property
    def path(self) -> str:
        """Where podman looks for it."""
        return f"{FOLDER}/{self.name}.container"

    @property
    def texts(self) -> dict[str, str]:
        """The file, and what is in it."""
        return {self.path: self.text}


def quadlet_of(params: Mapping[str, Any]) -> Quadlet:
    """The container of a task."""
    return Quadlet(name=params["name"].removesuffix(".service"), text=params["text"])


def refuse_podman() -> None:
    """Raise HostError where this host has no podman that reads quadlets."""
    told = run(["podman", "--version"], timeout=60)
    wrong = podman_problem(told.out if told.rc == 0 else "", "this host")
    if wrong:
        raise HostError(f"{wrong}.")


def podman_problem(version: str, host: str) -> str:
    """The sentence where a host has no podman that reads quadlets; empty where it has."""
    found = re.search(r"([0-9]+)\.([0-9]+)", version)
    least = ".".join(map(str, LEAST_PODMAN))
    if found is None:
        return (
            f"{host}: podman is not installed, and a workload with an image is planned there;"
            f" install podman {least} or later, or place it elsewhere with hosts in mlops_workloads"
        )
    if (int(found[1]), int(found[2])) < LEAST_PODMAN:
        return (
            f"{host}: podman is {found[0]}, and quadlets need {least} or later (Debian 13 has 5.4);"
            " upgrade the host, or place the workload elsewhere with hosts in mlops_workloads"
        )
    return ""

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a device installs itself from: the tasks of its roles as plain data, for one system."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .app import Target
from .errors import HostError
from .ledger import Ledger

FORMAT = 1
FILES, PACKAGES, APP = "host_files", "host_packages", "host_python_app"
SERVICE, CERTIFICATE = "host_service", "host_certificate"
MODULES = (FILES, PACKAGES, APP, SERVICE, CERTIFICATE)


@dataclass(frozen=True)
class Task:
    """One task of a role: which module, with which parameters."""

    role: str
    module: str
    name: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Kit:
    """Who the device is, for which system this was made, and the tasks in their order."""

    device: str
    site: Mapping[str, str]
    system: str  # debian 13
    target: Target
    tasks: tuple[Task, ...]
    archives: Mapping[str, str]  # of environments, by the digest of their requirements

    def of(self, *modules: str) -> tuple[Task, ...]:
        """The tasks of these modules, in their order."""
        return tuple(task for task in self.tasks if task.module in modules)

    @property
    def owners(self) -> tuple[str, ...]:
        """Who owns what is placed, in the order in which it is taken away."""
        return tuple(reversed(dict.fromkeys(task.role for task in self.tasks)))

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages that have to be on the device."""
        names = [str(name) for task in self.of(PACKAGES) for name in task.params["name"]]
        return tuple(dict.fromkeys(names))


def parse(data: bytes, where: str) -> Kit:
    """Read what the controller wrote.

    Raises:
        HostError: It is something else.
    """
    try:
        value = json.loads(data)
        if value["format"] != FORMAT:
            raise HostError(
                f"{where} has the format {value['format']!r}, wanted {FORMAT}; make the bundle "
                "anew."
            )
        tasks = tuple(
            Task(row["role"], row["module"], row["name"], row["params"]) for row in value["tasks"]
        )
        kit = Kit(
            str(value["device"]),
            {str(key): str(one) for key, one in value["site"].items()},
            str(value["system"]),
            Target(*(str(value["target"][key]) for key in ("version", "machine", "libc"))),
            tasks,
            dict(value["archives"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HostError(f"{where} is no kit of a device ({error!r}).") from None
    strange = [task.module for task in kit.tasks if task.module not in MODULES]
    if strange:
        raise HostError(f"{where} has tasks of {strange[0]}, which a device does not do itself.")
    return kit


def lacking(kit: Kit, here: Target, installed: Collection[str]) -> list[str]:
    """What the device has not, that this kit needs: a sentence each."""
    found = []
    wanted = kit.target
    if (here.machine, here.version) != (wanted.machine, wanted.version):
        found.append(
            f"Found Python {here.version} on {here.machine}, wanted Python {wanted.version} on "
            f"{wanted.machine} ({kit.system}); make the bundle anew with the enrol_system and "
            "enrol_machine of this device."
        )
    elif here.platform != wanted.platform and _libc(here) < _libc(wanted):
        found.append(
            f"Found {here.libc}, wanted {wanted.libc} ({kit.system}) or newer; make the bundle "
            "anew with the enrol_system of this device."
        )
    gone = [name for name in kit.packages if name not in installed]
    if gone:
        found.append(
            f"Found no package {', '.join(gone)}; it has to be in the image of the device, or be "
            f"installed where it has a network: apt-get install --no-install-recommends "
            f"{' '.join(gone)}"
        )
    return found


def _libc(target: Target) -> list[int]:
    return [int(part) for part in target.libc.split()[-1].split(".")]


def address_of(task: Task) -> tuple[str, int] | None:
    """Where a service says that it works, if that is a port."""
    health = task.params.get("health") or {}
    place = str(health.get("tcp") or str(health.get("url") or "").partition("//")[2])
    host, sign, port = place.partition("/")[0].rpartition(":")
    return (host, int(port)) if sign and port.isdigit() else None


def unit_of(task: Task) -> str:
    """The unit of a service that is to be up: itself, or its timer."""
    return str(task.params["name"]) + (".timer" if task.params.get("timer") else ".service")


def taken(kit: Kit, ledger: Ledger, answering: Collection[tuple[str, int]]) -> list[str]:
    """Ports of services that somebody else answers at: a sentence each."""
    packaged = sorted(
        {str(unit) for task in kit.of(PACKAGES) for unit in task.params.get("disable_units") or ()}
    )
    found = []
    for task in kit.of(SERVICE):
        address = address_of(task)
        if address in answering and not ledger.has("unit", unit_of(task)):
            where = ":".join(str(part) for part in address or ())
            found.append(
                f"Found something that answers at {where}, wanted the port free for "
                f"{unit_of(task)}; if it is a service that came with a package of the image, stop "
                f"it: systemctl disable --now {' '.join(packaged)}"
            )
    return found


def site_of(kit: Kit, ledger: Ledger) -> Mapping[str, Any]:
    """The site of the device, which is this one from now on.

    Raises:
        HostError: It belongs to another one.
    """
    old = dict(ledger.site or {})
    if old.get("id") not in (None, kit.site["id"]):
        raise HostError(
            f"This device belongs to another site, {old.get('name') or 'of no name'} "
            f"({old['id']}); remove that one from it first, with its own bundle or inventory."
        )
    return {**old, "id": kit.site["id"], "name": kit.site.get("name") or old.get("name", "")}


def said_of(task: Task, done: Mapping[str, Any]) -> Sequence[str]:
    """What a person reads of a task that changed something."""
    if not done["changed"]:
        return ()
    return tuple(done.get("changes") or ()) or (task.name,)

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be made on disk before the daemons run, decided from what is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .errors import CephError
from .identity import ADMIN, GATEWAY, GIB, MANAGER, Disk, Identity, keyring

IDENTITY = "cluster.json"
MON = "mon"


def disk_directory(number: int) -> str:
    return f"osd-{number}"


@dataclass(frozen=True)
class Present:
    """What the data directory holds: its entries, the text of keyrings, sizes of block files."""

    entries: frozenset[str] = frozenset()
    keyrings: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One thing to make: ``kind`` is leftover, keyring, mon or osd."""

    kind: str
    name: str
    text: str
    disk: Disk | None = None


def keyrings_of(identity: Identity) -> dict[str, str]:
    """Every keyring file outside of the directories that mkfs makes, by its path."""
    return {
        "admin.keyring": keyring(identity, ADMIN),
        "mgr/keyring": keyring(identity, MANAGER),
        "rgw/keyring": keyring(identity, GATEWAY),
    }


def refuse(identity: Identity | None, present: Present, disks: Sequence[Disk], root: str) -> None:
    """What can not be mended by making something: say so before anything is changed."""
    _refuse_repeated(disks)
    if identity is None:
        _refuse_unknown(present, root)
        return
    _refuse_lost(identity, present, root)
    _refuse_dropped(identity, present, disks, root)
    _refuse_resized(present, disks)


def _refuse_repeated(disks: Sequence[Disk]) -> None:
    numbers = [disk.id for disk in disks]
    for number in numbers:
        if numbers.count(number) > 1:
            raise CephError(f"object_store_osds names the id {number} twice; give each its own id.")
    devices = [disk.device for disk in disks if disk.device]
    for device in devices:
        if devices.count(device) > 1:
            raise CephError(f"object_store_osds names {device} twice; one OSD needs a whole disk.")


def _refuse_unknown(present: Present, root: str) -> None:
    """Data of a cluster whose keys are not here."""
    made = [name for name in sorted(present.entries) if name == MON or name.startswith("osd-")]
    made = [name for name in made if not name.endswith(".new")]
    if made:
        raise CephError(
            f"{root} holds {', '.join(made)} but no {IDENTITY}, so the keys of that cluster "
            f"are not known; restore {root}/{IDENTITY}, or move {root} away."
        )


def _refuse_lost(identity: Identity, present: Present, root: str) -> None:
    for name in sorted(identity.made - present.entries):
        raise CephError(
            f"{root}/{name} is gone although the cluster was made with it; restore it from a "
            "backup, the platform does not replace data by an empty disk."
        )


def _refuse_dropped(identity: Identity, present: Present, disks: Sequence[Disk], root: str) -> None:
    dropped = sorted(set(identity.disks) - {disk.id for disk in disks})
    kept = [number for number in dropped if disk_directory(number) in present.entries]
    if kept:
        raise CephError(
            f"{root} holds osd.{kept[0]}, which object_store_osds no longer names; a disk with "
            "data is not taken out by this role: add it again, or drain and purge it with ceph."
        )


def _refuse_resized(present: Present, disks: Sequence[Disk]) -> None:
    for disk in disks:
        size = present.sizes.get(disk.id)
        if size is not None and not disk.device and size != disk.size:
            raise CephError(
                f"osd.{disk.id} has {size / GIB:g} GiB, object_store_osd_size_gib says "
                f"{disk.size / GIB:g}; the size of an OSD cannot be changed: set it back to "
                f"{size / GIB:g} and add another OSD to object_store_osds."
            )


def plan(identity: Identity, present: Present, disks: Iterable[Disk]) -> tuple[Step, ...]:
    """The steps from what is there to a cluster that can start."""
    steps = [
        Step("leftover", name, f"remove what an interrupted run left in {name}")
        for name in sorted(present.entries)
        if name.endswith(".new")
    ]
    for path, text in keyrings_of(identity).items():
        if present.keyrings.get(path) != text:
            steps.append(Step("keyring", path, f"write {path}"))
    if MON not in present.entries:
        steps.append(Step("mon", MON, "make the monitor's store"))
    for disk in sorted(disks, key=lambda disk: disk.id):
        name = disk_directory(disk.id)
        if name not in present.entries:
            on = disk.device or f"a file of {disk.size / GIB:g} GiB"
            steps.append(Step("osd", name, f"make osd.{disk.id} on {on}", disk))
    return tuple(steps)

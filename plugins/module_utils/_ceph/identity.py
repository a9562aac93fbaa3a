# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is in the cluster: its id, its disks, its keys.

The identity is decided and stored before anything is made from it, so whatever was interrupted
can be made again from the same identity, any number of times.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from .errors import CephError

GIB = 1024**3
MONITOR = "a"
MANAGER = "mgr.a"
GATEWAY = "client.rgw"
ADMIN = "client.admin"
LABEL = b"bluestore block device\n"

_CAPS = {
    "mon.": {"mon": "allow *"},
    ADMIN: {"mon": "allow *", "mgr": "allow *", "osd": "allow *"},
    MANAGER: {"mon": "allow profile mgr", "osd": "allow *"},
    GATEWAY: {"mon": "allow rw", "mgr": "allow rw", "osd": "allow rwx"},
}
_DISK_CAPS = {"mon": "allow profile osd", "mgr": "allow profile osd", "osd": "allow *"}


@dataclass(frozen=True)
class Disk:
    """One OSD: a file of a size, or a whole block device."""

    id: int
    size: int
    device: str = ""


@dataclass(frozen=True)
class Identity:
    """What must stay the same over the life of the cluster.

    ``made`` names the directories that once were complete, so that one that is gone is noticed
    instead of being made anew and empty.
    """

    fsid: str
    disks: Mapping[int, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    made: frozenset[str] = frozenset()

    def making(self, name: str) -> Identity:
        return replace(self, made=self.made | {name})


def new_key(secret: bytes, seconds: int) -> str:
    """A cephx key: type 1 (AES), time of creation, 16 random bytes."""
    if len(secret) != 16:
        raise ValueError("a cephx key has 16 bytes")
    return base64.b64encode(struct.pack("<HIIH", 1, seconds, 0, 16) + secret).decode()


def disk_entity(number: int) -> str:
    return f"osd.{number}"


def caps_of(entity: str) -> Mapping[str, str]:
    return _CAPS.get(entity, _DISK_CAPS)


def complete(
    identity: Identity | None,
    disks: Iterable[Disk],
    make_uuid: Callable[[], str],
    make_key: Callable[[], str],
) -> Identity:
    """The identity with everything that ``disks`` need; what is decided stays."""
    identity = identity or Identity(make_uuid())
    wanted = sorted(disk.id for disk in disks)
    uuids = {n: identity.disks.get(n) or make_uuid() for n in sorted({*identity.disks, *wanted})}
    entities = [*_CAPS, *map(disk_entity, uuids)]
    keys = {entity: identity.keys.get(entity) or make_key() for entity in entities}
    return replace(identity, disks=uuids, keys=keys)


def dump(identity: Identity) -> str:
    document = {
        "fsid": identity.fsid,
        "disks": {str(number): uuid for number, uuid in sorted(identity.disks.items())},
        "keys": dict(identity.keys),
        "made": sorted(identity.made),
    }
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def load(text: str, path: str) -> Identity:
    try:
        data = json.loads(text)
        return Identity(
            str(data["fsid"]),
            {int(number): str(uuid) for number, uuid in data["disks"].items()},
            {str(entity): str(key) for entity, key in data["keys"].items()},
            frozenset(str(name) for name in data["made"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CephError(
            f"{path} is damaged ({error!r}), so the keys of the cluster are not known; "
            "restore the file from a backup."
        ) from error


def keyring(identity: Identity, *entities: str) -> str:
    """The text of a keyring with capabilities, as the monitor imports it."""
    lines = []
    for entity in entities:
        lines.append(f"[{entity}]")
        lines.append(f"\tkey = {identity.keys[entity]}")
        lines.extend(f'\tcaps {part} = "{caps}"' for part, caps in sorted(caps_of(entity).items()))
    return "\n".join(lines) + "\n"


def label_uuid(start: bytes) -> str | None:
    """The id in the label that BlueStore writes at the start of a disk."""
    if not start.startswith(LABEL):
        return None
    return start[len(LABEL) :].split(b"\n", 1)[0].decode("ascii", "replace")


def judge_device(disk: Disk, uuid: str, start: bytes) -> None:
    """Refuse a block device that holds anything that is not ours."""
    label = label_uuid(start)
    if label == uuid or not start.strip(b"\0"):
        return
    held = f"the OSD {label}" if label else "data"
    raise CephError(
        f"{disk.device} for osd.{disk.id} holds {held}, wanted an empty disk; name another device "
        f"in object_store_osds, or empty it with 'wipefs -a {disk.device}' and "
        f"'dd if=/dev/zero of={disk.device} bs=1M count=1'."
    )

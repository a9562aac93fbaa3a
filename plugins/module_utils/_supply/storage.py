# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""File systems: what is left on them, and what tells that two of them are one storage."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from . import procfs
from .procfs import Mount
from .tree import Host

ASKING_SECONDS = 3.0  # for all mounts together; a server that is there answers in milliseconds
# Types whose answer comes from elsewhere, so that it may never come.
REMOTE_TYPES = frozenset(
    (
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "davfs",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "pvfs2",
        "smb3",
        "smbfs",
        "vboxsf",
        "virtiofs",
        "wekafs",
    )
)
# What a path may lie on by mistake: memory, images, and mounts that are not there yet.
UNCOUNTED_TYPES = frozenset(("autofs", "hugetlbfs", "ramfs", "squashfs", "tmpfs"))
# Names of disks that are given once in the world; those of virtual disks often are not.
WORLDWIDE = re.compile(r"^(naa|eui|uuid)\.[0-9a-f]{16,}", re.IGNORECASE)
THIN_POOL = re.compile(r"(-tpool|-vpool|thin-?pool)")

Room = tuple[int, int, int, int, int, int]  # block size, blocks, available, files, left, fsid


def is_remote(mount: Mount) -> bool:
    """Whether asking for the room may take for ever."""
    return (
        mount.type in REMOTE_TYPES
        or mount.type.startswith("fuse")
        or ":/" in mount.source
        or mount.source.startswith("//")
    )


def room_of(path: str) -> Room:
    """What a file system says about itself."""
    found = os.statvfs(path)
    return (
        found.f_frsize,
        found.f_blocks,
        found.f_bavail,
        found.f_files,
        found.f_favail,
        found.f_fsid,
    )


def _ask_apart(path: str) -> tuple[int, int]:
    """Ask in a process of its own, which can be left behind; its id, and where it answers."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    try:
        os.close(reader)
        os.write(writer, " ".join(map(str, room_of(path))).encode())
    except OSError as error:
        os.write(writer, f"! {error.strerror}".encode())
    finally:
        os._exit(0)


def _answer(reader: int, deadline: float) -> Room | str:
    """The room, or why there is none."""
    ready, _w, _x = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
    if not ready:
        return f"it did not answer within {ASKING_SECONDS:.0f} seconds; its server may be gone"
    said = os.read(reader, 4096).decode()
    if said.startswith("! ") or not said:
        return said[2:] or "it ended without an answer"
    figures = [int(word) for word in said.split()]
    return (figures[0], figures[1], figures[2], figures[3], figures[4], figures[5])


def rooms(paths: Sequence[str], apart: Sequence[bool]) -> list[Room | str]:
    """The room of each path, or why it is not known; those to be asked apart all at once."""
    children = [_ask_apart(path) if far else None for path, far in zip(paths, apart)]
    deadline = time.monotonic() + ASKING_SECONDS
    found: list[Room | str] = []
    for path, child in zip(paths, children):
        if child is None:
            try:
                found.append(room_of(path))
            except OSError as error:
                found.append(str(error.strerror))
            continue
        found.append(_answer(child[1], deadline))
        os.close(child[1])
        os.kill(child[0], signal.SIGKILL)
        os.waitpid(child[0], os.WNOHANG)  # one that the kernel holds is left to it
    return found


def filesystems(host: Host) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Mounts that can hold data with what is left on them, and those that are not counted."""
    every = procfs.every_mount(host.read("/proc/self/mountinfo", "filesystems"))
    mounts = [mount for mount in every if mount.type not in procfs.VIRTUAL_TYPES]
    names = _Names(host)
    found = []
    uncounted = [
        _uncounted(mount, f"{mount.type} is no storage")
        if mount.type != "autofs"
        else _uncounted(mount, "it is mounted on demand, and was not mounted")
        for mount in every
        if mount.type in UNCOUNTED_TYPES and not mount.path.startswith(("/proc/", "/sys/"))
    ]
    answers = rooms([host.path(mount.path) for mount in mounts], [is_remote(m) for m in mounts])
    for mount, room in zip(mounts, answers):
        if isinstance(room, str):
            host.note(f"filesystems {mount.path}", room)
            uncounted.append({**_uncounted(mount, room), "dead": True})
            continue
        below = _upper_in_memory(mount, every)
        if below:
            uncounted.append(_uncounted(mount, f"what is written goes to {below}, into memory"))
            continue
        if room[1] == 0:
            continue
        found.append(_row(mount, room, names))
    return found, uncounted


def _uncounted(mount: Mount, why: str) -> dict[str, Any]:
    return {"mount": mount.path, "type": mount.type, "source": mount.source, "reason": why}


def _upper_in_memory(mount: Mount, every: Sequence[Mount]) -> str:
    """Where an overlay keeps what is written, if that is memory; empty otherwise."""
    upper = mount.option("upperdir") if mount.type == "overlay" else None
    if upper is None:
        return ""
    holding = [
        other
        for other in every
        if other is not mount and upper.startswith(other.path.rstrip("/") + "/")
    ]
    best = max(holding, key=lambda other: len(other.path), default=None)
    return best.path if best is not None and best.type in ("tmpfs", "ramfs") else ""


def _row(mount: Mount, room: Room, names: _Names) -> dict[str, Any]:
    block, blocks, available, files, left, fsid = room
    identity = names.fsid(mount) or (f"{fsid & 2**64 - 1:x}" if fsid and is_remote(mount) else None)
    return {
        "mount": mount.path,
        "source": mount.source,
        "type": mount.type,
        "device": mount.device,
        "root": mount.root,
        "server": mount.option("addr"),
        "fsid": identity,
        "uuid": names.uuid(mount),
        "wwn": names.wwn(mount.device),
        "pool": names.pool(mount),
        "read_only": mount.read_only,
        "size_mib": round(blocks * block / 2**20, 1),
        "available_mib": round(available * block / 2**20, 1),
        "inodes": files if files > 0 else None,
        "inodes_available": left if files > 0 else None,
        "holds_root": mount.path == "/",
    }


class _Names:
    """What block devices and file systems are called, on this host and in the world."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.devices = {
            host.line(f"/sys/class/block/{name}/dev") or "": name
            for name in host.names("/sys/class/block")
        }
        self.uuids = {
            host.link(f"/dev/disk/by-uuid/{uuid}"): uuid for uuid in host.names("/dev/disk/by-uuid")
        }
        self.btrfs = {
            device: uuid
            for uuid in host.names("/sys/fs/btrfs")
            for device in host.names(f"/sys/fs/btrfs/{uuid}/devices")
        }
        self.nfs = procfs.parse_nfs_volumes(host.read("/proc/fs/nfsfs/volumes"))
        # The disks of a container are those of the machine under it: nothing to tell hosts by.
        self.blind = host.exists("/run/.containerenv") or host.exists("/.dockerenv")

    def fsid(self, mount: Mount) -> str | None:
        return self.nfs.get(mount.device)

    def uuid(self, mount: Mount) -> str | None:
        name = self.devices.get(mount.device) or os.path.basename(mount.source)
        return self.btrfs.get(name) or self.uuids.get(name)

    def below(self, name: str) -> list[str]:
        """A block device and all that it is made of."""
        found, waiting = [], [name]
        while waiting:
            one = waiting.pop()
            if one in found:
                continue
            found.append(one)
            waiting += self.host.names(f"/sys/class/block/{one}/slaves")
            if self.host.exists(f"/sys/class/block/{one}/partition"):
                real = os.path.realpath(self.host.path(f"/sys/class/block/{one}"))
                waiting.append(os.path.basename(os.path.dirname(real)))
        return found

    def wwn(self, device: str) -> str | None:
        """The worldwide names of the disks under a device; None if one has none."""
        name = self.devices.get(device)
        if name is None or self.blind:
            return None
        found = set()
        for one in self.below(name):
            base = f"/sys/class/block/{one}"
            label = self.host.line(f"{base}/dm/uuid") or ""
            said = self.host.line(f"{base}/device/wwid") or self.host.line(f"{base}/wwid") or ""
            if label.startswith("mpath-"):
                return label[len("mpath-") :]
            if WORLDWIDE.match(said):
                found.add(said)
        return "+".join(sorted(found)) or None

    def pool(self, mount: Mount) -> str | None:
        """The pool of this host from which a file system takes its room."""
        if mount.type == "zfs":
            return f"ZFS pool {mount.source.partition('/')[0]}"
        if mount.type in ("btrfs", "bcachefs"):
            return f"{mount.type} {self.uuid(mount) or mount.source}"
        thin = self.thin_pool(mount.device)
        return None if thin is None else f"thin pool {thin[0]}"

    def thin_pool(self, device: str) -> tuple[str, str] | None:
        """The name of the thin pool under a device, and its block device."""
        name = self.devices.get(device)
        for one in self.below(name) if name else ():
            label = self.host.line(f"/sys/class/block/{one}/dm/uuid") or ""
            if THIN_POOL.search(label):
                return self.host.line(f"/sys/class/block/{one}/dm/name") or one, one
        return None


def pools(host: Host, found: Sequence[dict[str, Any]], ask: bool = True) -> list[dict[str, Any]]:
    """Size and room of the thin pools that file systems lie on. What is used may be unknown."""
    if not any(str(row["pool"] or "").startswith("thin pool ") for row in found):
        return []
    names = _Names(host)
    under = {names.thin_pool(str(row["device"])) for row in found} - {None}
    used: dict[str, float] = {}
    program = next(
        (p for p in ("/usr/sbin/dmsetup", "/sbin/dmsetup") if ask and host.exists(p)), None
    )
    if program:
        try:
            said = subprocess.run(
                [program, "status", "--target", "thin-pool"],
                capture_output=True,
                timeout=5,
                check=False,
            )
            used = procfs.parse_thin_pools(said.stdout.decode("utf-8", "replace"))
        except (OSError, subprocess.TimeoutExpired) as error:
            host.note("pools", error)
    rows = []
    for pair in sorted(pair for pair in under if pair is not None):
        name, device = pair
        size = (host.number(f"/sys/class/block/{device}/size") or 0) * 512 / 2**20
        if name not in used:
            host.note(f"pools {name}", "dmsetup does not tell what is in use of it")
        free = round(size * (1 - used[name]), 1) if name in used else None
        rows.append(
            {"name": f"thin pool {name}", "size_mib": round(size, 1), "available_mib": free}
        )
    return rows

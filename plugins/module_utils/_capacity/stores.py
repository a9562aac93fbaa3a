# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which mounts of which hosts are one storage.

A network file system, a cluster's file system, a disk that several hosts reach and a pool that
several file systems take their room from are there once, however many mounts lead to them. Where
it cannot be told apart from one storage, it is taken for one: room is never counted twice.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from .._supply.facts import Facts, FileSystem
from .._supply.storage import REMOTE_TYPES

CLUSTER_TYPES = frozenset(("gfs", "gfs2", "ocfs2", "vmfs"))
# File systems of one host that are made in user space.
LOCAL_FUSE = re.compile(
    r"^fuse(blk|\.(mergerfs|unionfs|lxcfs|fuse-overlayfs|encfs|gocryptfs|snapfuse|squashfuse"
    r"|gvfsd-fuse|portal|ntfs(-3g)?|exfat))$"
)
FAMILIES = {
    "nfs4": "nfs",
    "smb3": "cifs",
    "smbfs": "cifs",
    "fuse.ceph": "ceph",
    "fuse.ceph-fuse": "ceph",
    "fuse.glusterfs": "glusterfs",
}
# Devices that are called by the name that their disk has in the world.
NAMED_DISK = re.compile(
    r"(?<=/by-id/)(wwn-|scsi-3|dm-uuid-.*mpath-|nvme-eui).*|(?<=/dev/mapper/)3[0-9a-f]{16,32}.*"
)
# Sources that say nothing about what is mounted.
NAMELESS = frozenset(("", "none", "beegfs_nodev", "ceph-fuse", "fuse", "nodev"))
NEAR = 0.001  # part of the room by which two measurements of one storage differ at most


@dataclass(frozen=True)
class Seen:
    """One mount of one host."""

    host: str
    row: FileSystem

    @property
    def mount(self) -> str:
        return self.row.mount

    @property
    def type(self) -> str:
        return self.row.type

    @property
    def source(self) -> str:
        return self.row.source

    @property
    def family(self) -> str:
        """The kind of file system, whatever protocol version or client mounts it."""
        return FAMILIES.get(self.type, self.type)

    @property
    def size(self) -> float:
        return self.row.size_mib

    @property
    def available(self) -> float:
        return self.row.available_mib

    @property
    def device(self) -> str:
        return self.row.behind

    @property
    def pool(self) -> str:
        """The pool of its host that it takes its room from; empty if there is none."""
        told = self.row.pool
        if not told and self.type == "zfs":
            return f"ZFS pool {self.source.partition('/')[0]}"
        if not told and self.type in ("btrfs", "bcachefs"):
            return f"{self.type} {self.row.uuid or self.source}"
        return told

    @property
    def wwn(self) -> str:
        """The worldwide name of its disk; empty if it is not known."""
        told = NAMED_DISK.search(self.source)
        return self.row.wwn or (told.group(0) if told else "")

    @property
    def remote(self) -> bool:
        """Whether it comes over a network or is shared by design."""
        return (
            self.type in REMOTE_TYPES
            or self.type in CLUSTER_TYPES
            or (self.type.startswith("fuse") and not LOCAL_FUSE.match(self.type))
            or self.source.startswith("//")
            or bool(re.match(r"^[^/\s]+:/", self.source))
        )

    @property
    def servers(self) -> frozenset[str]:
        """The names and addresses of whoever serves it; empty if it does not say."""
        source = self.source.lower()
        name = ""
        if source.startswith("//"):
            name = source[2:].partition("/")[0]
        elif ":/" in source:
            name = source.partition(":/")[0].rpartition("@")[2]
        told = self.row.server.lower()
        return frozenset(word.strip("[]") for word in (name, told) if word)

    @property
    def path(self) -> str:
        """What is mounted of the server: the export or share."""
        source = self.source.lower() if self.family == "cifs" else self.source
        if source.startswith("//"):
            return source[2:].partition("/")[2].strip("/")
        return source.partition(":/")[2].strip("/") if ":/" in source else source

    def near(self, other: Seen) -> bool:
        """Whether as much is left, as far as two measurements can be alike."""
        most = max(self.available, other.available)
        return abs(self.available - other.available) <= most * NEAR


@dataclass(frozen=True)
class Store:
    """One storage, and the mounts that lead to it as host and path.

    ``remote`` storage can be mounted by a new host as well.
    """

    name: str
    size_mib: float
    available_mib: float
    members: tuple[tuple[str, str], ...]
    remote: bool = False

    @cached_property
    def _by_host(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for host, mount in sorted(self.members):
            found[host].append(mount)
        return dict(found)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that reach it."""
        return tuple(self._by_host)

    def mounts(self, host: str) -> tuple[str, ...]:
        """Where a host has it."""
        return tuple(self._by_host.get(host, ()))

    @property
    def seen_as(self) -> str:
        """The mounts, for a sentence."""
        return ", ".join(f"{host}:{mount}" for host, mount in sorted(self.members))


def _trivial(fsid: str) -> bool:
    """Whether a server's number of a file system is one that any server could give."""
    return len(re.sub(r"[^0-9a-f]", "", fsid.lower()).strip("0")) < 6


def _sure_keys(one: Seen) -> Iterable[tuple[object, ...]]:
    """Two mounts with a key in common are one storage."""
    yield ("device", one.host, one.device)
    if one.pool:
        yield ("pool", one.host, one.pool)
    if one.remote:
        yield from _remote_keys(one)
    if one.wwn:
        # A disk may hold several file systems: logical volumes have names of their own.
        name = one.source.rpartition("/")[2]
        volume = name if one.source.startswith("/dev/mapper/") and "-" in name else ""
        yield ("disk", one.wwn, one.row.uuid or (one.size, volume))


def _remote_keys(one: Seen) -> Iterable[tuple[object, ...]]:
    family, uuid, fsid = one.family, one.row.uuid, one.row.fsid
    if fsid and not _trivial(fsid):
        yield ("fsid", family, fsid)
    for server in one.servers:
        yield ("source", family, server, one.path)
        yield ("fsid", family, server, fsid or None, None if fsid else one.path)
    if family == "glusterfs":
        yield ("volume", one.path, one.size)
    if family in CLUSTER_TYPES or not one.servers:
        if one.source not in NAMELESS:
            yield ("tag", family, one.source, one.size)
        if uuid:
            yield ("uuid", uuid)


def _alike(one: Seen, other: Seen) -> bool:
    """Whether two mounts without a key in common cannot be told apart from one storage."""
    if one.family != other.family or not one.near(other):
        return False
    if not one.remote:
        # A copied machine has the same numbers, but not the same room to the last file.
        same_files = one.row.inodes_available == other.row.inodes_available
        return (
            one.host != other.host
            and one.size == other.size
            and bool(one.row.uuid)
            and one.row.uuid == other.row.uuid
            and same_files
            and "/" not in (one.mount, other.mount)
        )
    if one.servers & other.servers:
        return True
    if not one.servers or not other.servers:
        return one.size == other.size and (
            one.source in NAMELESS or other.source in NAMELESS or one.source == other.source
        )
    return one.size == other.size and one.path == other.path


class _Groups:
    """Mounts that are one, by union and find."""

    def __init__(self, size: int) -> None:
        self.above = list(range(size))

    def top(self, one: int) -> int:
        while self.above[one] != one:
            self.above[one] = self.above[self.above[one]]
            one = self.above[one]
        return one

    def join(self, one: int, other: int) -> None:
        self.above[self.top(other)] = self.top(one)


def stores_of(supply: Mapping[str, Facts]) -> tuple[Store, ...]:
    """Every storage that several file systems or hosts take their room from, or could."""
    seen = [
        Seen(host, row)
        for host in sorted(supply)
        for row in supply[host].filesystems
        if row.size_mib > 0
    ]
    groups = _Groups(len(seen))
    first: dict[tuple[object, ...], int] = {}
    buckets: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for number, one in enumerate(seen):
        for key in _sure_keys(one):
            groups.join(first.setdefault(key, number), number)
        for bucket in _buckets(one):
            buckets[bucket].append(number)
    for numbers in buckets.values():
        _join_alike(groups, seen, list({groups.top(number): number for number in numbers}.values()))
    found: dict[int, list[Seen]] = defaultdict(list)
    for number, one in enumerate(seen):
        found[groups.top(number)].append(one)
    stores = [_store(some, supply) for some in found.values()]
    return tuple(sorted(_told_apart(filter(None, stores)), key=lambda store: store.name))


def _join_alike(groups: _Groups, seen: Sequence[Seen], numbers: Sequence[int]) -> None:
    """Join those that are alike; by what is left on them, only neighbours can be."""
    order = sorted(numbers, key=lambda number: seen[number].available)
    for at, number in enumerate(order):
        for other in order[at + 1 :]:
            if not seen[number].near(seen[other]):
                break
            if groups.top(number) != groups.top(other) and _alike(seen[number], seen[other]):
                groups.join(number, other)


def _buckets(one: Seen) -> Iterable[tuple[object, ...]]:
    """Where to look for others that are alike."""
    if one.remote:
        yield (one.family, one.size)
        for server in one.servers:
            yield (one.family, server)
    elif one.row.uuid and not one.wwn and one.mount != "/":
        yield ("uuid", one.row.uuid)


def _store(some: Sequence[Seen], supply: Mapping[str, Facts]) -> Store | None:
    """The storage behind these mounts; None if it is one file system of one host."""
    pool = _thin_pool(some, supply)
    several = {(one.host, one.device) for one in some}
    remote = any(row.remote for row in some)
    if len(several) < 2 and pool is None and not remote:
        return None
    one = min(some, key=lambda row: (row.host, row.mount))
    named = one.pool
    name = f"{named} of {one.host}" if named else f"storage {one.source or one.mount}"
    members = tuple((row.host, row.mount) for row in some)
    if pool is not None:
        size, available = pool
    elif len({row.size for row in some}) == 1:
        size, available = one.size, min(row.available for row in some)
    else:  # several file systems of one pool: each shows its own use and the room of all
        apart = {(row.source, row.size): row for row in some}
        available = max(row.available for row in some)
        size = available + sum(row.size - row.available for row in apart.values())
    return Store(name, size, available, members, remote)


def _thin_pool(some: Sequence[Seen], supply: Mapping[str, Facts]) -> tuple[float, float] | None:
    """Size and room of the thin pool under file systems; what is used of it may be unknown."""
    for one in some:
        for row in supply[one.host].pools:
            if row.name != one.pool:
                continue
            size, left = row.size_mib, row.available_mib
            used = {other.device: other.size - other.available for other in some}
            least = max(0.0, size - sum(used.values()))
            return size, least if left is None else min(left, size)
    return None


def _told_apart(stores: Iterable[Store]) -> Iterable[Store]:
    """The stores, those of one name with their first mount beside it."""
    seen: set[str] = set()
    for store in stores:
        name = store.name
        if name in seen:
            host, mount = min(store.members)
            name = f"{name} ({host}:{mount})"
        seen.add(name)
        yield Store(name, store.size_mib, store.available_mib, store.members, store.remote)


def by_host(stores: Iterable[Store]) -> dict[str, list[Store]]:
    """The storages of each host."""
    found: dict[str, list[Store]] = defaultdict(list)
    for store in stores:
        for host in store.hosts:
            found[host].append(store)
    return dict(found)

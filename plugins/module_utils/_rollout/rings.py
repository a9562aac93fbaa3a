# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rings: which devices get a release first, and which later.

Declared groups of the inventory win. Without them the share of a device is a stable hash of its
name: the borders are hash values, not ranks, so that a device that is added moves no other one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .errors import RolloutError
from .shapes import Ring

FIRST = ("ring_canary", "ring_early", "ring_fleet")
PREFIX = "ring_"


@dataclass(frozen=True)
class Measured:
    """What was measured of a device that makes it another kind of device."""

    architecture: str = ""
    memory_mib: float = 0.0
    accelerator: str = ""

    @property
    def kind(self) -> str:
        """The device class, as people say it: ``aarch64, 8 GiB, no accelerator``."""
        parts = [self.architecture or "unknown architecture"]
        if self.memory_mib > 0:
            parts.append(f"{memory_class(self.memory_mib):g} GiB")
        else:
            parts.append("unknown memory")
        parts.append(self.accelerator or "no accelerator")
        return ", ".join(parts)


@dataclass(frozen=True)
class Cut:
    """The fleet, cut into rings."""

    rings: tuple[Ring, ...]
    promoted: tuple[str, ...] = ()  # moved to the first ring so that their class is in it
    said: tuple[str, ...] = ()


def memory_class(mib: float) -> float:
    """The nearest power of two in GiB: a board sold with 8 GiB shows the system 7.6 of them."""
    return float(2.0 ** round(math.log2(mib / 1024)))


def place_of(host: str) -> float:
    """A number from 0 up to 1 that belongs to a host name for ever: 64 bits of its SHA-256."""
    return int.from_bytes(hashlib.sha256(host.encode()).digest()[:8], "big") / 2.0**64


def ring_groups(groups: Iterable[str]) -> tuple[str, ...]:
    """The groups that are rings when nobody declared an order."""
    found = {name for name in groups if name.startswith(PREFIX)}
    return (*(name for name in FIRST if name in found), *sorted(found - set(FIRST)))


def cut(
    devices: Mapping[str, Measured],
    groups: Mapping[str, Sequence[str]],
    declared: Sequence[str] = (),
    shares: Sequence[float] = (0.01, 0.1, 1.0),
    earlier: Iterable[str] = (),
) -> Cut:
    """The rings of a fleet. ``earlier`` are the devices that the rollout before had promoted."""
    if not devices:
        raise RolloutError("There is no device to roll out to; the group of the devices is empty.")
    order = tuple(declared) or ring_groups(groups)
    if order:
        return by_group(devices, groups, order)
    return by_share(devices, shares, earlier)


def by_group(
    devices: Mapping[str, Measured], groups: Mapping[str, Sequence[str]], order: Sequence[str]
) -> Cut:
    """Rings as the inventory declares them; a device in none of them is in the last one."""
    owner: dict[str, str] = {}
    for index, name in enumerate(order):
        if name in order[:index]:
            raise RolloutError(
                f"The ring {name} is there twice, and a device belongs to one ring. Mend "
                "rollout_rings."
            )
        if name not in groups:
            raise RolloutError(
                f"The ring {name} is no group of the inventory; known ring groups are "
                f"{', '.join(ring_groups(groups)) or 'none'}. Mend rollout_rings."
            )
        for host in groups[name]:
            if owner.setdefault(host, name) != name:
                raise RolloutError(
                    f"The host {host} is in the ring groups {owner[host]} and {name}; a device "
                    "belongs to one ring. Take it out of one of the groups in the inventory."
                )
    rings = [
        Ring(name, tuple(sorted(host for host in devices if owner.get(host, order[-1]) == name)))
        for name in order
    ]
    kept = tuple(ring for ring in rings if ring.hosts)
    said = [
        f"The ring {ring.name} has no device and is left out." for ring in rings if not ring.hosts
    ]
    missing = sorted(
        {devices[host].kind for ring in kept[1:] for host in ring.hosts} - kinds(devices, kept[0])
    )
    said += [
        f"No device of the class {kind} is in the first ring {kept[0].name}; what breaks on that "
        "class alone shows in a later ring. Move one there in the inventory."
        for kind in missing
    ]
    return Cut(kept, (), tuple(said))


def by_share(
    devices: Mapping[str, Measured], shares: Sequence[float], earlier: Iterable[str]
) -> Cut:
    """Rings by the hash of the name, and one device of every class in the first."""
    borders = checked(shares)
    where = {host: ring_of(host, borders) for host in devices}
    promoted = {host for host in earlier if where.get(host, 0) > 0}
    first = {devices[host].kind for host in devices if where[host] == 0 or host in promoted}
    for kind in sorted({measured.kind for measured in devices.values()} - first):
        promoted.add(min((h for h in devices if devices[h].kind == kind), key=place_of))
    for host in promoted:
        where[host] = 0
    rings = [
        Ring(f"share_{index + 1}", tuple(sorted(h for h in devices if where[h] == index)))
        for index in range(len(borders))
    ]
    said = [
        f"{host} is in the first ring because its class ({devices[host].kind}) would not be there."
        for host in sorted(promoted)
    ]
    return Cut(tuple(ring for ring in rings if ring.hosts), tuple(sorted(promoted)), tuple(said))


def checked(shares: Sequence[float]) -> tuple[float, ...]:
    """The borders between rings; the last one is the whole fleet."""
    borders = tuple(float(share) for share in shares)
    if not borders or borders[0] <= 0 or borders[-1] != 1.0:
        raise RolloutError(
            f"rollout_ring_shares is {list(shares)}; wanted are shares above 0 of which the last "
            "is 1.0, such as [0.01, 0.1, 1.0]."
        )
    if any(later <= before for before, later in zip(borders, borders[1:])):
        raise RolloutError(
            f"rollout_ring_shares is {list(shares)}; each share includes the ones before, so they "
            "must rise, such as [0.01, 0.1, 1.0]."
        )
    return borders


def ring_of(host: str, borders: Sequence[float]) -> int:
    """The ring of a host by its name alone."""
    place = place_of(host)
    return next(index for index, border in enumerate(borders) if place < border)


def kinds(devices: Mapping[str, Measured], ring: Ring) -> set[str]:
    """The device classes in a ring."""
    return {devices[host].kind for host in ring.hosts}

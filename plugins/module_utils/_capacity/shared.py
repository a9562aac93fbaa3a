# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What workloads may take of storages that hosts share, and paths that are not where they seem."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from .._demand.workloads import Spec
from .._findings.finding import SITE, WARN, Demand, DiskNeed, Finding
from .._findings.sentence import brief
from .._supply.facts import Facts
from .margins import Margins
from .mounts import MOUNT_PLACES, holding
from .places import Draws, Figures, Place, Storage
from .question import carries, tag_of
from .store_sums import pooled_mounts, store_rows
from .stores import Store


def storages_of(
    stores: Sequence[Store],
    supply: Mapping[str, Facts],
    demand: Mapping[str, Sequence[Demand]],
    running: Mapping[str, Sequence[Spec]],
    margins: Margins,
    paths: Iterable[str],
) -> dict[str, Storage]:
    """What of each storage may be planned for workloads under these paths, by its name.

    ``running`` are the replicas of an earlier plan by host: what they use is not foreign.
    """
    looked_at = Demand("workloads", disks=tuple(DiskNeed(path, 0.0) for path in paths))
    asked = {
        host: [
            *(demand.get(host) or ()),
            looked_at,
            *(Demand("workloads", disks=spec.request.disks) for spec in running.get(host, ())),
        ]
        for host in supply
    }
    found = {}
    for name, (store, row, _asking) in store_rows(stores, supply, asked, margins).items():
        placed = sum(
            need.mib
            for host in store.hosts
            for spec in running.get(host, ())
            for need in spec.request.disks
            if holding(need.path, supply[host].systems) in store.mounts(host)
        )
        found[name] = Storage(
            name,
            Figures(row.total, row.reserved, row.foreign, row.demanded - placed),
            tuple(sorted({mount for _host, mount in store.members})),
            store.remote,
            store.remote or len(store.hosts) > 1,
        )
    return found


def draws_of(
    host: str,
    facts: Facts,
    stores: Sequence[Store],
    storages: Mapping[str, Storage],
) -> Draws:
    """Which mounts of a host draw on which storage, and which of them have a limit of their own."""
    drawn = {
        mount: storages[store.name]
        for store in stores
        if store.name in storages
        for mount in store.mounts(host)
    }
    return Draws(drawn, frozenset(drawn) - frozenset(pooled_mounts(host, facts, stores)))


def _may_run(spec: Spec, place: Place) -> bool:
    if spec.hosts and place.name not in spec.hosts:
        return False
    return all(carries(place, tag) for tag in tag_of(spec))


def misplaced(places: Sequence[Place], specs: Sequence[Spec]) -> list[Finding]:
    """Paths of workloads that lie on the root's file system, or on none that is counted.

    Told where others have them on a mount of their own, or where mounts are made by custom. One
    that must be its own mount is not planned on such hosts, and told as well.
    """
    lying: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    mounts: dict[tuple[str, str], set[str]] = defaultdict(set)
    names: dict[tuple[str, str], list[str]] = defaultdict(list)
    for spec in specs:
        for need in spec.request.disks:
            key = (need.path, need.mount)
            names[key].append(spec.name)
            for place in places:
                if _may_run(spec, place):
                    mounts[key].update(place.mounts)
                    lying[key][_where(place, need)].append(place.name)
    found = []
    for (path, mount), by_place in sorted(lying.items()):
        why = _why(path, mount, {place: sorted(set(some)) for place, some in by_place.items()})
        if why:
            meant = difflib.get_close_matches(path, mounts[path, mount] - {"/"}, 1, 0.6)
            parent = [m for m in mounts[path, mount] - {"/"} if _close(path, m)]
            hint = next(iter(sorted(parent)), meant[0] if meant else "")
            found.append(
                Finding(
                    "capacity.unmounted_path",
                    SITE,
                    WARN,
                    f"{path} of {brief(', '.join(dict.fromkeys(names[path, mount])), 80)} {why}"
                    + (f"; did you mean {hint}?" if hint else ""),
                    "a mount of its own for the path",
                    "mount it on these hosts, correct the path in mlops_workloads, or write "
                    "mount: true beside it, so that it is only planned where it is mounted",
                )
            )
    return found


ROOT, NOT_COUNTED, MISSING, MOUNTED = "root", "not counted", "missing", "mounted"


def _where(place: Place, need: DiskNeed) -> str:
    """How a path lies on a host."""
    system = place.system(need.path)
    if system == "":
        return NOT_COUNTED
    if need.mount and place.system(need.path, need.mount) is None:
        return MISSING
    return ROOT if system is None or system == place.mounts.get("/") else MOUNTED


def _why(path: str, mount: str, by_place: Mapping[str, Sequence[str]]) -> str:
    def on(hosts: Sequence[str]) -> str:
        return brief(", ".join(hosts), 80)

    if by_place.get(NOT_COUNTED):
        return f"lies on {on(by_place[NOT_COUNTED])} on a file system that is not counted"
    if by_place.get(MISSING):
        wanted = "on a mount of its own" if mount == "true" else f"on the mount {mount}"
        return f"is not {wanted} on {on(by_place[MISSING])}, so it is not planned there"
    if by_place.get(ROOT) and (by_place.get(MOUNTED) or MOUNT_PLACES.match(path)):
        said = f"lies on the root's file system on {on(by_place[ROOT])}"
        if by_place.get(MOUNTED):
            said += f", and on a mount of its own on {on(by_place[MOUNTED])}"
        return said
    return ""


def _close(path: str, mount: str) -> bool:
    """Whether the beginning of a path is nearly a mount."""
    depth = mount.count("/")
    start = "/".join(path.split("/")[: depth + 1])
    return start != mount and difflib.SequenceMatcher(None, start, mount).ratio() > 0.8

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sums of storages that several file systems or hosts take their room from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .._findings.finding import PASS, SITE, Demand, Finding
from .._findings.sentence import brief
from .._supply.facts import Facts
from .host_sums import Hints, Host, Part, Row
from .margins import Margins
from .stores import NEAR, Store


def pooled_mounts(name: str, facts: Facts, stores: Sequence[Store]) -> dict[str, Store]:
    """The mounts of a host whose room is that of a storage, and not less by a limit of their own.

    A limit of its own is a quota of a data set: it is summed up besides.
    """
    return {
        mount: store
        for store in stores
        for mount in store.mounts(name)
        if mount in facts.systems
        and facts.systems[mount].available_mib >= store.available_mib * (1 - NEAR)
    }


def store_rows(
    stores: Sequence[Store],
    supply: Mapping[str, Facts],
    demand: Mapping[str, Sequence[Demand]],
    margins: Mapping[str, Margins] | Margins,
) -> dict[str, tuple[Store, Row, tuple[str, ...]]]:
    """One row for each storage that is asked for something, by its name, and the hosts that ask.

    What is in use is counted once, and what all hosts ask for adds up.
    """
    found = {}
    for store in stores:
        parts: list[Part] = []
        asking: list[str] = []
        kept: dict[object, float] = {}
        for name in store.hosts:
            facts = supply[name]
            own = margins if isinstance(margins, Margins) else margins[name]
            work = Host(name, facts, demand.get(name) or (), own, {})
            space, _inodes = work.asked_of()
            mounts = store.mounts(name)
            devices = {facts.systems[mount].behind for mount in mounts}
            here = [part for device in sorted(devices) for part in space.get(device, ())]
            asking += [name] * bool(here)
            parts += [
                replace(part, service=f"{part.service} on {name}") if len(store.hosts) > 1 else part
                for part in here
            ]
            for key, mib in work.kept_in(mounts):
                kept[key] = max(kept.get(key, 0.0), mib)
        if not parts:
            continue
        first = store.hosts[0]
        own = margins if isinstance(margins, Margins) else margins[first]
        reserve = max(own.disk_reserve_mib, store.size_mib * own.disk_reserve_percent / 100)
        among = first if len(store.hosts) == 1 else ", ".join(store.hosts[:3])
        if len(store.hosts) > 3:
            among += f" and {len(store.hosts) - 3} more"
        row = Host(among, Facts(), (), own, {}).sum_up(
            store.name,
            "MiB",
            store.size_mib,
            reserve,
            store.size_mib - store.available_mib,
            sum(kept.values()),
            parts,
        )
        found[store.name] = (store, row, tuple(asking))
    return found


def judge_stores(
    found: Mapping[str, tuple[Store, Row, tuple[str, ...]]],
    margins: Mapping[str, Margins] | Margins,
    hints: Hints,
) -> tuple[list[Finding], set[str]]:
    """Findings of the storages, and the hosts that ask more of one than it has."""
    findings: list[Finding] = []
    short: set[str] = set()
    for store, row, asking in found.values():
        first = store.hosts[0]
        own = margins if isinstance(margins, Margins) else margins[first]
        work = Host(first if len(store.hosts) == 1 else SITE, Facts(), (), own, hints)
        work.judge(row, "disk", "disk", "free or add")
        if row.short > 0:
            short.update(asking)
        if len(store.members) > 1:
            work.add(
                "one_storage",
                PASS,
                f"{store.name} is one storage, counted once: {brief(store.seen_as, 200)}",
            )
        findings += work.findings
    return findings, short

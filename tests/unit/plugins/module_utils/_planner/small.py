# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small questions, and their answers by trying everything."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from itertools import combinations

from ansible_collections.mlops.onprem.plugins.module_utils._planner.mig import geometry
from ansible_collections.mlops.onprem.plugins.module_utils._planner.model import (
    Budget,
    Device,
    GpuNeed,
    Host,
    Instance,
    Workload,
)
from hypothesis import strategies as st

DEVICES = (Device("T4", 16384.0), Device("A10", 24576.0), Device("A30", 24576.0, "A30_PCIE_24GB"))
NEEDS = (
    GpuNeed(),
    GpuNeed(),
    GpuNeed(count=1),
    GpuNeed(count=2),
    GpuNeed(share=0.3),
    GpuNeed(share=0.5),
    GpuNeed(share=0.7, models=frozenset({"A10"})),
    GpuNeed(memory_mib=8192.0),
    GpuNeed(share=0.3, owner="jobs"),
    GpuNeed(memory_mib=8192.0, owner="jobs"),
    GpuNeed(profile="1g.6gb"),
    GpuNeed(profile="1g.6gb", owner="jobs"),
    GpuNeed(profile="2g.12gb"),
)


def steps_budget(steps: int = 400) -> Budget:
    """A budget that is used up after so many looks at the clock, on any machine alike."""
    looks = iter(range(10**9))
    return Budget(float(steps), lambda: float(next(looks)))


def hosts(most: int = 3) -> st.SearchStrategy[list[Host]]:
    one = st.builds(
        lambda supply, devices, tags: Host("", supply, tuple(devices), frozenset(tags)),
        st.tuples(st.sampled_from([0.0, 0.3, 1.0, 2.5, 4.0]), st.integers(0, 6).map(float)),
        st.lists(st.sampled_from(DEVICES), max_size=2),
        st.sets(st.sampled_from(["ssd", "rack=a"]), max_size=1),
    )
    return st.lists(one, max_size=most).map(
        lambda found: [
            Host(f"h{n}", host.supply, host.devices, host.tags) for n, host in enumerate(found)
        ]
    )


def workloads(most: int = 3, names: int = 3) -> st.SearchStrategy[list[Workload]]:
    one = st.builds(
        Workload,
        st.just(""),
        st.tuples(st.sampled_from([0.0, 0.1, 0.3, 1.0, 1.5]), st.integers(0, 3).map(float)),
        st.integers(0, 2),
        st.sampled_from(NEEDS),
        st.sampled_from([frozenset(), frozenset(), frozenset({"ssd"})]),
        st.one_of(
            st.none(),
            st.none(),
            st.frozensets(st.sampled_from([f"h{n}" for n in range(names)]), max_size=2),
        ),
        st.sampled_from(["", "", "apart"]),
        st.integers(0, 1),
    )
    return st.lists(one, max_size=most).map(
        lambda found: [
            Workload(f"w{n}", w.demand, w.replicas, w.gpu, w.tags, w.hosts, w.spread, w.priority)
            for n, w in enumerate(found)
        ]
    )


def instances(most_hosts: int = 3, most_workloads: int = 3) -> st.SearchStrategy[Instance]:
    return st.builds(
        lambda some, work: Instance(("cpu", "memory"), ("cores", "GiB"), tuple(some), tuple(work)),
        hosts(most_hosts),
        workloads(most_workloads),
    )


class _Everything:
    """All ways to place replicas, one after the other; what is placed now stands in the lists."""

    def __init__(self, instance: Instance) -> None:
        self.hosts = instance.hosts
        self.replicas = [work for work in instance.workloads for _each in range(work.replicas)]
        self.free = [[Fraction(str(x)) for x in host.supply] for host in self.hosts]
        self.devices = [[Fraction(1) for _device in host.devices] for host in self.hosts]
        self.layouts: list[list[dict[str, int]]] = [[{} for _d in h.devices] for h in self.hosts]
        self.owners: list[list[list[str]]] = [[[] for _d in host.devices] for host in self.hosts]
        self.spread: list[set[str]] = [set() for _host in self.hosts]
        self.best = 0

    def search(self, index: int, placed: int) -> None:
        self.best = max(self.best, placed)
        if index == len(self.replicas) or placed + len(self.replicas) - index <= self.best:
            return
        work = self.replicas[index]
        for at in range(len(self.hosts)):
            if not self.may(work, at):
                continue
            for chosen, size, profile in self.choices(work, at):
                with self.put(work, at, chosen, size, profile):
                    self.search(index + 1, placed + 1)
        self.search(index + 1, placed)

    def may(self, work: Workload, at: int) -> bool:
        """Whether the host is allowed, has the resources, and none like it."""
        host = self.hosts[at]
        allowed = work.tags <= host.tags and (work.hosts is None or host.name in work.hosts)
        fits = all(have >= Fraction(str(x)) for have, x in zip(self.free[at], work.demand))
        return allowed and fits and not (work.spread and work.spread in self.spread[at])

    def choices(self, work: Workload, at: int) -> Iterator[tuple[tuple[int, ...], Fraction, str]]:
        """Devices that may be taken, how much of each, and the profile that is made on them."""
        need = work.gpu
        can = [n for n in range(len(self.hosts[at].devices)) if self.may_use(need, at, n)]
        if not need.wanted:
            yield (), Fraction(0), ""
        elif need.profile:
            yield from (((n,), Fraction(0), need.profile) for n in can if self.room(need, at, n))
        elif need.count:
            idle = [n for n in can if self.devices[at][n] == 1]
            yield from ((chosen, Fraction(1), "") for chosen in combinations(idle, need.count))
        else:
            sizes = {n: self.size(need, at, n) for n in can}
            yield from (((n,), sizes[n], "") for n in can if self.devices[at][n] >= sizes[n])

    def may_use(self, need: GpuNeed, at: int, n: int) -> bool:
        device = self.hosts[at].devices[n]
        return (
            (not need.models or device.model in need.models)
            and bool(device.mig) == bool(need.profile)
            and set(self.owners[at][n]) <= {need.owner}
        )

    def room(self, need: GpuNeed, at: int, n: int) -> bool:
        """Whether a card takes one more instance."""
        wanted = dict(self.layouts[at][n])
        wanted[need.profile] = wanted.get(need.profile, 0) + 1
        return geometry.place(self.hosts[at].devices[n].mig, wanted) is not None

    def size(self, need: GpuNeed, at: int, n: int) -> Fraction:
        if not need.memory_mib:
            return Fraction(str(need.share))
        memory = Fraction(str(self.hosts[at].devices[n].memory_mib))
        return Fraction(str(need.memory_mib)) / memory

    @contextlib.contextmanager
    def put(
        self, work: Workload, at: int, chosen: tuple[int, ...], size: Fraction, profile: str
    ) -> Iterator[None]:
        """Place a replica until the end of the block."""
        self.take(work, at, chosen, size, profile, 1)
        before = set(self.spread[at])
        if work.spread:
            self.spread[at].add(work.spread)
        yield
        self.spread[at] = before
        self.take(work, at, chosen, size, profile, -1)

    def take(
        self, work: Workload, at: int, chosen: tuple[int, ...], size: Fraction, profile: str,
        times: int,
    ) -> None:  # fmt: skip
        demand = [Fraction(str(x)) for x in work.demand]
        self.free[at] = [have - times * want for have, want in zip(self.free[at], demand)]
        for n in chosen:
            self.devices[at][n] -= times * size
            if times > 0:
                self.owners[at][n].append(work.gpu.owner)
            else:
                self.owners[at][n].pop()
            if profile:
                self.layouts[at][n][profile] = self.layouts[at][n].get(profile, 0) + times


def most_placed(instance: Instance) -> int:
    """The largest number of replicas that can be placed, by trying everything."""
    everything = _Everything(instance)
    everything.search(0, 0)
    return everything.best

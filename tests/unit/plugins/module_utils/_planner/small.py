# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small questions, and their answers by trying everything."""

from __future__ import annotations

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


def most_placed(instance: Instance) -> int:
    """The largest number of replicas that can be placed, by trying everything."""
    replicas = [work for work in instance.workloads for _each in range(work.replicas)]
    free = [[Fraction(str(x)) for x in host.supply] for host in instance.hosts]
    devices = [[Fraction(1) for _device in host.devices] for host in instance.hosts]
    layouts: list[list[dict[str, int]]] = [[{} for _d in host.devices] for host in instance.hosts]
    owners: list[list[list[str]]] = [[[] for _d in host.devices] for host in instance.hosts]
    spread: list[set[str]] = [set() for _host in instance.hosts]
    best = 0

    def choices(work: Workload, at: int) -> Iterator[tuple[tuple[int, ...], Fraction, str]]:
        need, host = work.gpu, instance.hosts[at]
        can = [
            n
            for n, device in enumerate(host.devices)
            if (not need.models or device.model in need.models)
            and bool(device.mig) == bool(need.profile)
            and set(owners[at][n]) <= {need.owner}
        ]
        if not need.wanted:
            yield (), Fraction(0), ""
        elif need.profile:
            for n in can:
                wanted = dict(layouts[at][n])
                wanted[need.profile] = wanted.get(need.profile, 0) + 1
                if geometry.place(host.devices[n].mig, wanted) is not None:
                    yield (n,), Fraction(0), need.profile
        elif need.count:
            idle = [n for n in can if devices[at][n] == 1]
            for chosen in combinations(idle, need.count):
                yield chosen, Fraction(1), ""
        else:
            for n in can:
                size = Fraction(str(need.share))
                if need.memory_mib:
                    size = Fraction(str(need.memory_mib)) / Fraction(
                        str(host.devices[n].memory_mib)
                    )
                if devices[at][n] >= size:
                    yield (n,), size, ""

    def search(index: int, placed: int) -> None:
        nonlocal best
        best = max(best, placed)
        if index == len(replicas) or placed + len(replicas) - index <= best:
            return
        work = replicas[index]
        demand = [Fraction(str(x)) for x in work.demand]
        for at, host in enumerate(instance.hosts):
            allowed = work.tags <= host.tags and (work.hosts is None or host.name in work.hosts)
            fits = all(have >= want for have, want in zip(free[at], demand))
            if not allowed or not fits or (work.spread and work.spread in spread[at]):
                continue
            for chosen, size, profile in choices(work, at):
                free[at] = [have - want for have, want in zip(free[at], demand)]
                for n in chosen:
                    devices[at][n] -= size
                    owners[at][n].append(work.gpu.owner)
                    if profile:
                        layouts[at][n][profile] = layouts[at][n].get(profile, 0) + 1
                before = set(spread[at])
                if work.spread:
                    spread[at].add(work.spread)
                search(index + 1, placed + 1)
                spread[at] = before
                for n in chosen:
                    devices[at][n] += size
                    owners[at][n].pop()
                    if profile:
                        layouts[at][n][profile] -= 1
                free[at] = [have + want for have, want in zip(free[at], demand)]
        search(index + 1, placed)

    search(0, 0)
    return best

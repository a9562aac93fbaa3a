# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What jobs get and what is held back never exceed the host, and jobs that were planned fit."""

from __future__ import annotations

import random

from ansible_collections.mlops.onprem.plugins.module_utils._slurm.nodes import node_of
from ansible_collections.mlops.onprem.plugins.module_utils._slurm.share import (
    Amount,
    at_most,
    held,
    promised,
    sent,
    with_room,
)
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.placed import Placed

SIZE = Amount(32, 100_000)
SYSTEM = Amount(0.5, 4_000)


def replica(kind: str, cores: float, mib: float, most: float | None = None) -> Placed:
    return Placed(
        "w", kind, 0, "gpu1", cpu_cores=cores, memory_mib=mib, memory_limit_mib=most, cpu_limit=None
    )


def test_what_serves_has_its_limit_where_nobody_needs_it() -> None:
    chat = replica("serving", 4, 10_000, 40_000)
    assert held(SIZE, SYSTEM, [chat], 25) == Amount(5.5, 44_000)
    assert held(SIZE, SYSTEM, [replica("service", 4, 10_000)], 25) == Amount(5.5, 16_500)


def test_a_planned_job_goes_before_what_was_not_promised() -> None:
    chat = replica("serving", 4, 10_000, 40_000)
    # 100,000 less 4,000 and 70,000 leaves 26,000 of the 40,000.
    assert held(SIZE, SYSTEM, [chat, replica("training", 8, 70_000)], 25).memory_mib == 30_000
    # A job with a limit is sent with it.
    larger = [chat, replica("training", 8, 60_000, 80_000)]
    assert held(SIZE, SYSTEM, larger, 25).memory_mib == 20_000
    # What was promised is held back whatever else is planned.
    full = [chat, replica("batch", 40, 95_000)]
    assert held(SIZE, SYSTEM, full, 25) == Amount(4.5, 14_000)


def test_jobs_are_not_held_back() -> None:
    assert (
        held(SIZE, SYSTEM, [replica(kind, 9, 9_000) for kind in ("training", "user")], 25) == SYSTEM
    )


def test_what_is_held_for_the_system_gives_way_to_planned_jobs_and_no_more() -> None:
    kept = Amount(1.5, 14_000)
    assert with_room(SIZE, kept, 2_048, Amount(8, 50_000)) == kept
    # 85,000 and 13,952 (in steps of 64) are less than 100,000.
    assert with_room(SIZE, kept, 2_048, Amount(8, 86_020)) == Amount(1.5, 13_952)
    # What was promised to others stays, whatever is planned.
    assert with_room(SIZE, kept, 2_048, Amount(8, 95_000)) == Amount(1.5, 11_952)
    assert with_room(SIZE, kept, 0, Amount(8, 95_000)) == kept


def test_processors_are_held_back_only_from_jobs_that_are_not_planned() -> None:
    kept = Amount(0.7, 2_000)
    two = Amount(2, 24_000)
    assert with_room(two, kept, 0, Amount(1, 100)).cpu_cores == 0.7
    assert with_room(two, kept, 0, Amount(2, 100)).cpu_cores == 0
    assert with_room(two, kept, 0, Amount(3, 100)).cpu_cores == 0


def test_a_job_holds_whole_cores_of_so_many_threads() -> None:
    jobs = [replica("training", 0.5, 100, 150), replica("user", 2.5, 100)]
    assert sent(jobs) == Amount(4, 250)
    assert sent(jobs, 2) == Amount(6, 250)
    assert sent([], 2) == Amount()


def test_the_sums_of_random_hosts() -> None:
    dice = random.Random(11)
    shrunk = 0
    for _case in range(2000):
        cores = dice.choice([2, 4, 16, 64])
        threads = dice.choice([1, 2])
        size = Amount(cores * threads, dice.choice([4, 24, 128, 515]) * 1000.0)
        services = Amount(dice.random(), dice.uniform(500, size.memory_mib / 4))
        left = Amount(size.cpu_cores - services.cpu_cores, size.memory_mib - services.memory_mib)
        replicas = []
        for _replica in range(dice.randint(0, 6)):
            mib, used = dice.uniform(0, left.memory_mib), dice.uniform(0, left.cpu_cores)
            left = Amount(left.cpu_cores - used, left.memory_mib - mib)
            kind = dice.choice(["serving", "service", "training", "batch", "user"])
            most = dice.choice([None, mib, mib * 3])
            replicas.append(replica(kind, used, mib, most))
        kept = held(size, services, replicas, 25)
        serving = [one for one in replicas if one.kind in ("serving", "service")]
        jobs = promised(one for one in replicas if one not in serving)
        # What was promised is held, and jobs that were planned fit beside it.
        least, most_of = promised(serving), at_most(serving, 25)
        assert kept.memory_mib >= services.memory_mib + least.memory_mib - 1e-6
        assert kept.cpu_cores >= services.cpu_cores + least.cpu_cores - 1e-6
        assert kept.memory_mib + jobs.memory_mib <= size.memory_mib + 1e-6
        assert kept.cpu_cores + jobs.cpu_cores <= size.cpu_cores + 1e-6
        shrunk += kept.memory_mib < services.memory_mib + most_of.memory_mib - 1e-6
        node, wrong = node_of(
            "gpu1",
            {
                "cpu": {"sockets": 1, "cores": cores, "threads": cores * threads},
                "memory": {"total_mib": size.memory_mib},
            },
            {},
            "10.0.0.1",
            owners={},
            groups=(),
            spec_memory_mib=kept.memory_mib,
            spec_cores=kept.cpu_cores,
        )
        # What Slurm gives away and what is held are not more than there is.
        if not wrong:
            offered = node.memory_mib - node.spec_memory_mib
            assert offered + kept.memory_mib <= size.memory_mib
        given = node.cpus - node.spec_cores * threads
        assert given + kept.cpu_cores <= size.cpu_cores + 1e-2 or given == threads
    assert shrunk > 100

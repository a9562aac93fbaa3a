# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filling by quotas takes no host and no replica twice, and nothing that is not allowed."""

from __future__ import annotations

from collections import Counter

import numpy as np
from ansible_collections.mlops.onprem.plugins.module_utils._planner.bounds.sums import places
from ansible_collections.mlops.onprem.plugins.module_utils._planner.grouped import group
from ansible_collections.mlops.onprem.plugins.module_utils._planner.model import (
    Device,
    GpuNeed,
    Host,
    Instance,
    Workload,
)
from ansible_collections.mlops.onprem.plugins.module_utils._planner.search import column_generation
from ansible_collections.mlops.onprem.plugins.module_utils._planner.search.by_quota import Quotas
from ansible_collections.mlops.onprem.plugins.module_utils._planner.search.state import Packing
from ansible_collections.mlops.onprem.plugins.module_utils._planner.verify import verify

from tests.unit.plugins.module_utils._planner.small import steps_budget


def cut_hosts(hosts: int, seed: int) -> Instance:
    """Hosts of two GPU models cut into four workloads each, half of them bound to their model."""
    random = np.random.default_rng(seed)
    made, work = [], []
    for number in range(hosts):
        model = ("A10", "T4")[number % 2]
        made.append(Host(f"h{number}", (16.0, 64.0), (Device(model, 24_000.0),)))
        cpu = random.multinomial(12_000, [0.25] * 4) / 1000 + 1
        memory = random.multinomial(60, [0.25] * 4) + 1
        for part in range(4):
            models = frozenset({model}) if part % 2 else frozenset()
            need = GpuNeed(share=0.25, models=models)
            demand = (float(cpu[part]), float(memory[part]))
            work.append(Workload(f"w{number}-{part}", demand, 1, need))
    return Instance(("cpu", "memory"), ("cores", "GiB"), tuple(made), tuple(work))


def test_fillings_keep_to_hosts_replicas_and_models() -> None:
    instance = cut_hosts(24, seed=3)
    problem = group(instance)
    most = places(problem).most
    assert most is not None
    master = column_generation.Master(problem, most, np.ones(len(problem.shapes)))
    chosen = Quotas(master, 50).run(steps_budget(10_000))
    used = Counter(kind for kind, _filling in chosen)
    assert all(used[kind] <= size for kind, size in enumerate(problem.sizes.tolist()))
    placed: Counter[int] = Counter()
    for _kind, filling in chosen:
        for shape, times in filling:
            placed[shape] += times
    assert all(times <= problem.count[shape] for shape, times in placed.items())
    assert placed.total() >= 0.8 * len(instance.workloads)
    packing = Packing(problem)
    column_generation.realise(packing, chosen, master.filler.order)
    placement, _left = packing.placement()
    wrong = [line for line in verify(instance, placement) if not line.endswith("not placed")]
    assert not wrong

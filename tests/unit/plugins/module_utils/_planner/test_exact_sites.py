# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A sample of the campaign of tests/benchmarks/fuzz_planner.py against an exact solver."""

from __future__ import annotations

import itertools
from collections import Counter
from importlib import import_module
from importlib.util import find_spec

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._planner.model import (
    Host,
    Instance,
    Workload,
)
from ansible_collections.mlops.onprem.plugins.module_utils._planner.solver import solve

from tests.unit.plugins.module_utils._planner.small import steps_budget

if find_spec("molecule") is None:
    pytest.skip("OR-Tools is only in the environment of all tests", allow_module_level=True)
exact_sites = import_module("tests.exact_sites")
SITES = 200
AT_ONCE = 20
# Looks at the clock a search may take: with eight times as many it decides and places the same.
LOOKED = 500.0


# A clock that goes on with every look, so that no verdict hangs on the machine's speed.
LOOKS = itertools.count()


@pytest.mark.parametrize("first", range(0, SITES, AT_ONCE))
def test_nothing_that_is_said_of_a_site_is_wrong(first: int) -> None:
    wrong = [
        said
        for seed in range(first, first + AT_ONCE)
        for said in exact_sites.check(seed, lambda: float(next(LOOKS)), LOOKED)
    ]
    assert wrong == []


def test_the_sample_has_both_verdicts_and_shared_storage() -> None:
    sites = [exact_sites.random_site(seed) for seed in range(60)]
    verdicts = Counter(solve(site, steps_budget(2000)).verdict for site in sites)
    assert verdicts["FEASIBLE"] > 10
    assert verdicts["INFEASIBLE"] > 10
    assert any(site.pools for site in sites)


def test_the_truth_knows_when_nothing_more_fits() -> None:
    site = Instance(("cpu",), ("cores",), (Host("a", (1.0,)),), (Workload("w", (0.3,), 5),))
    assert exact_sites.most_placed(site) == 3
    assert exact_sites.most_placed(site, {("w", "a"): 4}) is None

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is counted one by one: things of one's own, and the replicas that a host may have."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.margins import Margins
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.planning import (
    Planned,
    plan_workloads,
)
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.request import Written
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.site_plan import SitePlan

from tests import example_site

NONE = Margins(0, 0, 1, 0, 0, 0, 3600, 0)
HOSTS = ("h1", "h2", "h3")


def facts(name: str) -> dict[str, Any]:
    found = example_site.facts(name, 16, 65536.0, [example_site.disk("/", "8:1", 1e5, 1e5)], 0)
    found["memory"]["available_mib"] = 65536.0
    found["services"]["foreign"] = []
    return found


def plan(*workloads: dict[str, Any], survive: bool = False, **written: Any) -> Planned:
    return plan_workloads(
        Written(
            [{"kind": "serving", "requests": {"cpu_cores": 1}, **row} for row in workloads],
            groups={"cpu": HOSTS},
            **written,
        ),
        HOSTS,
        {name: facts(name) for name in HOSTS},
        {},
        NONE,
        {"seconds": 5, "horizon_years": 2, "survive_lost_host": survive},
        example_site.steady_clock(),
        example_site.NOW,
    )


def planned(*workloads: dict[str, Any], **more: Any) -> SitePlan:
    found = plan(*workloads, **more)
    assert found.plan is not None, found.findings
    return found.plan


def refused(*workloads: dict[str, Any], **more: Any) -> list[str]:
    found = plan(*workloads, **more)
    assert found.plan is None
    return [row.found for row in found.findings]


@pytest.mark.parametrize(
    ("replicas", "most", "verdict"),
    [(6, 2, "FEASIBLE"), (7, 2, "INFEASIBLE"), (3, 1, "FEASIBLE"), (4, 1, "INFEASIBLE")],
)
def test_a_host_has_at_most_so_many_replicas(replicas: int, most: int, verdict: str) -> None:
    found = planned({"name": "chat", "replicas": replicas, "max_per_host": most})
    assert found.verdict == verdict
    on = Counter(one.host for one in found.result.placement)
    assert max(on.values()) <= most
    if verdict == "FEASIBLE":
        assert sum(on.values()) == replicas


def test_it_binds_one_workload_and_no_other() -> None:
    found = planned(
        {"name": "chat", "replicas": 6, "max_per_host": 2}, {"name": "search", "replicas": 30}
    )
    assert found.verdict == "FEASIBLE"


def test_what_is_short_is_said_in_places() -> None:
    found = planned({"name": "chat", "replicas": 7, "max_per_host": 2})
    short = found.shortages[0]
    assert (short.resource, short.unit, short.short) == (
        "room for chat (max_per_host)",
        "places",
        1,
    )
    assert [(row.host, row.total, row.left) for row in short.hosts] == [
        (name, 2.0, 0.0) for name in HOSTS
    ]


def test_a_lost_host_takes_its_places_with_it() -> None:
    assert planned({"name": "chat", "replicas": 4, "max_per_host": 2}).exposed == ()
    exposed = planned({"name": "chat", "replicas": 5, "max_per_host": 2}).exposed
    assert exposed
    assert all(row.stranded == {"chat": 1} for row in exposed if row.lost == 2)


NPUS = {"h1": {"npu": 2}, "h2": {"npu": 1, "licence": 4}, "h3": {}}


@pytest.mark.parametrize(
    ("replicas", "verdict"), [(1, "FEASIBLE"), (3, "FEASIBLE"), (4, "INFEASIBLE")]
)
def test_things_of_ones_own_are_planned(replicas: int, verdict: str) -> None:
    found = planned(
        {"name": "eyes", "replicas": replicas, "requests": {"resources": {"npu": 1}}},
        resources=NPUS,
    )
    assert found.verdict == verdict
    on = Counter(one.host for one in found.result.placement)
    assert all(on[name] <= NPUS[name].get("npu", 0) for name in HOSTS)
    if verdict == "INFEASIBLE":
        short = found.shortages[0]
        assert (short.resource, short.unit, short.short) == ("npu", "pieces", 1)


def test_two_of_a_kind_lie_on_one_host() -> None:
    work = {"name": "eyes", "requests": {"resources": {"npu": 2, "licence": 1}}}
    assert planned(work, resources=NPUS).verdict == "INFEASIBLE"
    there = {**NPUS, "h1": {"npu": 2, "licence": 1}}
    found = planned(work, resources=there)
    assert [one.host for one in found.result.placement] == ["h1"]
    assert found.as_dict()["workloads"][0]["needs"] == {
        "CPU": 0.0,
        "memory": 0.0,
        "licence": 1.0,
        "npu": 2.0,
    }


def test_what_could_be_bought_brings_its_own() -> None:
    found = planned(
        {"name": "eyes", "replicas": 5, "requests": {"resources": {"npu": 1}}},
        resources=NPUS,
        offers=[
            {"name": "plain", "cpu_cores": 8, "memory": "8GiB", "price": 1},
            {
                "name": "seeing",
                "cpu_cores": 8,
                "memory": "8GiB",
                "price": 9,
                "resources": {"npu": 2},
            },
        ],
    )
    assert found.purchase is not None
    assert dict(found.purchase.counts or {}) == {"seeing": 1}


def test_what_cannot_be_meant_is_a_sentence() -> None:
    assert refused({"name": "eyes", "requests": {"resources": {"npus": 1}}}, resources=NPUS) == [
        "mlops_workloads[0].requests.resources.npus: no host has 'npus' in mlops_host_resources;"
        " did you mean npu?"
    ]
    assert refused({"name": "eyes", "requests": {"resources": {"gpu": 1}}}, resources=NPUS) == [
        "mlops_workloads[0].requests.resources.gpu: is measured and need not be said: ask for"
        " gpu.count"
    ]
    assert refused({"name": "eyes"}, resources={"h1": {"NPU": 1}, "h2": {"npu": 1.5}}) == [
        "mlops_host_resources: has the key 'NPU'; names are 1 to 63 small letters, digits and inner"
        " hyphens (h1)",
        "mlops_host_resources.npu: must be a whole number, but is 1.5 (h2)",
    ]
    assert refused({"name": "chat", "max_per_host": 2, "anti_affinity": True}) == [
        "mlops_workloads[0].max_per_host: cannot stand beside anti_affinity, which allows one;"
        " keep one of them"
    ]
    assert refused({"name": "chat", "max_per_host": 0}) == [
        "mlops_workloads[0].max_per_host: must be at least 1, but is 0"
    ]

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be planned on measured hosts, and what the planner is asked."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._capacity import site_sums
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.margins import Margins
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.places import (
    Place,
    measured,
    offered,
)
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.question import (
    Earlier,
    build,
    grown,
    same_model,
)
from ansible_collections.mlops.onprem.plugins.module_utils._demand.offers import parse_shapes
from ansible_collections.mlops.onprem.plugins.module_utils._demand.workloads import (
    Known,
    Spec,
    parse_workloads,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import Demand, DiskNeed
from ansible_collections.mlops.onprem.plugins.module_utils._planner.model import (
    Assignment,
    Budget,
    Device,
    GpuNeed,
)
from ansible_collections.mlops.onprem.plugins.module_utils._planner.solver import solve
from ansible_collections.mlops.onprem.plugins.module_utils._supply.facts import facts_of

from tests import example_site

NONE = Margins(0, 0, 1, 0, 0, 0, 3600, 0)
KNOWN = Known(
    frozenset(("gpu", "cpu", "edge")), frozenset(("h1", "h2")), frozenset([("rack", "a")])
)
DATA, MODELS = "/srv/data", "/var/lib/models"


def specs(*rows: dict[str, Any]) -> tuple[Spec, ...]:
    found, problems = parse_workloads(
        [
            {"name": f"w{index}", "kind": "serving", "requests": {"cpu_cores": 1}, **row}
            for index, row in enumerate(rows)
        ],
        KNOWN,
    )
    assert problems == ()
    return found


def host(name: str = "h1", **changes: Any) -> dict[str, Any]:
    """16 cores, 64 GiB, half of it used; / and /srv on disks of their own; two idle GPUs."""
    facts = example_site.facts(
        name,
        16,
        65536.0,
        [
            example_site.disk("/", "8:1", 100_000, 60_000),
            example_site.disk("/srv", "8:2", 500_000, 500_000),
        ],
        2,
    )
    facts["memory"]["available_mib"] = 32768.0
    facts["services"]["foreign"] = []
    return {**facts, **changes}


def place(
    facts: dict[str, Any] | None = None,
    *demand: Demand,
    margins: Margins = NONE,
    running: tuple[Spec, ...] = (),
    kept: frozenset[int] = frozenset(),
    groups: tuple[str, ...] = (),
    labels: tuple[tuple[str, str], ...] = (),
    paths: tuple[str, ...] = (DATA, MODELS),
) -> Place:
    facts = host() if facts is None else facts
    found, _findings = measured(
        facts["host"],
        facts_of(facts),
        demand,
        margins,
        paths,
        running,
        kept,
        frozenset(groups),
        frozenset(labels),
    )
    assert found is not None
    return found


def test_workloads_get_what_roles_and_others_leave() -> None:
    role = Demand("Prometheus", cpu_cores=2, memory_mib=1024, disks=(DiskNeed("/var/p", 5000.0),))
    found = place(None, role, margins=Margins(512, 0.5, 1, 10, 0, 0, 3600, 0))
    assert found.cpu.free == 16 - 0.5 - 2
    assert found.memory.free == 32768 - 512 - 1024
    assert found.disks["disk /"].free == 60_000 - 10_000 - 5000
    assert found.disks["disk /srv"].free == 500_000 - 50_000


def test_what_a_role_asks_too_much_is_not_owed_by_workloads() -> None:
    assert place(None, Demand("A", memory_mib=50_000)).memory.free == 0


def test_work_that_runs_already_is_not_foreign() -> None:
    row = {"requests": {"memory_mib": 10_000, "disks": [{"path": DATA, "size_mib": 4000}]}}
    [spec] = specs(row)
    ours = {"foreign": [], "ours": [{"unit": "mlops-w0.service", "memory_mib": 9000.0}]}
    kept = {"directories": [{"path": DATA, "mib": 3000.0, "entries": 1}], "packages_mib": 0}
    facts = host(services=ours, ours=kept)
    facts["filesystems"][1]["available_mib"] = 497_000
    assert place(facts).memory.free == 32768
    assert place(facts).disks["disk /srv"].free == 497_000
    assert place(facts, running=(spec,)).memory.free == 32768 + 9000
    assert place(facts, running=(spec,)).disks["disk /srv"].free == 500_000


def test_a_host_that_was_not_measured_is_none_and_told() -> None:
    facts = host(memory={"total_mib": None, "available_mib": None})
    found, [finding] = measured("h1", facts_of(facts), (), NONE, ())
    assert found is None
    assert finding.sentence == (
        "h1: memory could not be measured, so no workload is planned on it, wanted a measured "
        "value; look with: ansible h1 -m mlops.onprem.capacity_facts"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"processes": 2, "memory_used_mib": 4000.0},
            "2 processes that no plan placed there use it (4,000 MiB)",
        ),
        ({"remapped_rows_failure": True}, "its memory has failed (row remapping failure)"),
        ({"retired_pages_pending": True}, "memory pages wait to be retired"),
        ({"mig_mode": "Enabled"}, "MIG is on, and its geometry is not known"),
        (
            {"processes": 0, "memory_used_mib": 9184.0, "memory_reserved_mib": 400.0},
            "9,184 MiB of it are in use, and no process is seen (an idle one holds at most "
            "128 MiB)",
        ),
        (
            {"processes": 0, "memory_used_mib": 9184.0},
            "9,184 MiB of it are in use, and no process is seen (an idle one holds at most "
            "700 MiB)",
        ),
        (
            {"processes": None, "memory_used_mib": 3000.0},
            "3,000 MiB of it are in use, whose processes cannot be seen (an idle one holds at "
            "most 700 MiB)",
        ),
        (
            {"processes": None, "memory_used_mib": None},
            "whether it is in use cannot be seen (neither processes nor memory in use are told)",
        ),
        ({"lost": True}, "it is lost: it no longer answers"),
        (
            {"memory_mib": None, "unknown": ["memory_mib: the driver says GPU is lost"]},
            "it is lost: it no longer answers",
        ),
        (
            {"memory_mib": None, "unknown": ["memory_mib: the driver says Unknown Error"]},
            "its memory is not known (the driver says Unknown Error)",
        ),
        ({"memory_mib": None}, "its memory is not known (the driver does not tell it)"),
        ({"remapped_rows_pending": True}, "memory rows wait to be remapped"),
        ({"repair_pending": True}, "its memory waits for a repair"),
        ({"recovery_action": "Reset"}, "the driver asks for a recovery (Reset)"),
        ({"fabric_problem": "bandwidth Degraded"}, "its fabric is degraded (bandwidth Degraded)"),
        ({"compute_mode": "Prohibited"}, "its compute mode is Prohibited"),
        ({"compute_mode": "Exclusive_Process"}, "its compute mode is Exclusive_Process"),
    ],
)
def test_a_gpu_that_cannot_be_planned_is_left_out_and_told(change: Any, said: str) -> None:
    facts = host()
    facts["gpus"]["gpus"][0].update(change)
    found, [finding] = measured("h1", facts_of(facts), (), NONE, ())
    assert found is not None
    assert [card.index for card in found.cards] == [1]
    assert finding.found == f"GPU 0 (NVIDIA L40S) is not planned: {said}"
    assert finding.remedy


@pytest.mark.parametrize(
    "change",
    [
        {"processes": 0, "memory_used_mib": 480.0},
        {"processes": None, "memory_used_mib": 12.0, "memory_reserved_mib": 460.0},
        {"processes": 0, "memory_used_mib": None},
        {"compute_mode": "Default", "recovery_action": "None"},
    ],
)
def test_a_gpu_that_is_idle_and_sound_is_planned(change: Any) -> None:
    facts = host()
    facts["gpus"]["gpus"][0].update(change)
    assert [card.index for card in place(facts).cards] == [0, 1]


def test_a_broken_gpu_is_none_for_roles_either() -> None:
    facts = host()
    for card in facts["gpus"]["gpus"]:
        card["lost"] = True
    found = site_sums.plan({"h1": facts}, {"h1": [Demand("llm", gpus=1)]}, NONE, example_site.NOW)
    assert found.verdict == "INFEASIBLE"


# -- GPUs that work in the memory of the host ---------------------------------------------------


def jetson(available: float = 62464.0, **card: Any) -> dict[str, Any]:
    """An AGX Orin: 61 GiB for processors and GPU together."""
    one = {
        "index": 0,
        "model": "NVIDIA Jetson AGX Orin",
        "memory_mib": 62464.0,
        "memory_used_mib": None,
        "processes": None,
        "memory_shared": True,
        **card,
    }
    return host(
        memory={"total_mib": 62464.0, "available_mib": available},
        gpus={"source": "device-tree", "gpus": [one]},
    )


def fits_on(facts: dict[str, Any], *rows: dict[str, Any], margins: Margins = NONE) -> str:
    problem = build([place(facts, margins=margins)], (), specs(*rows))
    budget = Budget(5.0, example_site.steady_clock())
    return solve(problem.instance, budget).verdict


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        ([{"requests": {"memory_gib": 45}, "gpu": {"memory_gib": 50}}], "INFEASIBLE"),
        ([{"requests": {"memory_gib": 10}, "gpu": {"memory_gib": 50}}], "FEASIBLE"),
        ([{"requests": {"memory_gib": 45}}, {"gpu": {"memory_gib": 50}}], "INFEASIBLE"),
        ([{"requests": {"memory_gib": 45}}, {"gpu": {"memory_gib": 15}}], "FEASIBLE"),
        ([{"requests": {"memory_gib": 45}, "gpu": {"share": 0.5}}], "INFEASIBLE"),
        ([{"requests": {"memory_gib": 25}, "gpu": {"share": 0.5}}], "FEASIBLE"),
        ([{"requests": {"memory_gib": 60}, "gpu": {"count": 1}}], "FEASIBLE"),
        ([{"requests": {"memory_gib": 60}, "gpu": {"count": 1}}] * 2, "INFEASIBLE"),
    ],
)
@pytest.mark.parametrize(
    "card",
    [{}, {"memory_shared": None}, {"model": "NVIDIA GB10", "processes": 0}],
)
def test_one_memory_is_planned_once(
    rows: list[dict[str, Any]], verdict: str, card: dict[str, Any]
) -> None:
    assert fits_on(jetson(**card), *rows) == verdict


def test_reserves_and_foreign_use_reach_both_sides_of_one_memory() -> None:
    thirty = {"gpu": {"memory_gib": 30}}
    assert fits_on(jetson(), thirty) == "FEASIBLE"
    assert fits_on(jetson(available=28000.0), thirty) == "INFEASIBLE"
    all_but_a_little = {"requests": {"memory_gib": 60}}
    assert fits_on(jetson(), all_but_a_little) == "FEASIBLE"
    five_percent = Margins(0, 0, 1, 0, 0, 0, 3600, 5)
    assert fits_on(jetson(), all_but_a_little, margins=five_percent) == "INFEASIBLE"
    found = place(jetson(), margins=five_percent)
    assert found.memory.reserved == pytest.approx(62464.0 * 0.05)


def test_a_card_with_memory_of_its_own_leaves_that_of_the_host_alone() -> None:
    rows = {"requests": {"memory_gib": 30}, "gpu": {"memory_gib": 40}}
    assert fits_on(host(), rows) == "FEASIBLE"


def test_a_shared_memory_that_could_be_bought_is_counted_once() -> None:
    found, problems = parse_shapes(
        [{"name": "orin", "cpu_cores": 12, "memory_gib": 61,
          "gpus": {"model": "Jetson AGX Orin", "count": 1, "memory_gib": 61}}],
        frozenset(),
    )  # fmt: skip
    assert problems == ()
    assert offered(found[0], NONE).cards[0].shared


def test_a_gpu_in_use_by_placed_work_stays_planned() -> None:
    facts = host()
    facts["gpus"]["gpus"][0]["processes"] = 1
    assert [card.index for card in place(facts, kept=frozenset([0])).cards] == [0, 1]


def test_gpus_of_roles_are_theirs_and_cards_without_driver_nobodys() -> None:
    assert [card.index for card in place(None, Demand("A", gpus=1)).cards] == [1]
    facts = host()
    facts["gpus"]["source"] = "pci"
    assert place(facts).cards == ()


def test_mig_cards_have_their_geometry_and_memory_its_margin() -> None:
    facts = host()
    facts["gpus"]["gpus"][0].update(
        model="NVIDIA A100-SXM4-80GB", memory_mib=81920.0, mig_mode="Enabled"
    )
    cards = place(facts, margins=Margins(0, 0, 1, 0, 0, 0, 3600, 10)).cards
    assert [(card.mig, card.memory_mib) for card in cards] == [
        ("A100_SXM4_80GB", 81920 * 0.9),
        ("", 46068 * 0.9),
    ]


def test_paths_on_one_file_system_share_it_and_elsewhere_do_not() -> None:
    apart = place()
    one = [example_site.disk("/", "8:1", 100_000, 60_000)]
    together = place(host("h2", filesystems=one))
    need = [{"path": DATA, "size_mib": 1000}, {"path": MODELS, "size_mib": 10}]
    problem = build((apart, together), (), specs({"requests": {"disks": need}, "replicas": 3}))
    instance = problem.instance
    assert instance.resources == (
        "CPU",
        "memory",
        "disk for /srv/data",
        "disk for /srv/data, /var/lib/models",
        "disk for /var/lib/models",
    )
    assert instance.workloads[0].demand == (0, 0, 1000, 1010, 10)
    # What does not bind on a host is as much as all that is asked for.
    assert instance.hosts[0].supply[2:] == (500_000, 3030, 60_000)
    assert instance.hosts[1].supply[2:] == (3000, 60_000, 30)


def test_a_path_that_lies_nowhere_or_on_a_read_only_disk_has_no_room() -> None:
    facts = host()
    facts["filesystems"] = [facts["filesystems"][1] | {"read_only": True}]
    need = [{"path": DATA, "size_mib": 1}, {"path": MODELS, "size_mib": 1}]
    problem = build((place(facts),), (), specs({"requests": {"disks": need}}))
    supply = dict(zip(problem.instance.resources, problem.instance.hosts[0].supply))
    assert (supply["disk for /srv/data"], supply["disk for /var/lib/models"]) == (0, 0)


def test_groups_labels_and_names_become_tags_and_hosts() -> None:
    places = (
        place(groups=("gpu",), labels=(("rack", "a"),)),
        place(host("h2"), groups=("edge",)),
    )
    works = specs(
        {},
        {"hosts": {"groups": ["gpu", "cpu"]}},
        {"hosts": {"labels": {"rack": "a"}, "groups": ["gpu"]}},
        {"hosts": {"names": ["h2"]}},
    )
    instance = build(places, (), works).instance
    assert [work.tags for work in instance.workloads] == [
        {"!edge"},
        {"cpu|gpu"},
        {"rack=a", "gpu"},
        set(),
    ]
    assert instance.workloads[3].hosts == frozenset(("h2",))
    assert [host.tags for host in instance.hosts] == [{"!edge", "cpu|gpu", "gpu", "rack=a"}, set()]


@pytest.mark.parametrize(
    ("written", "same"),
    [("A100", True), ("a100-sxm4", True), ("A100 80GB", True), ("A10", False), ("H100", False)],
)
def test_a_model_is_meant_by_any_of_its_words(written: str, same: bool) -> None:
    assert same_model(written, "NVIDIA A100-SXM4-80GB") is same


def test_models_that_are_meant_are_asked_for_and_unknown_ones_stay() -> None:
    works = specs({"gpu": {"count": 1, "models": ["L40S", "H100"]}})
    [work] = build((place(),), (), works).instance.workloads
    assert work.gpu == GpuNeed(count=1, models=frozenset(("NVIDIA L40S", "H100")))


def test_growth_makes_more_or_larger_replicas() -> None:
    works = specs(
        {"replicas": 4, "growth": {"percent_per_year": 1}},
        {"replicas": 4, "growth": {"percent_per_year": 1, "of": "requests"}, "gpu": {"share": 0.5}},
        {"replicas": 4},
    )
    factors = {"w0": 1.4, "w1": 1.4, "w2": 1.0}
    grown = build((place(),), (), works, lambda spec: factors[spec.name]).instance.workloads
    assert [(work.replicas, work.demand[0]) for work in grown] == [(6, 1), (4, 1.4), (4, 1)]
    assert grown[1].gpu.share == 0.5


@pytest.mark.parametrize(
    ("replicas", "times", "wanted"),
    [
        (1, 1.0, 1),
        (1, 1.1, 1),
        (1, 1.11, 2),
        (1, 1.49, 2),
        (20, 1.0, 20),
        (20, 1.01, 20),
        (10, 1.14, 11),
        (3, 1.2, 4),
        (4, 0.5, 2),
        (0, 3.0, 0),
    ],
)
def test_a_replica_carries_a_tenth_more_than_written_at_most(
    replicas: int, times: float, wanted: int
) -> None:
    assert grown(replicas, times) == wanted
    assert replicas * times <= wanted * 1.1 + 1e-9


def test_an_offer_is_a_host_with_margins_taken_off() -> None:
    rows = [
        {
            "name": "box",
            "cpu_cores": 8,
            "memory_mib": 10_000,
            "disks": [{"path": "/srv", "size_mib": 100_000}],
            "gpus": {"count": 2, "model": "NVIDIA L40S", "memory_mib": 1000},
            "groups": ["gpu"],
            "price": 5,
            "most": 3,
        }
    ]
    shapes, problems = parse_shapes(rows, KNOWN.groups)
    assert problems == ()
    margins = Margins(1000, 0.5, 1.5, 10, 0, 0, 3600, 10)
    works = specs({"requests": {"disks": [{"path": DATA, "size_mib": 7}]}})
    problem = build((), ((shapes[0], offered(shapes[0], margins)),), works)
    [offer] = problem.offers
    assert offer.supply == (11.5, 9000, 90_000)
    assert offer.devices == (Device("NVIDIA L40S", 900.0),) * 2
    assert (offer.price, offer.most, offer.tags) == (5, 3, frozenset(("!edge",)))


def test_the_way_to_the_drivers_numbers_and_back() -> None:
    facts = copy.deepcopy(host())
    facts["gpus"]["gpus"][0]["remapped_rows_failure"] = True
    problem = build((place(facts),), (), specs({"gpu": {"count": 1}, "replicas": 2}))
    assert problem.gpus(Assignment("w0", 0, "h1", (0,))) == (1,)
    rows = [
        Earlier("w0", 0, "h1", (1,)),
        Earlier("w0", 1, "h1", (0,)),  # its GPU has failed since
        Earlier("w0", 2, "h1", (1,)),  # there are only two replicas now
        Earlier("w0", 1, "h9", (0,)),  # this host is gone
        Earlier("w7", 0, "h1", ()),  # this workload is gone
    ]
    assert problem.earlier(rows) == (Assignment("w0", 0, "h1", (0,)),)

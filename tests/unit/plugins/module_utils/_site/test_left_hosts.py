"""Hosts with work and hosts of the scheduler: those that have it, and those that had it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import ShapeError
from ansible_collections.mlops.onprem.plugins.module_utils._site.description import describe
from ansible_collections.mlops.onprem.plugins.module_utils._site.errors import SiteError
from ansible_collections.mlops.onprem.plugins.module_utils._site.handed import handed
from ansible_collections.mlops.onprem.plugins.module_utils._site.site import Site

ROOT = Path(__file__).resolve().parents[5]
KNOWN = describe(ROOT, lambda path: yaml.safe_load(path.read_text(encoding="utf-8")))
GROUPS = {
    "all": ["ctl1", "ctl2", "gpu1", "gpu2", "gpu3"],
    "control": ["ctl1", "ctl2"],
    "scheduler": ["ctl2", "ctl1"],
    "gpu": ["gpu1", "gpu2"],
}
ASKS = {"requests": {"cpu_cores": 2, "memory": "2GiB"}}
WORKLOADS = [
    {
        "name": "chat",
        "kind": "serving",
        "replicas": 2,
        "run": {"engine": "onnx", "model": "chat", "version": 1},
        **ASKS,
    },
    # Planned, but nothing that the platform runs.
    {"name": "desk", "kind": "serving", "replicas": 1, **ASKS},
]
ROWS = [
    {"workload": "chat", "replica": 0, "host": "gpu2"},
    {"workload": "chat", "replica": 1, "host": "gpu1"},
    {"workload": "desk", "replica": 0, "host": "gpu3"},
    {"workload": "gone", "replica": 0, "host": "gpu3"},
]
BY_HOST = {
    host: [
        {"workload": row["workload"], "replica": row["replica"]}
        for row in ROWS
        if row["host"] == host
    ]
    for host in ("gpu1", "gpu2", "gpu3")
}


def site(
    groups: Mapping[str, list[str]] | None = None,
    said: Mapping[str, Any] | None = None,
    **files: Any,
) -> Site:
    """A site with these files, by their names without ending, beside the inventory."""
    given = {"mlops_workloads": WORKLOADS, **(said or {})}
    return Site(
        table=KNOWN.table,
        provides=KNOWN.provides,
        groups={**GROUPS, **(groups or {})},
        value=lambda _host, name: given.get(name),
        secret=str,
        address=str,
        state=lambda name: files.get(name.removesuffix(".json")),
    )


PLACED: dict[str, Any] = {"placement": {"placement": ROWS}}


@pytest.mark.parametrize(
    ("known", "groups", "left", "kept"),
    [
        ([], {}, [], ["ctl1", "ctl2", "gpu1", "gpu2"]),
        (["gpu3", "gpu1"], {}, ["gpu3"], ["ctl1", "ctl2", "gpu1", "gpu2"]),
        # Out of the inventory altogether: nobody can go there.
        (["gone", "gpu1"], {}, [], ["ctl1", "ctl2", "gpu1", "gpu2"]),
        # Away today: it is tidied when it is back.
        (["gpu3"], {"mlops_deferred": ["gpu3"]}, [], ["ctl1", "ctl2", "gpu1", "gpu2", "gpu3"]),
        # No scheduler any more.
        (["ctl1", "gpu1"], {"scheduler": []}, ["ctl1", "gpu1"], []),
    ],
    ids=["first", "leaves", "gone", "away", "none"],
)
def test_a_host_that_left_the_scheduler_is_known_until_it_is_tidied(
    known: list[str], groups: dict[str, list[str]], left: list[str], kept: list[str]
) -> None:
    found = site(groups, scheduler_hosts=known)
    assert handed(found, "scheduler_hosts_known", "ctl1") == known
    assert handed(found, "scheduler_hosts_left", "ctl1") == left
    assert handed(found, "scheduler_hosts_kept", "ctl1") == kept


def test_a_host_that_is_declared_lost_stays_one_of_the_scheduler() -> None:
    whole = site(scheduler_hosts=["gpu1"])
    lost = replace(whole, groups={**GROUPS, "gpu": ["gpu2"]}, inventory=GROUPS, lost=["gpu1"])
    assert handed(lost, "scheduler_hosts_now", "ctl1") == ["ctl2", "ctl1", "gpu1", "gpu2"]
    assert handed(lost, "scheduler_hosts_left", "ctl1") == []


@pytest.mark.parametrize(
    ("known", "groups", "kept", "left", "group"),
    [
        ([], {}, ["gpu1", "gpu2"], ["gpu1", "gpu2"], ["ctl1", "gpu1", "gpu2", "ctl2"]),
        (
            ["gpu3", "gone"],
            {"scheduler": []},
            ["gone", "gpu1", "gpu2", "gpu3"],
            ["gpu1", "gpu2"],
            ["ctl1", "gpu1", "gpu2", "gpu3"],
        ),
        # Away today, both with work and without: the latter is tidied when it is back.
        (
            ["gpu3"],
            {"scheduler": ["ctl1"], "mlops_deferred": ["gpu2", "gpu3"]},
            ["gpu1", "gpu2", "gpu3"],
            ["gpu1", "gpu2", "gpu3"],
            ["ctl1", "gpu1"],
        ),
    ],
    ids=["first", "leaves", "away"],
)
def test_a_host_that_has_no_work_any_more_is_known_until_it_is_tidied(
    known: list[str],
    groups: dict[str, list[str]],
    kept: list[str],
    left: list[str],
    group: list[str],
) -> None:
    found = site(groups, workload_hosts=known, **PLACED)
    assert handed(found, "workload_hosts_kept", "ctl1") == kept
    assert handed(found, "workload_hosts_left", "ctl1") == left
    assert handed(found, "workload_group", "ctl1") == group


def test_where_nothing_is_placed_and_nothing_was_nobody_is_asked() -> None:
    for found in (site(), site(said={"mlops_workloads": None}, **PLACED)):
        assert handed(found, "workload_group", "ctl1") == []
        assert handed(found, "workload_hosts_kept", "ctl1") == []


def test_what_this_run_has_judged_goes_before_what_the_last_one_wrote() -> None:
    old = site(placement={"placement": ROWS[:1]})
    new = replace(old, fact=lambda _host, name: {"mlops_assessment": {"placement": BY_HOST}}[name])
    assert handed(old, "placed_here", "gpu1") == []
    assert handed(new, "placed_here", "gpu1") == [{"workload": "chat", "replica": 1}]
    assert handed(old, "workloads_placement", "gpu1") == ROWS[:1]
    assert handed(new, "workload_hosts_left", "ctl1") == ["gpu1", "gpu2"]
    # Judged, and nothing is placed: the old file does not count.
    none = replace(old, fact=lambda _host, _name: {"placement": {}})
    assert handed(none, "placed_here", "gpu2") == []
    assert handed(none, "workload_hosts_left", "ctl1") == []


def test_a_judgement_without_a_placement_lets_the_last_one_stand() -> None:
    found = replace(site(**PLACED), fact=lambda _host, _name: {"verdict": "FEASIBLE"})
    assert handed(found, "placed_here", "gpu2") == ROWS[:1]


@pytest.mark.parametrize("judged", [False, True])
def test_the_monitoring_is_told_what_the_plan_sets_aside_on_a_host(judged: bool) -> None:
    found = site(**PLACED)
    if judged:
        found = replace(site(), fact=lambda _host, _name: {"placement": BY_HOST})
    assert handed(found, "monitoring_planned", "gpu1") == [
        {
            "unit": "mlops-workload-chat-1.service",
            "service": "chat[1]",
            "cpu_cores": 2.0,
            "memory_mib": 2048.0,
        }
    ]
    assert handed(found, "monitoring_planned", "ctl1") == []


def test_a_workload_that_cannot_be_read_is_a_sentence() -> None:
    found = site(said={"mlops_workloads": [{"name": "chat", "kind": "other"}]}, **PLACED)
    with pytest.raises(ShapeError, match=r"^mlops_workloads\[0\]\.kind: "):
        handed(found, "workload_group", "ctl1")


def test_teams_are_told_by_name() -> None:
    teams = [{"name": "vision", "members": ["ada", "bob"]}, {"name": "nlp", "members": ["cy"]}]
    found = site(said={"mlops_teams": teams})
    assert handed(found, "workloads_teams", "ctl1") == ["vision", "nlp"]
    members = {"vision": ["ada", "bob"], "nlp": ["cy"]}
    assert handed(found, "workloads_members", "ctl1") == members
    assert handed(site(), "workloads_members", "ctl1") == {}
    with pytest.raises(SiteError, match=r"^mlops_teams\[0\]"):
        handed(site(said={"mlops_teams": [{"name": "vision"}]}), "workloads_teams", "ctl1")


def test_who_has_no_scheduler_is_told_no_bucket_for_jobs() -> None:
    assert handed(site({"scheduler": []}), "workloads_object_store", "ctl1") == {}

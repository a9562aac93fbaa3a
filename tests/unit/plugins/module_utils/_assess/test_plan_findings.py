# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From an inventory and facts to a plan, its findings, its JSON and what people read."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from typing import Any

import jsonschema
import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._assess.language import words
from ansible_collections.mlops.onprem.plugins.module_utils._assess.plan_findings import (
    findings_of,
    with_verdict,
)
from ansible_collections.mlops.onprem.plugins.module_utils._assess.plan_page import plan_html
from ansible_collections.mlops.onprem.plugins.module_utils._assess.plan_report import (
    bought,
    plan_text,
)
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.margins import Margins
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.planning import (
    Planned,
    plan_site,
    plan_workloads,
)
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.request import Written
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.site_plan import SitePlan
from ansible_collections.mlops.onprem.plugins.module_utils._planner.model import Budget, Cancelled
from ansible_collections.mlops.onprem.plugins.module_utils._planner.verify import verify
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import example_site

SCHEMA = json.loads(
    (example_site.ROOT / "docs" / "schema" / "capacity_plan.schema.json").read_text()
)
NONE = Margins(0, 0, 1, 0, 0, 0, 3600, 0)
NOW = example_site.NOW
JOB: dict[str, Any] = {"name": "job", "kind": "training", "requests": {"cpu_cores": 4}}


def facts(name: str, gpus: int = 0, cores: int = 8) -> dict[str, Any]:
    """A host with 8 cores and 16 GiB that does nothing."""
    disks = [example_site.disk("/", "8:1", 100_000, 100_000)]
    found = example_site.facts(name, cores, 16384.0, disks, gpus)
    found["memory"]["available_mib"] = 16384.0
    found["services"]["foreign"] = []
    return found


def planned(
    workloads: Any,
    hosts: Mapping[str, Any] | None = None,
    accept: bool = False,
    margins: Margins = NONE,
    asked: Mapping[str, Any] | None = None,
    **written: Any,
) -> Planned:
    """The plan of a small site: two hosts h1 and h2 in the group cpu, unless others are given."""
    supply = {name: facts(name) for name in ("h1", "h2")} if hosts is None else hosts
    names = list(supply)
    written.setdefault("groups", {"cpu": names, "all": names})
    found = plan_workloads(
        Written(workloads, **written),
        names,
        {name: told for name, told in supply.items() if told is not None},
        {},
        margins,
        {"seconds": 2, **(asked or {})},
        example_site.steady_clock(),
        NOW,
    )
    return with_verdict(found, accept)


def answer(workloads: Any, **more: Any) -> SitePlan:
    plan = planned(workloads, **more).plan
    assert plan is not None
    return plan


def said(found: Planned) -> list[str]:
    return [f"{row.severity} {row.sentence}" for row in found.findings if row.severity != "pass"]


def example(refused: bool = False) -> Planned:
    """The example company as it is, or with more training than its servers carry."""
    return _example(refused)


@cache
def _example(refused: bool) -> Planned:
    if not refused:
        return example_site.planned(what_if={"remove_hosts": ["gpu2"]}, seconds=6)
    return example_site.planned(example_site.with_changes(nightly_training={"replicas": 2}))


def data(refused: bool = False) -> dict[str, Any]:
    plan = example(refused).plan
    assert plan is not None
    return plan.as_dict()


# -- the example company ------------------------------------------------------------------------


def test_the_example_company_fits_and_the_placement_holds() -> None:
    plan = example().plan
    assert plan is not None
    assert plan.verdict == "FEASIBLE"
    assert verify(plan.problem.instance, plan.result.placement) == ()
    assert {row["host"] for row in plan.placement()} == {"gpu1", "gpu2", "mlops1"}


@pytest.mark.parametrize("refused", [False, True])
def test_the_json_is_what_the_schema_says(refused: bool) -> None:
    told = json.loads(json.dumps(data(refused), allow_nan=False))
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(told, SCHEMA)


def test_the_schema_leaves_nothing_open() -> None:
    told = json.loads(json.dumps(data()))
    told["hosts"][0]["colour"] = "blue"
    with pytest.raises(jsonschema.ValidationError, match="colour"):
        jsonschema.validate(told, SCHEMA)


def test_the_same_seed_gives_the_same_plan() -> None:
    again = example_site.planned().plan
    assert again is not None
    assert again.placement() == data()["placement"]


def test_a_refusal_says_what_is_missing_and_what_to_buy() -> None:
    [finding] = [row for row in example(refused=True).findings if row.severity == "fail"]
    assert finding.id == "capacity.workloads"
    assert re.fullmatch(
        r"the workloads do not fit: 0\.28 GPUs missing "
        r"\(8\.28 GPUs requested, 8 GPUs to be had: .*",
        finding.found,
    )
    assert finding.remedy == "buy 1 x gpu-server, or ask for less in mlops_workloads"


def test_the_figures_of_a_shortage_add_up() -> None:
    rows = data(refused=True)["shortages"]
    assert rows
    for row in rows:
        assert row["short"] == pytest.approx(row["requested"] - row["free_total"], abs=0.02)
        for key in ("reserved", "used"):
            assert row[key] == pytest.approx(sum(one[key] for one in row["hosts"]), abs=0.01)
        for one in row["hosts"]:
            free = one["total"] - one["reserved"] - one["used"]
            assert one["free"] == pytest.approx(max(0, free), abs=0.01)
            assert 0 <= one["left"] <= one["free"]


def test_growth_ends_the_plan_on_a_day_and_the_purchase_for_the_horizon_is_told() -> None:
    told = data()
    horizon = told["horizon"]
    assert horizon["fits_until"] < horizon["ends"] < horizon["until"]
    gpus = next(row for row in horizon["resources"] if row["resource"] == "GPU NVIDIA L40S")
    assert horizon["ends"] <= gpus["runs_out"] < horizon["until"]
    assert told["purchase"] is None
    assert told["purchase_for_horizon"]["counts"] == {"gpu-server": 1}
    assert 0 < told["purchase_for_horizon"]["at_least"] <= 62000


def test_what_if_tells_both_sides_and_what_moves() -> None:
    change = data()["what_if"]
    assert change["changes"]["remove_hosts"] == ["gpu2"]
    assert (change["before"]["verdict"], change["after"]["verdict"]) == ("FEASIBLE", "INFEASIBLE")
    assert change["before"]["hosts"] - change["after"]["hosts"] == 1
    assert all(row["from"] == "gpu2" != row["to"] for row in change["moved"])


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("width", [80, 100])
def test_the_text_fits_a_terminal(refused: bool, width: int) -> None:
    lines = plan_text(data(refused), width)
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("Workloads: INFEASIBLE" if refused else "Workloads: FEASIBLE")


def test_long_names_do_not_break_the_table() -> None:
    long = "n" * 63
    hosts = {f"{long}-{number}": facts(f"{long}-{number}") for number in range(3)}
    rows = [{**JOB, "name": long, "replicas": 6}]
    assert max(map(len, plan_text(answer(rows, hosts=hosts).as_dict()))) <= 100


def test_many_rows_are_cut_in_the_text_and_whole_in_the_json() -> None:
    rows = [{**JOB, "name": f"w{number}", "requests": {"cpu_cores": 0.1}} for number in range(50)]
    told = answer(rows).as_dict()
    assert len(told["workloads"]) == 50
    assert [line for line in plan_text(told) if "and 30 more" in line]


@pytest.mark.parametrize("refused", [False, True])
def test_the_page_is_escaped_and_shows_every_workload_and_host(refused: bool) -> None:
    told = data(refused)
    told["workloads"][0]["gpu"] = "<b>half</b>"
    body = "\n".join(plan_html(told, words("en")))
    assert "<b>half</b>" not in body
    seen: list[str] = []

    class Reader(HTMLParser):
        def handle_data(self, data: str) -> None:
            seen.append(data)

    Reader().feed(body)
    text = " ".join(seen)
    for row in told["workloads"]:
        assert row["name"] in text
    for load in told["hosts"]:
        assert load["host"] in text


# -- verdicts -----------------------------------------------------------------------------------


def test_work_that_fits_is_a_pass() -> None:
    found = planned([{**JOB, "replicas": 4}])
    [finding] = found.findings
    assert (finding.severity, finding.found) == (
        "pass",
        "4 replicas of 1 workload fit on 2 hosts; the placement was verified",
    )


def test_a_replica_larger_than_any_host_is_refused_though_the_sum_would_do() -> None:
    found = planned([{**JOB, "requests": {"cpu_cores": 9}}])
    assert found.plan is not None
    [row] = [row for row in found.plan.shortages if row.cause == "nowhere"]
    assert (row.scope, row.resource, row.requested, row.short) == ("host", "CPU", 9, 1)
    assert [(one.host, one.free) for one in row.hosts] == [("h1", 8), ("h2", 8)]
    [sentence] = said(found)
    assert sentence.startswith(
        "fail site: the workloads do not fit: 1 core of CPU missing (9 cores requested, "
        "8 cores to be had: no single host has room for one replica)"
    )
    assert "a sum over all hosts alone would have said yes" in sentence
    text = " ".join(plan_text(found.plan.as_dict()))
    assert "A sum over all hosts alone would have said yes." in text


def test_what_does_not_fit_on_measured_hosts_is_not_decided_while_others_are_unknown() -> None:
    hosts = {"h1": facts("h1"), "h2": None, "h3": {**facts("h3"), "clock": {"epoch": 1}}}
    found = planned([{**JOB, "replicas": 3}], hosts=hosts)
    assert found.plan is not None
    assert found.plan.verdict == "UNDECIDED"
    [sentence] = said(found)
    assert sentence.startswith(
        "error site: it is not decided whether the workloads fit: they do not fit on the hosts "
        "that could be measured; not measured: h2, h3; the best placement found leaves out 1 of "
        "job, wanted room for all 3 replicas"
    )
    assert "assess_accept_undecided: true" in sentence
    accepted = planned([{**JOB, "replicas": 3}], hosts=hosts, accept=True)
    assert [row.severity for row in accepted.findings] == ["warn"]


def test_what_fits_on_measured_hosts_fits_whatever_the_others_have() -> None:
    assert answer([JOB], hosts={"h1": facts("h1"), "h2": None}).verdict == "FEASIBLE"


@pytest.mark.parametrize(
    "spoilt",
    [
        {"host": "h2"},
        {"clock": {"epoch": NOW - 7200}},
        {"memory": {"total_mib": float("nan"), "available_mib": 1}},
        {"filesystems": "none"},
    ],
)
def test_facts_that_cannot_be_trusted_carry_nothing(spoilt: dict[str, Any]) -> None:
    plan = answer([JOB], hosts={"h1": {**facts("h1"), **spoilt}})
    assert (plan.verdict, plan.site.unmeasured) == ("UNDECIDED", ("h1",))
    assert plan.result.placement == ()


def test_no_hosts_at_all_carry_nothing() -> None:
    plan = answer([JOB], hosts={})
    assert plan.verdict == "INFEASIBLE"
    assert plan.as_dict()["placement"] == []


def test_the_lowest_priority_is_left_out() -> None:
    rows = [
        {**JOB, "name": f"p{number}", "priority": number, "requests": {"cpu_cores": 8}}
        for number in (1, 3, 2)
    ]
    plan = answer(rows)
    assert dict(plan.result.unplaced) == {"p1": 1}


def test_mebibytes_and_gibibytes_give_the_same_plan() -> None:
    gib = answer([{**JOB, "replicas": 3, "requests": {"memory_gib": 7}}])
    mib = answer([{**JOB, "replicas": 3, "requests": {"memory_mib": 7168}}])
    assert gib.placement() == mib.placement()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 8), st.integers(1, 12), st.integers(1, 3)), min_size=1, max_size=4
    )
)
def test_units_and_one_more_host_never_turn_a_yes_into_a_no(
    shapes: list[tuple[int, int, int]],
) -> None:
    def rows(key: str, times: int) -> list[dict[str, Any]]:
        return [
            {
                **JOB,
                "name": f"w{number}",
                "replicas": replicas,
                "requests": {"cpu_cores": cores, key: memory * times},
            }
            for number, (cores, memory, replicas) in enumerate(shapes)
        ]

    asked = {"seconds": 1}
    gib = answer(rows("memory_gib", 1), asked=asked)
    mib = answer(rows("memory_mib", 1024), asked=asked)
    assert gib.verdict == mib.verdict
    assert verify(gib.problem.instance, gib.result.placement) == () or gib.verdict != "FEASIBLE"
    if gib.verdict == "FEASIBLE":
        three = {name: facts(name) for name in ("h1", "h2", "h3")}
        assert answer(rows("memory_gib", 1), hosts=three, asked=asked).verdict == "FEASIBLE"


def test_anti_affinity_keeps_replicas_apart() -> None:
    plan = answer([{**JOB, "replicas": 2, "requests": {"cpu_cores": 1}, "anti_affinity": True}])
    assert Counter(row["host"] for row in plan.placement()) == {"h1": 1, "h2": 1}
    found = planned([{**JOB, "replicas": 3, "anti_affinity": True}])
    assert found.plan is not None
    assert found.plan.verdict == "INFEASIBLE"
    assert "spread" in {row.cause for row in found.plan.shortages}


def test_gpus_are_told_by_the_drivers_number_and_name() -> None:
    host = facts("h1", gpus=3)
    host["gpus"]["gpus"][0]["processes"] = 1
    found = planned([{**JOB, "gpu": {"count": 2}}], hosts={"h1": host})
    assert found.plan is not None
    [row] = found.plan.placement()
    assert (row["gpus"], row["gpu_ids"]) == ([1, 2], ["GPU-h1-1", "GPU-h1-2"])
    assert "warn h1: GPU 0 (NVIDIA L40S) is not planned" in said(found)[0]


def mig_host(name: str = "h1") -> dict[str, Any]:
    host = facts(name, gpus=1, cores=64)
    card = {"model": "NVIDIA A100-SXM4-80GB", "memory_mib": 81920.0, "mig_mode": "Enabled"}
    host["gpus"]["gpus"][0].update(card)
    return host


def mig_rows(**counts: int) -> list[dict[str, Any]]:
    return [
        {
            **JOB,
            "name": f"m{profile[1]}",
            "replicas": count,
            "requests": {"cpu_cores": 1},
            "gpu": {"profile": {"p3": "3g.40gb", "p1": "1g.10gb"}[profile]},
        }
        for profile, count in counts.items()
    ]


def test_mig_instances_are_placed_where_the_card_allows() -> None:
    plan = answer(mig_rows(p3=1, p1=4), hosts={"h1": mig_host()})
    assert plan.verdict == "FEASIBLE"
    slices = {(row["profile"], row["slice"]) for row in plan.placement()}
    assert len(slices) == 5
    assert not {start for profile, start in slices if profile == "3g.40gb"} - {0, 4}


def test_mig_instances_that_fit_by_sum_but_not_by_place_are_refused_with_that_reason() -> None:
    # 3 + 3 of 7 compute slices are in use, but all 8 memory slices: no place for a seventh.
    plan = answer(mig_rows(p3=2, p1=1), hosts={"h1": mig_host()})
    assert plan.verdict == "INFEASIBLE"
    [finding] = findings_of(plan, False)
    assert "1 GPU with MIG (A100_SXM4_80GB) missing" in finding.found
    assert "the MIG instances cannot be placed together on the cards" in finding.found


# -- lost hosts, limits, growth, purchase -------------------------------------------------------


def test_a_host_that_may_not_be_lost_is_shown_and_refused_only_where_asked() -> None:
    rows = [{**JOB, "replicas": 3}]
    plan = answer(rows)
    assert {row.host: dict(row.stranded) for row in plan.survivals or ()} == {
        row["host"]: row["stranded"] for row in plan.as_dict()["lost_hosts"]
    }
    # Two on one host and one on the other, which has room for one more: either way one is left.
    assert [dict(row.stranded) for row in plan.exposed] == [{"job": 1}, {"job": 1}]
    found = planned(rows, asked={"survive_lost_host": True})
    sentence, _other = said(found)
    assert re.match(
        r"fail h\d: if it is lost, 1 of job would find no other place: without this host the "
        r"workloads do not fit at all, wanted room elsewhere",
        sentence,
    )
    assert said(planned([{**JOB, "replicas": 2}], asked={"survive_lost_host": True})) == []


def test_memory_limits_beyond_the_host_are_a_warning() -> None:
    rows = [{**JOB, "requests": {"memory": "4GiB"}, "limits": {"memory": "10GiB"}, "replicas": 2}]
    [sentence] = said(planned(rows, hosts={"h1": facts("h1")}))
    assert sentence.startswith(
        "warn h1: the memory limits of what is placed here add up to 20,480 MiB, wanted at most "
        "16,384 MiB"
    )


def test_a_plan_without_growth_lasts() -> None:
    horizon = answer([JOB]).horizon
    assert horizon is not None
    assert (horizon.ends, horizon.fits_until) == (None, horizon.until)


def test_a_step_ends_the_plan_on_its_very_day() -> None:
    steps = [{"date": "2027-05-01", "factor": 3}]
    horizon = answer([{**JOB, "replicas": 2, "growth": {"steps": steps}}]).horizon
    assert horizon is not None
    assert horizon.ends is not None
    assert (horizon.fits_until.isoformat(), horizon.ends.isoformat(), horizon.proven) == (
        "2027-04-30",
        "2027-05-01",
        True,
    )


def test_what_is_missing_can_be_bought() -> None:
    offers = [{"name": "box", "cpu_cores": 8, "memory": "16GiB", "price": 10}]
    plan = answer([{**JOB, "replicas": 9}], offers=offers)
    told = plan.as_dict()["purchase"]
    assert (told["counts"], told["price"]) == ({"box": 3}, 30)
    assert 20 < told["at_least"] <= 30


def test_what_nothing_on_offer_mends_is_told() -> None:
    offers = [{"name": "box", "cpu_cores": 8, "memory": "16GiB", "most": 1}]
    found = planned([{**JOB, "replicas": 9}], offers=offers)
    assert found.plan is not None
    assert found.plan.as_dict()["purchase"]["counts"] is None
    assert "buy" not in said(found)[0]


def test_what_fits_on_nothing_is_named_and_the_others_are_bought_for() -> None:
    offers = [{"name": "box", "cpu_cores": 8, "memory": "16GiB"}]
    giant = {**JOB, "name": "giant", "requests": {"cpu_cores": 100}}
    found = planned([{**JOB, "replicas": 9}, giant], offers=offers)
    assert found.plan is not None
    told = found.plan.as_dict()["purchase"]
    assert (told["verdict"], told["counts"], told["others"]["counts"]) == (
        "INFEASIBLE",
        None,
        {"box": 3},
    )
    assert "giant would fit on no host that is known or offered" in said(found)[0]
    words = bought(told)
    assert words.startswith("Nothing listed in mlops_host_offers mends it: giant would fit on no")
    assert "All else: 3 x box; proven lower bound: " in words


def test_hosts_and_workloads_can_be_added_on_trial() -> None:
    offers = [{"name": "box", "cpu_cores": 8, "memory": "16GiB"}]
    change = {
        "add_hosts": [{"offer": "box", "count": 2}],
        "add_workloads": [{**JOB, "name": "new", "replicas": 3}],
        "remove_workloads": ["old"],
    }
    rows = [{**JOB, "replicas": 4}, {**JOB, "name": "old", "requests": {"memory": "1GiB"}}]
    plan = answer(rows, offers=offers, what_if=change)
    told = plan.as_dict()["what_if"]
    assert (told["before"]["hosts"], told["after"]["hosts"]) == (2, 4)
    assert (told["before"]["replicas"], told["after"]["replicas"]) == (5, 7)
    assert told["after"]["verdict"] == "FEASIBLE"
    assert told["moved"] == []


# -- staying where it is ------------------------------------------------------------------------


def kept(plan: SitePlan) -> dict[str, Any]:
    """What the assessment writes down."""
    return {"schema": 1, "planned_at": "", "verdict": "", "placement": plan.placement()}


def test_nothing_moves_where_nothing_changed() -> None:
    rows = [
        {**JOB, "replicas": 3, "gpu": {"share": 0.5}},
        {**JOB, "name": "other", "requests": {"cpu_cores": 1}, "gpu": {"count": 1}},
    ]
    hosts = {name: facts(name, gpus=3) for name in ("h1", "h2")}
    first = answer(rows, hosts=hosts)
    # Placed by hand otherwise than the planner would.
    rows_before = [
        {"workload": "job", "replica": 0, "host": "h2", "gpus": [2]},
        {"workload": "job", "replica": 1, "host": "h1", "gpus": [1]},
        {"workload": "job", "replica": 2, "host": "h2", "gpus": [0]},
        {"workload": "other", "replica": 0, "host": "h1", "gpus": [2]},
    ]
    earlier = {"schema": 1, "placement": rows_before}
    again = answer(rows, hosts=hosts, earlier=earlier)
    assert first.kept == 0
    assert again.kept == 4
    assert [
        {key: row[key] for key in ("workload", "replica", "host", "gpus")}
        for row in again.placement()
    ] == rows_before


def test_more_work_is_added_around_what_is_there() -> None:
    first = answer([{**JOB, "replicas": 2}])
    again = answer([{**JOB, "replicas": 3}, {**JOB, "name": "new"}], earlier=kept(first))
    assert again.kept == 2
    assert again.placement()[:2] == first.placement()


def test_what_was_on_a_host_that_is_gone_moves_and_the_rest_stays() -> None:
    hosts = {name: facts(name) for name in ("h1", "h2", "h3")}
    rows = [{**JOB, "replicas": 3, "anti_affinity": True}]
    first = answer(rows, hosts={**hosts})
    spare = {"h1": facts("h1"), "h2": facts("h2"), "h4": facts("h4")}
    again = answer(rows, hosts=spare, earlier=kept(first))
    assert again.kept == 2
    assert Counter(row["host"] for row in again.placement()) == {"h1": 1, "h2": 1, "h4": 1}


def test_what_no_longer_fits_where_it_was_is_placed_anew() -> None:
    earlier = {
        "schema": 1,
        "placement": [{"workload": "job", "replica": n, "host": "h1"} for n in range(3)],
    }
    plan = answer([{**JOB, "replicas": 3}], earlier=earlier)
    assert plan.verdict == "FEASIBLE"
    assert verify(plan.problem.instance, plan.result.placement) == ()


@pytest.mark.parametrize(
    ("earlier", "why"),
    [
        ("unreadable: no JSON", "'unreadable: no JSON'"),
        ([], "must be a mapping, but is a list"),
        ({"schema": 2, "placement": []}, "schema: must be 1"),
        (
            {"schema": 1, "placement": [{"workload": "job"}]},
            "placement[0].replica: is missing",
        ),
        (
            {"schema": 1, "placement": [{"workload": "j", "replica": -1, "host": "h"}]},
            "placement[0].replica: must be at least 0, but is -1",
        ),
    ],
)
def test_an_earlier_placement_that_cannot_be_read_is_told_and_not_needed(
    earlier: Any, why: str
) -> None:
    found = planned([JOB], earlier=earlier)
    assert found.plan is not None
    assert found.plan.verdict == "FEASIBLE"
    assert said(found)[0].startswith(f"warn site: placement.json cannot be read: {why}, wanted")


# -- what cannot be read ------------------------------------------------------------------------


def test_every_mistake_is_a_finding_and_nothing_is_planned() -> None:
    found = planned(
        [{**JOB, "gpu": {"share": 1.4}}],
        offers=[{"name": "box"}],
        labels={"h1": 3},
        asked={"seconds": 0},
    )
    assert found.plan is None
    assert [row.found for row in found.findings] == [
        "assess_seconds: must be at least 1, but is 0",
        "mlops_host_labels: must be a mapping, but is a number (h1)",
        "mlops_host_offers[0].memory: is missing",
        "mlops_workloads[0].gpu.share: 1.4 is more than one GPU; ask for gpu.count: 2",
    ]
    assert {row.severity for row in found.findings} == {"fail"}
    assert found.findings[3].remedy == "mend mlops_workloads[0].gpu.share in the inventory"


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"seconds": "nan"}, "assess_seconds: must be a finite number, but is 'nan'"),
        ({"seconds": 1e6}, "assess_seconds: 1000000.0 is more than a day, in seconds (86,400)"),
        ({"horizon_years": -1}, "assess_horizon_years: must be at least 0, but is -1"),
        (
            {"survive_lost_host": "maybe"},
            "assess_survive_lost_host: must be true or false, but is 'maybe'",
        ),
    ],
)
def test_how_to_plan_is_checked_as_well(asked: Any, problem: str) -> None:
    assert [row.found for row in planned([JOB], asked=asked).findings] == [problem]


def test_a_plan_can_be_cancelled() -> None:
    plan = answer([JOB])
    with pytest.raises(Cancelled):
        plan_site(
            plan.site, plan.planning, Budget(5, example_site.steady_clock(), cancelled=lambda: True)
        )


def test_progress_is_told() -> None:
    plan = answer([{**JOB, "growth": {"percent_per_year": 10}}])
    told: list[str] = []
    budget = Budget(5, example_site.steady_clock(), progress=lambda what, _done: told.append(what))
    plan_site(replace(plan.site, earlier=()), plan.planning, budget)
    assert told[0] == "placing the workloads"
    assert told[-1] == "done"


def gpu_facts(name: str, mode: str | None, model: str = "NVIDIA A100-SXM4-80GB") -> dict[str, Any]:
    found = facts(name, 1)
    found["gpus"]["gpus"][0].update(model=model, memory_mib=81920.0, mig_mode=mode)
    return found


def steps(workloads: Any, **more: Any) -> str:
    return "\n".join(step for row in answer(workloads, **more).shortages for step in row.steps)


def with_gpu(**gpu: Any) -> list[dict[str, Any]]:
    return [{"name": "a", "kind": "training", "gpu": gpu}]


def test_a_mig_profile_of_another_card_is_told_with_those_of_the_card() -> None:
    told = steps(with_gpu(profile="3g.20gb"), hosts={"h1": gpu_facts("h1", "Enabled")})
    assert "NVIDIA A100-SXM4-80GB has no MIG profile 3g.20gb; it has 1g.10gb" in told
    assert "3g.40gb" in told


@pytest.mark.parametrize("mode", [None, "Disabled"])
def test_a_mig_profile_where_mig_is_off_is_told_with_the_command(mode: str | None) -> None:
    told = steps(with_gpu(profile="3g.40gb"), hosts={"h1": gpu_facts("h1", mode)})
    assert "MIG is off, or not known, on NVIDIA A100-SXM4-80GB: turn it on with nvidia-smi" in told


def test_nothing_is_said_of_profiles_that_a_card_has() -> None:
    rows = [{"name": "a", "kind": "training", "gpu": {"profile": "3g.40gb"}, "replicas": 3}]
    told = steps(rows, hosts={"h1": gpu_facts("h1", "Enabled")})
    assert told
    assert "has no MIG profile" not in told
    assert "MIG is off" not in told


@pytest.mark.parametrize(
    ("written", "model", "near"),
    [
        ("RTXA4000", "NVIDIA RTX A4000", True),
        ("A10O", "NVIDIA A100-SXM4-80GB", True),
        ("l40-s", "NVIDIA L40S", True),
        ("MI300X", "NVIDIA L40S", False),
    ],
)
def test_models_that_nobody_has_are_told_with_the_one_that_is_meant(
    written: str, model: str, near: bool
) -> None:
    hosts = {"h1": gpu_facts("h1", None, model)}
    told = steps(with_gpu(count=1, models=[written]), hosts=hosts)
    assert f"no GPU is of the model {written}; the hosts have {model}" in told
    assert (f"did you mean {model}?" in told) is near


def test_a_device_at_the_edge_is_told_to_be_left_out_unless_it_is_named() -> None:
    groups = {"edge": ["h1"], "cpu": ["h2"], "all": ["h1", "h2"]}
    row = {**JOB, "hosts": {"labels": {"plant": "hall-3"}}}
    told = steps([row], groups=groups, labels={"h1": {"plant": "hall-3"}})
    assert "asked for: plant=hall-3, but no device of the group edge" in told
    assert "add groups: [edge] to its hosts" in told
    assert "!edge" not in told
    named = {**JOB, "hosts": {"labels": {"plant": "hall-3"}, "groups": ["edge"]}}
    assert answer([named], groups=groups, labels={"h1": {"plant": "hall-3"}}).verdict == "FEASIBLE"


def test_paused_work_takes_nothing_and_fits() -> None:
    paused = {**JOB, "name": "paused", "replicas": 0, "growth": {"percent_per_year": 50}}
    plan = answer([JOB, paused], asked={"horizon_days": 365})
    assert plan.verdict == "FEASIBLE"
    assert [one.workload for one in plan.result.placement] == ["job"]
    alone = planned([paused])
    assert alone.plan is not None
    assert alone.plan.verdict == "FEASIBLE"
    jsonschema.validate(plan.as_dict(), SCHEMA)


@pytest.mark.parametrize(
    ("row", "figures"),
    [
        ({"requests": {"memory": "1500GiB"}}, "(1,500 GiB requested, 16 GiB to be had"),
        ({"requests": {"cpu_cores": 9}}, "(9 cores requested, 8 cores to be had"),
        ({"gpu": {"count": 1}}, "(1 GPU requested, 0 GPUs to be had"),
    ],
)
def test_every_figure_of_a_refusal_has_its_unit(row: dict[str, Any], figures: str) -> None:
    [sentence] = said(planned([{"name": "a", "kind": "training", **row}]))
    assert figures in sentence


def test_one_is_not_many() -> None:
    rows = [{**JOB, "hosts": {"names": ["h1"]}, "replicas": 3}]
    found = planned(rows)
    assert found.plan is not None
    text = " ".join(plan_text(found.plan.as_dict()))
    assert "the 1 hosts" not in text
    assert "1 replicas" not in text
    assert "host h1 together: 8 cores, 4 cores short" in text
    single = planned([{**JOB, "requests": {"cpu_cores": 9}}]).findings[-1]
    assert single.wanted == "room for the one replica"


def test_a_plain_sentence_stands_before_a_proof_by_prices() -> None:
    plan = example(refused=True).plan
    assert plan is not None
    proofs = [row for row in plan.shortages if any("a price" in step for step in row.steps)]
    assert [row.steps[0] for row in proofs] == [
        "however the 17 replicas are spread over the hosts, at most 16 find room at the same time;"
        " the lines below prove it and can be skipped"
    ]
    others = [row for row in plan.shortages if row not in proofs]
    assert others
    assert not any("can be skipped" in step for row in others for step in row.steps)

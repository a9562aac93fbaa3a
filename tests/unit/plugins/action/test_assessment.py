# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the workloads of a site do to its assessment, and what is kept from run to run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ansible_collections.mlops.onprem.plugins.action import assessment
from ansible_collections.mlops.onprem.plugins.module_utils._assess.page import as_html
from ansible_collections.mlops.onprem.plugins.module_utils._assess.report import as_text

from tests import example_site

VARIABLES, GROUPS, LABELS = example_site.inventory()
PROFILE = yaml.safe_load(
    (example_site.ROOT / "roles" / "assess" / "vars" / "main.yml").read_text(encoding="utf-8")
)["__assess_profiles"]["production"]
SCHEMA = json.loads(
    (example_site.ROOT / "docs" / "schema" / "capacity_plan.schema.json").read_text()
)
MORE_TRAINING = example_site.with_changes(nightly_training={"replicas": 2})


def silent(_what: str, _done: float) -> None:
    """Nobody listens."""


def site(without: str = "", **own: Any) -> dict[str, Any]:
    """The variables of a run over the example company, some with variables of their own."""
    supply, demand = example_site.supply(GROUPS), example_site.demand(GROUPS)
    hostvars = {
        host: {
            "mlops_host_labels": LABELS[host],
            "mlops_teams": VARIABLES["mlops_teams"],
            "ansible_facts": {
                "mlops_supply": {"host": host, "failed": "no Python"}
                if host == without
                else supply[host],
                "mlops_demand": [need.as_dict() for need in demand[host]],
                "mlops_findings": [],
            },
            **own.get(host, {}),
        }
        for host in GROUPS["all"]
    }
    return {"hostvars": hostvars, "groups": GROUPS}


def arguments(directory: Path, **changes: Any) -> dict[str, Any]:
    return {
        "hosts": GROUPS["all"],
        "site": "example",
        "profile": "production",
        "language": "en",
        "margins": PROFILE["margins"],
        "rules": PROFILE["rules"],
        "max_age": 3600.0,
        "findings": [],
        "hints": {},
        "waivers": [],
        "workloads": VARIABLES["mlops_workloads"],
        "offers": VARIABLES["mlops_host_offers"],
        "planning": {"seconds": 3, "seed": 0, "horizon_years": 0, "survive_lost_host": False},
        "what_if": {},
        "accept_undecided": False,
        "directory": str(directory),
        **changes,
    }


def assess(
    directory: Path, variables: dict[str, Any] | None = None, **changes: Any
) -> tuple[dict[str, Any], Any]:
    """Judge, and keep what a run would keep."""
    args = arguments(directory, **changes)
    report, placement = assessment.assess(
        args, variables or site(), example_site.NOW, silent, example_site.steady_clock()
    )
    assessment.write_report(directory, report)
    if report["exit_code"] == 0:
        assessment.keep_placement(directory, report, bool(args["workloads"]))
    return report, placement


def stopping(report: dict[str, Any]) -> list[str]:
    return [row["found"] for row in report["findings"] if row["severity"] in ("fail", "error")]


def test_work_that_fits_goes_and_its_placement_is_kept(tmp_path: Path) -> None:
    report, placement = assess(tmp_path)
    assert (report["verdict"], report["exit_code"]) == ("go", 0)
    assert set(placement) == {"gpu1", "gpu2", "mlops1"}
    assert [row["workload"] for row in placement["mlops1"]] == ["labelling"]
    kept = json.loads((tmp_path / "placement.json").read_text())
    assert kept["schema"] == 1
    assert kept["placement"] == report["workloads"]["placement"]
    assert (tmp_path / "placement.json").stat().st_mode & 0o777 == 0o600
    written = json.loads((tmp_path / "assessment.json").read_text())
    assert written["workloads"]["verdict"] == "FEASIBLE"
    assert "Workloads: FEASIBLE" in as_text(report)
    assert "<h2>Workloads</h2>" in as_html(report)


def test_the_next_run_leaves_everything_where_it_is(tmp_path: Path) -> None:
    first, _placement = assess(tmp_path)
    second, _placement = assess(tmp_path)
    assert second["workloads"]["kept"] == len(first["workloads"]["placement"]) == 16
    assert second["workloads"]["placement"] == first["workloads"]["placement"]


def test_work_that_does_not_fit_refuses_the_site_and_keeps_what_was_placed(tmp_path: Path) -> None:
    assess(tmp_path)
    before = (tmp_path / "placement.json").read_text()
    report, _placement = assess(tmp_path, workloads=MORE_TRAINING)
    assert (report["verdict"], report["exit_code"]) == ("refused", 1)
    assert stopping(report)[0].startswith("the workloads do not fit: ")
    assert (tmp_path / "placement.json").read_text() == before


def test_a_waiver_lets_a_site_go_with_the_best_placement(tmp_path: Path) -> None:
    waiver = {
        "check": "capacity.workloads",
        "host": "site",
        "reason": "the new server comes on Monday",
        "owner": "jane",
        "expires": "2027-01-31",
    }
    report, placement = assess(tmp_path, workloads=MORE_TRAINING, waivers=[waiver])
    assert report["exit_code"] == 0
    assert report["workloads"]["unplaced"]
    assert sum(map(len, placement.values())) == 17 - sum(report["workloads"]["unplaced"].values())


def test_what_is_not_decided_stops_the_site_until_somebody_says_go(tmp_path: Path) -> None:
    missing = site(without="gpu2")
    waivers = [
        {
            "check": "assess.measure",
            "host": "gpu2",
            "reason": "x",
            "owner": "x",
            "expires": "2027-01-31",
        }
    ]
    report, _placement = assess(tmp_path, missing, waivers=waivers)
    ours = [row for row in report["findings"] if row["id"] == "capacity.workloads"]
    assert [row["severity"] for row in ours] == ["error"]
    assert "not measured: gpu2" in ours[0]["found"]
    assert "see that gpu2 can be measured" in ours[0]["remedy"]
    report, _placement = assess(tmp_path, missing, waivers=waivers, accept_undecided=True)
    ours = [row for row in report["findings"] if row["id"] == "capacity.workloads"]
    assert [row["severity"] for row in ours] == ["warn"]


def test_a_mistake_in_a_workload_refuses_the_site(tmp_path: Path) -> None:
    wrong = example_site.with_changes(handbook={"gpu": {"share": 1.4}})
    report, placement = assess(tmp_path, workloads=wrong)
    assert report["exit_code"] == 1
    assert stopping(report) == [
        "mlops_workloads[1].gpu.share: 1.4 is more than one GPU; ask for gpu.count: 2"
    ]
    assert (placement, "workloads" in report) == ({}, False)
    assert not (tmp_path / "placement.json").exists()


def test_one_host_with_a_list_of_its_own_is_refused(tmp_path: Path) -> None:
    own = site(gpu1={"mlops_workloads": []})
    report, _placement = assess(tmp_path, own)
    assert stopping(report) == ["sets mlops_workloads to something else than the rest of the site"]


def test_with_a_limit_the_placement_of_the_run_before_stands(tmp_path: Path) -> None:
    first, _placement = assess(tmp_path)
    before = (tmp_path / "placement.json").read_text()
    report, placement = assess(tmp_path, hosts=["gpu1"])
    assert report["exit_code"] == 0
    assert "workloads" not in report
    assert len(placement["gpu1"]) == sum(
        1 for row in first["workloads"]["placement"] if row["host"] == "gpu1"
    )
    assert [row["found"] for row in report["findings"] if row["severity"] == "warn"] == [
        "the workloads were not planned: 1 of 15 hosts are looked at; the placement of the run "
        "before stands"
    ]
    assert (tmp_path / "placement.json").read_text() == before


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 7}', "\x00"])
def test_a_spoilt_placement_file_is_told_and_written_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "placement.json").write_text(text)
    report, _placement = assess(tmp_path)
    told = [row for row in report["findings"] if row["severity"] == "warn"]
    assert [row["id"] for row in told] == ["capacity.earlier_placement"]
    assert json.loads((tmp_path / "placement.json").read_text())["schema"] == 1


def test_without_workloads_nothing_is_planned_and_an_old_placement_goes(tmp_path: Path) -> None:
    assess(tmp_path)
    report, placement = assess(tmp_path, workloads=[])
    assert report["exit_code"] == 0
    assert (placement, "workloads" in report) == ({}, False)
    assert "Workloads" not in as_text(report)
    assert "Workloads" not in as_html(report)
    assert not (tmp_path / "placement.json").exists()


@pytest.mark.parametrize("written", ["{", "[]", '{"workloads": []}', '{"workloads": {"days": 1}}'])
def test_a_report_that_cannot_be_read_keeps_no_days(tmp_path: Path, written: str) -> None:
    (tmp_path / "assessment.json").write_text(written)
    report, _placement = assess(tmp_path)
    assert report["workloads"]["days"]["ends"] == report["workloads"]["horizon"]["ends"]


def test_a_report_tells_the_days_of_the_one_before_while_they_are_near(tmp_path: Path) -> None:
    report, _placement = assess(tmp_path)
    found = report["workloads"]["days"]
    assert [(row["group"], row["resource"]) for row in found["resources"]] == [
        (row["group"], row["resource"]) for row in report["workloads"]["horizon"]["resources"]
    ]
    again, _placement = assess(tmp_path)
    assert again["workloads"]["days"] == found


def test_without_workloads_the_planner_is_not_even_loaded() -> None:
    program = (
        "import sys\n"
        "from ansible_collections.mlops.onprem.plugins.action import assessment\n"
        "from ansible_collections.mlops.onprem.plugins.plugin_utils import planned_work\n"
        "hosts = planned_work.Hosts({'a': {}}, {}, planned_work.Lost(), {})\n"
        "found = assessment.workloads_of("
        "{'workloads': []}, hosts, {'all': ['a']}, {}, {}, None, 0.0, print, None)\n"
        "assert found == (None, {}, []), found\n"
        "print(sorted(name for name in sys.modules if name in ('numpy', 'scipy')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(example_site.ROOT / ".collections"), "PATH": "/usr/bin:/bin"},
    )
    assert done.stdout.strip() == "[]"


# -- a host that is lost ------------------------------------------------------------------------

# Two servers as the example has them, and work of which not all finds room on one of them.
SERVED: dict[str, Any] = {
    "name": "chat",
    "kind": "serving",
    "requests": {"memory": "4GiB"},
    "gpu": {"count": 1},
}


def told(report: dict[str, Any], check: str) -> list[str]:
    return [f"{row['host']}: {row['found']}" for row in report["findings"] if row["id"] == check]


def on(report: dict[str, Any]) -> list[tuple[str, int, str]]:
    return [
        (row["workload"], row["replica"], row["host"]) for row in report["workloads"]["placement"]
    ]


def test_a_lost_host_is_left_out_and_its_work_is_placed_again(tmp_path: Path) -> None:
    rows = [{**SERVED, "replicas": 2, "anti_affinity": True, "hosts": {"groups": ["gpu"]}}]
    apart = [{**rows[0], "anti_affinity": False}]
    first, _placement = assess(tmp_path, workloads=rows)
    assert sorted(host for _name, _number, host in on(first)) == ["gpu1", "gpu2"]
    staying = next(row for row in on(first) if row[2] == "gpu1")
    report, placement = assess(tmp_path, site(without="gpu2"), workloads=apart, lost=["gpu2"])
    assert report["exit_code"] == 0
    assert set(placement) == {"gpu1"}
    assert staying in on(report)
    assert report["lost"] == ["gpu2"]
    assert "declared lost in mlops_lost_hosts" in told(report, "assess.lost")[0]
    assert told(report, "capacity.moved") == [
        "gpu2: 1 replica that was on it goes elsewhere: chat to gpu1"
    ]
    assert told(report, "assess.measure") == []
    assert "declared lost" in as_text(report)
    assert "declared lost" in as_html(report)


def test_what_cannot_move_waits_and_is_told_in_every_run_until_the_host_is_back(
    tmp_path: Path,
) -> None:
    rows = [
        {**SERVED, "name": "pinned", "hosts": {"names": ["gpu2"]}},
        {**SERVED, "name": "wide", "replicas": 5, "hosts": {"groups": ["gpu"]}},
    ]
    assess(tmp_path, workloads=rows)
    for _run in range(2):
        report, placement = assess(tmp_path, site(without="gpu2"), workloads=rows, lost=["gpu2"])
        assert report["exit_code"] == 0
        assert report["workloads"]["verdict"] == "FEASIBLE"
        assert set(placement) == {"gpu1"}
        assert len(on(report)) == 4
        assert told(report, "capacity.waiting") == [
            "gpu2: 1 replica of pinned cannot move and waits until it is back: pinned may run on"
            " gpu2 only",
            "gpu2: 1 replica of wide cannot move and waits until it is back: wide finds no room on"
            " the hosts that are left",
        ]
        jsonschema.validate(report["workloads"], SCHEMA)
    back, _placement = assess(tmp_path, workloads=rows)
    assert ("pinned", 0, "gpu2") in on(back)
    assert len(on(back)) == 6
    assert told(back, "capacity.waiting") == []
    assert "waiting" not in json.loads((tmp_path / "placement.json").read_text())


def test_work_of_high_priority_moves_first(tmp_path: Path) -> None:
    rows = [
        {**SERVED, "name": name, "replicas": 2, "priority": priority, "hosts": {"groups": ["gpu"]}}
        for name, priority in (("a", 0), ("b", 9), ("c", 0))
    ]
    before = [
        {"workload": name, "replica": number, "host": host, "gpus": [first + number]}
        for name, host, first in (("a", "gpu1", 0), ("b", "gpu1", 2), ("c", "gpu2", 0))
        for number in range(2)
    ]
    (tmp_path / "placement.json").write_text(json.dumps({"schema": 1, "placement": before}))
    report, _placement = assess(tmp_path, site(without="gpu1"), workloads=rows, lost=["gpu1"])
    assert report["exit_code"] == 0
    assert report["workloads"]["lost"] == [
        {
            "host": "gpu1",
            "moved": [{"workload": "b", "to": "gpu2"}, {"workload": "b", "to": "gpu2"}],
            "waiting": {"a": 2},
        }
    ]
    assert report["workloads"]["kept"] == 2  # those of c


def test_a_dataset_that_moves_leaves_its_data_behind(tmp_path: Path) -> None:
    rows = [
        {
            "name": "images",
            "kind": "dataset",
            "requests": {"disks": [{"path": "/", "size": "1GiB"}]},
            "hosts": {"groups": ["gpu"]},
        }
    ]
    first, _placement = assess(tmp_path, workloads=rows)
    was = on(first)[0][2]
    report, _placement = assess(tmp_path, site(without=was), workloads=rows, lost=[was])
    assert report["exit_code"] == 0
    assert told(report, "capacity.lost_data") == [
        f"{was}: holds the data of images; the directory at the new place begins empty"
    ]


def test_demand_that_does_not_fit_for_another_reason_is_refused_as_always(tmp_path: Path) -> None:
    rows = [{**SERVED, "replicas": 3, "hosts": {"groups": ["gpu"]}}]
    assess(tmp_path, workloads=rows)
    more = [*rows, {**SERVED, "name": "new", "replicas": 9, "hosts": {"groups": ["gpu"]}}]
    report, _placement = assess(tmp_path, site(without="gpu2"), workloads=more, lost=["gpu2"])
    assert report["exit_code"] == 1
    assert stopping(report)[0].startswith("the workloads do not fit: ")


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        (["mlops1"], "mlops_lost_hosts names mlops1, the host of the control plane"),
        (["gpu9"], "mlops_lost_hosts names 'gpu9', which is no host of the inventory"),
    ],
)
def test_what_cannot_be_lost_refuses_the_site(tmp_path: Path, lost: list[str], said: str) -> None:
    report, _placement = assess(tmp_path, lost=lost)
    assert report["exit_code"] == 1
    assert stopping(report)[0].startswith(said)


MISTAKES = (
    ("changes", "said"),
    [
        ({"workloads": [{"name": "t", "cpuu": 3}]}, "cpuu"),
        ({"workloads": [{**SERVED, "requests": {"memory": "16Gi"}}]}, "write 16GiB"),
        ({"workloads": [{**SERVED, "hosts": {"groups": ["gpuu"]}}]}, "did you mean gpu?"),
        ({"workloads": [SERVED], "offers": {"name": "x"}}, "mlops_host_offers"),
    ],
)


@pytest.mark.parametrize(*MISTAKES)
def test_mistakes_in_the_work_are_told_with_a_limit(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    """They are those of the whole site, whichever hosts are looked at."""
    report, _placement = assess(tmp_path, hosts=["gpu1"], **changes)
    assert report["exit_code"] == 1
    assert any(said in text for text in stopping(report) + remedies(report)), stopping(report)


@pytest.mark.parametrize("limited", [["mlops1"], []])
def test_work_of_an_unknown_team_is_told_without_a_plan(tmp_path: Path, limited: list[str]) -> None:
    """With a limit, and where no host is measured."""
    run = {"command": ["true"], "team": "visoin"}
    rows = [
        {"name": name, "kind": "training", "requests": {"cpu_cores": 1}, "run": run, "replicas": 9}
        for name in ("nightly", "weekly")
    ]
    own = site()
    own["groups"] = {**GROUPS, "scheduler": ["mlops1"]}
    for host in GROUPS["all"] if not limited else ():
        own["hostvars"][host]["ansible_facts"].pop("mlops_supply")
    report, _placement = assess(tmp_path, own, hosts=limited or GROUPS["all"], workloads=rows)
    told = [text for text in stopping(report) if "visoin" in text]
    assert [text.partition(",")[0] for text in told] == [
        "nightly is of the team visoin",
        "weekly is of the team visoin",
    ]


def test_labels_of_hosts_that_are_not_looked_at_may_be_named(tmp_path: Path) -> None:
    """The example's work is right, and stays right where only one host is looked at."""
    for host in (GROUPS["all"][0], GROUPS["all"][-1]):
        report, _placement = assess(tmp_path, hosts=[host])
        assert stopping(report) == []


@pytest.mark.parametrize(*MISTAKES)
def test_mistakes_in_the_work_are_told_while_no_host_is_measured(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    variables = site()
    for host in GROUPS["all"]:
        variables["hostvars"][host].get("ansible_facts", {}).pop("mlops_supply", None)
    report, _placement = assess(tmp_path, variables, **changes)
    assert any(said in text for text in stopping(report) + remedies(report)), stopping(report)
    assert "the workloads were not planned: no host could be measured" in stopping(report)


def remedies(report: dict[str, Any]) -> list[str]:
    return [row["remedy"] for row in report["findings"]]


def test_work_that_cannot_be_started_refuses_the_site(tmp_path: Path) -> None:
    run = {"command": ["true"], "team": "vision"}
    rows = [{"name": "t", "kind": "training", "requests": {"cpu_cores": 1}, "run": run}]
    variables = {**site(), "groups": {**GROUPS, "scheduler": []}}
    report, _placement = assess(tmp_path, variables, workloads=rows)
    assert report["exit_code"] == 1
    assert stopping(report) == ["t is started by a scheduler, and the inventory has none"]
    teams = [{"name": "vision", "members": ["anna"]}]
    own = site()
    for host in GROUPS["all"]:
        own["hostvars"][host]["mlops_teams"] = teams
    own["groups"] = {**GROUPS, "scheduler": ["mlops1"]}
    report, _placement = assess(tmp_path, own, workloads=rows)
    assert report["exit_code"] == 0


# -- devices that are switched off --------------------------------------------------------------

CAMERAS = [f"cam{number}" for number in range(1, 101)]


def fleet(*off: str) -> dict[str, Any]:
    """The example company with a hundred devices, of which some do not answer."""
    variables = site()
    measured = variables["hostvars"][GROUPS["edge"][0]]
    hostvars = {name: variables["hostvars"][name] for name in ("mlops1", "gpu1", "gpu2")}
    for name in CAMERAS:
        supply = {**measured["ansible_facts"]["mlops_supply"], "host": name, "host_id": name}
        hostvars[name] = {
            **measured,
            "mlops_host_labels": {"line": "1" if name in CAMERAS[:50] else "2"},
            "ansible_facts": {**measured["ansible_facts"], "mlops_supply": supply},
        }
    for name in off:
        said = "ssh: connect to host 10.20.0.9 port 22: No route to host"
        hostvars[name]["ansible_facts"] = {"mlops_supply": {"host": name, "unreachable": said}}
    groups = {"all": list(hostvars), "control": ["mlops1"], "gpu": ["gpu1", "gpu2"]}
    return {"hostvars": hostvars, "groups": {**groups, "edge": CAMERAS}}


def assess_fleet(directory: Path, work: list[dict[str, Any]], *off: str) -> tuple[Any, Any]:
    hosts = ["mlops1", "gpu1", "gpu2", *CAMERAS]
    return assess(directory, fleet(*off), hosts=hosts, workloads=work, deferred_max=20.0)


EVERYWHERE: dict[str, Any] = {
    "name": "watch",
    "kind": "serving",
    "replicas": 100,
    "anti_affinity": True,
    "requests": {"memory": "100MiB"},
    "hosts": {"groups": ["edge"]},
}
ONE_LINE: dict[str, Any] = {
    "name": "count",
    "kind": "serving",
    "requests": {"memory": "100MiB"},
    "hosts": {"groups": ["edge"], "labels": {"line": "1"}},
}


def test_a_hundred_devices_with_three_off_are_planned_and_caught_up(tmp_path: Path) -> None:
    off = ("cam7", "cam8", "cam90")
    pinned = {**ONE_LINE, "name": "pinned", "hosts": {"names": ["cam7"]}}
    work = [EVERYWHERE, ONE_LINE, pinned, {**SERVED, "hosts": {"groups": ["gpu"]}}]
    first, _placement = assess_fleet(tmp_path, work)
    assert first["exit_code"] == 0
    report, placement = assess_fleet(tmp_path, work, *off)
    assert (report["verdict"], report["deferred"]) == ("go", list(off))
    assert [row["host"] for row in report["findings"] if row["id"] == "assess.deferred"] == [*off]
    assert told(report, "capacity.waiting") == [
        "cam7: work waits until it answers: 1 replica of pinned and 1 replica of watch",
        "cam8: work waits until it answers: 1 replica of watch",
        "cam90: work waits until it answers: 1 replica of watch",
    ]
    assert not set(off) & set(placement)
    # Nothing has moved because of them; replicas of a workload are alike, whatever their number.
    stayed = sorted((name, host) for name, _number, host in on(first) if host not in off)
    assert sorted((name, host) for name, _number, host in on(report)) == stayed
    page = as_text(report)
    assert "cam90: cannot be reached" in page
    assert "Workloads: FEASIBLE" in page
    jsonschema.validate(report["workloads"], SCHEMA)
    back, _placement = assess_fleet(tmp_path, work)
    assert back["exit_code"] == 0
    assert sorted(row[::2] for row in on(back)) == sorted(row[::2] for row in on(first))
    assert told(back, "capacity.waiting") == []


def test_new_work_for_a_device_that_is_off_waits_and_the_site_goes_on(tmp_path: Path) -> None:
    work = [EVERYWHERE, {**ONE_LINE, "hosts": {"names": ["cam3"]}}]
    report, _placement = assess_fleet(tmp_path, work, "cam3")
    assert report["exit_code"] == 0
    assert len(on(report)) == 99
    assert told(report, "capacity.waiting") == [
        "cam3: work waits until it answers: 1 replica of count and 1 replica of watch"
    ]
    back, _placement = assess_fleet(tmp_path, work)
    assert ("count", 0, "cam3") in on(back)
    assert len(on(back)) == 101


def test_work_that_finds_room_elsewhere_does_not_wait_for_a_device(tmp_path: Path) -> None:
    report, _placement = assess_fleet(tmp_path, [ONE_LINE], "cam1", "cam2")
    assert report["exit_code"] == 0
    assert len(on(report)) == 1
    assert told(report, "capacity.waiting") == []


def test_a_device_that_is_off_excuses_nothing_else(tmp_path: Path) -> None:
    giant = {**SERVED, "name": "giant", "gpu": {"count": 8}, "hosts": {"groups": ["gpu"]}}
    report, _placement = assess_fleet(tmp_path, [EVERYWHERE, giant], "cam3")
    assert report["exit_code"] == 1
    assert stopping(report)[0].startswith("the workloads do not fit: ")


def test_advice_to_buy_says_which_hosts_it_was_reckoned_without(tmp_path: Path) -> None:
    """Of a device that is off nobody knows what it could carry."""
    many = {**SERVED, "replicas": 12, "hosts": {"groups": ["gpu"]}}
    report, _placement = assess_fleet(tmp_path, [many, ONE_LINE], "cam3", "cam9")
    said = (
        "eckoned without cam3 and cam9, which are lost or switched off: neither their room nor the "
        "work that waits for them is counted"
    )
    (remedy,) = [row["remedy"] for row in report["findings"] if row["id"] == "capacity.workloads"]
    assert remedy.startswith("buy 1 x gpu-server, or ask for less in mlops_workloads (r")
    assert said in remedy
    assert f"R{said}." in " ".join(as_text(report).split())
    assert f"R{said}." in as_html(report)
    jsonschema.validate(report["workloads"], SCHEMA)


def test_advice_to_buy_names_hosts_that_are_declared_lost(tmp_path: Path) -> None:
    many = {**SERVED, "replicas": 12, "hosts": {"groups": ["gpu"]}}
    report, _placement = assess(tmp_path, lost=["gpu2"], workloads=[many])
    assert "eckoned without gpu2, which is lost" in "".join(remedies(report))


def test_advice_to_buy_for_a_site_that_is_whole_says_nothing_of_it(tmp_path: Path) -> None:
    many = {**SERVED, "replicas": 12, "hosts": {"groups": ["gpu"]}}
    report, _placement = assess_fleet(tmp_path, [many])
    assert "buy 1 x gpu-server" in "".join(remedies(report))
    assert "eckoned without" not in as_text(report) + as_html(report) + "".join(remedies(report))

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a timer trains with is what a run of the controller would have trained with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.mlops.onprem.plugins.module_utils._site.handed import handed

from tests.unit.plugins.module_utils._site.test_site import GROUPS, site

ROOT = Path(__file__).resolve().parents[5]
PAGE = yaml.safe_load((ROOT / "playbooks/vars/pipeline.yml").read_text(encoding="utf-8"))
WELDS = {"name": "welds", "project": "projects/welds", "schedule": "daily"}
DATABASE = {"query": "select 1", "database": "d", "user": "u", "host": "h"}
ROWS = [
    WELDS,
    {**WELDS, "thresholds": {"accuracy": 0.9}, "margin": 0.01, "tolerance": 0.5, "cases": 12},
    {**WELDS, "parameters": {"train": {"depth": 3}}, "cases": "8", "data": "s3://lines/welds"},
    {**WELDS, "memory_mib": 300, "release_max_mib": 200, "cases": "cases.json"},
    {**WELDS, "data": {"postgresql": DATABASE}},
]


def models(row: dict[str, Any]) -> Any:
    return {host: {"mlops_models": [row]} for host in GROUPS["all"]}


def trusted(value: Any) -> Any:
    """Values of our own page, which Ansible may read as templates."""
    if isinstance(value, dict):
        return {key: trusted(each) for key, each in value.items()}
    if isinstance(value, list):
        return [trusted(each) for each in value]
    return trust_as_template(value) if isinstance(value, str) else value


def of_the_controller(row: dict[str, Any]) -> dict[str, Any]:
    """The settings of the steps as playbooks/vars/pipeline.yml puts them together."""
    (model,) = handed(site(models(row)), "models", "ctl1")
    variables = {**trusted(PAGE), "__pipeline_model": model, "__pipeline_ca_file": "ca"}
    templar = Templar(loader=DataLoader(), variables=variables)

    def told(text: str) -> Any:
        return templar.template(trust_as_template("{{ " + text + " }}"))

    found = {name: told(f"__pipeline_common.{name}") for name in ("parameters", "thresholds")}
    found["tolerance"] = told("__pipeline_common.tolerance")
    if told("__pipeline_margin | string | length > 0"):
        found["margin"] = told("__pipeline_margin | float")
    if "data" in row:
        found["source"] = told("__pipeline_source")
    return found


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_a_timer_is_told_what_the_controller_is_told(row: dict[str, Any]) -> None:
    (found,) = handed(site(models(row)), "pipelines_models", "ctl1")
    step = dict(found["step"])
    assert step.pop("limits") == {
        "memory_mib": row.get("memory_mib", 64),
        "release_max_mib": row.get("release_max_mib", 100),
    }
    assert step.pop("model_name") == "welds"
    wanted = of_the_controller(row)
    if isinstance(wanted.get("source"), dict):
        # The host verifies a database by what it trusts itself.
        assert wanted["source"]["postgresql"].pop("ca_file") == "ca"
        assert step["source"]["postgresql"].pop("ca_file") == "/etc/mlops/tls/ca.crt"
    assert step == wanted


def test_only_the_first_control_host_trains() -> None:
    said = models(WELDS)
    told = {host: len(handed(site(said), "pipelines_models", host)) for host in GROUPS["all"]}
    assert told == {host: int(host == "ctl1") for host in GROUPS["all"]}


@pytest.mark.parametrize(
    ("schedule", "calendar", "unchanged"),
    [
        ("daily", "daily", "wait"),
        ({"calendar": "Mon *-*-* 03:00"}, "Mon *-*-* 03:00", "wait"),
        ({"calendar": "hourly", "unchanged_data": "train"}, "hourly", "train"),
    ],
)
def test_a_schedule_is_a_calendar_and_what_becomes_of_unchanged_data(
    schedule: Any, calendar: str, unchanged: str
) -> None:
    (found,) = handed(site(models({**WELDS, "schedule": schedule})), "pipelines_models", "ctl1")
    assert (found["calendar"], found["unchanged_data"]) == (calendar, unchanged)


def test_metrics_of_trainings_are_read_where_there_are_some() -> None:
    def jobs(row: dict[str, Any]) -> list[tuple[str, str]]:
        found = handed(site(models(row)), "monitoring_targets", "ctl1")
        return [(each["job"], each["host"]) for each in found if each["job"] == "pipelines"]

    assert jobs(WELDS) == [("pipelines", "ctl1")]
    assert jobs({"name": "welds", "project": "projects/welds"}) == []

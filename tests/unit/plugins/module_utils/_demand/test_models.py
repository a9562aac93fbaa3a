# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models of the inventory: every slip is a sentence with its place, what is right is understood."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._demand.models import parse_models

GROUPS = {
    "all": ["ctl1", "edge1", "edge2", "edge3"],
    "control": ["ctl1"],
    "edge": ["edge1", "edge2", "edge3"],
    "line_a": ["edge3", "edge1"],
}
GOOD = {"name": "welds", "project": "sample/images"}


def problems(row: dict[str, Any]) -> tuple[str, ...]:
    return parse_models([{**GOOD, **row}], GROUPS)[1]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"name": "Welds"}, "mlops_models[0].name: must be 1 to 63 small letters, digits and"),
        ({"name": None}, "mlops_models[0].name: is missing"),
        ({"project": None}, "mlops_models[0]: must have project or artifact"),
        ({"artifact": "m.onnx"}, "mlops_models[0].artifact: cannot stand beside project"),
        (
            {"project": None, "artifact": "s3:/x"},
            "mlops_models[0].artifact: must be a path, models:/name@alias or runs:/id/path",
        ),
        (
            {"project": None, "artifact": "m.onnx", "data": "/srv/data"},
            "mlops_models[0].data: is read by a project; an artifact is there already",
        ),
        ({"targets": ["line_b"]}, "mlops_models[0].targets[0]: the inventory has no group and no"),
        ({"targets": ["line_b"]}, "did you mean line_a?"),
        ({"targets": ["control"]}, "mlops_models[0].targets[0]: 'control' has no device"),
        ({"targets": ["edge1", "edge1"]}, "mlops_models[0].targets[1]: 'edge1' is there twice"),
        ({"targets": []}, "mlops_models[0].targets: must name at least one"),
        ({"memory_mib": "0"}, "mlops_models[0].memory_mib: must be at least 1, but is '0'"),
        ({"release_max_mib": 1e9}, "mlops_models[0].release_max_mib: must be at most 1,048,576"),
        ({"tolerance": -1}, "mlops_models[0].tolerance: must be at least 0, but is -1"),
        ({"margin": 2}, "mlops_models[0].margin: 2 is more than a metric can differ (1)"),
        ({"margin": -0.1}, "mlops_models[0].margin: must be at least 0, but is -0.1"),
        (
            {"margin": 0},
            "mlops_models[0].margin: compares the metrics of thresholds; name at least",
        ),
        (
            {"project": None, "artifact": "m.onnx", "thresholds": {"auc": 0.9}, "margin": 0},
            "mlops_models[0].margin: compares what a project measures of two releases",
        ),
        ({"secret": "daily"}, "mlops_models[0]: has the unknown key 'secret'"),
        (
            {"schedule": "$(id)"},
            "mlops_models[0].schedule: must be a calendar expression of systemd",
        ),
        ({"schedule": {"when": "daily"}}, "mlops_models[0].schedule: has the unknown key 'when'"),
        ({"schedule": {}}, "mlops_models[0].schedule.calendar: is missing"),
        (
            {"schedule": {"calendar": "daily", "unchanged_data": "maybe"}},
            "mlops_models[0].schedule.unchanged_data: must be wait or train, but is 'maybe'",
        ),
        (
            {"project": None, "artifact": "m.onnx", "schedule": "daily"},
            "mlops_models[0].schedule: trains a project again; nothing trains an artifact",
        ),
        ({"sample": 0.1}, "mlops_models[0].sample: must be a mapping"),
        ({"sample": {"days": 3, "redact": {}}}, "mlops_models[0].sample.rate: is missing"),
        ({"sample": {"rate": 0.1, "redact": {}}}, "mlops_models[0].sample.days: is missing"),
        ({"sample": {"rate": 0.1, "days": 3}}, "mlops_models[0].sample.redact: is missing"),
        (
            {"sample": {"rate": 10, "days": 3, "redact": {}}},
            "mlops_models[0].sample.rate: 10 is more than all requests (1)",
        ),
        (
            {"sample": {"rate": 0.1, "days": 0, "redact": {}}},
            "mlops_models[0].sample.days: must be at least 1",
        ),
        (
            {"sample": {"rate": 0.1, "days": 3, "redact": {"age": "mask"}}},
            "mlops_models[0].sample.redact.age: must be drop or hash, but is 'mask'",
        ),
        (
            {"sample": {"rate": 0.1, "days": 3, "redact": {}, "mib": 1}},
            "mlops_models[0].sample: has the unknown key 'mib'",
        ),
        ({"thresholds": {"auc": "high"}}, "mlops_models[0].thresholds.auc: must be a number"),
        ({"thresholds": {}}, "mlops_models[0].thresholds: must name at least one metric"),
        ({"cases": 0}, "mlops_models[0].cases: must be at least 1, but is 0"),
        ({"cases": ["a"]}, "mlops_models[0].cases: must be a number of cases, or a file of them"),
        (
            {"parameters": {"deploy": {}}},
            "mlops_models[0].parameters: has the unknown key 'deploy'",
        ),
        (
            {"data": {"postgresql": {"query": "select 1", "database": "d", "user": "u"}}},
            "mlops_models[0].data.postgresql.host: is missing",
        ),
        (
            {"taget": "edge"},
            "mlops_models[0]: has the unknown key 'taget'; known are name, project",
        ),
    ],
)
def test_a_slip_is_told_with_its_place(row: dict[str, Any], sentence: str) -> None:
    (said,) = problems(row)
    assert sentence in said


def test_two_models_of_one_name_are_one_too_many() -> None:
    found, said = parse_models([GOOD, GOOD], GROUPS)
    assert len(found) == 1
    assert said == ("mlops_models[1].name: 'welds' is taken by mlops_models[0]",)


@pytest.mark.parametrize("value", ["welds", {"welds": {}}, 3])
def test_what_is_no_list_is_told(value: object) -> None:
    (said,) = parse_models(value, GROUPS)[1]
    assert said.startswith("mlops_models: must be a list, but is")


def test_nothing_is_no_model() -> None:
    assert parse_models(None, GROUPS) == ((), ())


@pytest.mark.parametrize(
    ("targets", "hosts"),
    [
        (None, ["edge1", "edge2", "edge3"]),
        (["line_a"], ["edge1", "edge3"]),
        (["edge2", "line_a"], ["edge1", "edge2", "edge3"]),
        ("edge2", ["edge2"]),
        (["all"], ["edge1", "edge2", "edge3"]),
    ],
)
def test_targets_are_groups_and_devices(targets: object, hosts: list[str]) -> None:
    (model,), said = parse_models([{**GOOD, "targets": targets}], GROUPS)
    assert said == ()
    assert model.as_dict(GROUPS)["hosts"] == hosts


def test_what_is_written_is_handed_on_and_what_is_not_is_left_out() -> None:
    row = {
        **GOOD,
        "data": "s3://lines/welds",
        "thresholds": {"accuracy": "0.9"},
        "cases": "16",
        "memory_mib": 300,
        "margin": 0,
    }
    (model,), _said = parse_models([row], GROUPS)
    assert model.as_dict(GROUPS) == {
        "name": "welds",
        "project": "sample/images",
        "data": "s3://lines/welds",
        "thresholds": {"accuracy": 0.9},
        "cases": 16,
        "memory_mib": 300,
        "release_max_mib": 100,
        "margin": 0,
        "targets": ["edge"],
        "hosts": ["edge1", "edge2", "edge3"],
    }

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The closing table: verdicts, errors, inefficiencies."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks import report
from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks.report import (
    FAIL,
    PASS,
    SKIP,
    WARN,
    Row,
)

DIGEST = "sha256:" + "a" * 64


def step(name: str, **result: Any) -> dict[str, Any]:
    """What a step's task returns when it went well."""
    return {"changed": True, "result": {"step": name, "ok": True, "seconds": 1.0, **result}}


def device(name: str, p95: float = 5.0, **changed: Any) -> dict[str, Any]:
    good = {"ok": True, "answers": 16, "tolerance": 1e-4, "p50_ms": 3.0, "p95_ms": p95}
    return {"name": name, "seconds": 0.4, **good, **changed}


def test_steps_that_were_not_reached_are_neither_passed_nor_failed() -> None:
    raw = {
        "prepare": step("prepare"),
        "train": {"failed": True, "msg": "The step train failed", "result": {"error": "No data."}},
        "evaluate": {"skipped": True},
    }
    rows = report.step_rows(report.step_answers(raw))
    assert [row.verdict for row in rows] == [PASS, FAIL, SKIP, SKIP]
    assert rows[1].finding == "No data."


def test_a_step_that_crashed_shows_what_its_task_said() -> None:
    rows = report.step_rows(report.step_answers({"prepare": {"failed": True, "msg": "No python."}}))
    assert (rows[0].verdict, rows[0].finding) == (FAIL, "No python.")


def test_a_reused_release_is_one_row() -> None:
    raw = {"current": {"result": {"digest": DIGEST, "ok": True, "seconds": 2}}, "prepare": {}}
    (row,) = report.step_rows(report.step_answers(raw))
    assert (row.step, row.verdict, row.finding) == (
        "current",
        PASS,
        "the last release is used again",
    )


def test_a_release_that_does_not_count_is_said_and_a_new_one_is_made() -> None:
    said = {"digest": None, "ok": True, "seconds": 2, "unverified": "It is not signed."}
    raw = {"current": {"result": said}, "prepare": step("prepare"), "train": {"skipped": True}}
    rows = report.step_rows(report.step_answers(raw))
    assert [(row.step, row.verdict) for row in rows][:2] == [("current", WARN), ("prepare", PASS)]
    assert rows[0].finding == (
        "the last release is not used again: It is not signed. A new one is published"
    )


def test_a_model_that_exists_has_no_data_and_no_training() -> None:
    raw = {
        "package": step("package", cases=3, answers="given"),
        "prepare": {"skipped": True},
        "publish": step("publish"),
    }
    rows = report.step_rows(report.step_answers(raw))
    assert [row.step for row in rows] == ["package", "publish"]
    assert rows[0].finding == "3 cases, answers given"


def test_rows_name_their_model_where_there_are_several() -> None:
    found = report.model_found({"name": "digits", "steps": {}, "devices": [device("edge1")]})
    assert "predict edge1" in [row.step for row in report.model_rows(found, {})]
    titles = [row.step for row in report.model_rows(found, {}, "digits")]
    assert "predict edge1 (digits)" in titles


def test_a_registry_that_cannot_say_what_was_released_fails() -> None:
    raw = {"current": {"failed": True, "msg": "no", "result": {"error": "No answer."}}}
    (row,) = report.step_rows(report.step_answers(raw))
    assert (row.verdict, row.finding) == (FAIL, "No answer.")


def test_a_step_that_spends_its_time_elsewhere_is_pointed_at() -> None:
    raw = {"train": step("train", seconds=10.0, timings={"load libraries": 8.0, "fit": 0.1})}
    row = report.step_rows(report.step_answers(raw))[1]
    assert row.verdict == WARN
    assert "80% of the time of train went into: load libraries" in row.finding


@pytest.mark.parametrize("timings", [{}, {"fit": 4.0}, {"fit": 5.5, "log": 4.5}])
def test_a_short_or_mixed_step_is_not(timings: dict[str, float]) -> None:
    raw = {"train": step("train", seconds=10.0, timings=timings)}
    assert report.step_rows(report.step_answers(raw))[1].verdict == PASS


def test_devices_say_what_happened_to_the_release() -> None:
    raw = {
        "edge1": {"changed": True, "bytes": 100, "seconds": 0.9},
        "edge2": {"changed": False, "bytes": 0, "seconds": 0.1},
        "edge3": {"failed": True, "msg": "The file model.onnx was tampered with."},
        "edge4": {"unreachable": True, "msg": "Connection\n timed out"},
        "edge5": {"changed": True, "bytes": 250, "seconds": 1.0},
        "edge6": {"skipped": True},
    }
    rows = report.release_rows(report.release_answers(raw), {}, 100)
    assert [(row.step, row.verdict, row.finding) for row in rows] == [
        ("release edge1", PASS, "activated, 100 bytes fetched"),
        ("release edge2", PASS, "already active, 0 bytes fetched"),
        ("release edge3", FAIL, "edge3: The file model.onnx was tampered with."),
        ("release edge4", FAIL, "edge4 cannot be reached over SSH: Connection timed out"),
        (
            "release edge5",
            WARN,
            "activated, 250 bytes fetched; fetched 2.5 times its size: the connection broke",
        ),
    ]


def test_a_slow_device_is_pointed_at() -> None:
    devices = [device("edge1"), device("edge2"), device("edge3", 60.0)]
    rows = report.device_rows(devices, {})
    assert [row.verdict for row in rows] == [PASS, PASS, WARN]
    assert "its p95 is 12.0 times the median of all devices" in rows[2].finding


def test_a_device_that_does_not_answer_fails() -> None:
    silent = device("edge1", ok=False, error="edge1 does not answer at https://e: timed out.")
    (row,) = report.device_rows([silent], {})
    assert (row.verdict, row.finding) == (FAIL, "edge1 does not answer at https://e: timed out.")


def test_metrics_are_judged_device_by_device() -> None:
    metrics = {
        "problems": {"edge2": "Prometheus has no model metric of edge2"},
        "seen": {"edge1": 76.0},
        "error": "",
        "seconds": 9.0,
    }
    rows = report.metric_rows(metrics, ["edge1", "edge2"])
    assert [row.verdict for row in rows] == [PASS, FAIL]
    assert "76 requests counted" in rows[0].finding


def test_a_prometheus_that_cannot_be_asked_fails() -> None:
    (row,) = report.metric_rows({"error": "It does not answer."}, ["edge1"])
    assert (row.verdict, row.finding) == (FAIL, "It does not answer.")


def test_a_step_that_takes_most_of_a_long_pipeline_is_pointed_at() -> None:
    steps = [
        {"step": "prepare", "seconds": 10.0},
        {"step": "train", "seconds": 90.0},
        {"step": "publish", "skipped": True},
    ]
    (row,) = report.whole_row(steps)
    assert row.finding == "90% of the time went into train"
    assert report.whole_row([{"step": "train", "seconds": 90.0}]) == []


@pytest.mark.parametrize(
    ("verdicts", "wanted"),
    [
        ([], FAIL),
        ([SKIP], FAIL),
        ([PASS, SKIP], PASS),
        ([PASS, WARN], WARN),
        ([WARN, FAIL, PASS], FAIL),
    ],
)
def test_having_checked_nothing_is_not_a_pass(verdicts: list[str], wanted: str) -> None:
    assert report.verdict([Row("x", each, None, "") for each in verdicts]) == wanted


def test_the_table_is_aligned_and_wrapped() -> None:
    rows = [Row("prepare", PASS, 1.25, "short"), Row("x", FAIL, None, "long " * 30)]
    lines = report.render(rows, width=80).splitlines()
    assert lines[0] == "step     verdict  seconds  finding"
    assert lines[2] == "prepare  pass         1.2  short"
    assert all(len(line) <= 80 for line in lines)
    assert lines[4].startswith(" " * 27)


@pytest.mark.parametrize("said", ["", "no release before it"])
def test_what_a_model_was_compared_with_stands_in_the_table(said: str) -> None:
    result = {"metrics": {"accuracy": 0.95}, "golden_gap": 0.0, "comparison": said}
    told = report._what("evaluate", result)
    assert told == "accuracy 0.950; ONNX differs by 0" + (f"; {said}" if said else "")

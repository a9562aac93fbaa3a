# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a rollout: made of its journal alone, valid by its schema, and naming the gate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.page import as_html, number
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.report import report
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.status import where

ROOT = Path(__file__).resolve().parents[5]
SCHEMA = json.loads((ROOT / "docs" / "schema" / "rollout.schema.json").read_text())
NEW, OLD = "sha256:" + "a" * 64, "sha256:" + "b" * 64
PLAN = {
    "model": "iris",
    "version": "7",
    "digest": NEW,
    "rings": [
        {"name": "ring_canary", "hosts": ["edge1"]},
        {"name": "ring_fleet", "hosts": ["edge2", "edge3"]},
    ],
    "devices": {name: {"previous": OLD} for name in ("edge1", "edge2", "edge3")},
}
SLOW = {
    "name": "latency",
    "verdict": "FAIL",
    "said": "The ring is slower than the others.",
    "found": {"p95_seconds": 0.25},
    "wanted": {"p95_seconds": 0.05},
}


@dataclass(frozen=True)
class Line:
    time: float
    event: str
    data: Mapping[str, Any] = field(default_factory=dict)
    rollout: str = "iris-1"


def answer(host: str, phase: str = "activated", **more: Any) -> dict[str, Any]:
    given = {"host": host, "step": "activate", "reached": True, "phase": phase, "served": NEW}
    return {**given, "gates": [], "refused": "", "failure": "", "moved": 0, **more}


def begun() -> list[Line]:
    return [
        Line(0, "started", {"plan": PLAN, "by": "anna"}),
        Line(1, "ring_begun", {"ring": "ring_canary", "hosts": ["edge1"]}),
        Line(2, "answered", {"answers": [answer("edge1", "staged", step="stage", moved=500)]}),
        Line(3, "answered", {"answers": [answer("edge1")]}),
    ]


def judged(*gates: Mapping[str, Any], at: float = 9) -> Line:
    return Line(at, "judged", {"ring": "ring_canary", "gates": list(gates), "memory": {}})


def failed(gates: list[Mapping[str, Any]], said: str = "It failed.") -> list[Line]:
    return [
        Line(10, "ring_failed", {"ring": "ring_canary", "said": said, "gates": gates}),
        Line(11, "reverting", {"hosts": ["edge1"], "outcome": "ROLLED_BACK", "said": "Back."}),
        Line(12, "answered", {"answers": [answer("edge1", "reverted", served=OLD)]}),
        Line(13, "finished", {"outcome": "ROLLED_BACK", "said": "All answer from before."}),
    ]


def test_a_rollout_that_a_gate_stopped_names_it_with_numbers() -> None:
    found = report([*begun(), judged(SLOW), *failed([SLOW])])
    jsonschema.validate(found, SCHEMA)
    assert (found["outcome"], found["exit_code"], found["from"]) == ("ROLLED_BACK", 10, OLD)
    stopped = found["stopped_by"]
    assert (stopped["ring"], stopped["host"], stopped["name"]) == ("ring_canary", "", "latency")
    assert stopped["found"] == {"p95_seconds": 0.25}
    ring, fleet = found["rings"]
    assert (ring["state"], ring["looks"], ring["seconds"]) == ("failed", 1, 8)
    assert fleet["state"] == "not begun"
    assert ring["hosts"][0]["moved"] == 500
    assert ring["hosts"][0]["served"] == OLD
    page = as_html(found)
    assert "What stopped it" in page
    assert "p95_seconds 0.25" in page
    assert "ring_canary" in page


def test_the_gate_of_a_device_is_told_with_the_device() -> None:
    golden = {"name": "golden", "verdict": "FAIL", "said": "Case 2 differs.", "found": {"gap": 3.0}}
    lines = [*begun(), Line(4, "answered", {"answers": [answer("edge1", gates=[golden])]})]
    found = report([*lines, *failed([])])
    jsonschema.validate(found, SCHEMA)
    assert found["stopped_by"]["host"] == "edge1"
    assert found["stopped_by"]["name"] == "golden"


def test_a_silent_device_stops_its_ring_without_any_gate() -> None:
    silent = {"host": "edge1", "step": "activate", "reached": False, "gates": []}
    found = report(
        [*begun(), Line(5, "answered", {"answers": [silent]}), *failed([], "Silent.")][:7]
    )
    jsonschema.validate(found, SCHEMA)
    assert (found["stopped_by"]["host"], found["stopped_by"]["said"]) == ("edge1", "Silent.")


def test_what_is_paused_for_want_of_data_names_the_gate_that_has_none() -> None:
    missing = {"name": "shift", "verdict": "MISSING", "said": "No predictions were counted."}
    lines = [*begun(), judged(missing), Line(10, "paused", {"kind": "gates", "said": "No data."})]
    found = report(lines)
    jsonschema.validate(found, SCHEMA)
    assert (found["outcome"], found["exit_code"]) == ("PAUSED", 11)
    assert found["stopped_by"]["name"] == "shift"
    resumed = report([*lines, Line(20, "resumed", {"by": "anna", "said": "", "hosts": []})])
    assert (resumed["outcome"], resumed["stopped_by"]) == ("RUNNING", None)


def test_one_that_completed_has_nothing_that_stopped_it() -> None:
    good = {"name": "errors", "verdict": "PASS", "said": "Fine."}
    committed = Line(11, "answered", {"answers": [answer("edge1", "committed")]})
    lines = [*begun(), judged(good), Line(10, "ring_passed", {"ring": "ring_canary", "said": ""})]
    found = report([*lines, committed, Line(12, "finished", {"outcome": "COMPLETED", "said": "."})])
    jsonschema.validate(found, SCHEMA)
    assert (found["exit_code"], found["stopped_by"], found["deferred"]) == (0, None, [])
    assert "What stopped it" not in as_html(found)


def test_approvals_and_devices_left_out_are_told() -> None:
    lines = [*begun(), Line(4, "approved", {"ring": "ring_canary", "by": "berta"})]
    lines += [Line(5, "ring_passed", {"ring": "ring_canary", "said": ""})]
    lines += [Line(6, "ring_passed", {"ring": "ring_fleet", "said": ""})]
    lines += [Line(7, "answered", {"answers": [answer("edge2", "committed")]})]
    lines += [Line(7, "deferred", {"hosts": {"edge3": "it is switched off"}})]
    found = report([*lines, Line(8, "finished", {"outcome": "PARTIAL", "said": "edge3 is off."})])
    jsonschema.validate(found, SCHEMA)
    assert found["approvals"] == [
        {"ring": "ring_canary", "person": "berta", "at": "1970-01-01T00:00:04Z"}
    ]
    assert found["deferred"] == ["edge3"]
    assert "berta" in as_html(found)
    assert "to be caught up: edge3" in as_html(found)
    caught = Line(9, "ring_begun", {"ring": "catch-up", "hosts": ["edge3"]})
    later = report([*lines, caught, Line(10, "ring_passed", {"ring": "catch-up", "said": ""})])
    jsonschema.validate(later, SCHEMA)
    assert later["deferred"] == []
    assert [ring["name"] for ring in later["rings"]] == ["ring_canary", "ring_fleet", "catch-up"]


def test_the_last_rollout_is_reported_unless_another_is_named() -> None:
    older = [Line(0, "started", {"plan": {**PLAN, "version": "6"}}, "iris-0")]
    assert report([*older, *begun()])["version"] == "7"
    assert report([*older, *begun()], "iris-0")["version"] == "6"
    assert report([]) == {}


def test_what_a_device_says_is_escaped() -> None:
    evil = answer("edge1", failure="<script>alert(1)</script>")
    page = as_html(report([*begun(), Line(4, "answered", {"answers": [evil]})]))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_numbers_are_as_people_read_them() -> None:
    assert [number(7.0), number(0.123456), number(1e6)] == ["7", "0.1235", "1000000"]


def test_a_configuration_alone_is_told_key_by_key_and_escaped() -> None:
    plain = report(begun())
    assert "changes" not in plain
    assert "What changed" not in as_html(plain)
    changes = [{"key": "serving.threads", "before": "null", "after": '"<b>"'}]
    plan = {**PLAN, "changes": changes, "base": "7"}
    found = report([Line(0, "started", {"plan": plan, "by": "anna"}), *begun()[1:]])
    jsonschema.validate(found, SCHEMA)
    assert (found["changes"], found["base"]) == (changes, "7")
    page = as_html(found)
    assert "What changed in the configuration" in page
    assert "<code>&quot;&lt;b&gt;&quot;</code>" in page
    assert "<b>" not in page


def test_the_status_says_ring_by_ring_how_far_it_is_and_who_leads() -> None:
    lines = [
        *begun(),
        Line(
            4, "judged", {"ring": "ring_canary", "gates": [{"name": "errors", "verdict": "PASS"}]}
        ),
        Line(5, "ring_passed", {"ring": "ring_canary", "said": ""}),
        Line(6, "approved", {"ring": "ring_fleet", "by": "cyd"}),
        Line(7, "resumed", {"by": "bob@two", "said": "", "hosts": {}}),
        Line(8, "deferred", {"hosts": {"edge3": "It was not reached."}}),
    ]
    assert where(lines, report(lines)) == [
        "Rollout iris-1 of version 7, begun at 1970-01-01T00:00:00Z by anna, led by bob@two.",
        "ring_canary: passed, 1 device, 1 look: errors PASS.",
        "ring_fleet: not begun, 2 devices.",
        "cyd approved the ring ring_fleet at 1970-01-01T00:00:06Z.",
        "Deferred: edge3.",
    ]
    assert where([], report([])) == [
        "No rollout of it has begun; rollout_version (or rollout_digest) begins one."
    ]

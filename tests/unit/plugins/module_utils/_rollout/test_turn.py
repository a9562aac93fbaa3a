# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a controller carries: answers as tasks left them, what a start comes to, lines to read."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.turn import (
    answer_of,
    complaints,
    configuration_of,
    devices_of,
    fresh_answers,
    gate_word,
    lockouts,
    look_line,
    seen_of_control,
    seen_of_ring,
    start_asks,
    strangers,
    told_devices,
)

NEW, OLD = "sha256:" + "a" * 64, "sha256:" + "b" * 64
ORDER = {"host": "edge1", "step": "activate"}


def test_an_answer_is_what_the_device_said() -> None:
    said = {"step": "activate", "phase": "activated", "served": NEW, "gates": [], "seconds": 3}
    found = answer_of(ORDER, said)
    assert found["reached"]
    assert (found["phase"], found["served"]) == ("activated", NEW)
    assert "seconds" not in found


@pytest.mark.parametrize(
    "result", [None, {"unreachable": True, "msg": "timed out"}, {"skipped": 1}]
)
def test_a_device_without_a_result_was_not_reached(result: dict[str, Any] | None) -> None:
    assert answer_of(ORDER, result) == {"host": "edge1", "step": "activate", "reached": False}


def test_a_task_that_broke_was_reached_and_says_why() -> None:
    found = answer_of(ORDER, {"msg": "MODULE FAILURE\nNo python", "failed": False})
    assert found["reached"]
    assert found["failure"] == "MODULE FAILURE No python"


@pytest.mark.parametrize(
    ("status", "approved", "asks"),
    [
        ({"mode": "idle", "outcome": "", "plan": None}, False, "begin"),
        ({"mode": "baking", "outcome": "", "plan": {"digest": NEW}}, False, "resume"),
        ({"mode": "baking", "outcome": "", "plan": {"digest": OLD}}, False, "begin"),
        ({"mode": "baking", "outcome": "PAUSED", "plan": {"digest": NEW}}, False, "status"),
        ({"mode": "baking", "outcome": "PAUSED", "plan": {"digest": NEW}}, True, "resume"),
        ({"mode": "finished", "outcome": "COMPLETED", "plan": {"digest": NEW}}, False, "resume"),
        ({"mode": "finished", "outcome": "PARTIAL", "plan": {"digest": NEW}}, False, "resume"),
        ({"mode": "finished", "outcome": "ROLLED_BACK", "plan": {"digest": NEW}}, False, "begin"),
        ({"mode": "finished", "outcome": "COMPLETED", "plan": {"digest": OLD}}, False, "begin"),
    ],
)
def test_the_same_command_begins_goes_on_or_reports(
    status: dict[str, Any], approved: bool, asks: str
) -> None:
    assert start_asks(status, NEW, approved) == asks


def test_devices_are_planned_by_what_they_said_at_first() -> None:
    looked: dict[str, dict[str, Any] | None] = {
        "edge1": {"served": OLD, "machine": {"architecture": "aarch64", "memory_mib": 7812.4}},
        "edge2": {"unreachable": True},
        "edge3": None,
    }
    found = devices_of(looked)
    assert found["edge1"] == {
        "previous": OLD,
        "transport": "push",
        "online": True,
        "architecture": "aarch64",
        "memory_mib": 7812.4,
    }
    assert found["edge2"] == {"previous": "", "transport": "push", "online": False}
    assert not found["edge3"]["online"]


def test_a_look_is_one_line() -> None:
    ring = [
        {"host": "edge1", "requests": 100, "errors": 2, "answered": True},
        {"host": "edge2", "requests": 50, "errors": 0, "answered": False},
    ]
    said = ["errors: FAIL. 2 of 150 …", "latency:control: PASS. Fine.", "The ring failed."]
    assert look_line(ring, 4, said) == (
        "2 looked at beside 4: 150 requests, 2 errors, silent: edge2 | "
        "errors FAIL, latency:control PASS"
    )


def test_only_a_verdict_is_a_word() -> None:
    assert gate_word("errors: LEFT_OUT. No control.") == "errors LEFT_OUT"
    assert gate_word("The ring ring_early passed. All gates: PASS.") == ""
    assert gate_word("2 devices: stage.") == ""


CHANNELS = {"edge1": {"channel": "ring_a"}, "edge2": {"channel": "ring_a"}}


def test_devices_that_fetch_are_planned_by_what_they_told() -> None:
    kind = {"machine": {"architecture": "aarch64"}}
    devices = {"edge1": {"served": OLD, **kind}, "edge2": {"served": OLD, "machine": {}}}
    said = {"silent": ["edge2"], "devices": devices}
    found = told_devices(said, CHANNELS, ["edge1", "edge2"])
    same = {"transport": "pull", "channel": "ring_a"}
    assert found["edge1"] == {**same, "previous": OLD, "online": True, "architecture": "aarch64"}
    assert found["edge2"] == {**same, "previous": "", "online": False}


def test_when_devices_are_locked_out_is_told_by_channel() -> None:
    channels = {**CHANNELS, "edge3": {"channel": "ring_b"}}
    ends = {"edge1": 2e9, "edge2": 1.9e9, "edge3": 0.0, "edge9": 1.0}
    said = {"devices": {host: {"certificate_expires": at} for host, at in ends.items()}}
    assert lockouts(said, channels) == [
        {
            "channel": "ring_a",
            "first": "edge2",
            "first_at": "2030-03-17T17:46:40Z",
            "last": "edge1",
            "last_at": "2033-05-18T03:33:20Z",
        }
    ]


def test_who_follows_a_channel_of_these_devices_is_one_of_them() -> None:
    assert strangers(CHANNELS, ["edge1", "edge2"]) == []
    assert strangers(CHANNELS, ["edge1", "edge9"]) == ["edge2"]
    assert strangers(CHANNELS, ["edge9"]) == []


def test_an_answer_is_handed_in_once_for_each_order() -> None:
    heard: dict[str, Any] = {}
    order = {"rollout": "r", "generation": 1, "step": "stage"}
    said = {
        "answers": [{"host": "edge1", "step": "commit", "phase": "committed"}],
        "devices": {"edge1": {"at": 5.0}},
    }
    assert fresh_answers(said, {"edge1": order}, heard)[0]["step"] == "stage"
    assert fresh_answers(said, {"edge1": order}, heard) == []
    assert fresh_answers(said, {"edge1": {**order, "step": "activate"}}, heard)
    said["devices"] = {"edge1": {"at": 6.0}}
    assert fresh_answers(said, {"edge1": {**order, "step": "activate"}}, heard)


def test_what_devices_have_told_is_seen_as_if_they_had_been_looked_at() -> None:
    def seen(host: str, answered: bool | None) -> dict[str, Any]:
        return {"host": host, "answered": answered}

    said = {
        "seen": [seen("edge1", True), seen("edge2", None), seen("edge3", False)],
        "silent": ["edge4"],
    }
    assert {one["host"]: one["answered"] for one in seen_of_ring(said)} == {
        "edge1": True, "edge2": True, "edge3": False, "edge4": False,
    }  # fmt: skip
    assert [one["host"] for one in seen_of_control(said)] == ["edge1", "edge2"]


def test_a_device_says_once_why_it_does_not_do_what_its_channel_says() -> None:
    known: dict[str, str] = {}
    said = {
        "devices": {
            "edge1": {"refusal": "It is of another class.", "lock": "", "problem": ""},
            "edge2": {"refusal": "", "lock": "The belt runs.", "problem": ""},
            "edge3": {"refusal": "", "lock": "", "problem": ""},
        }
    }
    assert complaints(said, known) == ["edge1: It is of another class.", "edge2: The belt runs."]
    assert complaints(said, known) == []
    said["devices"]["edge1"]["refusal"] = ""
    assert complaints(said, known) == []
    said["devices"]["edge1"]["refusal"] = "It is of another class."
    assert complaints(said, known) == ["edge1: It is of another class."]


CONFIGURED: dict[str, Any] = {
    "changes": [{"key": "serving.threads", "before": "null", "after": "2"}],
    "base": "7",
    "base_digest": "sha256:old",
    "fetched": 90,
}


@pytest.mark.parametrize(
    ("second", "fetched"),
    [
        ({"previous": "sha256:old", "online": True}, True),
        ({"previous": "sha256:older", "online": True}, False),
        ({"previous": "", "online": True}, False),
        ({"previous": "", "online": False}, True),
    ],
)
def test_a_configuration_is_small_for_devices_that_have_the_model(
    second: dict[str, Any], fetched: bool
) -> None:
    devices = {"a": {"previous": "sha256:old", "online": True}, "b": second}
    found = configuration_of(CONFIGURED, devices)
    assert {**found, "fetched": 90} == {
        name: CONFIGURED[name] for name in ("changes", "base", "fetched")
    }
    assert ("fetched" in found) is fetched
    assert configuration_of({"digest": "sha256:new", "changes": []}, devices) == {}

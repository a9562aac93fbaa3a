# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What channels are to say follows from the journal: one order for all that follow one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._rollout import words
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.channels import (
    PROBE,
    alike,
    wanted,
)
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.errors import RolloutError
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.machine import decide
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.plan import Limits, next_poll
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.state import State

from .fleet import NEW, OLD, RINGS, Fleet

THIRD = "sha256:" + "3" * 64
PULL = {
    host: {"previous": OLD, "transport": "pull", "channel": ring}
    for ring, hosts in RINGS.items()
    for host in hosts
}


def fleet_of(**more: Any) -> Fleet:
    devices = {host: dict(about) for host, about in {**PULL, **more.pop("devices", {})}.items()}
    return Fleet(devices=devices, **more)


def said(fleet: Fleet) -> dict[str, str]:
    return {row["channel"]: row["step"] for row in wanted(fleet.state(), fleet.now)}


def followed(fleet: Fleet) -> list[dict[str, str]]:
    """Every different thing that the channels said in a whole rollout."""
    found: list[dict[str, str]] = []

    def note(one: Fleet) -> None:
        now = said(one)
        if not found or found[-1] != now:
            found.append(now)

    fleet.on_step = note
    fleet.run()
    note(fleet)
    return found


def test_before_any_rollout_nothing_is_said() -> None:
    assert wanted(State(), 1000.0) == []


def test_each_ring_is_told_step_by_step_and_keeps_what_it_was_told_last() -> None:
    found = followed(fleet_of())
    canary = [row.get("ring_canary") for row in found]
    assert canary == ["stage", "activate", *["commit"] * (len(canary) - 2)]
    assert found[0] == {"ring_canary": "stage"}
    assert found[-1] == dict.fromkeys(RINGS, "commit")


def test_a_ring_that_failed_is_told_to_go_back_and_a_later_one_nothing() -> None:
    fleet = fleet_of(on_failure="all")
    fleet.devices["b1"].ill = True
    found = followed(fleet)
    assert found[-1] == {"ring_canary": "revert", "ring_early": "revert"}
    fleet = fleet_of(on_failure="ring")
    fleet.devices["b1"].ill = True
    assert followed(fleet)[-1] == {"ring_canary": "commit", "ring_early": "revert"}


def again(fleet: Fleet, digest: str, **more: Any) -> None:
    """Have the fleet roll out another release next, from what it serves now."""
    fleet.now += 3600
    fleet.request = {**fleet.request, "digest": digest, **more}
    for device in fleet.devices.values():
        device.previous, device.phase = device.served, "none"
        fleet.request["devices"][device.name]["previous"] = device.served


def test_once_it_is_over_a_ring_that_went_back_is_told_what_the_fleet_is_on() -> None:
    fleet = fleet_of(on_failure="all", size=1000, counter=7, local={"memory_mib": 100})
    assert fleet.run() == "COMPLETED"
    first = fleet.state().rollout
    again(fleet, THIRD, size=2000, counter=9, local={"memory_mib": 200})
    fleet.devices["b1"].ill = True
    found = followed(fleet)
    assert {"ring_canary": "revert", "ring_early": "revert"} in found
    assert found[-1] == {"ring_canary": "commit", "ring_early": "commit"}
    for row in wanted(fleet.state(), fleet.now):
        told = (row["digest"], row["size"], row["counter"], row["rollout"], row["limits"])
        assert told == (NEW, 1000, 7, first, {"memory_mib": 100})
        assert row["rollback"]
    # Of a release that no rollout has brought nothing more is known than its digest.
    fleet = fleet_of()
    fleet.devices["a1"].ill = True
    assert followed(fleet)[-1] == {"ring_canary": "revert"}


def test_all_that_an_order_says_is_there() -> None:
    fleet = fleet_of(size=1000, counter=7, bandwidth_mbit=8, local={"memory_mib": 100})
    fleet.begin()
    fleet.write(decide(fleet.state(), (), None, fleet.now).entries)
    row = wanted(fleet.state(), fleet.now)[0]
    assert (row["digest"], row["size"], row["counter"], row["generation"]) == (NEW, 1000, 7, 1)
    assert (row["rate"], row["limits"], row["rollback"]) == (1_000_000, {"memory_mib": 100}, False)
    assert row["next_poll"] == next_poll(1) < Limits().idle


@pytest.mark.parametrize("mbit", [0, 8])
def test_no_rate_is_told_where_no_bandwidth_is_declared_and_none_on_the_way_back(
    mbit: float,
) -> None:
    fleet = fleet_of(on_failure="all", bandwidth_mbit=mbit)
    fleet.devices["b1"].ill = True
    told: list[tuple[str, int]] = []

    def note(one: Fleet) -> None:
        told.extend((row["step"], row["rate"]) for row in wanted(one.state(), one.now))

    fleet.on_step = note
    fleet.run()
    assert {step for step, _rate in told} >= {"stage", "revert"}
    assert all(bool(rate) is bool(mbit) for step, rate in told if step == "stage")
    assert {rate for step, rate in told if step == "revert"} == {0}


def test_while_it_is_paused_nothing_is_said_of_the_release_to_the_ring_under_way() -> None:
    fleet = fleet_of()
    paused: list[dict[str, str]] = []

    def pause(one: Fleet) -> None:
        if said(one).get("ring_early") == "activate" and not paused:
            one.write(words.pause(one.state(), "carl", "", one.now))
            paused.append(said(one))

    fleet.on_step = pause
    assert fleet.run() == "PAUSED"
    assert paused == [{"ring_canary": "commit", "ring_early": ""}]
    fleet.resume()
    assert said(fleet)["ring_early"] == "activate"


def test_where_some_of_a_ring_committed_an_abort_tells_nobody_to_go_back() -> None:
    fleet = fleet_of()

    def abort(one: Fleet) -> None:
        if said(one).get("ring_fleet") == "commit":
            one.devices["c2"].online = False  # it is away when it is told
        if one.devices["c1"].phase == "committed" and one.state().mode == "committing":
            generation = one.state().generation + 1
            one.write(words.abort(one.state(), generation, "carl", "", one.now))

    fleet.on_step = abort
    assert fleet.run() == "ABORTED"
    assert said(fleet)["ring_fleet"] == ""
    assert said(fleet)["ring_canary"] == "commit"


def test_a_device_that_failed_is_not_told_alone_to_go_back() -> None:
    fleet = fleet_of(failed_share=0.5)
    fleet.devices["c1"].bad, fleet.devices["c1"].wrong_gate = "It is bad.", "FAIL"
    found = followed(fleet)
    assert "revert" not in {step for row in found for step in row.values()}
    assert not [entry for entry in fleet.events("ordered") if entry.data["step"] == "revert"]


def test_one_channel_is_of_one_ring() -> None:
    device = {"previous": OLD, "transport": "pull", "channel": "ring_fleet"}
    with pytest.raises(RolloutError, match="b1 of the ring ring_early follows the channel"):
        fleet_of(devices={"b1": device, "a1": device}).plan()
    pushed = {"b1": {"previous": OLD, "channel": "ring_fleet"}}
    assert fleet_of(devices=pushed).plan().devices["b1"].channel == ""


def test_a_deadline_is_published_anew_once_it_is_off_by_a_minute() -> None:
    row = {"channel": "ring_canary", "step": "activate", "hosts": ["a"], "deadline": 900.0}
    assert alike(row, {**row, "deadline": 850.0, "hosts": []})
    assert not alike(row, {**row, "deadline": 830.0})
    assert not alike(row, {**row, "deadline": 901.0})
    assert not alike(row, {**row, "step": "commit"})


def test_many_devices_ask_more_rarely() -> None:
    assert [next_poll(devices) for devices in (1, 1500, 10_000)] == [15, 15, 100]


def test_without_devices_that_fetch_there_is_no_channel() -> None:
    fleet = Fleet()
    assert wanted(fleet.state(), fleet.now) == []
    fleet.run()
    assert wanted(fleet.state(), fleet.now) == []


def test_devices_ask_themselves_while_their_ring_is_watched_and_those_beside_it_too() -> None:
    fleet = fleet_of(probe_requests=60)
    told: dict[str, float] = {}
    rows: dict[str, list[dict[str, Any]]] = {"activate": [], PROBE: [], "else": []}

    def note(one: Fleet) -> None:
        for row in wanted(one.state(), one.now):
            if row["step"] == "activate":
                told.setdefault(row["channel"], one.now)
            rows[row["step"] if row["step"] in rows else "else"].append(row)

    fleet.on_step = note
    assert fleet.run() == "COMPLETED"
    asked = [*rows["activate"], *rows[PROBE]]
    assert {row["probes"] for row in asked} == {60}
    # No longer than until the ring's deadline, whatever becomes of the controller.
    first, began = rows["activate"][0], told["ring_canary"]
    assert first["probe_until"] == int(began + first["deadline"])
    assert {row["channel"] for row in rows[PROBE]} == {"ring_early", "ring_fleet"}
    assert {(row["probes"], row["probe_until"]) for row in rows["else"]} == {(0, 0)}


def test_where_nothing_is_to_be_asked_channels_beside_a_ring_say_nothing_new() -> None:
    assert PROBE not in {step for row in followed(fleet_of()) for step in row.values()}


def test_how_often_devices_come_is_a_limit_of_the_plan() -> None:
    fleet = fleet_of(contact_seconds=5, idle_seconds=60, poll_seconds=1)
    fleet.begin()
    fleet.write(decide(fleet.state(), (), None, fleet.now).entries)
    assert wanted(fleet.state(), fleet.now)[0]["next_poll"] == 5
    limits = fleet.state().planned().limits
    assert (limits.poll, limits.pace, limits.deadline) == (10.0, 1.0, limits.bake_limit + 20.0)
    fleet = fleet_of(contact_seconds=5, idle_seconds=60, poll_seconds=1)
    fleet.run()
    assert {row["next_poll"] for row in wanted(fleet.state(), fleet.now)} == {60}
    with pytest.raises(RolloutError, match="contact_seconds"):
        fleet_of(contact_seconds=4).begin()


@pytest.mark.parametrize(
    ("mode", "about", "often"),
    [
        ("staging", {"step": "stage", "ok": False}, True),
        ("baking", {"step": "activate", "ok": True}, True),
        # Away, or failed and not told to go back: nobody waits for them any more.
        ("staging", {"step": "stage", "ok": False, "deferred": "It is off."}, False),
        ("baking", {"step": "activate", "ok": True, "failure": "It is ill."}, False),
        # Told to go back, whatever else is done meanwhile, until they have.
        ("reverting", {"step": "revert", "ok": False, "failure": "It is ill."}, True),
        ("reverting", {"step": "revert", "ok": True, "failure": "It is ill."}, False),
        # Told to commit while no ring is watched, until they have.
        ("committing", {"step": "commit", "ok": False}, True),
        ("committing", {"step": "commit", "ok": True}, False),
        ("committing", {"step": "", "ok": False}, False),
        ("finished", {"step": "commit", "ok": False}, False),
    ],
)
def test_only_devices_of_which_something_is_awaited_come_often(
    mode: str, about: dict[str, Any], often: bool
) -> None:
    fleet = fleet_of(contact_seconds=5, idle_seconds=60, poll_seconds=1)
    fleet.begin()
    fleet.write(decide(fleet.state(), (), None, fleet.now).entries)
    state = fleet.state()
    state.mode = mode
    for host in RINGS["ring_canary"]:
        state.hosts[host] = replace(state.hosts[host], **about)
    assert wanted(state, fleet.now)[0]["next_poll"] == (5 if often else 60)
    state.paused = "carl"
    assert wanted(state, fleet.now)[0]["next_poll"] == 60

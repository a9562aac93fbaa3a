# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stops a ring, said so that a person can read it."""

from __future__ import annotations

from ansible_collections.mlops.onprem.plugins.module_utils._rollout.machine import Judged, decide
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.shapes import (
    FAIL,
    INCONCLUSIVE,
    PARTIAL,
    PASS,
    PAUSED,
    ROLLED_BACK,
    Answer,
    Gate,
    Order,
)

from .fleet import NEW, Fleet, always


def test_a_sentence_names_ten_devices_and_counts_the_others() -> None:
    names = [f"h{number:02}" for number in range(12)]
    fleet = Fleet({"ring_all": names}, concurrent_downloads=12)
    for device in fleet.devices.values():
        device.bad = "It is bad."
    assert fleet.run() == ROLLED_BACK
    said = str(fleet.events("ring_failed")[0].data["said"])
    assert said.startswith("12 of 12 devices failed: h00 (It is bad), h01 (It is bad), ")
    assert said.endswith("h09 (It is bad) and 2 more.")
    few = Fleet({"ring_all": names[:10]}, concurrent_downloads=12)
    for device in few.devices.values():
        device.bad = "It is bad."
    few.run()
    assert "more" not in few.events("ring_failed")[0].data["said"]


def test_a_ring_whose_devices_all_refuse_to_switch_cannot_be_judged() -> None:
    fleet = Fleet({"ring_all": ["a1", "a2"]})

    def lock(one: Fleet) -> None:
        for device in one.devices.values():
            if device.steps == ["stage"]:
                device.locked = "The line is running."

    fleet.on_step = lock
    assert fleet.run() == PAUSED
    assert "nothing can be judged" in str(fleet.journal[-1].data["said"])
    assert fleet.ever_served() == []


def test_a_failed_ring_is_told_by_the_gates_that_failed_and_no_other() -> None:
    fleet = Fleet({"ring_all": ["a1"]})
    fleet.begin()
    answers: list[Answer] = []
    for _step in range(3):
        decision = decide(fleet.state(), answers, None, fleet.now)
        fleet.write(decision.entries)
        answers = [fleet.devices[h].obey(order, fleet.now) for h, order in decision.orders.items()]
    gates = (Gate("errors", PASS, "No errors."), Gate("latency", FAIL, "It is slow."))
    fleet.write(decide(fleet.state(), (), Judged(gates, {}, ()), fleet.now).entries)
    entry = fleet.events("ring_failed")[0]
    assert entry.data["said"] == "It is slow."
    assert [gate["name"] for gate in entry.data["gates"]] == ["errors", "latency"]


def test_a_ring_without_a_verdict_is_told_by_the_gates_that_have_none() -> None:
    fleet = Fleet({"ring_all": ["a1"]})
    fleet.verdict = always(INCONCLUSIVE)
    assert fleet.run() == PAUSED
    assert "INCONCLUSIVE it is." in str(fleet.journal[-1].data["said"])


def test_a_tolerated_silent_device_is_let_go_when_the_gates_pass_and_not_before() -> None:
    for verdict, late in ((PASS, False), (INCONCLUSIVE, True)):
        fleet = Fleet({"ring_all": ["a1", "a2", "a3", "a4"]}, failed_share=0.25)
        fleet.devices["a2"].silent_after = True
        fleet.verdict = always(verdict)
        fleet.run()
        took = fleet.events("deferred")[0].time - fleet.state().activated_at
        assert (took >= 300) is late


def test_a_tolerated_device_that_fails_and_stays_is_told_to_go_back() -> None:
    fleet = Fleet({"ring_all": ["a1", "a2", "a3", "a4"]}, failed_share=0.25)
    device = fleet.devices["a3"]
    obey = device.obey

    def stays(order: Order, now: float) -> Answer:
        answer = obey(order, now)
        if order.step == "activate":
            return Answer("a3", "activate", True, answer.phase, NEW, failure="The disk is full.")
        return answer

    device.obey = stays  # type: ignore[method-assign]
    assert fleet.run() == PARTIAL
    assert device.steps[-1] == "revert"
    assert fleet.on(NEW) == ["a1", "a2", "a4"]
    assert "a3 (The disk is full)" in str(fleet.journal[-1].data["said"])


def test_a_device_silent_at_its_commit_is_asked_until_its_deadline() -> None:
    fleet = Fleet({"ring_all": ["a1", "a2", "a3", "a4"]})

    def vanish(one: Fleet) -> None:
        one.devices["a3"].online = not one.events("ring_passed")

    fleet.on_step = vanish
    assert fleet.run() == PARTIAL
    entry = fleet.events("deferred")[0]
    assert entry.data["hosts"] == {"a3": "It was not heard of after its ring had passed."}
    assert entry.time - fleet.state().activated_at >= 360


def test_each_order_carries_what_its_step_needs_and_no_more() -> None:
    fleet = Fleet({"ring_all": ["a1"]}, local={"memory_mib": 9}, bandwidth_mbit=8)
    fleet.devices["a1"].ill = True
    obey, told = fleet.devices["a1"].obey, []

    def listens(order: Order, now: float) -> Answer:
        told.append(
            (order.step, order.deadline > 0, dict(order.limits), order.rate, order.rollback)
        )
        return obey(order, now)

    fleet.devices["a1"].obey = listens  # type: ignore[method-assign]
    assert fleet.run() == ROLLED_BACK
    assert told == [
        ("stage", False, {}, 1_000_000, False),
        ("activate", True, {"memory_mib": 9}, 0, False),
        ("revert", False, {}, 0, True),
    ]

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state machine, driven by a simulated fleet: how a rollout goes on, stops and ends."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._rollout import orders, words
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.errors import RolloutError
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.machine import (
    decide,
    verdict_of,
)
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.shapes import (
    ABORTED,
    COMPLETED,
    FAIL,
    INCONCLUSIVE,
    LEFT_OUT,
    MISSING,
    PARTIAL,
    PASS,
    PAUSED,
    ROLLED_BACK,
    ROLLED_BACK_PARTIAL,
    Answer,
    Gate,
)
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.state import fold

from .fleet import BASE, HOSTS, NEW, OLD, RINGS, START, Fleet, Killed, always

ONE = {"ring_all": ["a1", "a2", "a3", "a4"]}


def said(fleet: Fleet) -> str:
    return str(fleet.journal[-1].data["said"])


# -- the good way ------------------------------------------------------------------------------


def test_a_good_release_reaches_every_ring_in_order_and_is_committed() -> None:
    fleet = Fleet()
    assert fleet.run() == COMPLETED
    assert {device.phase for device in fleet.devices.values()} == {"committed"}
    assert [entry.data["ring"] for entry in fleet.events("ring_passed")] == list(RINGS)
    fleet.end()
    assert fleet.on(NEW) == HOSTS
    assert fleet.state().committed == dict.fromkeys(HOSTS, NEW)
    assert fleet.state().release == NEW


def test_a_ring_is_not_touched_before_the_one_before_is_committed() -> None:
    fleet = Fleet()
    fleet.run()
    first = {host: next(at for at, name, _step in fleet.trace if name == host) for host in HOSTS}
    commits = {host: at for at, host, step in fleet.trace if step == "commit"}
    assert commits["a1"] < first["b1"]
    assert max(commits["b1"], commits["b2"]) < min(first["c1"], first["c2"], first["c3"])


def test_a_ring_bakes_at_least_so_long() -> None:
    fleet = Fleet()
    fleet.run()
    for record in fleet.state().records:
        assert record.ended - record.activated >= 60


def test_an_empty_site_takes_its_first_release() -> None:
    fleet = Fleet(previous="")
    assert fleet.plan().first
    assert fleet.run() == COMPLETED


def test_the_control_ring_is_what_is_still_on_the_release_before() -> None:
    fleet = Fleet()
    found: list[Any] = []
    fleet.on_step = lambda one: found.append(orders.watch(one.state()))
    fleet.run()
    seen = {(watch.ring, watch.control) for watch in found if watch}
    assert seen == {
        (("a1",), ("b1", "b2", "c1", "c2", "c3")),
        (("b1", "b2"), ("c1", "c2", "c3")),
        (("c1", "c2", "c3"), ()),
    }


def test_at_most_so_many_devices_download_at_once_and_share_the_cap() -> None:
    fleet = Fleet(
        {"ring_all": [f"h{number}" for number in range(7)]},
        concurrent_downloads=3,
        bandwidth_mbit=24,
    )
    fleet.begin()
    rates: list[list[int]] = []
    answers: list[Answer] = []
    while not fleet.events("judged") and not any(
        entry.data["step"] == "activate" for entry in fleet.events("ordered")
    ):
        decision = decide(fleet.state(), answers, None, fleet.now)
        fleet.write(decision.entries)
        rates.append([order.rate for order in decision.orders.values() if order.step == "stage"])
        answers = [fleet.devices[host].obey(order, 0) for host, order in decision.orders.items()]
    assert rates == [[1_000_000] * 3, [1_000_000] * 3, [3_000_000], []]


def test_pull_devices_begin_together_and_share_the_cap_with_those_that_are_pushed() -> None:
    fleet = Fleet(ONE, concurrent_downloads=1, bandwidth_mbit=24)
    for host in ("a1", "a3"):
        fleet.request["devices"][host]["transport"] = "pull"
    fleet.begin()
    decision = decide(fleet.state(), (), None, fleet.now)
    # Of two that are pushed one begins; the two others read the same document.
    assert sorted(decision.orders) == ["a1", "a2", "a3"]
    assert {order.rate for order in decision.orders.values()} == {1_000_000}


# -- failing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("on_failure", ["ring", "all"])
@pytest.mark.parametrize("victim", ["a1", "b2", "c3"])
@pytest.mark.parametrize("how", ["bad", "ill", "silent"])
def test_a_ring_that_fails_goes_back_and_no_later_one_is_touched(
    on_failure: str, victim: str, how: str
) -> None:
    fleet = Fleet(on_failure=on_failure)
    device = fleet.devices[victim]
    if how == "bad":
        device.bad = "The golden answers differ."
    device.ill, device.silent_after = how == "ill", how == "silent"
    outcome = fleet.run()
    assert outcome == (ROLLED_BACK_PARTIAL if how == "silent" else ROLLED_BACK)
    failed = next(name for name, hosts in RINGS.items() if victim in hosts)
    names = list(RINGS)
    later = [host for name in names[names.index(failed) + 1 :] for host in RINGS[name]]
    earlier = [host for name in names[: names.index(failed)] for host in RINGS[name]]
    assert not [host for host in later if fleet.devices[host].steps]
    fleet.end()
    assert fleet.on(NEW) == (earlier if on_failure == "ring" else [])
    assert fleet.events("ring_failed")[0].data["ring"] == failed
    assert fleet.state().records[names.index(failed)].state == "failed"


def test_the_gate_that_stopped_a_ring_is_in_the_journal_with_its_sentence() -> None:
    fleet = Fleet()
    fleet.devices["a1"].bad = "The golden answers differ."
    fleet.run()
    entry = fleet.events("ring_failed")[0]
    assert "a1 (The golden answers differ" in entry.data["said"]
    assert [gate["name"] for gate in entry.data["gates"]] == ["golden"]


def test_rolled_back_means_that_the_old_release_is_proved_to_answer() -> None:
    fleet = Fleet()
    fleet.devices["b1"].ill = True
    fleet.devices["b2"].stuck = True  # it says nothing wrong, and serves the new one
    assert fleet.run() == ROLLED_BACK_PARTIAL
    assert "b2" in said(fleet)


def test_a_device_that_says_it_activated_and_serves_something_else_fails() -> None:
    fleet = Fleet(ONE)
    device = fleet.devices["a2"]
    obey = device.obey

    def lies(order: Any, now: float) -> Answer:
        answer = obey(order, now)
        if order.step == "activate":
            return Answer("a2", order.step, True, "activated", OLD)
        return answer

    device.obey = lies  # type: ignore[method-assign]
    assert fleet.run() == ROLLED_BACK
    assert "it says that it activated and serves" in said(fleet)


def test_a_fetch_that_fails_is_tried_again_and_fails_the_ring_in_the_end() -> None:
    fleet = Fleet()
    fleet.devices["a1"].fetch_fails = 2
    assert fleet.run() == COMPLETED
    fleet = Fleet()
    fleet.devices["a1"].fetch_fails = 3
    assert fleet.run() == ROLLED_BACK
    assert "The registry does not answer" in fleet.events("ring_failed")[0].data["said"]
    assert fleet.ever_served() == []


def test_a_tolerated_failure_goes_back_alone() -> None:
    fleet = Fleet(ONE, failed_share=0.25)
    fleet.devices["a3"].bad = "The golden answers differ."
    assert fleet.run() == PARTIAL
    assert fleet.on(NEW) == ["a1", "a2", "a4"]
    fleet = Fleet(ONE, failed_share=0.25)
    fleet.devices["a3"].bad = fleet.devices["a1"].bad = "The golden answers differ."
    assert fleet.run() == ROLLED_BACK


def test_a_tolerated_failure_goes_back_before_the_next_ring_begins() -> None:
    fleet = Fleet(failed_share=0.5)
    fleet.devices["b1"].bad = "The golden answers differ."
    fleet.run()
    back = [one.seq for one in fleet.events("ordered") if one.data["step"] == "revert"]
    begun = {one.data["ring"]: one.seq for one in fleet.events("ring_begun")}
    assert begun["ring_early"] < back[0] < begun["ring_fleet"]


def test_late_devices_are_caught_up_within_the_window_as_well() -> None:
    fleet = Fleet(window="daily 13:00-14:00 UTC")
    fleet.now += 600  # 13:56:40; the last ring bakes until after two o'clock
    fleet.devices["c1"].online = False

    def come_back(one: Fleet) -> None:
        state = one.state()
        if (state.mode, state.ring) == ("committing", 2):
            one.devices["c1"].online = True

    fleet.on_step = come_back
    fleet.begin()
    assert fleet.drive(most=5000) == COMPLETED  # looked at each half minute until the next day
    (begun,) = [one for one in fleet.events("ring_begun") if one.data["ring"] == "catch-up"]
    assert fleet.plan().when().opens_in(begun.time) == 0


def test_what_the_gates_tolerate_is_what_the_plan_tolerates() -> None:
    assert Fleet(gates={"device_failure_rate_max": 0.1}).plan().limits.failed_share == 0.1


def test_a_tolerated_silent_device_does_not_stop_its_ring() -> None:
    fleet = Fleet(ONE, failed_share=0.25)
    fleet.devices["a2"].silent_after = True
    assert fleet.run() == PARTIAL
    fleet.end()
    assert fleet.on(NEW) == ["a1", "a3", "a4"]


# -- no verdict --------------------------------------------------------------------------------


def test_without_a_verdict_a_ring_bakes_to_the_limit_and_pauses() -> None:
    fleet = Fleet()
    fleet.verdict = always(INCONCLUSIVE)
    assert fleet.run() == PAUSED
    assert fleet.now - fleet.state().activated_at >= 300
    assert "has no verdict" in said(fleet)
    fleet.verdict = always(PASS)
    fleet.resume()
    assert fleet.drive() == COMPLETED


def test_without_a_verdict_and_a_controller_the_ring_goes_back_by_itself() -> None:
    fleet = Fleet()
    fleet.verdict = always(INCONCLUSIVE)
    fleet.run()
    fleet.end()
    assert fleet.on(NEW) == []
    fleet.resume()
    assert fleet.drive() == ROLLED_BACK
    assert "by themselves" in said(fleet)


def test_missing_data_pauses_once_the_ring_could_have_passed() -> None:
    fleet = Fleet()
    fleet.verdict = always(MISSING)
    assert fleet.run() == PAUSED
    assert 60 <= fleet.now - fleet.state().activated_at < 300
    assert "cannot be judged" in said(fleet)


def test_no_gate_at_all_is_no_pass() -> None:
    assert verdict_of(()) == MISSING
    assert verdict_of((Gate("shift", LEFT_OUT, ""),)) == MISSING
    assert verdict_of((Gate("shift", LEFT_OUT, ""), Gate("errors", PASS, ""))) == PASS
    worse = (INCONCLUSIVE, MISSING, FAIL)
    for index, verdict in enumerate(worse):
        gates = [Gate("x", found, "") for found in (PASS, *worse[: index + 1])]
        assert verdict_of(gates) == verdict


def test_a_gate_of_a_device_that_has_no_data_pauses_and_is_asked_again() -> None:
    fleet = Fleet()
    fleet.devices["a1"].bad, fleet.devices["a1"].wrong_gate = "Memory was not measured.", MISSING
    assert fleet.run() == PAUSED
    assert "a1: Memory was not measured." in said(fleet)
    fleet.devices["a1"].bad = ""
    fleet.devices["a1"].wrong_gate = PASS
    fleet.resume()
    # The device answers without a gate now, so what it said before still stands.
    assert fleet.drive() == PAUSED
    fleet.devices["a1"].bad = "Memory is fine."
    fleet.resume()
    assert fleet.drive() == COMPLETED


def test_nobody_looking_is_no_pass() -> None:
    fleet = Fleet()
    fleet.blind = True
    assert fleet.run() == ROLLED_BACK
    assert "without a verdict" in said(fleet)


# -- deferred devices --------------------------------------------------------------------------


def test_an_offline_device_is_deferred_and_caught_up_later() -> None:
    fleet = Fleet()
    fleet.devices["c2"].online = False
    assert fleet.run() == PARTIAL
    assert "c2" in said(fleet)
    assert fleet.state().hosts["c2"].deferred == "It was offline when its ring began."
    fleet.devices["c2"].online = True
    fleet.resume()
    assert fleet.drive() == COMPLETED
    assert fleet.on(NEW) == HOSTS


def test_one_that_comes_back_while_its_fleet_is_served_is_caught_up_at_the_end() -> None:
    fleet = Fleet()
    fleet.devices["b2"].online = False

    def back(one: Fleet) -> None:
        one.devices["b2"].online = bool(one.devices["c1"].steps)

    fleet.on_step = back
    assert fleet.run() == COMPLETED
    assert fleet.events("ring_begun")[-1].data == {"ring": "catch-up", "hosts": ["b2"]}


def test_a_device_that_asks_by_itself_is_waited_for_and_not_given_up_by_tries() -> None:
    fleet = Fleet(ONE)
    fleet.request["devices"]["a2"] = {"previous": OLD, "transport": "pull"}
    fleet.devices["a2"].online = False

    def wakes(one: Fleet) -> None:
        one.devices["a2"].online = one.now - START > 200

    fleet.on_step = wakes
    assert fleet.run() == COMPLETED
    fleet = Fleet(ONE)
    fleet.request["devices"]["a2"] = {"previous": OLD, "transport": "pull"}
    fleet.devices["a2"].online = False
    assert fleet.run() == PARTIAL
    assert fleet.events("deferred")[0].time - START >= 300
    assert (
        "did not stage the release within 300 s" in fleet.events("deferred")[0].data["hosts"]["a2"]
    )


@pytest.mark.parametrize("known", [True, False])
def test_a_device_that_asks_by_itself_and_was_away_before_is_waited_for_as_long_as_it_sleeps(
    known: bool,
) -> None:
    """One that was there when the plan was made has until the ring must have staged."""
    rings = {"ring_canary": ["a1", "a2"], "ring_fleet": ["c1"]}
    fleet = Fleet(rings, bake_limit_seconds=3000, idle_seconds=100)
    about = {"transport": "pull", "channel": "ring_canary", "online": known}
    fleet.request["devices"]["a2"].update(about)
    fleet.devices["a2"].online = False
    fleet.run()
    deferred = fleet.events("deferred")[0]
    why = "not heard of before the rollout" if not known else "not stage the release within 3000 s"
    assert why in deferred.data["hosts"]["a2"]
    # It asks every 100 s, at most a fifth later, and the controller looks every 30 s.
    waited = deferred.time - START
    assert waited >= 3000 if known else 150 <= waited < 600


def test_too_many_deferred_devices_pause_the_ring_before_it_switches() -> None:
    fleet = Fleet(ONE, deferred_share=0.25)
    fleet.devices["a1"].online = fleet.devices["a2"].online = False
    assert fleet.run() == PAUSED
    assert "2 of 4 devices of the ring ring_all are deferred, 25% are allowed" in said(fleet)
    assert fleet.ever_served() == []
    fleet.devices["a1"].online = True
    fleet.resume()
    assert fleet.drive() == PARTIAL
    assert fleet.on(NEW) == ["a1", "a3", "a4"]


def test_exactly_the_share_that_may_be_deferred_is_no_reason_to_pause() -> None:
    fleet = Fleet(ONE, deferred_share=0.5)
    fleet.devices["a1"].online = fleet.devices["a2"].online = False
    assert fleet.run() == PARTIAL


def test_a_ring_without_any_device_is_no_evidence() -> None:
    fleet = Fleet(deferred_share=1.0)
    fleet.devices["a1"].online = False
    assert fleet.run() == PAUSED
    assert "so there is no evidence" in said(fleet)
    assert fleet.state().ring == 0


def test_a_locked_device_is_reported_and_never_forced() -> None:
    fleet = Fleet()
    fleet.devices["c1"].locked = "The line is running."
    assert fleet.run() == PARTIAL
    assert fleet.state().hosts["c1"].deferred.endswith("The line is running.")
    assert fleet.devices["c1"].served == OLD


def test_a_device_locked_between_staging_and_switching_is_deferred() -> None:
    fleet = Fleet(ONE)

    def lock(one: Fleet) -> None:
        if one.devices["a4"].steps == ["stage"]:
            one.devices["a4"].locked = "The line is running."

    fleet.on_step = lock
    assert fleet.run() == PARTIAL
    assert fleet.on(NEW) == ["a1", "a2", "a3"]


def test_a_late_device_is_judged_by_its_own_gates_and_fails_alone() -> None:
    fleet = Fleet()
    fleet.devices["c2"].online = False
    fleet.run()
    fleet.devices["c2"].online, fleet.devices["c2"].bad = True, "The golden answers differ."
    fleet.resume()
    assert fleet.drive() == PARTIAL
    assert fleet.on(NEW) == [host for host in HOSTS if host != "c2"]


def test_a_late_device_whose_gate_has_no_data_is_not_committed() -> None:
    fleet = Fleet()
    fleet.devices["c2"].online = False
    fleet.run()
    late = fleet.devices["c2"]
    late.online, late.bad, late.wrong_gate = True, "Memory was not measured.", MISSING
    fleet.resume()
    assert fleet.drive() == PARTIAL
    assert late.phase == "activated"
    fleet.end()
    assert late.served == OLD


def test_a_late_device_that_goes_silent_is_given_up_at_its_deadline() -> None:
    fleet = Fleet()
    fleet.devices["c2"].online = False
    fleet.run()
    fleet.devices["c2"].online, fleet.devices["c2"].silent_after = True, True
    fleet.resume()
    assert fleet.drive() == PARTIAL
    fleet.end()
    assert fleet.devices["c2"].served == OLD


def test_a_device_added_after_the_start_is_caught_up_and_in_no_ring() -> None:
    fleet = Fleet()
    fleet.run()
    fleet.devices["new1"] = fleet.devices["c1"].__class__("new1", OLD)
    fleet.resume(devices={"new1": {"previous": OLD}, "c1": {"previous": NEW}})
    assert fleet.drive() == COMPLETED
    assert fleet.devices["new1"].served == NEW
    assert not any("new1" in ring.hosts for ring in fleet.state().planned().rings)
    assert fleet.devices["c1"].steps.count("stage") == 1


def test_what_was_served_by_a_device_offline_at_the_start_is_learned_when_it_comes() -> None:
    fleet = Fleet(ONE)
    fleet.request["devices"]["a1"] = {"previous": "", "online": False}
    fleet.devices["a2"].ill = True
    assert fleet.run() == ROLLED_BACK
    assert fleet.on(OLD) == list(fleet.devices)


def test_nothing_to_catch_up_writes_nothing() -> None:
    fleet = Fleet()
    fleet.run()
    lines = len(fleet.journal)
    fleet.resume()
    assert len(fleet.journal) == lines


# -- silence -----------------------------------------------------------------------------------


def test_a_device_silent_after_activation_fails_its_ring_at_the_limit_and_reverts() -> None:
    fleet = Fleet()
    fleet.devices["b2"].silent_after = True
    assert fleet.run() == ROLLED_BACK_PARTIAL
    entry = fleet.events("ring_failed")[0]
    assert "did not answer from the new release" in entry.data["said"]
    assert entry.time - fleet.state().records[1].activated >= 300
    fleet.end()
    assert fleet.devices["b2"].served == OLD


def test_a_device_silent_at_the_commit_is_deferred_since_its_ring_had_passed() -> None:
    fleet = Fleet(ONE)

    def vanish(one: Fleet) -> None:
        if one.events("ring_passed"):
            one.devices["a3"].online = False

    fleet.on_step = vanish
    assert fleet.run() == PARTIAL
    assert fleet.state().hosts["a3"].deferred == "It was offline when its ring began." or (
        "not heard of" in fleet.events("deferred")[0].data["hosts"]["a3"]
    )
    fleet.end()
    assert fleet.on(NEW) == ["a1", "a2", "a4"]


def test_devices_that_reverted_before_the_commit_end_the_ring_in_the_reverted_state() -> None:
    fleet = Fleet(on_failure="all")

    def killed(one: Fleet) -> None:
        if one.events("ring_passed") and len(one.events("ring_passed")) == 2:
            raise Killed

    fleet.on_step = killed
    fleet.begin()
    with pytest.raises(Killed):
        fleet.drive()
    fleet.on_step = lambda _one: None
    fleet.end()
    fleet.resume()
    assert fleet.drive() == ROLLED_BACK
    assert "gone back to the release before by itself" in said(fleet)
    # Nobody judged the release bad, so the ring that was committed keeps it.
    assert fleet.on(NEW) == ["a1"]


# -- people ------------------------------------------------------------------------------------


def test_a_ring_waits_for_the_approval_of_a_named_person() -> None:
    fleet = Fleet(approval={"ring_fleet": ["anna", "ben"]})
    assert fleet.run() == PAUSED
    assert "waits for the approval of anna or ben" in said(fleet)
    assert not [host for host in RINGS["ring_fleet"] if fleet.devices[host].steps]
    with pytest.raises(RolloutError, match="carl cannot approve the ring ring_fleet"):
        fleet.resume("carl")
    fleet.resume()
    assert fleet.drive() == PAUSED
    fleet.resume("ben")
    assert fleet.drive() == COMPLETED
    assert fleet.events("approved")[0].data == {"ring": "ring_fleet", "by": "ben"}


def test_the_first_ring_can_be_approved_with_the_start() -> None:
    fleet = Fleet(approval={"ring_canary": ["anna"]})
    fleet.approved_by = "anna"
    assert fleet.run() == COMPLETED


def test_a_pause_stops_all_orders_and_a_resume_goes_on() -> None:
    fleet = Fleet()
    fleet.begin()

    def stop(one: Fleet) -> None:
        if one.devices["b1"].phase == "activated" and not one.state().paused:
            one.write(words.pause(one.state(), "carl", "line 2", one.now))

    fleet.on_step = stop
    assert fleet.drive() == PAUSED
    assert "carl paused the rollout: line 2 The ring goes back by itself in" in said(fleet)
    assert words.pause(fleet.state(), "carl", "", fleet.now) == []
    fleet.on_step = lambda _one: None
    assert decide(fleet.state(), (), None, fleet.now).orders == {}
    fleet.resume()
    assert fleet.drive() == COMPLETED


def test_an_abort_keeps_what_is_committed_and_takes_back_what_is_not() -> None:
    fleet = Fleet()
    fleet.begin()

    def stop(one: Fleet) -> None:
        if one.devices["b1"].phase == "activated" and not one.events("aborted"):
            one.write(words.abort(one.state(), 9, "carl", "", one.now))

    fleet.on_step = stop
    assert fleet.drive() == ABORTED
    assert fleet.on(NEW) == ["a1"]
    with pytest.raises(RolloutError, match=r"is over \(ABORTED\); there is nothing to abort"):
        words.abort(fleet.state(), 10, "carl", "", fleet.now)


def test_a_rollback_takes_back_everything_also_afterwards() -> None:
    fleet = Fleet()
    fleet.run()
    fleet.write(words.rollback(fleet.state(), 2, "carl", "odd scores", fleet.now))
    assert fleet.drive() == ROLLED_BACK
    assert fleet.on(NEW) == []
    assert fleet.state().committed == dict.fromkeys(HOSTS, OLD)
    assert fleet.state().release == OLD, "so that nobody brings the other one back"
    assert "answer from the release before" in fleet.state().said
    with pytest.raises(RolloutError, match="nothing to roll back"):
        words.rollback(fleet.state(), 3, "carl", "", fleet.now)


def test_a_first_release_that_is_taken_back_leaves_nothing_and_says_so() -> None:
    fleet = Fleet(previous="")
    assert fleet.run() == COMPLETED
    assert fleet.state().release == NEW
    fleet.write(words.rollback(fleet.state(), 2, "carl", "", fleet.now))
    assert fleet.drive() == ROLLED_BACK
    assert fleet.state().release == ""
    assert f"{len(HOSTS)} devices serve nothing, as before" in fleet.state().said
    assert "release before" not in fleet.state().said


def test_a_ring_that_fails_leaves_the_fleet_on_what_it_was_brought_to() -> None:
    fleet = Fleet()
    fleet.devices["a1"].ill = True
    assert fleet.run() == ROLLED_BACK
    assert fleet.state().release == OLD


def test_a_rollback_that_was_not_proved_can_be_asked_for_again() -> None:
    fleet = Fleet()
    fleet.run()
    fleet.devices["c1"].online = False
    fleet.write(words.rollback(fleet.state(), 2, "carl", "", fleet.now))
    assert fleet.drive() == ROLLED_BACK_PARTIAL
    assert fleet.on(NEW) == ["c1"]
    fleet.devices["c1"].online = True
    fleet.write(words.rollback(fleet.state(), 3, "carl", "", fleet.now))
    assert fleet.events("reverting")[-1].data["hosts"] == ["c1"]
    assert fleet.drive() == ROLLED_BACK
    assert fleet.on(NEW) == []


def test_what_is_over_is_not_resumed() -> None:
    fleet = Fleet()
    with pytest.raises(RolloutError, match="There is no rollout to resume"):
        fleet.resume()
    fleet.devices["a1"].ill = True
    fleet.run()
    with pytest.raises(RolloutError, match=r"is over \(ROLLED_BACK\)"):
        fleet.resume()


def test_a_second_rollout_waits_for_the_end_of_the_first() -> None:
    fleet = Fleet()
    fleet.begin()
    with pytest.raises(RolloutError, match="has not ended"):
        fleet.begin()
    fleet.drive()
    fleet.now += 10
    fleet.begin()
    assert fleet.state().seq == len(fleet.journal)
    assert fleet.state().generation == 2


# -- windows -----------------------------------------------------------------------------------


def test_rings_begin_and_switch_within_the_window_only() -> None:
    # It begins at 13:46:40; a ring bakes for an hour, so the third one is for the next day.
    slow: dict[str, Any] = {"bake_seconds": 3600, "bake_limit_seconds": 7200, "poll_seconds": 600}
    fleet = Fleet(window="daily 14:00-16:00 UTC", **slow)
    assert fleet.run() == COMPLETED
    assert fleet.now - START > 86400
    opened = 14 * 3600
    for entry in fleet.events("ring_begun"):
        assert opened <= entry.time % 86400 < opened + 7200
    for entry in fleet.events("ordered"):
        if entry.data["step"] == "activate":
            assert opened <= entry.time % 86400 < opened + 7200


def test_a_ring_that_is_staged_when_the_window_closes_switches_in_the_next() -> None:
    fleet = Fleet(ONE, window="daily 13:46-13:47 UTC", poll_seconds=30)
    fleet.begin()
    decision = decide(fleet.state(), (), None, fleet.now)
    fleet.write(decision.entries)
    answers = [fleet.devices[h].obey(order, fleet.now) for h, order in decision.orders.items()]
    fleet.now += 60
    decision = decide(fleet.state(), answers, None, fleet.now)
    fleet.write(decision.entries)
    assert decision.orders == {}
    assert 0 < decision.wait <= 30
    fleet.now += 86000
    assert fleet.drive() == COMPLETED


# -- two controllers ---------------------------------------------------------------------------


def test_a_device_refuses_the_controller_that_was_replaced() -> None:
    fleet = Fleet(ONE)
    fleet.begin()
    old = decide(fleet.state(), (), None, fleet.now)
    fleet.write(old.entries)
    fleet.resume()
    new = decide(fleet.state(), (), None, fleet.now)
    fleet.write(new.entries)
    assert {order.generation for order in new.orders.values()} == {2}
    assert fleet.devices["a1"].obey(new.orders["a1"], fleet.now).refused == ""
    assert fleet.devices["a1"].obey(old.orders["a1"], fleet.now).refused


def test_an_order_given_twice_is_the_same_order() -> None:
    fleet = Fleet()
    fleet.begin()
    first = decide(fleet.state(), (), None, fleet.now)
    fleet.write(first.entries)
    again = decide(fleet.state(), (), None, fleet.now)
    assert again.entries == ()
    assert again.orders == first.orders


def test_an_answer_to_what_was_not_asked_is_ignored() -> None:
    fleet = Fleet()
    fleet.begin()
    fleet.write(decide(fleet.state(), (), None, fleet.now).entries)
    strange = [
        Answer("a1", "commit", True, "committed", NEW),
        Answer("b1", "stage", True, "staged", OLD),
        Answer("nobody", "stage", True, "staged", OLD),
    ]
    assert decide(fleet.state(), strange, None, fleet.now).entries == ()


def test_one_that_was_not_reached_is_left_alone_for_a_poll() -> None:
    fleet = Fleet(ONE)
    fleet.begin()
    fleet.write(decide(fleet.state(), (), None, fleet.now).entries)
    answer = [Answer("a1", "stage", False)]
    decision = decide(fleet.state(), answer, None, fleet.now)
    fleet.write(decision.entries)
    assert "a1" not in decision.orders
    assert "a1" in decide(fleet.state(), (), None, fleet.now + 30).orders


def test_orders_that_are_carried_out_are_answered_at_once_and_others_by_the_poll() -> None:
    fleet = Fleet(ONE)
    fleet.begin()
    assert decide(fleet.state(), (), None, fleet.now).wait == 0
    fleet = Fleet(ONE)
    for host in ONE["ring_all"]:
        fleet.request["devices"][host] = {"previous": OLD, "transport": "pull"}
    fleet.begin()
    assert decide(fleet.state(), (), None, fleet.now).wait == 30


def test_a_device_told_late_gets_what_is_left_of_the_deadline() -> None:
    fleet = Fleet()
    fleet.begin()
    decision = decide(fleet.state(), (), None, fleet.now)
    fleet.write(decision.entries)
    answers = [fleet.devices["a1"].obey(decision.orders["a1"], fleet.now)]
    decision = decide(fleet.state(), answers, None, fleet.now)
    fleet.write(decision.entries)
    assert decision.orders["a1"].deadline == 300 + 2 * 30
    assert decide(fleet.state(), (), None, fleet.now + 100).orders["a1"].deadline == 260
    assert BASE["poll_seconds"] == 30


# -- killed anywhere ---------------------------------------------------------------------------


def broken(kind: str) -> Fleet:
    fleet = Fleet(on_failure="all" if kind == "all" else "ring")
    if kind in ("ring", "all"):
        fleet.devices["b1"].ill = True
    if kind == "bad":
        fleet.devices["b1"].bad = "The golden answers differ."
    if kind == "late":
        fleet.devices["b2"].online = False
    return fleet


KINDS = ("good", "ring", "all", "bad", "late")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("away", [0.0, 10_000.0])
def test_killed_at_every_line_a_resumed_rollout_ends_the_same_or_reverted(
    kind: str, when: str, away: float
) -> None:
    whole = broken(kind)
    outcome = whole.run()
    whole.end()
    for line in range(2, len(whole.journal) + 1):
        fleet = broken(kind)
        setattr(fleet, "kill_at" if when == "before" else "kill_after", line)
        with pytest.raises(Killed):
            fleet.run()
        fleet.end(away)
        if fleet.state().running:
            fleet.resume()
            ended = fleet.drive()
        else:
            ended = fleet.state().outcome
        fleet.end()
        reverted = ended == ROLLED_BACK and (
            "by itself" in said(fleet) or "by themselves" in said(fleet)
        )
        assert ended == outcome or (away and reverted), f"line {line}: {said(fleet)}"
        if ended == outcome and not (away and reverted):
            assert fleet.served() == whole.served(), f"line {line}"
        assert fold(fleet.journal) == fleet.state()
        generations = [entry.generation for entry in fleet.journal]
        assert generations == sorted(generations)
        assert [entry.seq for entry in fleet.journal] == list(range(1, len(generations) + 1))

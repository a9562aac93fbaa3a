# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a state asks of devices: whom, when, and how long a ring is watched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._rollout import orders
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.machine import decide
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.state import State

from .fleet import OLD, START, Fleet

RINGS = {"ring_canary": ["a1", "a2"], "ring_fleet": ["c1", "c2"]}


def state_of(*pull: str, mode: str = "baking", **request: Any) -> State:
    """The first ring has been told to stage, and its mode is another one then."""
    fleet = Fleet(RINGS, **{"poll_seconds": 1, "bake_seconds": 10, **request})
    for host in pull:
        fleet.request["devices"][host] = {"previous": OLD, "transport": "pull"}
    fleet.begin()
    fleet.write(decide(fleet.state(), (), None, fleet.now).entries)
    state = fleet.state()
    state.mode, state.activated_at = mode, START
    return state


def test_only_a_ring_with_devices_that_fetch_is_looked_at_as_rarely_as_they_come() -> None:
    assert orders.pace(state_of()) == 1
    assert orders.pace(state_of("c1")) == 1
    assert orders.pace(state_of("a2", "c1")) == 30


@pytest.mark.parametrize(
    ("pull", "probes", "least"),
    [
        ((), 60, 10),
        # They have to come once more before anything is known of them.
        (("a1",), 60, 30),
        # Those to compare with first have to hear, at their idle pace, that they are to ask.
        (("c1", "c2"), 60, 150),
        (("c1", "c2"), 0, 10),
        (("c1",), 60, 10),
    ],
)
def test_a_ring_is_watched_until_those_that_fetch_can_have_told(
    pull: tuple[str, ...], probes: int, least: float
) -> None:
    asked: dict[str, Any] = {"probe_requests": probes, "idle_seconds": 100}
    assert orders.least_bake(state_of(*pull, **asked)) == least
    limited = state_of(*pull, **asked, bake_limit_seconds=20)
    assert orders.least_bake(limited) == min(least, 20)


def test_without_devices_to_compare_with_nobody_is_waited_for() -> None:
    state = state_of("c1", "c2", probe_requests=60)
    state.ring = 1
    assert orders.least_bake(state) == 10


@pytest.mark.parametrize(
    ("about", "told"),
    [
        ({"step": "activate"}, True),
        ({"step": "activate", "ok": True}, False),
        ({"step": ""}, False),
        ({"step": "activate", "failure": "It is ill."}, False),
        ({"step": "revert", "failure": "It is ill."}, True),
        ({"step": "revert", "failure": "It is ill.", "ok": True}, False),
        ({"step": "stage", "deferred": "It is off."}, False),
    ],
)
def test_one_that_failed_is_told_nothing_but_to_go_back(about: dict[str, Any], told: bool) -> None:
    state = state_of()
    state.hosts["a1"] = replace(state.hosts["a1"], **about)
    assert ("a1" in orders.outstanding(state)) is told
    assert ("a1" in orders.orders(state, START)) is told


def settled(**request: Any) -> State:
    """Nobody is told anything any more."""
    state = state_of(**{"bake_seconds": 60, "poll_seconds": 30, **request})
    for host in state.members:
        state.hosts[host] = replace(state.hosts[host], step="activate", ok=True)
    return state


def test_only_a_ring_that_bakes_is_watched() -> None:
    state = settled()
    assert orders.watch(state) == orders.Watch(("a1", "a2"), ("c1", "c2"))
    state.mode = "committing"
    assert orders.watch(state) is None
    state.mode, state.paused = "baking", "person"
    assert orders.watch(state) is None


def test_the_first_look_at_a_ring_is_at_once_and_the_next_when_something_can_be_decided() -> None:
    state = settled()
    assert orders.wait(state, START) == 0
    state.baseline = {"a1": {"host": "a1"}}
    waits = {after: orders.wait(state, START + after) for after in (0, 50, 60, 290, 400)}
    assert waits == {0: 30, 50: 10, 60: 30, 290: 10, 400: 30}
    state.mode = "committing"
    assert orders.wait(state, START + 50) == 30


@pytest.mark.parametrize(("mode", "paused"), [("finished", ""), ("idle", ""), ("baking", "person")])
def test_what_is_over_or_paused_waits_for_nothing(mode: str, paused: str) -> None:
    state = settled()
    state.baseline = {"a1": {"host": "a1"}}
    state.mode, state.paused = mode, paused
    assert orders.wait(state, START) == 0


def test_a_device_that_was_asked_in_vain_is_asked_again_after_a_poll() -> None:
    state = settled()
    state.baseline = {"a1": {"host": "a1"}}
    state.hosts["a1"] = replace(state.hosts["a1"], ok=False, last=START - 18)
    assert orders.wait(state, START) == 12


def test_where_nothing_is_under_way_the_opening_of_the_window_is_waited_for() -> None:
    state = state_of(window="daily 14:00-15:00 UTC", poll_seconds=30)
    assert not state.members  # no ring begins before
    late = START + 14 * 3600 - START % 86400 - 12
    state.mode = "waiting"
    assert orders.wait(state, late) == 12
    state.members, state.mode = ("a1", "a2"), "staging"
    state.hosts["a1"] = replace(state.hosts["a1"], step="stage", last=late)
    assert orders.wait(state, late) == 30

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random rollouts of random fleets, with controllers killed anywhere: what always has to hold."""

from __future__ import annotations

import random

from ansible_collections.mlops.onprem.plugins.module_utils._rollout import words
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.errors import RolloutError
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.journal import read
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.shapes import (
    ABORTED,
    COMPLETED,
    FAIL,
    INCONCLUSIVE,
    MISSING,
    PARTIAL,
    PASS,
    PAUSED,
    ROLLED_BACK,
    ROLLED_BACK_PARTIAL,
)
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.state import fold

from .fleet import NEW, OLD, Fleet, Killed

CAMPAIGNS = 2000
MOST_CONTROLLERS = 12


def fleet_of(dice: random.Random) -> Fleet:
    """A fleet with a plan, and devices of which some misbehave."""
    rings, number = {}, 0
    for index in range(dice.randint(1, 3)):
        count = dice.randint(1, 3)
        rings[f"ring_{index}"] = [f"h{number + step}" for step in range(count)]
        number += count
    fleet = Fleet(
        rings,
        dice.choice([OLD, OLD, ""]),
        on_failure=dice.choice(["ring", "all"]),
        deferred_share=dice.choice([0.0, 0.5, 1.0]),
        failed_share=dice.choice([0.0, 0.0, 0.4]),
        concurrent_downloads=dice.choice([1, 2, 9]),
    )
    for device in fleet.devices.values():
        if dice.random() < 0.7:
            continue
        fault = dice.choice(["bad", "ill", "silent", "locked", "offline", "fetch", "stuck"])
        device.bad = "It is bad." if fault == "bad" else ""
        device.ill, device.silent_after = fault == "ill", fault == "silent"
        device.locked = "It is busy." if fault == "locked" else ""
        device.online, device.stuck = fault != "offline", fault == "stuck"
        device.fetch_fails = dice.randint(1, 4) if fault == "fetch" else 0
        if dice.random() < 0.3:
            fleet.request["devices"][device.name]["transport"] = "pull"
    doubt = dice.choice([0.0, 0.0, 0.3])

    def verdict(_fleet: Fleet, ring: list[str]) -> str:
        if any(fleet.devices[host].ill for host in ring):
            return FAIL
        return dice.choice([INCONCLUSIVE, MISSING]) if dice.random() < doubt else PASS

    fleet.verdict = verdict
    return fleet


def interfere(fleet: Fleet, dice: random.Random) -> None:
    """Networks come and go; people say things."""
    if dice.random() < 0.03:
        device = dice.choice(list(fleet.devices.values()))
        device.online, device.silent_after = not device.online, False
    if dice.random() < 0.01:
        word = dice.choice(["pause", "abort", "rollback"])
        state = fleet.state()
        try:
            if word == "pause":
                fleet.write(words.pause(state, "carl", "", fleet.now))
            elif word == "abort":
                fleet.write(words.abort(state, state.generation + 1, "carl", "", fleet.now))
            else:
                fleet.write(words.rollback(state, state.generation + 1, "carl", "", fleet.now))
        except RolloutError:
            pass


def campaign(seed: int) -> Fleet:
    """One rollout, with as many controllers as it takes."""
    dice = random.Random(seed)
    fleet = fleet_of(dice)
    fleet.on_step = lambda one: interfere(one, dice)
    fleet.begin()
    for turn in range(MOST_CONTROLLERS):
        if turn < 4 and dice.random() < 0.6:
            line = len(fleet.journal) + dice.randint(1, 25)
            setattr(fleet, dice.choice(["kill_at", "kill_after"]), line)
        try:
            outcome = fleet.drive()
            if outcome != PAUSED:
                break
        except Killed:
            pass
        fleet.kill_at = fleet.kill_after = 0
        if dice.random() < 0.3:
            fleet.end(dice.choice([10.0, 200.0, 1000.0]))
        if turn >= 6 and fleet.state().running:
            outcome_of_person(fleet)
        elif fleet.state().running:
            fleet.resume()
        else:
            break
    return fleet


def outcome_of_person(fleet: Fleet) -> None:
    """Somebody ends what pauses again and again."""
    state = fleet.state()
    try:
        fleet.write(words.abort(state, state.generation + 1, "carl", "", fleet.now))
    except RolloutError:
        fleet.resume()


def check(fleet: Fleet) -> None:
    """What holds of every rollout, whatever happened."""
    state = fleet.state()
    written = b"".join(entry.line() for entry in fleet.journal)
    entries, good = read(written)
    assert good == len(written)
    assert fold(entries) == state, "the journal says something else than its controller knew"
    generations = [entry.generation for entry in fleet.journal]
    assert generations == sorted(generations)
    assert not state.running, "it never ended"
    fleet.end()
    check_rings(fleet)
    check_outcome(fleet)


def check_rings(fleet: Fleet) -> None:
    """A ring is touched after the one before has passed, and never after one has failed."""
    rings = {ring.name: ring.hosts for ring in fleet.plan().rings}
    passed = {entry.data["ring"] for entry in fleet.events("ring_passed")}
    begun = [entry.data["ring"] for entry in fleet.events("ring_begun")]
    names = list(rings)
    for name, hosts in rings.items():
        earlier = set(names[: names.index(name)])
        if any(fleet.devices[host].steps for host in hosts):
            assert name in begun
            assert earlier <= passed, "a ring was touched before the one before had passed"
    failed_at = min((entry.seq for entry in fleet.events("ring_failed")), default=0)
    if failed_at:
        after = [entry for entry in fleet.events("ordered") if entry.seq > failed_at]
        assert {entry.data["step"] for entry in after} <= {"revert"}
        assert not [e for e in fleet.events("ring_begun", "ring_passed") if e.seq > failed_at]
        failed = fleet.events("ring_failed")[0].data["ring"]
        check_failed(fleet, rings[failed])
    for device in fleet.devices.values():
        if device.phase == "committed":
            ring = next(name for name, hosts in rings.items() if device.name in hosts)
            late = "catch-up" in begun
            assert ring in passed or late, "committed without a verdict"


def check_failed(fleet: Fleet, hosts: tuple[str, ...]) -> None:
    """No device is left on a release whose ring failed, unless it can neither be told nor go."""
    for host in hosts:
        device, known = fleet.devices[host], fleet.state().hosts[host]
        if device.served == NEW:
            assert device.stuck or (device.phase == "committed" and not known.ok), host
            assert fleet.state().outcome == ROLLED_BACK_PARTIAL, host


def check_outcome(fleet: Fleet) -> None:
    state = fleet.state()
    served = fleet.served()
    assert state.outcome in (COMPLETED, PARTIAL, ROLLED_BACK, ROLLED_BACK_PARTIAL, ABORTED)
    if state.outcome == COMPLETED:
        assert set(served.values()) == {NEW}
    if state.outcome == ROLLED_BACK:
        for host in state.reverting:
            assert served[host] != NEW, f"{host} is said to be back"
    if state.outcome in (COMPLETED, PARTIAL, ABORTED):
        for host, known in state.hosts.items():
            if known.committed:
                assert served[host] == NEW, f"{host} is said to be committed"


def test_random_rollouts_never_leave_a_device_where_it_must_not_be() -> None:
    outcomes: dict[str, int] = {}
    for seed in range(CAMPAIGNS):
        fleet = campaign(seed)
        try:
            check(fleet)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        outcomes[fleet.state().outcome] = outcomes.get(fleet.state().outcome, 0) + 1
    # The campaign is worth something only if it reaches every end often.
    ends = (COMPLETED, PARTIAL, ROLLED_BACK, ROLLED_BACK_PARTIAL, ABORTED)
    assert min(outcomes.get(name, 0) for name in ends) > CAMPAIGNS // 100, outcomes

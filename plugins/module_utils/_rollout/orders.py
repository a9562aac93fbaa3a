# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a state asks of devices: orders, whom to look at, and when to come back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .plan import PUSH
from .rings import place_of
from .shapes import ACTIVATE, REVERT, STAGE, Order
from .state import BAKING, REVERTING, Host, State, active

# A device comes up to a fifth later than it was told (_release.device.agent.wait).
IDLE_SPREAD = 1.2
CONTROL_HOSTS = 100  # of the rings to come are looked at beside a ring; more tell little more


@dataclass(frozen=True)
class Watch:
    """Whom to look at before the next decision."""

    ring: tuple[str, ...]
    control: tuple[str, ...]


def pace(state: State) -> float:
    """Seconds between two looks. Where a ring has devices that fetch their orders, theirs."""
    limits = state.planned().limits
    pull = any(state.hosts[host].transport != PUSH for host in state.members)
    return limits.poll if pull or not limits.pace else limits.pace


def least_bake(state: State) -> float:
    """Seconds that a ring is watched at least.

    Nothing is known of a device that fetches its orders before it has come again; where all that
    a ring is compared with are such, they come at their idle pace to hear that they are to ask
    themselves.
    """
    limits = state.planned().limits
    found = limits.bake
    if any(state.hosts[host].transport != PUSH for host in state.members):
        found = max(found, limits.poll)
    beside = control(state)
    fetching = all(state.hosts[host].transport != PUSH for host in beside)
    if limits.probe_requests and beside and fetching:
        found = max(found, IDLE_SPREAD * limits.idle + limits.poll)
    return min(found, limits.bake_limit)


def outstanding(state: State) -> list[str]:
    """Devices that were told something and have not proved it."""
    if not state.running or state.paused:
        return []
    if state.mode == REVERTING:
        return [host for host in state.reverting if not state.hosts[host].ok]
    return [
        name
        for name in state.members
        if (host := state.hosts[name]).step
        and not host.ok
        and (host.active or (host.failure and host.step == REVERT))
    ]


def orders(state: State, now: float) -> dict[str, Order]:
    """What to tell devices now. One that was just asked in vain is left alone for a poll."""
    found = outstanding(state)
    poll = pace(state) if found else 0.0
    due = [
        host for host in found if not state.hosts[host].last or now - state.hosts[host].last >= poll
    ]
    rate = _rate(state, [host for host in found if state.hosts[host].step == STAGE])
    return {host: _order(state, state.hosts[host], rate, now) for host in due}


def _rate(state: State, hosts: Sequence[str]) -> int:
    """Bytes a second for each download, so that all together stay within the cap."""
    limits = state.planned().limits if hosts else None
    if limits is None or not limits.bandwidth_mbit:
        return 0
    # Of those that fetch their orders all may download at once, whenever they come.
    pull = sum(
        host.transport != PUSH and host.step == STAGE
        for host in map(state.hosts.__getitem__, state.members)
    )
    at_once = pull + sum(state.hosts[host].transport == PUSH for host in hosts)
    return max(1, int(limits.bandwidth_mbit * 1e6 / 8 / at_once))


def _order(state: State, host: Host, rate: int, now: float) -> Order:
    plan = state.planned()
    deadline = 0.0
    if host.step == ACTIVATE:
        # What is left of the ring's time: one told late is not to outlive the ring's deadline.
        deadline = max(1.0, host.since + plan.limits.deadline - now)
    return Order(
        step=host.step,
        rollout=state.rollout,
        generation=state.generation,
        model=plan.model,
        digest=plan.digest,
        deadline=deadline,
        limits=plan.local if host.step == ACTIVATE else {},
        rate=rate if host.step == STAGE else 0,
        rollback=host.step == REVERT,
    )


def watch(state: State) -> Watch | None:
    """Whom to look at: the ring that bakes, and some of those still on the release before."""
    if state.mode != BAKING or state.paused:
        return None
    ring = tuple(host for host in active(state) if state.hosts[host].ok)
    return Watch(ring, control(state)) if ring else None


def control(state: State) -> tuple[str, ...]:
    """Devices of later rings that serve a release before, spread by the hash of their names."""
    plan = state.planned()
    later = [
        host
        for ring in plan.rings[state.ring + 1 :]
        for host in ring.hosts
        if plan.devices[host].previous and plan.devices[host].online
    ]
    return tuple(sorted(sorted(later, key=place_of)[:CONTROL_HOSTS]))


def wait(state: State, now: float) -> float:
    """Seconds until the next call has something to decide; 0 is at once."""
    if not state.running or state.paused:
        return 0.0
    limits = state.planned().limits
    due = orders(state, now)
    if any(state.hosts[host].transport == PUSH for host in due):
        return 0.0
    poll = pace(state)
    times = [poll]
    times += [
        state.hosts[host].last + poll - now for host in outstanding(state) if state.hosts[host].last
    ]
    if state.mode == BAKING:
        if not state.baseline and watch(state):
            return 0.0  # the first look only says from where to count
        for moment in (least_bake(state), limits.bake_limit):
            times.append(state.activated_at + moment - now)
    opens = state.planned().when().opens_in(now)
    if opens and not outstanding(state):
        times.append(opens)
    return max(0.1, min(time for time in times if time > 0))

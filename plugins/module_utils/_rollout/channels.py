# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What devices that fetch their orders are to be told: one order for all that follow a channel.

It follows from the journal alone, by levels: whoever takes a rollout up publishes the same again.
All that follow a channel do what it says, so there is no order to one of them. Where some of a ring
committed and others are to go back, nothing is said of the model: the others go back by their own
deadline, and those that committed stay.

Once a rollout is over, a ring that went back is told the release that the fleet is on: a device
that is new, was emptied or was away for long takes it, by its own gates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .orders import watch
from .plan import PUSH, next_poll
from .shapes import ACTIVATE, COMMIT, REVERT, STAGE
from .state import (
    BAKING,
    CATCH_UP,
    CATCHING,
    FAILED,
    OVER,
    STAGING,
    WAITING,
    Brought,
    State,
    active,
)

PASSED, REVERTED = "passed", "reverted"
UNDER_WAY = {STAGING: STAGE, BAKING: ACTIVATE}
PROBE = "probe"
# A device takes no more at one contact (_release.channel.documents).
MOST_PROBES = 1000
# A deadline in a document is not made anew for every second that passes.
DEADLINE_SLACK = 60.0


def wanted(state: State, now: float) -> list[dict[str, Any]]:
    """What each channel is to say of the model; one that it says nothing new to is not named.

    ``step`` is empty where nothing is to be said of the model any more. With ``probe`` a channel
    goes on saying what it says, and its devices, which the ring under way is compared with, ask
    themselves.
    """
    beside = _beside(state)
    found = []
    for channel, hosts in sorted(_followers(state).items()):
        step = _step(state, _ring_state(state, hosts), hosts)
        if step is None and beside & set(hosts):
            step = PROBE
        if step is not None:
            found.append(_row(state, channel, hosts, step, now))
    return found


def _beside(state: State) -> set[str]:
    """The devices that the ring under way is compared with, if they are to be asked anything."""
    watched = watch(state)
    return set(watched.control) if watched and state.planned().limits.probe_requests else set()


def _followers(state: State) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, host in state.hosts.items():
        if host.transport != PUSH and host.channel:
            found.setdefault(host.channel, []).append(name)
    return found


def _ring_state(state: State, hosts: Sequence[str]) -> str:
    """Where the ring of these devices is. Those that are new are caught up at the end."""
    names = {state.hosts[host].ring for host in hosts}
    planned = names - {CATCH_UP} or names
    for record in state.records:
        if record.name in planned:
            return PASSED if record.state == CATCHING else record.state
    return WAITING


def _step(state: State, ring: str, hosts: Sequence[str]) -> str | None:
    if ring == WAITING:
        return None
    if ring == PASSED:
        return COMMIT
    if ring in (FAILED, REVERTED):
        if any(state.hosts[host].committed for host in hosts):
            return ""
        return COMMIT if _before(state) else REVERT
    return UNDER_WAY[ring] if state.mode == ring and not state.paused else ""


def _before(state: State) -> Brought | None:
    """The release that the fleet went back to, once it did and where a rollout has brought it.

    Of any other release the journal knows neither size nor counter.
    """
    if state.mode != OVER or state.release == state.planned().digest:
        return None
    return state.brought.get(state.release)


def _named(state: State, ring: str) -> tuple[Brought, bool]:
    """The release that a channel names, and whether it is the one that its ring went back to."""
    before = _before(state) if ring in (FAILED, REVERTED) else None
    return before or Brought.of(state.planned()), before is not None


def _row(state: State, channel: str, hosts: Sequence[str], step: str, now: float) -> dict[str, Any]:
    plan = state.planned()
    release, before = _named(state, _ring_state(state, hosts))
    left = state.activated_at + plan.limits.deadline - now
    return {
        "channel": channel,
        "hosts": list(hosts),
        "model": plan.model,
        "step": step,
        "digest": release.digest,
        "size": max(1, release.size),
        "counter": release.counter,
        "rollout": release.rollout,
        "generation": state.generation,
        "deadline": max(1.0, left) if step == ACTIVATE else 0.0,
        # Also one that comes late to a ring that has passed judges by them.
        "limits": dict(release.local),
        "rate": _rate(state, hosts, step),
        "rollback": step == REVERT or before,
        **_probes(state, step),
        "next_poll": _next_poll(state, hosts),
    }


def _probes(state: State, step: str) -> dict[str, int]:
    """Golden requests that devices send themselves at each contact while the ring is watched."""
    limits = state.planned().limits
    number = min(limits.probe_requests, MOST_PROBES) if step in (ACTIVATE, PROBE) else 0
    until = int(state.activated_at + limits.deadline) if number else 0
    return {"probes": number, "probe_until": until}


def _next_poll(state: State, hosts: Sequence[str]) -> int:
    limits = state.planned().limits
    awaited = _awaited(state, hosts)
    return next_poll(len(hosts), limits.contact) if awaited else int(limits.idle)


def _awaited(state: State, hosts: Sequence[str]) -> bool:
    """Whether something is to be heard of these devices soon."""
    if not state.running or state.paused:
        return False
    under_way = set(active(state)) if state.mode in (STAGING, BAKING) else set()
    return any(
        host in under_way or (state.hosts[host].step and not state.hosts[host].ok)
        for host in hosts
        if state.hosts[host].active or state.hosts[host].step == REVERT
    )


def _rate(state: State, hosts: Sequence[str], step: str) -> int:
    """Bytes a second for each download. All that follow a channel may download at once."""
    limits = state.planned().limits
    if not limits.bandwidth_mbit or step in ("", REVERT):
        return 0
    at_once = limits.concurrent_downloads
    if step == STAGE:
        pushed = sum(state.hosts[host].transport == PUSH for host in state.members)
        at_once = len(hosts) + min(pushed, limits.concurrent_downloads)
    return max(1, int(limits.bandwidth_mbit * 1e6 / 8 / at_once))


def alike(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether what was published says what is wanted now."""
    own = ("hosts", "deadline")
    said, say = ({k: v for k, v in row.items() if k not in own} for row in (before, after))
    return said == say and 0 <= before["deadline"] - after["deadline"] <= DEADLINE_SLACK

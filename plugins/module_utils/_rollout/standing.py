# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the devices of a rollout stand: told, given up, lost, or gone back."""

from __future__ import annotations

from collections.abc import Sequence

from .._findings.sentence import counted, listing
from .orders import IDLE_SPREAD
from .plan import PUSH
from .shapes import ACTIVATE, COMMIT, REVERT, STAGE
from .state import TRIES, Host, State, active

NAMED = 10  # devices that a sentence names before it only counts the others


def devices_answer(devices: int) -> str:
    """How many answer, for a sentence."""
    return f"{counted(devices, 'device')} {'answers' if devices == 1 else 'answer'}"


def went_back(hosts: Sequence[Host]) -> str:
    """What devices serve that have gone back; a first release leaves nothing to go back to."""
    answering = sum(1 for host in hosts if host.previous)
    nothing = len(hosts) - answering
    said = (
        f"{devices_answer(answering)} from the release before." if answering or not nothing else ""
    )
    if nothing:
        serve = "serves" if nothing == 1 else "serve"
        said += f" {counted(nothing, 'device')} {serve} nothing, as before."
    return said.strip()


def told_to(state: State, step: str) -> list[str]:
    """Active devices whose step this is and that have not proved it yet."""
    return [
        host
        for host in active(state)
        if state.hosts[host].step == step and not state.hosts[host].ok
    ]


def given_up(state: State, hosts: Sequence[str], step: str, now: float) -> dict[str, str]:
    """Devices that are to be caught up later, with the sentence why."""
    limits = state.planned().limits
    found = {}
    for name in hosts:
        host = state.hosts[name]
        since = max(host.since, state.resumed_at)
        if host.refused:
            found[name] = f"It refused to {step}: {host.refused}"
        elif step == STAGE and _offline(state, name):
            found[name] = "It was offline when its ring began."
        elif step == STAGE and _stays_away(state, name, now - since):
            found[name] = "It was not heard of before the rollout, and did not come since."
        elif step == STAGE and now - since >= limits.bake_limit:
            found[name] = f"It did not stage the release within {limits.bake_limit:g} s."
    return found


def _offline(state: State, name: str) -> bool:
    """Whether a device was asked in vain often enough; one offline at the start, once.

    One that asks by itself is not asked: only time tells that it does not come.
    """
    host, device = state.hosts[name], state.planned().devices.get(name)
    tries = 1 if device is not None and not device.online else 2
    return host.transport == PUSH and host.tries >= tries and not host.served


def _stays_away(state: State, name: str, seconds: float) -> bool:
    """Whether a device that asks by itself, and was away before, would have come by now."""
    host, device = state.hosts[name], state.planned().devices.get(name)
    limits = state.planned().limits
    away = host.transport != PUSH and device is not None and not device.online
    return away and not host.served and seconds >= IDLE_SPREAD * limits.idle + limits.poll


def with_reasons(state: State, hosts: Sequence[str]) -> str:
    """Devices with what is wrong with each, for a sentence."""
    said = []
    for host in hosts[:NAMED]:
        problem = (
            state.hosts[host].failure or state.hosts[host].deferred or state.hosts[host].problem
        )
        said.append(f"{host} ({problem.rstrip('.')})" if problem else host)
    if len(hosts) > NAMED:
        said.append(f"{len(hosts) - NAMED:,} more")
    return listing(said)


def next_batch(state: State, waiting: Sequence[str]) -> list[str]:
    """The devices that may begin to download now.

    Those that fetch their orders read one document for the whole ring, so all of them may.
    """
    busy = sum(
        host.step == STAGE and not host.ok and host.active and host.transport == PUSH
        for host in state.hosts.values()
    )
    pushed = [host for host in waiting if state.hosts[host].transport == PUSH]
    left = max(0, state.planned().limits.concurrent_downloads - busy)
    held = set(pushed[left:])
    return [host for host in waiting if host not in held]


def silent(state: State) -> list[str]:
    """Active devices that were not seen answering from the new release at the last look."""
    unseen = set(state.silent)
    return [host for host in active(state) if host in unseen or not state.hosts[host].ok]


def few_enough(state: State, gone: Sequence[str]) -> bool:
    """Whether the plan tolerates that so many devices failed."""
    failed = [host for host in state.members if state.hosts[host].failure]
    tolerated = state.planned().limits.failed_share * len(state.members)
    return len(failed) + len(gone) <= tolerated and len(gone) < len(active(state))


def lost_to_commit(state: State, name: str, now: float) -> bool:
    """Whether a device of a ring that passed was asked to commit long enough.

    By then it is committed, or has gone back by itself: either is no harm to a ring that passed.
    """
    limits, host = state.planned().limits, state.hosts[name]
    asked = now - max(host.since, state.resumed_at) >= 2 * limits.poll
    return host.step == COMMIT and asked and now - state.activated_at >= limits.deadline


def on_the_way_back(state: State, now: float) -> list[str]:
    """Devices that are going back and have neither proved it nor been given up."""
    return [
        host
        for host in (*state.members, *state.reverting)
        if state.hosts[host].step == REVERT and not _reverted(state, host, now)
    ]


def _reverted(state: State, name: str, now: float) -> bool:
    """Whether nothing more is to be waited for of a device that was told to go back."""
    host = state.hosts[name]
    since = max(host.since, state.resumed_at)
    tried = host.transport == PUSH and host.tries >= TRIES
    return host.ok or tried or now - since >= state.planned().limits.deadline


def lost_while_catching(state: State, now: float) -> dict[str, str]:
    """Devices that are given up, by name, and why."""
    limits = state.planned().limits
    gone: dict[str, str] = {}
    for step in (STAGE, ACTIVATE, COMMIT):
        told = told_to(state, step)
        gone.update(given_up(state, told, step, now))
        for name in told:
            if now - max(state.hosts[name].since, state.resumed_at) >= limits.deadline:
                gone.setdefault(
                    name, "It went silent while it was caught up, and goes back by itself."
                )
    for name in active(state):
        if state.hosts[name].unjudged and not state.hosts[name].committed:
            gone[name] = f"{state.hosts[name].unjudged} It goes back by itself."
    return gone

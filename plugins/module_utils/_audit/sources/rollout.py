# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journals of rollouts: who brought which release where, what devices answered from since."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import replace
from typing import Any

from ..event import DEVICE, FAILURE, SUCCESS, Actor, Event, Thing, stamp
from ..names import Names

SOURCE = "rollout"
ITSELF = Actor("service", "rollout")
# What a person decides, and what the rollout itself does by what it was told.
_SAID = {"approved": "release.approve", "resumed": "release.resume", "aborted": "release.abort"}
_DONE = {"paused": "release.pause", "reverting": "release.rollback", "finished": "release.finish"}
_STEPS = ("activate", "commit", "revert")


def events(
    lines: Iterable[bytes], names: Names, host: str, memory: MutableMapping[str, Any]
) -> list[Event]:
    """What the lines of one journal tell. The memory has the plan of the last rollout."""
    found: list[Event] = []
    for line in lines:
        try:
            told = json.loads(line)
            whole = _one(told, names, memory)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        found += [replace(one, host=host, source=SOURCE) for one in whole]
    return found


def _one(told: Mapping[str, Any], names: Names, memory: MutableMapping[str, Any]) -> list[Event]:
    time, event, rollout = stamp(float(told["time"])), str(told["event"]), str(told["rollout"])
    if event == "started":
        return [_started(told, time, rollout, names, memory)]
    plan: Mapping[str, Any] = memory.get("plan") or {}
    thing = _thing(plan)
    if event in _SAID:
        actor = names.controller(str(told.get("by", "")))
        details = {"rollout": rollout, **_some(told, ("ring", "said"))}
        return [Event(time, actor, _SAID[event], thing, details=details)]
    if event in _DONE:
        details = {"rollout": rollout, **_some(told, ("outcome", "said", "kind", "hosts"))}
        bad = event == "reverting" or (event == "finished" and told.get("outcome") != "COMPLETED")
        outcome = FAILURE if bad else SUCCESS
        return [Event(time, ITSELF, _DONE[event], thing, outcome=outcome, details=details)]
    if event == "ring_begun":
        details = {"rollout": rollout, **_some(told, ("ring", "hosts"))}
        return [Event(time, ITSELF, "release.ring", thing, details=details)]
    if event == "answered":
        return [one for answer in told["answers"] for one in _answer(answer, time, rollout, plan)]
    return []


def _started(
    told: Mapping[str, Any],
    time: str,
    rollout: str,
    names: Names,
    memory: MutableMapping[str, Any],
) -> Event:
    plan = told["plan"]
    memory["plan"] = {
        "model": plan["model"],
        "version": str(plan.get("version", "")),
        "digest": plan["digest"],
        "previous": {
            name: str(one.get("previous", "")) for name, one in (plan.get("devices") or {}).items()
        },
    }
    rings = {one["name"]: list(one["hosts"]) for one in plan.get("rings") or []}
    actor = names.controller(str(told.get("by", "")))
    details = {"rollout": rollout, "rings": rings}
    return Event(time, actor, "release.rollout", _thing(memory["plan"]), details=details)


def _answer(
    answer: Mapping[str, Any], time: str, rollout: str, plan: Mapping[str, Any]
) -> list[Event]:
    step, host = str(answer.get("step", "")), str(answer.get("host", ""))
    if step not in _STEPS or not answer.get("reached", False):
        return []
    served = str(answer.get("served", ""))
    details = {"rollout": rollout, "step": step, **_some(answer, ("phase", "reason"))}
    thing = _thing(plan)
    if served and served != thing.digest:
        # What it went back to: of another version, which an earlier rollout has named.
        thing = Thing("release", thing.name, "", served)
    if not served:
        failed = Event(time, Actor(DEVICE, host), "device.serve", thing, details=details)
        return [replace(failed, outcome=FAILURE)]
    return [Event(time, Actor(DEVICE, host), "device.serve", thing, details=details)]


def _thing(plan: Mapping[str, Any]) -> Thing:
    return Thing(
        "release",
        str(plan.get("model", "")),
        str(plan.get("version", "")),
        str(plan.get("digest", "")),
    )


def _some(told: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: told[name] for name in names if told.get(name)}

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What devices say of themselves: which release answers now, and for whom it has answered.

Read from Prometheus, which asks every device anyway, and from the states that devices behind other
networks leave at the gateway. A release that came and went between two looks is only in the journal
of its rollout. Requests are counted by client and hour: single ones are nowhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from ..event import DEVICE, SERVICE, UNKNOWN, Actor, Event, Thing, stamp
from ..names import Names
from . import hourly
from .hourly import Sample

SOURCE = "device"


def samples(answer: bytes) -> list[Sample]:
    """The vector that Prometheus answers an instant query with."""
    told = json.loads(answer)
    return [
        ({str(k): str(v) for k, v in one["metric"].items()}, float(one["value"][1]))
        for one in told["data"]["result"]
    ]


def serving(info: Iterable[Sample], now: float, memory: MutableMapping[str, Any]) -> list[Event]:
    """Devices that answer from another release than when last looked at."""
    known: dict[str, str] = memory.setdefault("serving", {})
    found = []
    for labels, _value in sorted(info, key=lambda one: sorted(one[0].items())):
        host, model = labels.get("host", ""), labels.get("model_name", "")
        digest = labels.get("digest", "")
        if not host or not digest or known.get(f"{host} {model}") == digest:
            continue
        known[f"{host} {model}"] = digest
        thing = Thing("release", model, labels.get("model_version", ""), digest)
        details = {"step": "seen", "run_id": labels.get("run_id", "")}
        found.append(
            Event(
                stamp(now),
                Actor(DEVICE, host),
                "device.serve",
                thing,
                host,
                SOURCE,
                details=details,
            )
        )
    return found


def queries(
    counts: Iterable[Sample],
    info: Iterable[Sample],
    names: Names,
    now: float,
    memory: MutableMapping[str, Any],
) -> list[Event]:
    """How many requests of each client a device answered in the hour that has passed."""
    hour, sums = hourly.add(counts, ("host", "client", "outcome"), now, memory)
    return _told(sums, _models(info), names, hour)


def clients(declared: Iterable[Sample], all_requests: Iterable[Sample]) -> list[Sample]:
    """Requests by client. Where no client is declared, everybody may ask, and is anonymous."""
    named = list(declared)
    known = {labels.get("host", "") for labels, _value in named}
    sums: dict[tuple[str, str], float] = {}
    for labels, value in all_requests:
        host = labels.get("host", "")
        if host not in known:
            key = (host, labels.get("outcome", ""))
            sums[key] = sums.get(key, 0.0) + value
    return named + [
        ({"host": host, "client": "anonymous", "outcome": outcome}, value)
        for (host, outcome), value in sums.items()
    ]


def _models(info: Iterable[Sample]) -> dict[str, list[Thing]]:
    found: dict[str, list[Thing]] = {}
    for labels, _value in info:
        thing = Thing(
            "model",
            labels.get("model_name", ""),
            labels.get("model_version", ""),
            labels.get("digest", ""),
        )
        found.setdefault(labels.get("host", ""), []).append(thing)
    return found


def _told(
    sums: Mapping[tuple[str, ...], float],
    models: Mapping[str, list[Thing]],
    names: Names,
    hour: str,
) -> list[Event]:
    found = []
    for (host, client, outcome), count in sorted(sums.items()):
        there = models.get(host, [])
        thing = there[0] if len(there) == 1 else Thing("device", host)
        details: dict[str, Any] = {"count": int(count), "hour": hour, "answer": outcome}
        if len(there) > 1:
            details["one_of"] = sorted(one.name for one in there)
        actor = names.account(client)
        if actor.kind == UNKNOWN and client != "anonymous":
            actor = Actor(SERVICE, client)  # declared, and a token of its own
        found.append(
            Event(f"{hour}:59:59Z", actor, "model.query", thing, host, SOURCE, details=details)
        )
    return found


def state(
    content: bytes, device: str, written: float, memory: MutableMapping[str, Any]
) -> list[Event]:
    """What a device that fetches its orders itself has left at the gateway."""
    try:
        told = json.loads(content)
        models = told.get("models") or {}
        served = {
            str(name): str((one.get("answer") or {}).get("served") or "")
            for name, one in models.items()
        }
    except (ValueError, AttributeError, RecursionError):
        return []
    found = []
    known: dict[str, str] = memory.setdefault("serving", {})
    for model, digest in sorted(served.items()):
        if digest and known.get(f"{device} {model}") != digest:
            known[f"{device} {model}"] = digest
            thing = Thing("release", model, "", digest)
            details = {"step": "reported"}
            found.append(
                Event(
                    stamp(written),
                    Actor(DEVICE, device),
                    "device.serve",
                    thing,
                    device,
                    SOURCE,
                    details=details,
                )
            )
    return found

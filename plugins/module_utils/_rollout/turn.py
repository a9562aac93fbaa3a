# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a controller carries between the journal's host and the devices; it decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .plan import PULL, PUSH
from .report import stamp
from .shapes import COMPLETED, PARTIAL

ANSWER = ("step", "phase", "served", "gates", "refused", "failure", "moved")
# What is asked of the journal for each action of a person. A start first asks how things are.
ASKS: Mapping[str, str] = {
    "start": "status",
    "status": "status",
    "pause": "pause",
    "resume": "resume",
    "abort": "abort",
    "rollback": "rollback",
}


def answer_of(order: Mapping[str, Any], result: Mapping[str, Any] | None) -> dict[str, Any]:
    """What came of an order, from the result of the task on the device.

    A device without a result, or whose task was unreachable, was not reached. One whose task failed
    was, and says why.
    """
    found: dict[str, Any] = {"host": order["host"], "step": order["step"], "reached": False}
    if not result or result.get("unreachable") or result.get("skipped"):
        return found
    found["reached"] = True
    if "phase" in result:
        return {**found, **{key: result[key] for key in ANSWER if key in result}}
    said = str(result.get("msg") or result.get("module_stderr") or "the task failed")
    return {**found, "failure": " ".join(said.split())[:400]}


def start_asks(status: Mapping[str, Any], digest: str, approved: bool) -> str:
    """What a start comes to: a rollout begun, one gone on with, or nothing but a report.

    The same command takes up what was killed. What was paused is gone on with only where a person
    says so. Where the fleet has the release, what is left is to catch up those that came late.
    """
    plan = status.get("plan") or {}
    if plan.get("digest") != digest:
        return "begin"
    if status.get("outcome") == "PAUSED":
        return "resume" if approved else "status"
    if status.get("mode") not in ("idle", "finished"):
        return "resume"
    return "resume" if status.get("outcome") in (COMPLETED, PARTIAL) else "begin"


def devices_of(looked: Mapping[str, Mapping[str, Any] | None]) -> dict[str, dict[str, Any]]:
    """The devices of a plan that are pushed to, from what each said when it was looked at."""
    found = {}
    for host, result in looked.items():
        online = bool(result) and not (result or {}).get("unreachable")
        served = str((result or {}).get("served") or "")
        found[host] = {
            "previous": served if online else "",
            "transport": PUSH,
            "online": online,
            **((result or {}).get("machine") or {}),
        }
    return found


def configuration_of(
    release: Mapping[str, Any], devices: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What a request says of a configuration alone; nothing of any other release.

    Only devices that serve what it was made of fetch so little.
    """
    if not release.get("changes"):
        return {}
    found = {name: release[name] for name in ("changes", "base")}
    others = [
        host
        for host, one in devices.items()
        if one["online"] and one["previous"] != release.get("base_digest")
    ]
    return found if others else {**found, "fetched": release["fetched"]}


def told_devices(
    said: Mapping[str, Any], channels: Mapping[str, Mapping[str, Any]], hosts: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The devices of a plan that fetch their orders, from the states that they left."""
    silent = set(said.get("silent") or ())
    found = {}
    for host in hosts:
        about = said.get("devices", {}).get(host) or {}
        online = host not in silent
        found[host] = {
            "previous": str(about.get("served") or "") if online else "",
            "transport": PULL,
            "channel": str(channels[host]["channel"]),
            "online": online,
            **(about.get("machine") or {}),
        }
    return found


def lockouts(
    said: Mapping[str, Any], channels: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, str]]:
    """By channel, the first and the last device whose certificate ends, and when.

    From then on a device may only enrol anew. One that told no date is not among them.
    """
    ends: dict[str, list[tuple[float, str]]] = {}
    for host, about in said["devices"].items():
        at = float(about.get("certificate_expires") or 0)
        if at > 0 and host in channels:
            ends.setdefault(str(channels[host]["channel"]), []).append((at, host))
    found = []
    for channel, rows in sorted(ends.items()):
        first, last = min(rows), max(rows)
        found.append(
            {
                "channel": channel,
                "first": first[1],
                "first_at": stamp(first[0]),
                "last": last[1],
                "last_at": stamp(last[0]),
            }
        )
    return found


def strangers(channels: Mapping[str, Mapping[str, Any]], hosts: Sequence[str]) -> list[str]:
    """Devices that follow a channel of these hosts and are not among them."""
    used = {channels[host]["channel"] for host in hosts if host in channels}
    return sorted(
        host for host, one in channels.items() if one["channel"] in used and host not in set(hosts)
    )


def fresh_answers(
    said: Mapping[str, Any], orders: Mapping[str, Mapping[str, Any]], heard: dict[str, Any]
) -> list[dict[str, Any]]:
    """What devices have told of their orders and was not handed in before.

    A channel can be further than an order: who comes late to a ring that has passed reads that it
    is to commit, and goes through all steps. What it tells then is the answer to each of them.
    """
    found = []
    for answer in said["answers"]:
        order = orders[answer["host"]]
        key = [order["rollout"], order["generation"], order["step"]]
        key.append(said["devices"][answer["host"]]["at"])
        if heard.get(answer["host"]) != key:
            heard[answer["host"]] = key
            found.append({**answer, "step": order["step"]})
    return found


def complaints(said: Mapping[str, Any], known: dict[str, str]) -> list[str]:
    """Why devices do not do what their channel says, in their words, each once."""
    found = []
    for host, about in sorted(said["devices"].items()):
        sentence = str(about.get("problem") or about.get("refusal") or about.get("lock") or "")
        if sentence != known.get(host, ""):
            known[host] = sentence
            if sentence:
                found.append(f"{host}: {sentence}")
    return found


def seen_of_ring(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What devices of a ring have counted, as they told it.

    Nobody can ask them. One that told lately that its server has the release answers, also where
    no client has asked it; whether it was asked enough is judged by its requests.
    """
    silent = set(said["silent"])
    found = [
        {**one, "answered": True if one["answered"] is None else one["answered"]}
        for one in said["seen"]
    ]
    found += [{"host": host, "answered": False} for host in sorted(silent)]
    return found


def seen_of_control(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same of devices beside it; one that tells nothing of its release compares to nothing."""
    return [one for one in said["seen"] if one["answered"] is not False]


def look_line(ring: Sequence[Mapping[str, Any]], control: int, said: Sequence[str]) -> str:
    """One look as one line: what the ring has answered, and the verdict of each gate."""
    requests = sum(int(seen.get("requests") or 0) for seen in ring)
    errors = sum(int(seen.get("errors") or 0) for seen in ring)
    silent = [str(seen["host"]) for seen in ring if not seen.get("answered")]
    line = f"{len(ring)} looked at beside {control}: {requests} requests, {errors} errors"
    if silent:
        line += f", silent: {', '.join(silent)}"
    verdicts = [gate_word(text) for text in said]
    found = [word for word in verdicts if word]
    return line + (f" | {', '.join(found)}" if found else "")


def gate_word(text: str) -> str:
    """``errors PASS`` of the sentence ``errors: PASS. None of 300 …``; nothing of another one."""
    name, _colon, rest = text.partition(": ")
    verdict = rest.partition(".")[0]
    return f"{name} {verdict}" if verdict.isupper() and " " not in name else ""

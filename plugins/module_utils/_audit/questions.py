# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers to questions about what happened. Events in, plain values and sentences out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import AuditError
from .event import DENIED, SUCCESS, Event, seconds_of, stamp
from .names import pseudonym

_TRACED = ("release.publish", "release.rollout", "device.serve")
_USES = ("model.query", "release.pull", "workload.query")
KINDS = ("serving", "users", "person", "changes", "data", "denied", "actions")


@dataclass(frozen=True)
class Question:
    """What is asked. Times are RFC 3339, or days; an empty one is no limit."""

    kind: str
    device: str = ""
    model: str = ""
    person: str = ""
    at: str = ""
    since: str = ""
    until: str = ""
    actions: Sequence[str] = ()


@dataclass(frozen=True)
class Answer:
    """For people and for programs."""

    text: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...] = field(default_factory=tuple)


def answer(question: Question, events: Sequence[Event], key: str = "") -> Answer:
    """Answer from what the stream has. ``key`` is that of the pseudonyms, if people have them."""
    if question.kind not in KINDS:
        raise AuditError(
            f"Found the question {question.kind!r}, wanted one of {', '.join(KINDS)} "
            "(history_question)."
        )
    _period(question)
    return _ANSWERS[question.kind](question, sorted(events, key=_when), key)


def _period(question: Question) -> None:
    """Refuse times that cannot be read, also such as this question does not look at."""
    if question.at:
        seconds_of(question.at)
    begin = seconds_of(question.since) if question.since else float("-inf")
    if question.until and _end(question.until) < begin:
        raise AuditError(
            f"Found history_until {question.until}, which is before history_since "
            f"{question.since}; wanted is a period that begins before it ends."
        )


def _known(what: str, names: Iterable[str], most: int = 12) -> str:
    """Which names the events have, for whoever mistyped one; as the end of an answer."""
    found = sorted({name for name in names if name})
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return f" Known {what} are {', '.join(found[:most])}{more}." if found else ""


def _when(event: Event) -> tuple[float, int]:
    return (seconds_of(event.time), event.seq)


def _within(question: Question, events: Iterable[Event]) -> list[Event]:
    begin = seconds_of(question.since) if question.since else float("-inf")
    end = _end(question.until) if question.until else float("inf")
    return [one for one in events if begin <= seconds_of(one.time) < end]


def _end(text: str) -> float:
    """A day that is named as the end is part of it."""
    day = not re.search(r"[Tt :]", text.strip())
    return seconds_of(text) + (86400 if day else 0.001)


def _wanted(question: Question, name: str, variable: str) -> str:
    value = str(getattr(question, name))
    if not value:
        raise AuditError(f"The question {question.kind} needs {variable}.")
    return value


def _name(event: Event) -> str:
    told = event.actor.name or "somebody unknown"
    return f"{told} ({event.actor.kind})"


def _model(event: Event) -> str:
    thing = event.thing
    version = f" version {thing.version}" if thing.version else ""
    digest = f" ({thing.digest})" if thing.digest else ""
    return f"{thing.name}{version}{digest}"


def _row(event: Event) -> dict[str, Any]:
    return {
        "time": event.time,
        "seq": event.seq,
        "actor": {"kind": event.actor.kind, "name": event.actor.name},
        "action": event.action,
        "object": {
            "kind": event.thing.kind,
            "name": event.thing.name,
            "version": event.thing.version,
            "digest": event.thing.digest,
        },
        "host": event.host,
        "outcome": event.outcome,
        "details": dict(event.details),
    }


# Which model answered on a device, who put it there, from which data.


def _serving(question: Question, events: Sequence[Event], _key: str) -> Answer:
    device = _wanted(question, "device", "history_device")
    moment = _end(question.at) if question.at else float("inf")
    served: dict[str, Event] = {}
    since: dict[str, Event] = {}
    for one in events:
        right = one.action == "device.serve" and one.outcome == SUCCESS and one.actor.name == device
        if not right or seconds_of(one.time) > moment:
            continue
        model = one.thing.name
        if question.model and model != question.model:
            continue
        if model not in served or served[model].thing.digest != one.thing.digest:
            since[model] = one
        served[model] = one
    if not served:
        devices = [one.actor.name for one in events if one.action == "device.serve"]
        known = "" if device in devices else _known("devices", devices)
        said = f"Nothing is known to have answered on {device} {_moment(question)}."
        return Answer((said + known,))
    rows, text = [], []
    for model in sorted(served):
        row, lines = _story(device, since[model], served[model], events)
        rows.append(row)
        text += lines
    return Answer(tuple(text), tuple(rows))


def _moment(question: Question) -> str:
    return f"at {question.at}" if question.at else "until now"


def _story(
    device: str, first: Event, last: Event, events: Sequence[Event]
) -> tuple[dict[str, Any], list[str]]:
    digest = first.thing.digest
    version = _version(digest, events) or first.thing.version
    origin = _origin(digest, events)
    by = _who_brought(first, events)
    row = {
        "device": device,
        "model": first.thing.name,
        "version": version,
        "digest": digest,
        "since": first.time,
        "seen_last": last.time,
        "rollout": str(first.details.get("rollout", "")),
        "put_there_by": by.actor.name if by else "",
        "put_there_at": by.time if by else "",
        **origin,
    }
    text = [
        f"{device} answered from {first.thing.name} version {version or 'unknown'} ({digest}) "
        f"since {first.time}."
    ]
    if by:
        text.append(f"  {_name(by)} put it there: {by.action} at {by.time}.")
    else:
        text.append("  No event says who put it there.")
    text += _origin_text(origin)
    return row, text


def _origin_text(origin: Mapping[str, str]) -> list[str]:
    text = []
    if origin["published_by"]:
        text.append(f"  {origin['published_by']} published it at {origin['published_at']}.")
    if origin["run_id"]:
        by = f" by {origin['trained_by']}" if origin["trained_by"] else ""
        text.append(f"  It was trained{by} in the run {origin['run_id']}.")
    if origin["data_version"]:
        text.append(f"  The data have the version {origin['data_version']}.")
    else:
        text.append("  No event says from which data.")
    return text


def _version(digest: str, events: Iterable[Event]) -> str:
    for one in events:
        if one.thing.digest == digest and one.thing.version:
            return one.thing.version
    return ""


def _who_brought(first: Event, events: Sequence[Event]) -> Event | None:
    """The beginning of the rollout that the device answered in, or else the last one before."""
    rollout = first.details.get("rollout")
    found = None
    for one in events:
        if one.action not in ("release.rollout", "release.rollback"):
            continue
        if rollout and one.details.get("rollout") == rollout:
            if one.action == "release.rollout" and one.thing.digest == first.thing.digest:
                return one
            if one.action == "release.rollback" and one.thing.digest != first.thing.digest:
                found = one
        elif not rollout and one.thing.digest == first.thing.digest and _when(one) <= _when(first):
            found = one
    return found


def _origin(digest: str, events: Sequence[Event]) -> dict[str, str]:
    """Who published a release, and the run and the data it comes from."""
    told = {
        "published_by": "",
        "published_at": "",
        "run_id": "",
        "trained_by": "",
        "data_version": "",
    }
    for one in events:
        if (
            one.action == "release.publish"
            and one.thing.digest == digest
            and one.outcome == SUCCESS
        ):
            told["published_by"] = told["published_by"] or one.actor.name
            told["published_at"] = told["published_at"] or one.time
        if one.action in _TRACED and one.thing.digest == digest:
            told["run_id"] = told["run_id"] or str(one.details.get("run_id", ""))
            told["data_version"] = told["data_version"] or str(one.details.get("data_version", ""))
    trained = [one for one in events if one.action == "model.train"]
    for one in trained:
        if told["run_id"] and one.thing.name == told["run_id"]:
            told["trained_by"] = one.actor.name
            told["data_version"] = told["data_version"] or _data_of(one, trained)
    return told


def _data_of(finished: Event, trained: Sequence[Event]) -> str:
    """The data of the run that the same account began last before this one was finished."""
    begun = [
        one
        for one in trained
        if one.details.get("phase") == "begun"
        and one.actor == finished.actor
        and _when(one) <= _when(finished)
        and one.details.get("address") == finished.details.get("address")
    ]
    return str(begun[-1].details.get("data_version", "")) if begun else ""


def _data(question: Question, events: Sequence[Event], _key: str) -> Answer:
    """From which data the releases of a model come."""
    model = _wanted(question, "model", "history_model")
    rows: list[dict[str, Any]] = []
    for one in _within(question, events):
        if one.action != "release.publish" or one.thing.name != model or one.outcome != SUCCESS:
            continue
        if one.thing.digest in {row["digest"] for row in rows}:
            continue
        version = _version(one.thing.digest, events)
        origin = _origin(one.thing.digest, events)
        rows.append({"model": model, "version": version, "digest": one.thing.digest, **origin})
    if not rows:
        said = f"No release of {model} was published {_span(question)}."
        return Answer((said + _other_models(model, events),))
    text = []
    for row in rows:
        text.append(f"{model} version {row['version'] or 'unknown'} ({row['digest']}):")
        text += _origin_text(row)
    return Answer(tuple(text), tuple(rows))


def _other_models(model: str, events: Sequence[Event]) -> str:
    """The models that there are events of, where there is none of the one that was asked for."""
    names = [one.thing.name for one in events if one.action in (*_TRACED, *_USES)]
    return "" if model in names else _known("models", names)


def _span(question: Question) -> str:
    since = f" since {question.since}" if question.since else ""
    until = f" until {question.until}" if question.until else ""
    return (since + until).strip() or "in all that is kept"


# Who used a model.


def _users(question: Question, events: Sequence[Event], _key: str) -> Answer:
    model = _wanted(question, "model", "history_model")
    asked: dict[tuple[str, str], dict[str, Any]] = {}
    for one in _within(question, events):
        if not _uses(one, model):
            continue
        row = asked.setdefault(
            (one.actor.name, one.action),
            {
                "who": one.actor.name,
                "kind": one.actor.kind,
                "what": one.action,
                "times": 0,
                "first": one.time,
                "last": one.time,
                "devices": set(),
            },
        )
        row["times"] += int(one.details.get("count", 1))
        row["last"] = one.time
        if one.action == "model.query":
            row["devices"].add(one.host)
    rows = [
        {**row, "devices": sorted(row["devices"])}
        for _key_of, row in sorted(asked.items(), key=lambda item: (item[0][1], item[0][0]))
    ]
    if not rows:
        said = f"Nobody is known to have used {model} {_span(question)}."
        return Answer((said + _other_models(model, events),))
    text = [
        f"{row['who'] or 'somebody unknown'} ({row['kind']}): {row['what']} {row['times']} times, "
        f"first {row['first']}, last {row['last']}"
        + (f", on {', '.join(row['devices'])}" if row["devices"] else "")
        for row in rows
    ]
    return Answer(tuple(text), tuple(rows))


def _uses(event: Event, model: str) -> bool:
    if event.outcome != SUCCESS or event.action not in _USES:
        return False
    return event.thing.name == model or model in event.details.get("one_of", [])


# What a person did, what changed on the site, who was turned away, what was done at all.


def _person(question: Question, events: Sequence[Event], key: str) -> Answer:
    name = _wanted(question, "person", "history_person")
    names = {name, pseudonym(name, key.encode())} if key else {name}
    found = [one for one in _within(question, events) if one.actor.name in names]
    if question.actions:
        found = [one for one in found if one.action in question.actions]
    return _listed(found, f"Nothing is known of {name} {_span(question)}.")


def _changes(question: Question, events: Sequence[Event], _key: str) -> Answer:
    runs: dict[str, dict[str, Any]] = {}
    for one in _within(question, events):
        if one.action != "site.change":
            continue
        run = str(one.details.get("run", one.seq))
        row = runs.setdefault(
            run,
            {
                "run": run,
                "by": one.actor.name,
                "begun": "",
                "ended": "",
                "outcome": "not known to have ended",
                "changed": None,
                "failed": [],
                "playbook": one.details.get("playbook", ""),
                "commit": one.details.get("commit", ""),
            },
        )
        if one.details.get("phase") == "begun":
            row["begun"] = one.time
        else:
            counts = one.details.get("changed")
            changed = None if counts is None else {k: v for k, v in counts.items() if v}
            row.update(
                ended=one.time,
                outcome=one.outcome,
                changed=changed,
                failed=one.details.get("failed", []),
            )
    rows = sorted(runs.values(), key=lambda row: row["begun"] or row["ended"])
    if not rows:
        return Answer((f"No run of Ansible is known {_span(question)}.",))
    text = [
        f"{row['begun'] or row['ended']} {row['by']} ran {row['playbook']} "
        f"of {row['commit'] or 'no commit'}: "
        f"{row['outcome']}; changed {_counts(row['changed'])}"
        + (f"; failed on {', '.join(row['failed'])}" if row["failed"] else "")
        for row in rows
    ]
    return Answer(tuple(text), tuple(rows))


def _counts(changed: Mapping[str, int] | None) -> str:
    if changed is None:
        return "is not known"
    return ", ".join(f"{host} {many}" for host, many in sorted(changed.items())) or "nothing"


def _denied(question: Question, events: Sequence[Event], _key: str) -> Answer:
    found = [one for one in _within(question, events) if one.outcome == DENIED]
    if question.person:
        found = [one for one in found if one.actor.name == question.person]
    return _listed(found, f"Nobody was turned away {_span(question)}.")


def _actions(question: Question, events: Sequence[Event], _key: str) -> Answer:
    found = _within(question, events)
    if question.actions:
        found = [one for one in found if one.action in question.actions]
    if question.model:
        found = [one for one in found if one.thing.name == question.model]
    if question.device:
        found = [one for one in found if question.device in (one.host, one.actor.name)]
    unknown = [name for name in question.actions if name not in {one.action for one in events}]
    known = _known("actions", (one.action for one in events), 40) if unknown else ""
    return _listed(found, f"Nothing of that kind is known {_span(question)}.{known}")


def _listed(events: Sequence[Event], nothing: str) -> Answer:
    if not events:
        return Answer((nothing,))
    text = tuple(
        f"{one.time} {_name(one)} {one.action} {_model(one)}".rstrip()
        + (f" [{one.outcome}]" if one.outcome != SUCCESS else "")
        + (f" {one.details['count']} times" if one.details.get("count", 1) != 1 else "")
        for one in events
    )
    return Answer(text, tuple(_row(one) for one in events))


_ANSWERS = {
    "serving": _serving,
    "users": _users,
    "person": _person,
    "changes": _changes,
    "data": _data,
    "denied": _denied,
    "actions": _actions,
}


def covered(events: Sequence[Event]) -> str:
    """What an answer can be from."""
    if not events:
        return "The stream is empty."
    times = [seconds_of(one.time) for one in events]
    return (
        f"From {len(events)} events, {stamp(min(times))} to {stamp(max(times))}; what is older was "
        "deleted or never recorded."
    )

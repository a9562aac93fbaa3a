# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway's log: who was let in and who was not, what was asked of MLflow and of the registry.

nginx writes the user name of every request that shows one, checked or not. It counts as shown to be
right only below the paths that somebody checks (``CHECKED``): elsewhere anybody may say any name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..event import DENIED, FAILURE, SUCCESS, Actor, Event, Thing, seconds_of, stamp
from ..names import Names

SOURCE = "gateway"
CHECKED = (
    *("/v2/", "/prometheus/", "/alertmanager/", "/sign-in", "/site.json"),
    *("/mlflow/api/", "/mlflow/ajax-api/"),
)
"""Below these nginx, or MLflow itself, has checked the password of a request that it answers."""
REMEMBERED = 20_000  # logins of an hour and pulls that are known, the oldest are forgotten first
MOST_DENIED = 20  # events of denied logins in one batch; more are told as one
_MLFLOW = re.compile(r"/mlflow/(?:ajax-)?api/\d\.\d/(?:mlflow|preview/mlflow)/(.+)")
_MANIFEST = re.compile(r"/v2/(.+)/manifests/([^/]+)")
_MODEL = re.compile(r"(?:.+/)?([^/]+)")
_SIGNATURE = re.compile(r"sha256-([0-9a-f]{64})\.(sig|att)")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Request:
    """A line of the log."""

    time: str
    address: str
    user: str
    method: str
    path: str
    status: int
    digest: str
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300

    @property
    def checked(self) -> bool:
        return bool(self.user) and self.path.startswith(CHECKED)


def parse(line: bytes) -> Request | None:
    """Read a line; None for one that is none, such as one that a full disk has torn."""
    try:
        told = json.loads(line)
        body = json.loads(told["body"]) if told.get("body") else {}
        return Request(
            time=stamp(float(told["msec"])) if told.get("msec") else _utc(str(told["time"])),
            address=str(told["addr"]),
            user=str(told["user"]),
            method=str(told["method"]),
            path=str(told["path"]).partition("?")[0],
            status=int(told["status"]),
            digest=str(told.get("digest", "")),
            body=body if isinstance(body, dict) else {},
        )
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None


def _utc(text: str) -> str:
    return stamp(seconds_of(text))


def events(
    lines: Iterable[bytes],
    names: Names,
    addresses: Mapping[str, str],
    host: str,
    memory: MutableMapping[str, Any],
) -> list[Event]:
    """What the lines tell. ``addresses`` names the hosts of the site."""
    found: list[Event] = []
    denied: dict[tuple[str, str, str], list[Event]] = {}
    for line in lines:
        request = parse(line)
        if request is None:
            continue
        for event in _one(request, names, addresses, memory):
            whole = replace(event, host=host, source=SOURCE)
            if event.action == "login.denied":
                key = (event.actor.name, str(event.details.get("claimed")), request.address)
                denied.setdefault(key, []).append(whole)
            else:
                found.append(whole)
    found += _bundled(list(denied.values()))
    return sorted(found, key=lambda one: one.time)


def _bundled(groups: list[list[Event]]) -> list[Event]:
    """One event for the same name from the same address, and a bound for a flood of names."""
    told = [
        replace(
            group[0], details={**group[0].details, "count": len(group), "until": group[-1].time}
        )
        for group in groups[:MOST_DENIED]
    ]
    rest = [event for group in groups[MOST_DENIED:] for event in group]
    if rest:
        details = {"count": len(rest), "names": len(groups) - MOST_DENIED, "until": rest[-1].time}
        told.append(replace(rest[0], actor=Actor(), details=details))
    return told


def _one(
    request: Request,
    names: Names,
    addresses: Mapping[str, str],
    memory: MutableMapping[str, Any],
) -> list[Event]:
    where = _where(request, addresses)
    if request.status in (401, 429) and request.user and request.path.startswith(CHECKED):
        actor, claimed = names.claimed(request.user)
        details = {**where, **claimed, "service": _service(request.path)}
        if request.status == 429:
            details["throttled"] = True
        return [Event(request.time, actor, "login.denied", outcome=DENIED, details=details)]
    if not request.checked or request.status in (401, 429):
        return []
    actor = names.account(request.user)
    told = []
    if request.status < 400 and _new(
        memory, "logins", f"{request.user} {request.address}", request
    ):
        details = {**where, "service": _service(request.path)}
        told.append(Event(request.time, actor, "login.granted", details=details))
    done = _mlflow(request) or _registry(request, memory)
    if done is not None:
        outcome = DENIED if request.status == 403 else SUCCESS if request.good else FAILURE
        own = done.outcome if request.good else outcome
        told.append(replace(done, actor=actor, outcome=own, details={**where, **done.details}))
    return told


def _where(request: Request, addresses: Mapping[str, str]) -> dict[str, Any]:
    host = addresses.get(request.address)
    return {"address": request.address, **({"from_host": host} if host else {})}


def _service(path: str) -> str:
    first = path.split("/", 2)[1]
    return {"v2": "artifact_registry", "sign-in": "gateway", "site.json": "gateway"}.get(
        first, first
    )


def _new(memory: MutableMapping[str, Any], kind: str, key: str, request: Request) -> bool:
    """Whether this is the first in its hour."""
    known: dict[str, str] = memory.setdefault(kind, {})
    hour = request.time[:13]
    if known.get(key) == hour:
        return False
    known.pop(key, None)
    known[key] = hour
    while len(known) > REMEMBERED:
        del known[next(iter(known))]
    return True


def _registry(request: Request, memory: MutableMapping[str, Any]) -> Event | None:
    found = _MANIFEST.fullmatch(request.path)
    if not found:
        return None
    action = {"PUT": "release.publish", "GET": "release.pull", "DELETE": "release.delete"}.get(
        request.method
    )
    if action is None:
        return None
    named = found[2]
    signed = _SIGNATURE.fullmatch(named)
    if signed:  # signatures and attestations hang on a release by its digest
        if action != "release.publish":
            return None
        action = "release.sign" if signed[2] == "sig" else "release.attest"
    digest = f"sha256:{signed[1]}" if signed else request.digest
    digest = digest or (named if _DIGEST.fullmatch(named) else "")
    said = _MODEL.fullmatch(found[1])
    thing = Thing(
        "release",
        said[1] if said else found[1],
        named[1:] if re.fullmatch(r"v\d+", named) else "",
        digest if _DIGEST.fullmatch(digest) else "",
    )
    if action == "release.pull":
        if not request.good:
            return None  # whether there is one is asked before each push
        key = f"{request.user} {request.address} {found[1]} {thing.digest or named}"
        if not _new(memory, "pulls", key, request):
            return None
    tag = {} if thing.version or signed or thing.digest == named else {"tag": named}
    return Event(request.time, Actor(), action, thing, details={"repository": found[1], **tag})


def _mlflow(request: Request) -> Event | None:
    found = _MLFLOW.fullmatch(request.path)
    if not found or request.method not in ("POST", "PATCH", "DELETE", "PUT"):
        return None
    call = found[1]
    if call.startswith("users/"):  # their bodies have passwords and are not logged
        account = Thing("account")
        return Event(request.time, Actor(), "account.change", account, details={"call": call})
    read = _CALLS.get(call)
    return read(request) if read else None


def _model(request: Request) -> Thing:
    return Thing("model", str(request.body.get("name", "")))


def _version(request: Request) -> Thing:
    return replace(_model(request), version=str(request.body.get("version", "")))


def _run(request: Request) -> str:
    return str(request.body.get("run_id") or request.body.get("run_uuid") or "")


def _created(request: Request) -> Event:
    return Event(request.time, Actor(), "model.create", _model(request))


def _deleted(request: Request) -> Event:
    return Event(request.time, Actor(), "model.delete", _model(request))


def _registered(request: Request) -> Event:
    details = {"run_id": _run(request)}
    return Event(request.time, Actor(), "model.register", _model(request), details=details)


def _version_deleted(request: Request) -> Event:
    return Event(request.time, Actor(), "model.delete", _version(request))


def _aliased(request: Request) -> Event:
    details: dict[str, Any] = {"alias": str(request.body.get("alias", ""))}
    if request.method == "DELETE":
        details["removed"] = True
    return Event(request.time, Actor(), "model.alias", _version(request), details=details)


def _begun(request: Request) -> Event:
    details = _began(request.body)
    return Event(request.time, Actor(), "model.train", Thing("run"), details=details)


def _began(body: Mapping[str, Any]) -> dict[str, Any]:
    tags = {
        str(one.get("key")): str(one.get("value"))
        for one in body.get("tags") or []
        if isinstance(one, dict)
    }
    told = {
        "phase": "begun",
        "experiment": str(body.get("experiment_id", "")),
        "run_name": str(body.get("run_name") or tags.get("mlflow.runName", "")),
        "data_version": tags.get("mlops.data_version", ""),
        "project_digest": tags.get("mlops.project_digest", ""),
        "project_commit": tags.get("mlops.project_commit", ""),
    }
    return {name: value for name, value in told.items() if value}


def _ended(request: Request) -> Event | None:
    run, status = _run(request), str(request.body.get("status", ""))
    if status not in ("FINISHED", "FAILED", "KILLED", "3", "4", "5"):
        return None
    outcome = SUCCESS if status in ("FINISHED", "3") else FAILURE
    details = {"phase": "finished", "run_id": run}
    return Event(
        request.time, Actor(), "model.train", Thing("run", run), outcome=outcome, details=details
    )


def _tagged(request: Request) -> Event | None:
    if request.body.get("key") != "mlops.release_digest":
        return None
    thing = replace(_version(request), digest=str(request.body.get("value", "")))
    return Event(request.time, Actor(), "model.tag", thing)


_CALLS: Mapping[str, Callable[[Request], Event | None]] = {
    "runs/create": _begun,
    "runs/update": _ended,
    "registered-models/create": _created,
    "registered-models/delete": _deleted,
    "registered-models/alias": _aliased,
    "model-versions/create": _registered,
    "model-versions/delete": _version_deleted,
    "model-versions/set-tag": _tagged,
}

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hands for a service: look at systemd, take the steps, wait until it works."""

from __future__ import annotations

import base64
import contextlib
import os
import pwd
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import probe, unit
from .args import role_of
from .errors import HostError
from .inputs import Planned, fingerprint
from .ledger import Key, Ledger
from .service_plan import SLICE_PATH, Before, Plan, WriteUnit, noted, plan, put_back, unsteady
from .steps import Run, report
from .system import Book, must, nearest, properties, run, shut, write_whole

STEADY_SECONDS = 1.5  # longer than RestartSec
SHOWN = (
    "ActiveState",
    "SubState",
    "LoadState",
    "UnitFileState",
    "NeedDaemonReload",
    "InvocationID",
    "ExecMainStartTimestampMonotonic",
    "ActiveEnterTimestampMonotonic",
    "FragmentPath",
)


@dataclass(frozen=True)
class Follows:
    """What else the task says: what the service reads, how it is asked, what it may refuse."""

    restart_on: Sequence[str] = ()
    reload_on: Sequence[str] = ()
    restore: Sequence[str] = ()
    health: Mapping[str, Any] | None = None


def converge(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """What a task with these parameters asks for; in check mode only what would be done."""
    role, service = role_of(params), unit.service_of(params)
    if params["health"]:
        probe.question_of(params["health"])
    follows = follows_of(params)
    with Book(check, site=params.get("site_id")) as book:
        if params["only_if_present"]:
            there = book.ledger.get("unit", service.unit)
            if there is None:
                nothing = {"changed": False, "action": "nothing", "changes": []}
                return {**nothing, "waited": 0.0, "owners": None}
            role = there.owners[0]
        before = read(service, follows)
        planned = plan(before, service, book.ledger, role, trial=check)
        waited = 0.0 if check else apply(planned, before, service, follows, book, role)
        owners = planned.steps[-1].ledger.owners_of_all(keys(service))
    return {
        **report(planned.steps),
        "action": planned.action,
        "waited": round(waited, 2),
        "owners": owners,
    }


def follows_of(params: Mapping[str, Any]) -> Follows:
    """What the task says beside the unit."""
    return Follows(params["restart_on"], params["reload_on"], params["restore"], params["health"])


def keys(service: unit.Service) -> list[Key]:
    """The things of the ledger that a service is."""
    return [("unit", name) for name in (unit.SLICE, service.unit, service.job) if name]


def read(service: unit.Service, follows: Follows) -> Before:
    state, shown = running(service.unit)
    texts = {}
    for path in (SLICE_PATH, *service.texts):
        with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as stream:
            texts[path] = stream.read()
    planned = {
        path: text.encode() for path, text in service.texts.items() if texts.get(path) != text
    }
    return Before(
        state,
        shown,
        texts,
        any(os.path.lexists(path) for path in service.texts),
        shut(nearest(os.path.dirname(service.path))),
        missing(service),
        _inputs(service, follows, Planned(planned, time.time())),
    )


def _inputs(service: unit.Service, follows: Follows, planned: Planned) -> unit.Inputs:
    restart_on = [*follows.restart_on, *service.texts]
    if service.environment_file:
        restart_on.append(service.environment_file)
    restart, restart_changed = fingerprint(restart_on, planned)
    reload, reload_changed = fingerprint(follows.reload_on, planned)
    return unit.Inputs(restart, reload, restart_changed, reload_changed)


def running(name: str) -> tuple[unit.Running, dict[str, str]]:
    """The unit as systemd sees it, and in its words."""
    shown = properties(name, *SHOWN)
    began = shown.get("ExecMainStartTimestampMonotonic", "0")
    if began in ("", "0"):
        began = shown.get("ActiveEnterTimestampMonotonic", "0")
    started = time.time() - time.monotonic() + int(began or 0) / 1e6
    state = unit.Running(
        active=shown.get("ActiveState") in ("active", "reloading"),
        enabled=shown.get("UnitFileState") in ("enabled", "enabled-runtime"),
        stale=shown.get("NeedDaemonReload") == "yes",
        invocation=shown.get("InvocationID", ""),
        started=started if began not in ("", "0") else 0.0,
    )
    return state, shown


def missing(service: unit.Service) -> str:
    """What would make the start fail with an obscure message."""
    name = service.unit
    if service.command and not os.access(service.command[0], os.X_OK):
        return f"{name} shall run {service.command[0]}, which is not an executable file."
    for path in service.writable:
        if not os.path.exists(path):
            return f"{name} shall write to {path}, which does not exist."
    if service.environment_file and not os.path.exists(service.environment_file):
        return f"{name} shall read {service.environment_file}, which does not exist."
    if service.user:
        try:
            pwd.getpwnam(service.user)
        except KeyError:
            return f"{name} shall run as {service.user}, which is not a user of this host."
    return ""


def apply(
    done: Plan, before: Before, service: unit.Service, follows: Follows, book: Book, role: str
) -> float:
    """Take the steps, do what the process needs, and wait; how many seconds that took."""
    for step in done.steps:
        book.write(step.ledger)
        if isinstance(step.act, WriteUnit):
            os.makedirs(os.path.dirname(step.act.path), mode=0o755, exist_ok=True)
            write_whole(step.act.path, step.act.text.encode(), 0o644)
        elif isinstance(step.act, Run):
            must(step.act.argv, step.act.doing)
    since = time.time()
    _act(done.action, service, follows, book, since)
    if done.action == "reload":
        _note(service, follows, book, role, before.inputs, before.running.invocation)
    waited, invocation = _wait(service, follows.health, done.action != "nothing", since)
    _note(service, follows, book, role, before.inputs, invocation)
    return waited


def _note(
    service: unit.Service,
    follows: Follows,
    book: Book,
    role: str,
    inputs: unit.Inputs,
    invocation: str,
) -> None:
    book.write(as_noted(book.ledger, service, follows, role, inputs, invocation))


def as_noted(
    ledger: Ledger,
    service: unit.Service,
    follows: Follows,
    role: str,
    inputs: unit.Inputs,
    invocation: str,
) -> Ledger:
    """The ledger with what the invocation runs with, and with the files that it has accepted."""
    accepted = _files(follows, ledger) if follows.restore else None
    return noted(ledger, role, service.unit, inputs, invocation, accepted)


def _act(action: str, service: unit.Service, follows: Follows, book: Book, since: float) -> None:
    name = service.unit
    if action == "nothing":
        return
    if action == "reload":
        ran = run(["systemctl", "reload", name], timeout=120)
        if ran.rc != 0:
            what = f"{name} did not accept its new configuration and goes on with the old one"
            error = failed(name, what, since)
            _put_back(service, follows, book)
            raise error
        return
    run(["systemctl", "reset-failed", name], timeout=30)
    ran = run(["systemctl", "restart", name], timeout=300)
    if ran.rc != 0:
        error = failed(name, f"{name} could not be started ({ran.said})", since)
        if _put_back(service, follows, book):
            run(["systemctl", "restart", name], timeout=300)
        raise error


def _put_back(service: unit.Service, follows: Follows, book: Book) -> bool:
    """Put back what the service accepted last; whether there is such a thing."""
    thing = book.ledger.get("unit", service.unit)
    accepted = thing.data.get("accepted") if thing else None
    if not follows.restore or accepted is None:
        return False
    present = _files(follows, book.ledger)
    present.update({path: kept(path) for path in accepted if os.path.exists(path)})
    gone, back = put_back(accepted, present)
    for path in gone:
        os.unlink(path)
    for path, old in back.items():
        content = base64.b64decode(old["content"])
        write_whole(path, content, int(old["mode"], 8), old["uid"], old["gid"])
    return True


def _files(follows: Follows, ledger: Ledger) -> dict[str, Any]:
    """The files under ``restore`` that are ours."""
    found = {}
    for top in follows.restore:
        for folder, _folders, names in os.walk(top):
            for path in (os.path.join(folder, name) for name in sorted(names)):
                if ledger.covers(path):
                    found[path] = kept(path)
    return found


def kept(path: str) -> dict[str, Any]:
    """A small file as the ledger keeps it."""
    status = os.stat(path)
    with open(path, "rb") as stream:
        content = stream.read(1 << 20)
    return {
        "content": base64.b64encode(content).decode(),
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
        "uid": status.st_uid,
        "gid": status.st_gid,
    }


def journal(name: str, since: float, lines: int = 20) -> str:
    words = ["journalctl", "--unit", name, "--lines", str(lines), "--no-pager", "--output", "cat"]
    ran = run([*words, "--since", f"@{int(since)}"], timeout=20)
    if not ran.out.strip() or "-- No entries --" in ran.out:
        ran = run(words, timeout=20)
    return ran.out.strip() or "(the journal has no lines of it)"


def failed(name: str, what: str, since: float) -> HostError:
    return HostError(f"{what}. The last lines of its journal:\n{journal(name, since)}")


def _wait(
    service: unit.Service, health: Mapping[str, Any] | None, changed: bool, since: float
) -> tuple[float, str]:
    """Wait until the service works: how many seconds, and which invocation it is."""
    began = time.monotonic()
    name = service.unit
    if health:
        wrong = probe.ask_until(health, began + health["timeout"])
        if wrong:
            within = f"did not become healthy within {health['timeout']} seconds"
            raise failed(name, f"{name} {within}: {wrong}", since)
    # Somebody else may have answered: the unit itself has to be up, and to stay so.
    state, shown = first, _shown = running(name)
    if changed and not health:
        time.sleep(STEADY_SECONDS)
        state, shown = running(name)
    wrong = unsteady(name, first, state, shown)
    if wrong:
        raise failed(name, wrong, since)
    return time.monotonic() - began, state.invocation

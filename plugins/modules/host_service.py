#!/usr/bin/python
# Copyright: (c) 2026, The mlops.onprem developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_service
short_description: Run a program as a sandboxed systemd service that follows its configuration
version_added: 0.1.0
description:
  - Writes a systemd unit with a sandbox, enables and starts it, and waits until it is healthy.
  - Restarts or reloads by state instead of by notification. What the running process was started
    with is recorded; if the unit or anything in O(restart_on) differs from it, the service is
    restarted, however long ago and by which run the difference was made.
  - The unit runs in C(mlops.slice) and is restarted without limit when it ends.
  - Other directives than the defaults are given by O(settings).
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  role:
    description: Role to which the service belongs.
    type: str
    required: true
  name:
    description: Name of the unit without C(.service).
    type: str
    required: true
  description:
    description: What the service is, for C(systemctl status).
    type: str
    default: ""
  command:
    description:
      - Program and arguments, taken literally. Nothing is expanded. No secrets, as everybody on the
        host can read them.
    type: list
    elements: str
    default: []
  user:
    description: User to run as. Required unless O(dropin).
    type: str
    default: ""
  environment:
    description: Environment of the program. No secrets, as everybody on the host can read the unit.
    type: dict
    default: {}
  environment_file:
    description:
      - File with further environment, such as secrets. Read by systemd, so that root alone needs to
        read it.
    type: path
  writable:
    description: Paths that the service may write to. Everything else is read-only for it.
    type: list
    elements: path
    default: []
  settings:
    description:
      - Directives by section of the unit, over the defaults. A list gives several lines; null
        leaves a default out.
      - Directives with braces or paths are taken as systemd reads them, percent signs included.
    type: dict
    default: {}
  restart_on:
    description: Files, directories and globs whose content the program reads only at start.
    type: list
    elements: path
    default: []
  reload_on:
    description:
      - Files, directories and globs whose content the program reads again on C(ExecReload). Without
        one it is restarted.
    type: list
    elements: path
    default: []
  health:
    description:
      - How to know that the service works, asked until it does. One of url, tcp and command.
        Without it, the unit has to stay active.
    type: dict
    suboptions:
      url:
        description: Address that shall answer.
        type: str
      status:
        description: Accepted HTTP statuses. Default is 200.
        type: list
        elements: int
      contains:
        description: Text that the answer or output shall contain.
        type: str
      method:
        description: HTTP method. Default is GET.
        type: str
      headers:
        description: HTTP headers.
        type: dict
      ca:
        description:
          - Certificates to trust. Default is C(/etc/mlops/tls/ca.crt) if it exists, else those of
            the host.
        type: path
      client_cert:
        description: Certificate to show.
        type: path
      client_key:
        description: Key of the certificate.
        type: path
      server_name:
        description: Name to expect in the server's certificate. Default is the one in the address.
        type: str
      tcp:
        description: Address and port that shall accept a connection.
        type: str
      command:
        description: Command that shall end with 0.
        type: list
        elements: str
      timeout:
        description: Seconds to wait.
        type: int
        default: 60
  restore:
    description:
      - Directories of small text files whose content is kept when the service accepts it, and put
        back when it refuses a reload or start with what came after. Thus one wrong file neither
        keeps the service down after a crash nor holds up what others want from it.
    type: list
    elements: path
    default: []
  dropin:
    description:
      - The unit comes with a package. Only a drop-in is written, with sandbox, slice and settings;
        where packaged directives add up, ours replace them.
    type: bool
    default: false
  only_if_present:
    description:
      - Do nothing unless the platform runs this service on the host already. The role does not
        become one of its owners.
    type: bool
    default: false
extends_documentation_fragment: [mlops.onprem.previewed]
seealso:
  - module: mlops.onprem.host_files
  - module: mlops.onprem.host_check
"""

EXAMPLES = r"""
- name: Run Prometheus
  mlops.onprem.host_service:
    role: monitoring
    name: mlops-prometheus
    description: Prometheus of the MLOps platform
    command: [/usr/bin/prometheus, --config.file=/etc/mlops/monitoring/prometheus.yml]
    user: mlops-prometheus
    writable: [/var/lib/mlops/monitoring/prometheus]
    settings:
      Service:
        ExecReload: /bin/kill -HUP $MAINPID
        MemoryMax: 1G
    reload_on: [/etc/mlops/monitoring/prometheus.yml, /etc/mlops/monitoring/rules.d]
    health:
      url: http://127.0.0.1:9090/-/ready
      timeout: 60
"""

RETURN = r"""
action:
  description: What was done to the process. One of V(nothing), V(start), V(restart) and V(reload).
  returned: success
  type: str
  sample: restart
changes:
  description: What was done, one short sentence each.
  returned: success
  type: list
  elements: str
waited:
  description: Seconds until the service was healthy.
  returned: success
  type: float
"""

import base64
import os
import pwd
import stat
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import finish
from ansible_collections.mlops.onprem.plugins.module_utils._host import probe, unit
from ansible_collections.mlops.onprem.plugins.module_utils._host.args import HEALTH, ROLE, role_of
from ansible_collections.mlops.onprem.plugins.module_utils._host.errors import HostError
from ansible_collections.mlops.onprem.plugins.module_utils._host.inputs import fingerprint
from ansible_collections.mlops.onprem.plugins.module_utils._host.system import (
    Book,
    must,
    properties,
    run,
    write_whole,
)

SLICE_PATH = "/etc/systemd/system/" + unit.SLICE
STEADY_SECONDS = 1.5  # longer than RestartSec


def running(name: str) -> tuple[unit.Running, dict[str, str]]:
    shown = properties(
        name,
        "ActiveState",
        "SubState",
        "LoadState",
        "UnitFileState",
        "NeedDaemonReload",
        "InvocationID",
        "ExecMainStartTimestampMonotonic",
        "ActiveEnterTimestampMonotonic",
        "FragmentPath",
        "NRestarts",
    )
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


def read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def refuse_foreign(service: unit.Service, shown: dict[str, str], ours: bool) -> None:
    if shown.get("LoadState") == "masked":
        raise HostError(
            f"The unit {service.unit} is masked on this host; run: systemctl unmask {service.unit}"
        )
    if ours:
        return
    there = shown.get("FragmentPath") or ""
    if not service.dropin and (there or os.path.lexists(service.path)):
        raise HostError(
            f"A unit {service.unit} exists already ({there or service.path}) and was not written "
            "by the platform; remove or rename it."
        )


def refuse_missing(service: unit.Service) -> None:
    """What would make the start fail with an obscure message."""
    if service.command and not os.access(service.command[0], os.X_OK):
        raise HostError(
            f"{service.unit} shall run {service.command[0]}, which is not an executable file."
        )
    for path in service.writable:
        if not os.path.exists(path):
            raise HostError(f"{service.unit} shall write to {path}, which does not exist.")
    if service.environment_file and not os.path.exists(service.environment_file):
        raise HostError(
            f"{service.unit} shall read {service.environment_file}, which does not exist."
        )
    if service.user:
        try:
            pwd.getpwnam(service.user)
        except KeyError:
            raise HostError(
                f"{service.unit} shall run as {service.user}, which is not a user of this host."
            ) from None


def journal(name: str, since: float, lines: int = 20) -> str:
    words = ["journalctl", "--unit", name, "--lines", str(lines), "--no-pager", "--output", "cat"]
    ran = run([*words, "--since", f"@{int(since)}"], timeout=20)
    if not ran.out.strip() or "-- No entries --" in ran.out:
        ran = run(words, timeout=20)
    return ran.out.strip() or "(the journal has no lines of it)"


def failed(name: str, what: str, since: float) -> HostError:
    return HostError(f"{what}. The last lines of its journal:\n{journal(name, since)}")


def wait_healthy(
    service: unit.Service, health: dict[str, Any] | None, changed: bool, since: float
) -> float:
    began = time.monotonic()
    if health:
        deadline = began + health["timeout"]
        wrong = probe.ask_until(health, deadline)
        if wrong:
            raise failed(
                service.unit,
                f"{service.unit} did not become healthy within "
                f"{health['timeout']} seconds: {wrong}",
                since,
            )
    # Somebody else may have answered: the unit itself has to be up, and to stay so.
    state, shown = running(service.unit)
    if changed and not health:
        time.sleep(STEADY_SECONDS)
        first = state
        state, shown = running(service.unit)
        if state.invocation != first.invocation:
            raise failed(service.unit, f"{service.unit} ends right after its start", since)
    if shown.get("SubState") == "auto-restart":
        raise failed(service.unit, f"{service.unit} ends right after its start", since)
    if not state.active and shown.get("ActiveState") != "activating":
        raise failed(
            service.unit,
            f"{service.unit} does not stay up: it is {shown.get('ActiveState')} "
            f"({shown.get('SubState')})",
            since,
        )
    return time.monotonic() - began


class Work:
    def __init__(self, module: AnsibleModule, book: Book, service: unit.Service) -> None:
        self.owner = role_of(module.params)
        self.restart_on: list[str] = list(module.params["restart_on"])
        self.reload_on: list[str] = list(module.params["reload_on"])
        self.restore: list[str] = list(module.params["restore"])
        self.check: bool = module.check_mode
        self.book = book
        self.service = service
        self.changes: list[str] = []
        self.diffs: list[dict[str, str]] = []

    def inputs(self) -> unit.Inputs:
        restart_on = [*self.restart_on, self.service.path]
        if self.service.environment_file:
            restart_on.append(self.service.environment_file)
        restart, restart_changed = fingerprint(restart_on)
        reload, reload_changed = fingerprint(self.reload_on)
        return unit.Inputs(restart, reload, restart_changed, reload_changed)

    def place(self, path: str, text: str, shared: bool = False) -> bool:
        before = read(path)
        ledger = self.book.ledger
        name = os.path.basename(path) if not self.service.dropin or shared else self.service.unit
        enable = {} if shared else {"unit": self.service.unit, "dropin": self.service.dropin}
        ledger = ledger.claim(self.owner, "unit", name, path=path, **enable)
        self.book.write(ledger)
        if before == text:
            return False
        self.changes.append(f"{path}: " + ("created" if before is None else "content"))
        self.diffs.append(
            {"before_header": path, "after_header": path, "before": before or "", "after": text}
        )
        if not self.check:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            write_whole(path, text.encode(), 0o644)
        return True

    def record(self, name: str) -> unit.Record | None:
        thing = self.book.ledger.get("unit", name)
        noted = thing.data.get("record") if thing else None
        return unit.Record(**noted) if noted else None

    def note(self, inputs: unit.Inputs, invocation: str) -> None:
        record = {"invocation": invocation, "restart": inputs.restart, "reload": inputs.reload}
        data: dict[str, Any] = {"record": record}
        if self.restore:
            data["accepted"] = {path: kept(path) for path in self.files_to_restore()}
        self.book.write(self.book.ledger.claim(self.owner, "unit", self.service.unit, **data))

    def files_to_restore(self) -> list[str]:
        found = []
        for top in self.restore:
            for folder, _folders, names in os.walk(top):
                paths = (os.path.join(folder, name) for name in sorted(names))
                found += [path for path in paths if self.book.ledger.covers(path)]
        return found

    def put_back(self) -> bool:
        """Put back what the service accepted last; whether there is such a thing."""
        thing = self.book.ledger.get("unit", self.service.unit)
        accepted = thing.data.get("accepted") if thing else None
        if not self.restore or accepted is None:
            return False
        for path in self.files_to_restore():
            if path not in accepted:
                os.unlink(path)
        for path, old in accepted.items():
            if not os.path.exists(path) or kept(path) != old:
                content = base64.b64decode(old["content"])
                write_whole(path, content, int(old["mode"], 8), old["uid"], old["gid"])
        return True

    def settle(self, health: dict[str, Any] | None) -> tuple[str, float]:
        name = self.service.unit
        state, shown = running(name)
        refuse_foreign(self.service, shown, self.book.ledger.has("unit", name))
        text = unit.render(self.service)
        if not self.check:
            refuse_missing(self.service)
        written = self.place(SLICE_PATH, unit.SLICE_TEXT, shared=True)
        written = self.place(self.service.path, text) or written
        if (written or state.stale) and not self.check:
            must(["systemctl", "daemon-reload"], "make systemd read its units again")
        if not state.enabled and shown.get("UnitFileState") not in ("static", "generated"):
            self.enable(name)
        inputs = self.inputs()
        action = unit.decide(state, inputs, self.record(name), unit.can_reload(self.service))
        if self.check and written and action in ("nothing", "reload"):
            action = "restart"
        if action != "nothing":
            self.changes.append(f"{name}: {action}")
        if self.check:
            return action, 0.0
        since = time.time()
        self.act(action, name, since)
        if action == "reload":
            self.note(inputs, state.invocation)
        waited = wait_healthy(self.service, health, action != "nothing", since)
        self.note(inputs, running(name)[0].invocation)
        return action, waited

    def enable(self, name: str) -> None:
        self.changes.append(f"{name}: enabled")
        if self.check:
            return
        self.book.write(self.book.ledger.claim(self.owner, "unit", name, enabled=True))
        must(["systemctl", "enable", "--quiet", name], f"enable {name}")

    def act(self, action: str, name: str, since: float) -> None:
        if action == "nothing":
            return
        if action == "reload":
            ran = run(["systemctl", "reload", name], timeout=120)
            if ran.rc != 0:
                what = f"{name} did not accept its new configuration and goes on with the old one"
                error = failed(name, what, since)
                self.put_back()
                raise error
            return
        run(["systemctl", "reset-failed", name], timeout=30)
        ran = run(["systemctl", "restart", name], timeout=300)
        if ran.rc != 0:
            error = failed(name, f"{name} could not be started ({ran.said})", since)
            if self.put_back():
                run(["systemctl", "restart", name], timeout=300)
            raise error


def work(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    service = unit.Service(
        name=params["name"].removesuffix(".service"),
        description=params["description"],
        command=tuple(params["command"]),
        user=params["user"],
        environment={key: str(value) for key, value in params["environment"].items()},
        environment_file=params["environment_file"] or "",
        writable=tuple(params["writable"]),
        settings=params["settings"],
        dropin=params["dropin"],
    )
    health = params["health"]
    if health:
        probe.question_of(health)
    with Book(module.check_mode) as book:
        call = Work(module, book, service)
        if params["only_if_present"]:
            there = book.ledger.get("unit", service.unit)
            if there is None:
                return {"changed": False, "action": "nothing", "changes": [], "waited": 0.0}
            call.owner = there.owners[0]
        action, waited = call.settle(health)
    return {
        "changed": bool(call.changes),
        "action": action,
        "changes": call.changes,
        "waited": round(waited, 2),
        "diff": call.diffs,
    }


def main() -> None:
    health: dict[str, Any] = {**HEALTH, "timeout": {"type": "int", "default": 60}}
    finish(
        AnsibleModule(
            argument_spec={
                "role": ROLE,
                "name": {"type": "str", "required": True},
                "description": {"type": "str", "default": ""},
                "command": {"type": "list", "elements": "str", "default": []},
                "user": {"type": "str", "default": ""},
                "environment": {"type": "dict", "default": {}},
                "environment_file": {"type": "path"},
                "writable": {"type": "list", "elements": "path", "default": []},
                "settings": {"type": "dict", "default": {}},
                "restart_on": {"type": "list", "elements": "path", "default": []},
                "reload_on": {"type": "list", "elements": "path", "default": []},
                "health": {"type": "dict", "options": health},
                "restore": {"type": "list", "elements": "path", "default": []},
                "dropin": {"type": "bool", "default": False},
                "only_if_present": {"type": "bool", "default": False},
            },
            supports_check_mode=True,
        ),
        work,
    )


if __name__ == "__main__":
    main()

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd units: how they are written, and when a running service has to be restarted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

from .errors import HostError

SLICE = "mlops.slice"
SLICE_TEXT = """\
# Written by mlops.onprem; changes made here are overwritten.
[Unit]
Description=The MLOps platform
Before=slices.target
"""

Value = Union[str, Sequence[str]]
Sections = Mapping[str, Mapping[str, Value]]

# What a service of ours may not do unless its role says so (settings.Service overrides).
SANDBOX: Mapping[str, Value] = {
    "AmbientCapabilities": "",
    "CapabilityBoundingSet": "",
    "KeyringMode": "private",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "NoNewPrivileges": "yes",
    "PrivateDevices": "yes",
    "PrivateTmp": "yes",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHome": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "ProtectSystem": "strict",
    "RemoveIPC": "yes",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_NETLINK AF_UNIX",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallErrorNumber": "EPERM",
    "SystemCallFilter": ["@system-service", "~@privileged @resources"],
    "UMask": "0027",
}

# Directives that add to what a packaged unit says; a drop-in empties them first.
ADDITIVE = frozenset(
    {
        "AmbientCapabilities",
        "CapabilityBoundingSet",
        "Environment",
        "EnvironmentFile",
        "ExecReload",
        "ExecStart",
        "ExecStartPost",
        "ExecStartPre",
        "ReadWritePaths",
        "RestrictAddressFamilies",
        "SystemCallFilter",
    }
)

_NAME = re.compile(r"^[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]*)?$")
_KEY = re.compile(r"^[A-Za-z][A-Za-z0-9]*$")


@dataclass(frozen=True)
class Service:
    """A service as a role asks for it."""

    name: str
    description: str = ""
    command: tuple[str, ...] = ()
    user: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    environment_file: str = ""
    writable: tuple[str, ...] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dropin: bool = False
    timer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        """What is enabled and kept up: the service, or the timer that starts it now and then."""
        return self.name + (".timer" if self.timer else ".service")

    @property
    def path(self) -> str:
        if self.dropin:
            return f"/etc/systemd/system/{self.unit}.d/mlops.conf"
        return "/etc/systemd/system/" + self.unit

    @property
    def job(self) -> str:
        """The service that a timer starts; empty without one."""
        return self.name + ".service" if self.timer else ""

    @property
    def texts(self) -> dict[str, str]:
        """The files of the unit: where they lie and what stands in them."""
        if not self.timer:
            return {self.path: render(self)}
        return {"/etc/systemd/system/" + self.job: render(self), self.path: render_timer(self)}


def service_of(params: Mapping[str, Any]) -> Service:
    """The service in the parameters of a task."""
    name: str = params["name"]
    return Service(
        name=name.removesuffix(".service"),
        description=params["description"],
        command=tuple(params["command"]),
        user=params["user"],
        environment={key: str(value) for key, value in params["environment"].items()},
        environment_file=params["environment_file"] or "",
        writable=tuple(params["writable"]),
        settings=params["settings"],
        dropin=params["dropin"],
        timer=params.get("timer") or {},
    )


def quoted(word: str) -> str:
    """One word of a command or environment assignment, taken literally by systemd."""
    if "\n" in word or "\0" in word:
        raise HostError(f"A systemd unit cannot hold the word {word!r}: it has a line break in it.")
    word = word.replace("\\", "\\\\").replace("%", "%%")
    if re.fullmatch(r"[A-Za-z0-9_@%+=:,./\\-]+", word):
        return word
    return '"' + word.replace('"', '\\"') + '"'


def command_line(words: Sequence[str]) -> str:
    """A command for ``ExecStart=``; nothing in it is expanded."""
    first, *rest = words
    if not first.startswith("/"):
        raise HostError(f"The command has to start with an absolute path, not {first!r}.")
    return " ".join([quoted(first), *(quoted(word.replace("$", "$$")) for word in rest)])


def text_of(value: Any, where: str) -> Value | None:
    """A directive's value from YAML: text, a list of texts, or nothing to leave it out."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return [str(text_of(one, where)) for one in value]
    if isinstance(value, (str, int, float)):
        text = str(value)
        if "\n" in text:
            raise HostError(f"{where} has a line break in it; give a list for several lines.")
        return text
    raise HostError(f"{where} is a {type(value).__name__}; it has to be text or a list of texts.")


def sections_of(service: Service) -> dict[str, dict[str, Value]]:
    """All directives of the unit: the hardened defaults, the service's own, then its settings."""
    if not _NAME.match(service.name):
        raise HostError(f"{service.name!r} is not a name for a systemd service.")
    about: dict[str, Value] = {}
    if service.description:
        about["Description"] = service.description
    about["StartLimitIntervalSec"] = "0"
    sections = {"Unit": about, "Service": _body(service)}
    if not service.dropin:
        about["After"] = "network-online.target"
        about["Wants"] = "network-online.target"
        sections["Install"] = {"WantedBy": "multi-user.target"}
    if service.timer:
        if service.dropin:
            raise HostError(f"The service {service.name} is packaged and cannot have a timer.")
        # It ends each time, and the timer starts it again.
        sections.pop("Install")
        sections["Service"]["Type"] = "oneshot"
        for key in ("Restart", "RestartSec"):
            sections["Service"].pop(key)
    for section, directives in service.settings.items():
        if not isinstance(directives, Mapping):
            raise HostError(f"settings.{section} of {service.name} has to be a dictionary.")
        where = f"settings.{section}"
        _settle(sections.setdefault(section, {}), directives, where, service.name)
    return sections


def _body(service: Service) -> dict[str, Value]:
    """The section Service before the settings have their say."""
    body: dict[str, Value] = {}
    if not service.dropin:
        body["Type"] = "exec"
        if not service.command:
            raise HostError(f"The service {service.name} needs a command.")
        if not service.user:
            raise HostError(f"The service {service.name} needs a user to run as.")
    if service.command:
        body["ExecStart"] = command_line(service.command)
    if service.user:
        body["User"] = service.user
    body.update({"Slice": SLICE, "Restart": "always", "RestartSec": "1"})
    if service.environment:
        body["Environment"] = [
            quoted(f"{key}={value}") for key, value in sorted(service.environment.items())
        ]
    if service.environment_file:
        body["EnvironmentFile"] = service.environment_file
    if service.writable:
        body["ReadWritePaths"] = [quoted(path) for path in service.writable]
    body.update(SANDBOX)
    return body


def _settle(target: dict[str, Value], directives: Mapping[str, Any], place: str, name: str) -> None:
    """Put directives over those of a section; nothing leaves a default out."""
    for key, raw in directives.items():
        where = f"{place}.{key} of {name}"
        if not _KEY.match(key):
            raise HostError(f"{where}: {key!r} is not a systemd directive.")
        value = text_of(raw, where)
        if value is None:
            target.pop(key, None)
        else:
            target[key] = value


def render(service: Service) -> str:
    """The text of the unit file or drop-in."""
    return _render(service, sections_of(service))


def render_timer(service: Service) -> str:
    """The text of the timer that starts the service."""
    about: dict[str, Value] = {}
    if service.description:
        about["Description"] = service.description
    body: dict[str, Value] = {}
    _settle(body, service.timer, "timer", service.name)
    sections: dict[str, dict[str, Value]] = {"Unit": about, "Timer": body}
    sections["Install"] = {"WantedBy": "timers.target"}
    return _render(service, sections)


def _render(service: Service, sections: Sections) -> str:
    lines = ["# Written by mlops.onprem; changes made here are overwritten."]
    for section, directives in sections.items():
        if not directives:
            continue
        lines += ["", f"[{section}]"]
        for key, value in directives.items():
            values = [value] if isinstance(value, str) else list(value)
            if service.dropin and key in ADDITIVE and "" not in values:
                lines.append(f"{key}=")
            lines += [f"{key}={one}" for one in values]
    return "\n".join(lines) + "\n"


def can_reload(service: Service) -> bool:
    return bool(service.settings.get("Service", {}).get("ExecReload"))


@dataclass(frozen=True)
class Running:
    """The unit as systemd sees it."""

    active: bool = False
    enabled: bool = False
    stale: bool = False  # the file changed since systemd read it
    invocation: str = ""
    started: float = 0.0  # seconds since the epoch


@dataclass(frozen=True)
class Inputs:
    """Hashes of what the service reads, and when that last changed."""

    restart: str
    reload: str
    restart_changed: float = 0.0
    reload_changed: float = 0.0


@dataclass(frozen=True)
class Record:
    """With which inputs the process of an invocation was started or last reloaded."""

    invocation: str
    restart: str
    reload: str


def decide(now: Running, inputs: Inputs, record: Record | None, reloadable: bool) -> str:
    """``start``, ``restart``, ``reload`` or ``nothing``.

    A process that started by itself (after a crash, a boot) read what was there at that moment:
    right if nothing changed since. In doubt it is restarted; then a record exists and the next
    run has no doubt.
    """
    if not now.active:
        return "start"
    if record is not None and record.invocation == now.invocation:
        if record.restart != inputs.restart:
            return "restart"
        if record.reload != inputs.reload:
            return "reload" if reloadable else "restart"
        return "nothing"
    if inputs.restart_changed >= now.started:
        return "restart"
    if inputs.reload_changed >= now.started:
        return "reload" if reloadable else "restart"
    return "nothing"

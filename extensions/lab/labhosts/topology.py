# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What hosts a project wants: the topology file, parsed once into types."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import LabError

BASE = "base"
POSTGRESQL = "postgresql"
MARIADB = "mariadb"
GPU = "gpu"
DATABASES = (POSTGRESQL, MARIADB)  # servers of the company, each of which it has one of
KINDS = (BASE, *DATABASES, GPU)
SYSTEMS = ("trixie", "bookworm")  # suites of Debian; the first is what a host has by default
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


@dataclass(frozen=True)
class Host:
    name: str
    ip: str
    kind: str = BASE
    system: str = SYSTEMS[0]
    prepared: str = ""  # name of the image that one such host was kept as
    gpus: tuple[Path, ...] = ()  # what nvidia-smi said of the cards that a host of tests plays


@dataclass(frozen=True)
class Topology:
    """One project: its own network, its own hosts, one inventory beside which its state lives."""

    path: Path
    project: str
    network: ipaddress.IPv4Network
    inventory: Path
    hosts: tuple[Host, ...]
    prepared: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)

    @property
    def gateway(self) -> str:
        return str(self.network.network_address + 1)

    @property
    def prefix(self) -> str:
        """What the names of all containers and networks of this project start with."""
        return f"mlops-{self.project}-"

    def container(self, host: Host) -> str:
        return f"{self.prefix}{host.name}"

    def host(self, name: str) -> Host:
        for host in self.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.hosts)
        raise LabError(f"{self.path.name} has no host {name!r}; it has {known}.")

    def etc_hosts(self, me: Host) -> str:
        """The company's DNS: every host knows every other by name."""
        lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
        lines += [f"{host.ip} {host.name}" for host in self.hosts]
        if me not in self.hosts:
            lines.append(f"{me.ip} {me.name}")
        return "\n".join(lines) + "\n"


def load(path: Path) -> Topology:
    path = path.resolve()
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LabError(f"Cannot read the topology {path}: {error.strerror}.") from error
    except tomllib.TOMLDecodeError as error:
        raise LabError(f"{path} is not TOML: {error}.") from error
    return parse(data, path)


def parse(data: Mapping[str, Any], path: Path) -> Topology:
    """Raise LabError naming the place, or return a topology nothing else needs to check."""
    where = path.name
    _only(data, {"project", "network", "inventory", "hosts", "prepared"}, where)
    project = _text(data, "project", where)
    if not _NAME.fullmatch(project):
        raise LabError(f"{where}: project {project!r} is not a lower-case name.")
    network = _network(data, where)
    tables = data.get("hosts")
    if not isinstance(tables, Mapping) or not tables:
        raise LabError(f"{where}: wants at least one table [hosts.NAME].")
    beside = path.parent
    hosts = tuple(_host(name, table, network, where, beside) for name, table in tables.items())
    _refuse_doubles(hosts, where)
    prepared = _prepared(data, path.parent, where)
    for host in hosts:
        if host.prepared and host.prepared not in prepared:
            raise LabError(f"{where}: there is no table [prepared.{host.prepared}].")
    inventory = data.get("inventory", project)
    if not isinstance(inventory, str):
        raise LabError(f"{where}: inventory is not a path.")
    return Topology(path, project, network, (path.parent / inventory).resolve(), hosts, prepared)


def _network(data: Mapping[str, Any], where: str) -> ipaddress.IPv4Network:
    text = _text(data, "network", where)
    try:
        return ipaddress.IPv4Network(text)
    except ValueError as error:
        raise LabError(f"{where}: network {text!r} is not an IPv4 network: {error}.") from error


def _refuse_doubles(hosts: Sequence[Host], where: str) -> None:
    """Addresses, and servers of the company, of which there can be one only."""
    taken: dict[str, str] = {}
    for host in hosts:
        if host.ip in taken:
            raise LabError(f"{where}: {taken[host.ip]} and {host.name} both have ip {host.ip}.")
        taken[host.ip] = host.name
    for kind in DATABASES:
        if sum(host.kind == kind for host in hosts) > 1:
            raise LabError(f"{where}: more than one host of kind {kind!r}; a company has one here.")


def _prepared(data: Mapping[str, Any], beside: Path, where: str) -> dict[str, tuple[Path, ...]]:
    """Images by name: the files that they are made after, which say when they are out of date."""
    tables = data.get("prepared", {})
    if not isinstance(tables, Mapping):
        raise LabError(f"{where}: prepared is not tables [prepared.NAME].")
    found = {}
    for name, table in tables.items():
        place = f"{where}: prepared.{name}"
        if not _NAME.fullmatch(name) or name in KINDS:
            raise LabError(f"{place}: the name is not a lower-case name that is free.")
        files = table.get("files") if isinstance(table, Mapping) else None
        if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
            raise LabError(f"{place}: files is missing or not a list of paths.")
        _only(table, {"files"}, place)
        found[name] = tuple((beside / file).resolve() for file in files)
    return found


def _host(
    name: str, table: object, network: ipaddress.IPv4Network, where: str, beside: Path
) -> Host:
    place = f"{where}: hosts.{name}"
    if not _NAME.fullmatch(name):
        raise LabError(f"{place}: the name is not a lower-case host name.")
    if not isinstance(table, Mapping):
        raise LabError(f"{place}: is not a table.")
    _only(table, {"ip", "kind", "system", "prepared", "gpus"}, place)
    ip = _text(table, "ip", place)
    try:
        address = ipaddress.IPv4Address(ip)
    except ValueError as error:
        raise LabError(f"{place}: ip {ip!r} is not an IPv4 address.") from error
    first_free = network.network_address + 2  # the bridge of the machine holds .1
    if not first_free <= address < network.broadcast_address:
        raise LabError(f"{place}: ip {ip} is not a host address of {network} (from {first_free}).")
    kind = table.get("kind", BASE)
    if kind not in KINDS:
        raise LabError(f"{place}: kind {kind!r} is not one of {', '.join(KINDS)}.")
    system = table.get("system", SYSTEMS[0])
    if system not in SYSTEMS:
        raise LabError(f"{place}: system {system!r} is not one of {', '.join(SYSTEMS)}.")
    if kind != BASE and system != SYSTEMS[0]:
        raise LabError(f"{place}: a host of kind {kind!r} is made of {SYSTEMS[0]} only.")
    prepared = table.get("prepared", "")
    if not isinstance(prepared, str) or (prepared and kind not in (BASE, GPU)):
        raise LabError(
            f"{place}: prepared is not an image's name, for hosts of kind {BASE!r} or {GPU!r} only."
        )
    return Host(name, ip, kind, system, prepared, _gpus(table, kind, place, beside))


def _gpus(table: Mapping[str, Any], kind: str, place: str, beside: Path) -> tuple[Path, ...]:
    """The recordings of a host's cards."""
    files = table.get("gpus", [])
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise LabError(f"{place}: gpus is not a list of recordings of nvidia-smi -q -x.")
    if bool(files) != (kind == GPU):
        raise LabError(f"{place}: gpus names the cards of a host of kind {GPU!r}, and only there.")
    return tuple((beside / file).resolve() for file in files)


def _text(data: Mapping[str, Any], key: str, where: str) -> str:
    value = data.get(key)
    if not isinstance(value, str):
        raise LabError(f"{where}: {key} is missing or not text.")
    return value


def _only(data: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(data) - known)
    if unknown:
        raise LabError(
            f"{where}: unknown key {', '.join(unknown)}; known are {', '.join(sorted(known))}."
        )

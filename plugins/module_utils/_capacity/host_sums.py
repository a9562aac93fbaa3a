# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what is asked of each host fits on it, by sums that a person can redo.

For every host and resource: ``free = total - reserved - foreign - demanded``, where

* ``reserved`` is kept back for the operating system, by explicit margins;
* ``foreign`` is in use now, less what our own services use: those are counted in ``demanded``,
  whether they run already or not;
* ``demanded`` is the sum over all services placed on the host.

Paths are mapped to the file system that holds them; several paths on one file system add up. What
several file systems or hosts take their room from (see `stores`) is one sum over all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .._findings.finding import (
    ANY_ADDRESS,
    ANY_MOUNT,
    ERROR,
    FAIL,
    PASS,
    SITE,
    WARN,
    Demand,
    Finding,
    PortNeed,
)
from .._findings.sentence import amount, brief
from .gpu_state import unsound
from .margins import Margins, check_facts
from .mounts import MOUNT_PLACES, by_device, holding, uncounted
from .stores import NEAR, Store, by_host, stores_of

FEASIBLE, INFEASIBLE, UNDECIDED = "FEASIBLE", "INFEASIBLE", "UNDECIDED"
EVERYWHERE = frozenset((ANY_ADDRESS, "::", "*", ""))


@dataclass(frozen=True)
class Part:
    """What one service adds to a sum."""

    service: str
    role: str
    amount: float
    why: str = ""


@dataclass(frozen=True)
class Row:
    """One line of the arithmetic: one resource of one host."""

    host: str
    resource: str
    unit: str
    total: float
    reserved: float
    foreign: float
    demanded: float
    free: float
    short: float
    ours_now: float = 0.0
    parts: tuple[Part, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        data = asdict(self)
        data["parts"] = [asdict(part) for part in self.parts]
        return data


@dataclass(frozen=True)
class Plan:
    """The verdict on the whole site, with everything it rests on."""

    verdict: str
    hosts: Mapping[str, str]
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "verdict": self.verdict,
            "hosts": dict(self.hosts),
            "table": [row.as_dict() for row in self.rows],
            "findings": [finding.as_dict() for finding in self.findings],
        }


# Which variables of a role change which need: role -> resource kind -> names.
Hints = Mapping[str, Mapping[str, Sequence[str]]]


@dataclass
class _Host:
    """The work on one host."""

    name: str
    facts: Mapping[str, Any]
    demand: Sequence[Demand]
    margins: Margins
    hints: Hints
    pooled: frozenset[str] = frozenset()
    rows: list[Row] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def add(
        self, check: str, severity: str, found: str, wanted: str = "", remedy: str = ""
    ) -> None:
        self.findings.append(
            Finding(f"capacity.{check}", self.name, severity, found, wanted, remedy)
        )

    def variables(self, roles: Iterable[str], kind: str) -> str:
        """The variables of these roles that change a need, for a remedy."""
        names: list[str] = []
        for role in roles:
            names.extend(self.hints.get(role, {}).get(kind, ()))
        return ", ".join(dict.fromkeys(names))

    # -- sums -------------------------------------------------------------------------------

    def sum_up(
        self,
        resource: str,
        unit: str,
        total: float,
        reserved: float,
        used: float,
        ours: float,
        parts: Sequence[Part],
    ) -> Row:
        demanded = sum(part.amount for part in parts)
        # Ours is taken out of what is in use, but never more than is asked for again.
        known = min(ours, demanded, used)
        foreign = max(0.0, used - known)
        free = total - reserved - foreign - demanded
        row = Row(
            host=self.name,
            resource=resource,
            unit=unit,
            total=round(total, 2),
            reserved=round(reserved, 2),
            foreign=round(foreign, 2),
            demanded=round(demanded, 2),
            free=round(max(0.0, free), 2),
            short=round(max(0.0, -free), 2),
            ours_now=round(known, 2),
            parts=tuple(sorted(parts, key=lambda part: (-part.amount, part.service))),
        )
        self.rows.append(row)
        return row

    def judge(self, row: Row, check: str, kind: str, more: str, now: str = "") -> None:
        if row.short <= 0:
            return
        rounded = 2 if row.unit == "cores" else 0
        biggest = row.parts[:3]
        remedy = (
            f"{more} {amount(row.short, rounded)} {row.unit} or place fewer services on {row.host}"
        )
        names = self.variables((part.role for part in biggest), kind)
        if names:
            remedy += f", or lower the need by {names}"
        asked = ", ".join(
            f"{part.service} {amount(part.amount, rounded)}"
            + (f" ({part.why})" if part.why else "")
            for part in biggest
        )
        if len(row.parts) > len(biggest):
            asked += f" and {len(row.parts) - len(biggest)} more"
        room = row.total - row.reserved - row.foreign
        self.add(
            check,
            FAIL,
            f"{row.resource} has room for {amount(max(0.0, room), rounded)} {row.unit} "
            f"({amount(row.total, rounded)} in total, "
            f"{amount(row.foreign, rounded)} used by others, "
            f"{amount(row.reserved, rounded)} kept for the system{now})",
            f"{amount(row.demanded, rounded)} {row.unit} ({asked})",
            remedy,
        )

    def missing(self, what: str) -> None:
        reasons = [
            str(row.get("reason"))
            for row in self.facts.get("unknown") or []
            if str(row.get("what", "")).startswith(what)
        ]
        self.add(
            "unknown",
            ERROR,
            f"{what} could not be measured{': ' + brief(reasons[0]) if reasons else ''}",
            "a measured value",
            f"look with: ansible {self.name} -m mlops.onprem.capacity_facts",
        )

    # -- resources --------------------------------------------------------------------------

    def cpu(self) -> None:
        parts = [Part(d.service, d.role, d.cpu_cores) for d in self.demand if d.cpu_cores]
        cores = (self.facts.get("cpu") or {}).get("usable_cores")
        if cores is None:
            if parts:
                self.missing("cpu")
            return
        services = self.facts.get("services") or {}
        foreign = sum(float(row.get("cpu_cores") or 0) for row in services.get("foreign") or [])
        row = self.sum_up(
            "CPU",
            "cores",
            float(cores) * self.margins.cpu_overcommit,
            self.margins.cpu_reserve_cores,
            foreign,
            0.0,
            parts,
        )
        self.judge(row, "cpu", "cpu", "add", self.busy())

    def busy(self) -> str:
        """Who uses the processors, and how long the queue for them is."""
        services = self.facts.get("services") or {}
        rows = sorted(
            services.get("foreign") or [], key=lambda row: -float(row.get("cpu_cores") or 0)
        )
        said = [
            f"{brief(row.get('unit') or 'unknown', 60)} {amount(float(row['cpu_cores']), 2)}"
            for row in rows[:3]
            if float(row.get("cpu_cores") or 0) >= 0.01
        ]
        load = (self.facts.get("cpu") or {}).get("load")
        if isinstance(load, (list, tuple)) and load:
            said.append(f"load {brief(load[0], 20)}")
        return f"; now {', '.join(said)}" if said else ""

    def memory(self) -> None:
        parts = [Part(d.service, d.role, d.memory_mib) for d in self.demand if d.memory_mib]
        memory = self.facts.get("memory") or {}
        total, available = memory.get("total_mib"), memory.get("available_mib")
        if total is None or available is None:
            if parts:
                self.missing("memory")
            return
        services = self.facts.get("services") or {}
        row = self.sum_up(
            "memory",
            "MiB",
            float(total),
            self.margins.memory_reserve_mib,
            float(total) - float(available),
            sum(float(row.get("memory_mib") or 0) for row in services.get("ours") or []),
            parts,
        )
        self.judge(row, "memory", "memory", "add")

    def disks(self) -> None:
        systems = {str(row["mount"]): row for row in self.facts.get("filesystems") or []}
        if not systems:
            if any(demand.disks for demand in self.demand):
                self.missing("filesystems")
            return
        space, inodes = self.asked_of(systems)
        for device, mounts in by_device(systems).items():
            label = "disk " + ", ".join(mounts)
            kept = self.kept_on(mounts, systems)
            if device in space and not self.pooled.intersection(mounts):
                self.disk(label, mounts, systems, space[device], kept)
            self.inodes(label, systems[mounts[0]], inodes.get(device, []), kept)

    def asked_of(
        self, systems: Mapping[str, Mapping[str, Any]]
    ) -> tuple[dict[str, list[Part]], dict[str, list[Part]]]:
        """Space and files that are asked of each file system."""
        space: dict[str, list[Part]] = {}
        inodes: dict[str, list[Part]] = {}
        aside = uncounted(self.facts)
        wanted = [(demand, need) for demand in self.demand for need in demand.disks]
        for demand, need in wanted:
            mount = holding(need.path, {**systems, **aside})
            if mount is None:
                self.missing("filesystems")
                continue
            if mount in aside:
                self.not_counted(demand, need.path, mount, aside[mount])
                continue
            if need.mount and (mount == "/" or need.mount not in (ANY_MOUNT, mount)):
                self.add(
                    "not_mounted",
                    FAIL,
                    f"{need.path} lies on {mount}",
                    f"a mount of its own for {demand.service}"
                    + ("" if need.mount == ANY_MOUNT else f" on {need.mount}"),
                    f"mount it, or take mount from the need of {demand.role or demand.service}",
                )
            if mount == "/" and not need.mount and MOUNT_PLACES.match(need.path):
                self.add(
                    "unmounted_path",
                    WARN,
                    f"{need.path} of {demand.service} lies on the root's file system",
                    "a mount of its own for the path",
                    "mount it, or correct the path",
                )
            if systems[mount].get("read_only"):
                self.add(
                    "read_only",
                    FAIL,
                    f"{need.path} lies on {mount}, which is mounted read-only",
                    f"a writable file system for {demand.service}",
                    f"remount it with: mount -o remount,rw {mount}",
                )
            device = str(systems[mount].get("device") or mount)
            why = need.why or need.path
            space.setdefault(device, []).append(Part(demand.service, demand.role, need.mib, why))
            if need.inodes:
                inodes.setdefault(device, []).append(
                    Part(demand.service, demand.role, need.inodes, why)
                )
        return space, inodes

    def not_counted(self, demand: Demand, path: str, mount: str, row: Mapping[str, Any]) -> None:
        """A need that lies on memory, or on what is not there or did not answer."""
        kind = str(row.get("type") or "file system of unknown type")
        lies = f"{path} lies on {mount} ({kind})" if path != mount else f"{path} is a {kind}"
        self.add(
            "not_counted",
            FAIL,
            f"{lies}, whose room is not counted: {brief(row.get('reason') or 'it is no storage')}",
            f"a file system on a disk for {demand.service}",
            f"mount a disk on {path}, or unmount what is on {mount}, then assess again",
        )

    def kept_on(self, mounts: Sequence[str], systems: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The directories of the platform on a file system."""
        ours = self.facts.get("ours") or {}
        return [
            part
            for part in ours.get("directories") or []
            if holding(str(part["path"]), {**systems, **uncounted(self.facts)}) in mounts
        ]

    def kept_in(
        self, mounts: Sequence[str], systems: Mapping[str, Mapping[str, Any]]
    ) -> Iterable[tuple[object, float]]:
        """What the platform keeps in a storage, with a key that is alike on all its hosts."""
        for part in self.kept_on(mounts, systems):
            path = str(part["path"])
            mount = holding(path, systems) or "/"
            row = systems[mount]
            inside = path[len(mount.rstrip("/")) :]
            yield (row.get("source"), row.get("root"), inside), float(part["mib"])
        if holding("/usr", systems) in mounts:
            yield (
                (self.name, "packages"),
                float((self.facts.get("ours") or {}).get("packages_mib") or 0),
            )

    def disk(
        self,
        label: str,
        mounts: Sequence[str],
        systems: Mapping[str, Mapping[str, Any]],
        parts: Sequence[Part],
        kept: Sequence[Mapping[str, Any]],
    ) -> None:
        here = sum(float(part["mib"]) for part in kept)
        if holding("/usr", systems) in mounts:
            here += float((self.facts.get("ours") or {}).get("packages_mib") or 0)
        system = systems[mounts[0]]
        size = float(system["size_mib"])
        reserve = max(self.margins.disk_reserve_mib, size * self.margins.disk_reserve_percent / 100)
        used = size - float(system["available_mib"])
        row = self.sum_up(label, "MiB", size, reserve, used, here, parts)
        self.judge(row, "disk", "disk", "free or add")
        if row.short > 0 and not all(part.get("complete", True) for part in kept):
            self.add(
                "disk_usage",
                WARN,
                f"what the platform keeps on {label} was counted in part only "
                f"({amount(here, 0)} MiB so far)",
                "a complete count",
                "assess again when the disk is less busy",
            )

    def inodes(
        self,
        label: str,
        system: Mapping[str, Any],
        parts: Sequence[Part],
        kept: Sequence[Mapping[str, Any]],
    ) -> None:
        total, left = system.get("inodes"), system.get("inodes_available")
        if total is None or left is None:
            return
        reserve = float(total) * self.margins.inode_reserve_percent / 100
        if parts:
            row = self.sum_up(
                label.replace("disk", "files on", 1),
                "inodes",
                float(total),
                reserve,
                float(total) - float(left),
                sum(float(part.get("entries") or 0) for part in kept),
                parts,
            )
            self.judge(row, "inodes", "disk", "free or add")
        elif float(left) < reserve:
            self.add(
                "inodes",
                WARN,
                f"{label} has {amount(float(left), 0)} of {amount(float(total), 0)} inodes left",
                f"at least {amount(reserve, 0)}",
                "remove small files, or make the file system anew with more inodes",
            )

    def gpus(self) -> None:
        parts = [Part(d.service, d.role, d.gpus) for d in self.demand if d.gpus]
        report = self.facts.get("gpus") or {}
        problem = report.get("problem")
        if problem:
            self.add(
                "gpu_driver",
                FAIL if parts else WARN,
                brief(problem),
                "a working driver for every card",
                "install the driver of the card, then assess again",
            )
        if not parts:
            return
        known = [] if report.get("source") == "pci" else list(report.get("gpus") or [])
        usable = [row for row in known if unsound(row) is None]
        row = self.sum_up("GPU", "GPUs", float(len(usable)), 0.0, 0.0, 0.0, parts)
        self.judge(row, "gpu", "gpu", "add")

    def ports(self) -> None:
        wanted: list[tuple[Demand, PortNeed]] = [
            (demand, port) for demand in self.demand for port in demand.ports
        ]
        listeners = self.facts.get("listeners") or []
        blind = any(
            str(row.get("what", "")).startswith("listeners")
            for row in self.facts.get("unknown") or []
        )
        seen: set[tuple[str, int, str]] = set()
        for demand, need in wanted:
            for listener in listeners:
                if listener.get("ours") or not clashes(
                    need, str(listener["protocol"]), int(listener["port"]), str(listener["address"])
                ):
                    continue
                if (demand.service, need.port, need.protocol) in seen:
                    continue
                seen.add((demand.service, need.port, need.protocol))
                process = listener.get("process")
                unit = listener.get("unit")
                holder = (
                    f"{process} (process {listener.get('pid')}"
                    + (f", {unit})" if unit and unit != process else ")")
                    if process
                    else "a process that could not be identified"
                    + ("; assess with become: true" if blind else "")
                )
                other_port = self.other_port(need, (demand.role,))
                command = listener.get("command")
                if command and command != process and not listener.get("main"):
                    holder += f": {command}"
                self.add(
                    "port",
                    FAIL,
                    f"port {need.port}/{need.protocol} on {listener['address']} "
                    f"is held by {holder}",
                    f"port {need.port} free for {demand.service}",
                    how_to_free(listener) + (f", or {other_port}" if other_port else ""),
                )
        for index, (demand, need) in enumerate(wanted):
            for other, rival in wanted[:index]:
                if (demand.unit and demand.unit == other.unit) or (
                    demand.service == other.service and demand.role == other.role
                ):
                    continue
                if clashes(need, rival.protocol, rival.port, rival.address):
                    other_port = self.other_port(need, (other.role, demand.role))
                    self.add(
                        "port",
                        FAIL,
                        f"port {need.port}/{need.protocol} is asked for by {other.service} and by "
                        f"{demand.service}",
                        "one service a port",
                        "place them on different hosts"
                        + (f", or {other_port}" if other_port else ""),
                    )

    def other_port(self, need: PortNeed, roles: tuple[str, ...]) -> str:
        """What gives a service another port, as far as a variable does."""
        names = self.variables(roles, "port")
        return need.remedy or (f"choose another port by {names}" if names else "")


# Units that carry logins, containers, other people's jobs or the host itself: whoever stops one to
# free a port may lose the host, or everything that runs in it.
NEVER_STOPPED = re.compile(
    r"(ssh|sshd|dropbear|docker|containerd|podman|crio|kubelet|k3s|lxc|lxd|libvirtd|cron|crond|atd|"
    r"user@|user-|session-|init|dbus|systemd-|getty|serial-getty|networkd|networking|NetworkManager|"
    r"networkd-dispatcher|ifup|wpa_supplicant|openvpn|wg-quick|strongswan|tailscaled|cloud-|"
    r"qemu-guest-agent|open-vm-tools|cockpit|teleport|salt-minion|puppet|chef-client|polkit|rsyslog|"
    r"supervisor|pve|snapd)"
)


def how_to_free(listener: Mapping[str, Any]) -> str:
    """What a person can do about a listener on our port, never more than that program's own end.

    A unit is named for stopping only if the listener is its main process: what a login or a job
    started lies in the unit of the login or of the jobs.
    """
    unit, pid = str(listener.get("unit") or ""), listener.get("pid")
    process = str(listener.get("process") or "")
    port = listener.get("port")
    if not pid:
        return f"find it with: ss -lntup 'sport = :{port}'"
    if pid == 1:
        return f"find the socket that systemd holds with: systemctl list-sockets '*:{port}'"
    if process in ("docker-proxy", "rootlessport", "rootlesskit"):
        program = "docker" if process == "docker-proxy" else "podman"
        return f"find its container with: {program} ps --filter publish={port}"
    if listener.get("main") and unit.endswith(".service") and not NEVER_STOPPED.match(unit):
        return f"stop it with: systemctl disable --now {unit}"
    return f"end it where it was started (see it with: ps -o pid,ppid,user,args -p {pid})"


def clashes(need: PortNeed, protocol: str, port: int, address: str) -> bool:
    """Whether two sockets cannot both listen."""
    if need.protocol != protocol or need.port != port:
        return False
    mine = "127.0.0.1" if need.address == "localhost" else need.address
    return mine == address or mine in EVERYWHERE or address in EVERYWHERE


def sums(
    name: str, facts: Mapping[str, Any], demand: Sequence[Demand], margins: Margins
) -> tuple[Row, ...]:
    """The rows of one host, not judged. A resource that could not be measured has none."""
    work = _Host(name, facts, demand, margins, {})
    work.cpu()
    work.memory()
    work.disks()
    return tuple(work.rows)


def pooled_mounts(name: str, facts: Mapping[str, Any], stores: Sequence[Store]) -> dict[str, Store]:
    """The mounts of a host whose room is that of a storage, and not less by a limit of their own.

    A limit of its own is a quota of a data set: it is summed up besides.
    """
    systems = {str(row["mount"]): row for row in facts.get("filesystems") or []}
    return {
        mount: store
        for store in stores
        for mount in store.mounts(name)
        if mount in systems
        and float(systems[mount]["available_mib"]) >= store.available_mib * (1 - NEAR)
    }


def store_rows(
    stores: Sequence[Store],
    supply: Mapping[str, Mapping[str, Any]],
    demand: Mapping[str, Sequence[Demand]],
    margins: Mapping[str, Margins] | Margins,
) -> dict[str, tuple[Store, Row, tuple[str, ...]]]:
    """One row for each storage that is asked for something, by its name, and the hosts that ask.

    What is in use is counted once, and what all hosts ask for adds up.
    """
    found = {}
    for store in stores:
        parts: list[Part] = []
        asking: list[str] = []
        kept: dict[object, float] = {}
        for name in store.hosts:
            facts = supply[name]
            own = margins if isinstance(margins, Margins) else margins[name]
            work = _Host(name, facts, demand.get(name) or (), own, {})
            systems = {str(row["mount"]): row for row in facts.get("filesystems") or []}
            space, _inodes = work.asked_of(systems)
            mounts = store.mounts(name)
            devices = {str(systems[mount].get("device") or mount) for mount in mounts}
            here = [part for device in sorted(devices) for part in space.get(device, ())]
            asking += [name] * bool(here)
            parts += [
                replace(part, service=f"{part.service} on {name}") if len(store.hosts) > 1 else part
                for part in here
            ]
            for key, mib in work.kept_in(mounts, systems):
                kept[key] = max(kept.get(key, 0.0), mib)
        if not parts:
            continue
        first = store.hosts[0]
        own = margins if isinstance(margins, Margins) else margins[first]
        reserve = max(own.disk_reserve_mib, store.size_mib * own.disk_reserve_percent / 100)
        among = first if len(store.hosts) == 1 else ", ".join(store.hosts[:3])
        if len(store.hosts) > 3:
            among += f" and {len(store.hosts) - 3} more"
        row = _Host(among, {}, (), own, {}).sum_up(
            store.name,
            "MiB",
            store.size_mib,
            reserve,
            store.size_mib - store.available_mib,
            sum(kept.values()),
            parts,
        )
        found[store.name] = (store, row, tuple(asking))
    return found


def _judge_stores(
    found: Mapping[str, tuple[Store, Row, tuple[str, ...]]],
    margins: Mapping[str, Margins] | Margins,
    hints: Hints,
) -> tuple[list[Finding], set[str]]:
    """Findings of the storages, and the hosts that ask more of one than it has."""
    findings: list[Finding] = []
    short: set[str] = set()
    for store, row, asking in found.values():
        first = store.hosts[0]
        own = margins if isinstance(margins, Margins) else margins[first]
        work = _Host(first if len(store.hosts) == 1 else SITE, {}, (), own, hints)
        work.judge(row, "disk", "disk", "free or add")
        if row.short > 0:
            short.update(asking)
        if len(store.members) > 1:
            work.add(
                "one_storage",
                PASS,
                f"{store.name} is one storage, counted once: {brief(store.seen_as, 200)}",
            )
        findings += work.findings
    return findings, short


def plan(
    supply: Mapping[str, Mapping[str, Any]],
    demand: Mapping[str, Sequence[Demand]],
    margins: Mapping[str, Margins] | Margins,
    now: float,
    hints: Hints | None = None,
) -> Plan:
    """Judge every host that has facts or is asked for something."""
    hosts: dict[str, str] = {}
    rows: list[Row] = []
    findings: list[Finding] = []
    usable = {
        name: facts
        for name, facts in supply.items()
        if check_facts(name, facts, margins if isinstance(margins, Margins) else margins[name], now)
        is None
    }
    stores = stores_of(usable)
    on_host = by_host(stores)
    shared = store_rows(stores, usable, demand, margins)
    told, too_much = _judge_stores(shared, margins, hints or {})
    for name in sorted(set(supply) | set(demand)):
        needs = demand.get(name) or ()
        own = margins if isinstance(margins, Margins) else margins[name]
        facts = supply.get(name)
        if facts is None:
            findings.append(
                Finding(
                    "capacity.no_facts",
                    name,
                    ERROR,
                    "no facts were measured",
                    "facts of this host",
                    "measure it with: ansible-playbook playbooks/assess.yml",
                )
            )
            hosts[name] = UNDECIDED
            continue
        refused = check_facts(name, facts, own, now)
        if refused is not None:
            findings.append(refused)
            hosts[name] = UNDECIDED
            continue
        pooled = frozenset(pooled_mounts(name, facts, on_host.get(name, ())))
        work = _Host(name, facts, needs, own, hints or {}, pooled)
        work.cpu()
        work.memory()
        work.disks()
        work.gpus()
        work.ports()
        severities = {finding.severity for finding in work.findings}
        hosts[name] = (
            INFEASIBLE
            if FAIL in severities or name in too_much
            else UNDECIDED
            if ERROR in severities
            else FEASIBLE
        )
        if hosts[name] == FEASIBLE:
            count = len(needs)
            work.add("fits", PASS, f"{count} service{'' if count == 1 else 's'} fit on this host")
        rows.extend(work.rows)
        findings.extend(work.findings)
    rows += [row for _store, row, _asking in shared.values()]
    findings += told
    verdicts = set(hosts.values())
    verdict = (
        INFEASIBLE if INFEASIBLE in verdicts else UNDECIDED if UNDECIDED in verdicts else FEASIBLE
    )
    return Plan(verdict, hosts, tuple(rows), tuple(findings))

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""up, down, restart: bring the containers of one topology to the state asked for."""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import socket
import tarfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from . import apt_cache, image
from .company import CompanyDatabase
from .errors import LabError, OthersRunError
from .machine import CACHE, Machine, say
from .podman import LOST, PROJECT_LABEL, Podman
from .state import BYTECODE_KEPT, FOR_TESTS, State
from .topology import DATABASES, GPU, SYSTEMS, Host, Topology

OWNER_LABEL = "mlops.lab.topology"
SPEC_LABEL = "mlops.lab.spec"
BOOT_SECONDS = 180
# What makes a host this host, and not one like it.
FORGET = (
    "rm -rf /etc/ssh/ssh_host_* /root/.ansible /root/.ssh /var/log/journal/* /var/tmp/* /tmp/*; "
    ": >/etc/machine-id"
)
# What systemd's sandboxing, Ceph and ordinary administration need; far less than --privileged,
# which would show the disks of this machine.
CAPABILITIES = (
    "AUDIT_WRITE",
    "DAC_READ_SEARCH",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MKNOD",
    "NET_ADMIN",
    "NET_RAW",
    "SYS_ADMIN",
    "SYS_NICE",
    "SYS_PTRACE",
)
T = TypeVar("T")


@dataclass(frozen=True)
class Standing:
    """How a container stands now."""

    state: str
    owner: str
    spec: str

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def complete(self) -> bool:
        """A container only gets started once everything has been put into it."""
        return self.state in {"running", "exited", "stopped"}


def spec_of(topology: Topology, host: Host) -> str:
    parts = [str(topology.network), host.name, host.ip, host.kind, CAPABILITIES]
    if host.system != SYSTEMS[0]:
        parts.append(host.system)
    if host.gpus:
        parts.append([path.name for path in host.gpus])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def mac_of(ip: str) -> str:
    """The same after every restart: neighbours remember the old one for half a minute."""
    return "02:6d:" + ":".join(f"{int(part):02x}" for part in ip.split("."))


class Builder:
    def __init__(self, topology: Topology, machine: Machine) -> None:
        self.topology = topology
        self.machine = machine
        self.podman = Podman(machine)
        self.state = State(topology, machine)

    # ------------------------------------------------------------------ verbs

    def up(self, *, take_over: bool = False) -> None:
        started = time.monotonic()
        self.machine.install_missing()
        self.podman.make_room()
        self.podman.settle(self.topology.prefix)
        if self._refuse_strangers(take_over=take_over):
            self.down(take_over=True)
        apt_cache.harvest(self.machine)
        self.state.prepare()
        standing = self.standing()
        self._refuse_changed(standing)
        if lost := [h for h in self.topology.hosts if self._lost(standing.get(h.name))]:
            say(f"Somebody killed {_names(lost)}; making new ones (what those held is lost)")
        new = [h for h in self.topology.hosts if not self._complete(standing.get(h.name))]
        idle = [h for h in self.topology.hosts if self._stopped(standing.get(h.name))]
        images = self._images(new)
        network = self._ensure_network()
        for text, hosts, action in (
            (
                "Created",
                new,
                lambda host: self._create(host, images[host], network),
            ),
            ("Started", idle, self._start),
        ):
            if hosts:
                begun = time.monotonic()
                self._each(hosts, action)
                say(f"{text} {_names(hosts)}, {time.monotonic() - begun:.1f} s")
        begun = time.monotonic()
        self._each(self.topology.hosts, self._wait)
        count = len(self.topology.hosts)
        say(f"All {count} hosts answer over SSH, {time.monotonic() - begun:.1f} s")
        self._prepare_company()
        say(f"Hosts of {self.topology.project!r} are up, {time.monotonic() - started:.1f} s in all")

    def down(self, *, take_over: bool = False) -> None:
        """Leave nothing running, mounted or networked; keep images, downloads and keys."""
        project = self.topology.project
        if not self.machine.has("podman"):
            say(f"No hosts of {project!r} here: podman is not installed")
            return
        if not self.podman.in_use:
            # Where a mount namespace is needed and there is none, nothing of ours runs. What a
            # reboot of the machine left on disk still has to go.
            say(f"No hosts of {project!r} are running; looking for what they left")
        self._refuse_strangers(take_over=take_over)
        self.podman.settle(self.topology.prefix)
        apt_cache.harvest(self.machine)
        names = [c["Names"][0] for c in self.podman.inspect(project)]
        self.podman.remove(*names, image.BUILDER)
        self._remove_cgroups()
        for network in self._networks():
            self.podman("network", "rm", "--force", network)
        self._remove_stray_bridge()
        apt_cache.drop(self.machine, self.topology)
        self.podman.release()
        say(f"Removed {len(names)} hosts of {project!r} and their network")

    def restart(self, hosts: Iterable[Host], *, power_cut: bool = False) -> None:
        def reboot(host: Host) -> None:
            name = self.topology.container(host)
            if power_cut:
                self.podman("kill", "--signal", "KILL", name)
                self.podman("wait", name)
            else:
                self.podman("stop", "--time", "90", name)
            self.podman("start", name)
            self._wait(host)

        hosts = list(hosts)
        standing = self.standing()
        if lost := [h for h in hosts if self._lost(standing.get(h.name))]:
            raise LabError(
                f"Somebody killed {_names(lost)} together with podman's monitor; run 'up' to get "
                "new ones (what those held is lost)."
            )
        begun = time.monotonic()
        self._each(hosts, reboot)
        say(f"Restarted {_names(hosts)}, {time.monotonic() - begun:.1f} s")

    def keep(self, host: Host) -> None:
        """Make an image of a prepared host; the host is of no use afterwards and goes."""
        if not host.prepared:
            raise LabError(
                f"{host.name} cannot be kept: {self.topology.path.name} does not say as what "
                "(prepared = NAME)."
            )
        files = self.topology.prepared[host.prepared]
        name = image.prepared_name(self.machine, host, files)
        container = self.topology.container(host)
        self.machine.run([*self.state.ssh_command(host), FORGET])
        self.podman("stop", "--time", "90", container)
        image.keep(self.podman, container, name)
        self.podman.remove(container)

    def _images(self, hosts: Iterable[Host]) -> dict[Host, str]:
        """The image of each host: that of prepared ones where there is one, else a fresh Debian."""
        found: dict[Host, str] = {}
        by_name: dict[tuple[str, str], str | None] = {}
        for host in hosts:
            if host.prepared and (host.system, host.prepared) not in by_name:
                files = self.topology.prepared[host.prepared]
                kept = image.usable_prepared(self.machine, self.podman, host, files)
                by_name[host.system, host.prepared] = kept
            if name := by_name.get((host.system, host.prepared)):
                found[host] = name
        others = [host for host in hosts if host not in found]
        made = image.ensure(self.machine, self.podman, others)
        return found | {host: made[host.system, host.kind] for host in others}

    def standing(self) -> dict[str, Standing]:
        by_container = {self.topology.container(h): h.name for h in self.topology.hosts}
        found = {}
        for container in self.podman.inspect(self.topology.project):
            labels: dict[str, Any] = container.get("Labels") or {}
            name = by_container.get(container["Names"][0], container["Names"][0])
            found[name] = Standing(
                container["State"], labels.get(OWNER_LABEL, ""), labels.get(SPEC_LABEL, "")
            )
        return found

    @cached_property
    def company(self) -> dict[str, CompanyDatabase]:
        """The company's own servers by their kind."""
        return {
            host.kind: CompanyDatabase(self.topology, host, self.state, self.machine)
            for host in self.topology.hosts
            if host.kind in DATABASES
        }

    # ------------------------------------------------------------------ steps

    def _create(self, host: Host, image_name: str, network: str) -> None:
        name = self.topology.container(host)
        archives = apt_cache.directory(self.topology, host)
        apt_cache.fill(self.machine, archives)
        self.podman.remove(name)
        self.podman(
            "create",
            *("--name", name, "--hostname", host.name),
            *("--network", network, "--ip", host.ip, "--no-hosts"),
            *("--mac-address", mac_of(host.ip)),
            *("--label", f"{PROJECT_LABEL}={self.topology.project}"),
            *("--label", f"{OWNER_LABEL}={self.topology.path}"),
            *("--label", f"{SPEC_LABEL}={spec_of(self.topology, host)}"),
            *("--annotation", "mlops.lab=host"),
            *("--systemd", "always", "--runtime", "crun", "--pids-limit", "0"),
            *("--cap-add", ",".join(CAPABILITIES), "--security-opt", "label=disable"),
            # The usual filter forbids io_pgetevents, by which Ceph writes to its disks. What is
            # dangerous besides needs capabilities that these hosts do not have.
            *("--security-opt", "seccomp=unconfined"),
            *("--security-opt", "mask=/sys/block:/sys/class/block"),
            *self.machine.limits(),
            *self._devices(host),
            *("--volume", f"{archives}:/var/cache/apt/archives"),
            *self._bytecode(),
            image_name,
            "/sbin/init",
        )
        self.podman("cp", "-", f"{name}:/", data=tar_of(self.state.files_for(host)))
        self._start(host)

    def _devices(self, host: Host) -> tuple[str, ...]:
        """Where device filters are loaded, they let the numbers of NVIDIA's cards through."""
        filtered = host.kind == GPU and self.machine.can_filter_devices
        return ("--device-cgroup-rule", "c 195:* rwm") if filtered else ()

    def _bytecode(self) -> list[str]:
        """What hosts of tests compile, they keep for one another."""
        if not os.environ.get(FOR_TESTS):
            return []
        place = CACHE / "bytecode"
        # What the sources of today no longer ask for goes after some days; others may be at it too.
        script = 'mkdir -p -m 700 "$1"; find "$1" -type f -mtime +3 -delete 2>/dev/null || true'
        self.machine.run(["sh", "-c", script, "bytecode", str(place)], root=True)
        return ["--volume", f"{place}:{BYTECODE_KEPT}"]

    def _start(self, host: Host) -> None:
        started = self.podman("start", self.topology.container(host), check=False)
        if "already allocated" in started.err:
            raise LabError(
                f"A killed podman still holds the address {host.ip} of {host.name}; run 'down', "
                "then 'up' (what the hosts hold is lost)."
            )
        if started.code != 0:
            raise LabError(f"Cannot start {host.name}: {started.err.strip()}")

    def _wait(self, host: Host) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while not _speaks_ssh(host.ip):
            if time.monotonic() > deadline:
                raise LabError(
                    f"{host.name} ({host.ip}) does not answer on port 22 after {BOOT_SECONDS} s; "
                    f"look with: lab.py podman logs {self.topology.container(host)}"
                )
            time.sleep(0.2)
        booted = [*self.state.ssh_command(host), "systemctl is-system-running --wait"]
        answer = self.machine.run(booted, check=False)
        if answer.out.strip() not in {"running", "degraded"}:
            raise LabError(f"{host.name} did not boot: {answer.out.strip()} {answer.err.strip()}")

    def _prepare_company(self) -> None:
        for kind, company in self.company.items():
            begun = time.monotonic()
            if company.prepare():
                name = company.host.name
                say(f"Prepared the company's {kind} on {name}, {time.monotonic() - begun:.1f} s")

    def _networks(self) -> list[str]:
        label = f"label={PROJECT_LABEL}={self.topology.project}"
        return self.podman("network", "ls", "--quiet", "--filter", label).out.split()

    def _ensure_network(self) -> str:
        for existing in self._networks():
            return existing
        # A name used once only: podman keeps addresses by it, even those that a kill has leaked.
        name = f"{self.topology.prefix}{secrets.token_hex(3)}"
        label = f"{PROJECT_LABEL}={self.topology.project}"
        subnet = str(self.topology.network)
        create = ["network", "create", "--disable-dns", "--label", label, "--subnet", subnet, name]
        made = self.podman(*create, check=False)
        if "already used" in made.err and self._remove_stray_bridge():
            made = self.podman(*create, check=False)
        if "already used" in made.err:
            raise LabError(
                f"The network {subnet} of project {self.topology.project!r} is in use on this "
                f"machine (see 'ip -4 addr'); free it, or choose another in {self.topology.path}."
            )
        if made.code != 0:
            raise LabError(f"Cannot make the network {subnet}: {made.err.strip()}")
        return name

    def _remove_cgroups(self) -> None:
        """What Slurm makes in cgroups of version 1 is the machine's own and outlives its host."""
        if self.machine.pure_cgroup2:
            return
        for host in self.topology.hosts:
            script = (
                f"find /sys/fs/cgroup/*/slurm_{host.name} -depth -type d -exec rmdir {{}} + "
                "2>/dev/null"
            )
            self.machine.run(["sh", "-c", script], root=True, check=False)

    def _remove_stray_bridge(self) -> bool:
        """A bridge of podman's with our very address, left when a kill took our network."""
        answer = self.machine.run(["ip", "-json", "-4", "addr"])
        for link in json.loads(answer.out):
            held = {f"{item['local']}/{item['prefixlen']}" for item in link["addr_info"]}
            ours = f"{self.topology.gateway}/{self.topology.network.prefixlen}"
            if held == {ours} and link["ifname"].startswith("podman"):
                self.machine.run(["ip", "link", "delete", link["ifname"]], root=True)
                return True
        return False

    def _refuse_strangers(self, *, take_over: bool) -> bool:
        """Whether hosts of another checkout are in the way; those that run there are not taken."""
        mine = str(self.topology.path)
        others = [s for s in self.standing().values() if s.owner != mine]
        if not others:
            return False
        owners = {s.owner for s in others}
        alive = sorted({s.owner for s in others if s.running and Path(s.owner).exists()})
        if alive and not take_over:
            beside_ours = len(others) < len(self.standing())
            raise OthersRunError(self.topology.project, alive, mine, beside_ours=beside_ours)
        gone = "" if alive else ", where none of them runs"
        names = ", ".join(sorted(owners))
        say(f"Taking over project {self.topology.project!r} from {names}{gone}")
        return True

    def _refuse_changed(self, standing: dict[str, Standing]) -> None:
        wanted = {h.name: spec_of(self.topology, h) for h in self.topology.hosts}
        changed = sorted(n for n, s in standing.items() if s.complete and wanted.get(n) != s.spec)
        if changed:
            raise LabError(
                f"{', '.join(changed)} were made for another topology than "
                f"{self.topology.path.name} now says; run 'down' first (what they hold is lost)."
            )

    @staticmethod
    def _complete(standing: Standing | None) -> bool:
        return standing is not None and standing.complete

    @staticmethod
    def _stopped(standing: Standing | None) -> bool:
        return standing is not None and standing.complete and not standing.running

    @staticmethod
    def _lost(standing: Standing | None) -> bool:
        return standing is not None and standing.state == LOST

    @staticmethod
    def _each(hosts: Iterable[Host], action: Callable[[Host], T]) -> list[T]:
        with ThreadPoolExecutor(max_workers=4) as pool:
            return list(pool.map(action, hosts))


def tar_of(files: dict[str, tuple[str, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, (text, mode) in files.items():
            if path.startswith("root/"):
                directory = tarfile.TarInfo(str(path).rsplit("/", 1)[0])
                directory.type, directory.mode = tarfile.DIRTYPE, 0o700
                tar.addfile(directory)
            data = text.encode()
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(data), mode
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _speaks_ssh(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _names(hosts: Iterable[Host]) -> str:
    return ", ".join(host.name for host in hosts)

# Copyright: (c) 2026, The mlops.onprem developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a host. Looks only; starts no process unless the GPU driver can be asked in no other way.

Everything below ``root`` can be a recorded tree, which is how it is tested.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from . import nvml, procfs
from .gpu import GpuError, GpuReport, PciDevice, from_device_tree, from_pci, parse_nvidia_smi

SCHEMA = 1
SHORT_LIVED_SECONDS = 60.0
# What the platform keeps on a host. The ledger adds to it.
OUR_DIRECTORIES = ("/var/lib/mlops", "/opt/mlops", "/etc/mlops")
LEDGER = "/var/lib/mlops/ledger.json"


class Host:
    """A host's files. Notes what could not be read, and why."""

    def __init__(self, root: str = "/") -> None:
        self.root = root.rstrip("/")
        self.unknown: list[dict[str, str]] = []

    def path(self, path: str) -> str:
        """Where a path of the host really is."""
        return self.root + path

    def note(self, what: str, reason: object) -> None:
        """Something is unknown."""
        said = reason.strerror if isinstance(reason, OSError) and reason.strerror else reason
        self.unknown.append({"what": what, "reason": str(said)})

    def read(self, path: str, what: str = "") -> str:
        """The text of a file; empty if it cannot be read, which is noted if `what` is given."""
        try:
            with open(self.path(path), encoding="utf-8", errors="replace") as stream:
                return stream.read()
        except OSError as error:
            if what:
                self.note(what, f"{path}: {error.strerror}")
            return ""

    def line(self, path: str) -> str | None:
        """The one line of a file, None if there is none."""
        return self.read(path).strip() or None

    def number(self, path: str) -> int | None:
        """The number in a file; None if it holds none. The kernel writes -1 for unknown."""
        said = self.line(path)
        return int(said) if said is not None and said.isdecimal() else None

    def names(self, path: str) -> list[str]:
        """What is in a directory, nothing if it is not there."""
        try:
            return sorted(os.listdir(self.path(path)))
        except OSError:
            return []

    def link(self, path: str) -> str | None:
        """The last part of where a link leads."""
        try:
            return os.path.basename(os.readlink(self.path(path)))
        except OSError:
            return None

    def exists(self, path: str) -> bool:
        return os.path.lexists(self.path(path))


def cpu(host: Host) -> dict[str, Any]:
    """Processors, what of them may be used, and how busy they are."""
    text = host.read("/proc/cpuinfo", "cpu")
    found = procfs.parse_cpuinfo(text)
    if not found.sockets:
        host.note("cpu.sockets", "/proc/cpuinfo does not tell on this architecture")
    nodes = []
    for name in host.names("/sys/devices/system/node"):
        if name.startswith("node") and name[4:].isdecimal():
            memory = procfs.parse_meminfo(
                host.read(f"/sys/devices/system/node/{name}/meminfo").replace(
                    f"Node {name[4:]} ", ""
                )
            )
            nodes.append(
                {
                    "id": int(name[4:]),
                    "cpus": host.line(f"/sys/devices/system/node/{name}/cpulist"),
                    "memory_mib": memory.total_mib,
                }
            )
    affinity: int | None = None
    try:
        affinity = len(os.sched_getaffinity(0))
    except (AttributeError, OSError) as error:
        host.note("cpu.affinity_threads", error)
    quota = procfs.parse_cpu_max(host.read("/sys/fs/cgroup/cpu.max"))
    limits = [value for value in (found.threads or None, affinity, quota) if value]
    load = host.read("/proc/loadavg").split()
    return {
        "model": found.model,
        "sockets": found.sockets,
        "cores": found.cores,
        "threads": found.threads or None,
        "flags": list(found.flags),
        "numa_nodes": nodes,
        "affinity_threads": affinity,
        "cgroup_cores": quota,
        "usable_cores": min(limits) if limits else None,
        "load": [float(word) for word in load[:3]] if len(load) >= 3 else None,
    }


def memory(host: Host) -> dict[str, Any]:
    """Memory, less where a control group limits the whole host."""
    found = procfs.parse_meminfo(host.read("/proc/meminfo", "memory"))
    if found.available_mib is None:
        host.note("memory.available_mib", "this kernel does not estimate MemAvailable")
    limit = procfs.parse_limit_mib(host.read("/sys/fs/cgroup/memory.max"))
    used = procfs.parse_limit_mib(host.read("/sys/fs/cgroup/memory.current"))
    result = asdict(found)
    result["cgroup_limit_mib"] = limit
    if limit is not None and found.total_mib is not None and limit < found.total_mib:
        result["total_mib"] = limit
        if found.available_mib is not None and used is not None:
            result["available_mib"] = min(found.available_mib, max(0.0, limit - used))
    return result


def filesystems(host: Host) -> list[dict[str, Any]]:
    """Mounts that can hold data, with what is left for us in bytes and in files."""
    found = []
    for mount in procfs.parse_mountinfo(host.read("/proc/self/mountinfo", "filesystems")):
        try:
            room = os.statvfs(host.path(mount.path))
        except OSError as error:
            host.note(f"filesystems {mount.path}", error)
            continue
        if room.f_blocks == 0:
            continue
        has_inodes = room.f_files > 0
        found.append(
            {
                "mount": mount.path,
                "source": mount.source,
                "type": mount.type,
                "device": mount.device,
                "read_only": mount.read_only,
                "size_mib": round(room.f_blocks * room.f_frsize / 2**20, 1),
                "available_mib": round(room.f_bavail * room.f_frsize / 2**20, 1),
                "inodes": room.f_files if has_inodes else None,
                "inodes_available": room.f_favail if has_inodes else None,
                "holds_root": mount.path == "/",
            }
        )
    return found


def disks(host: Host) -> list[dict[str, Any]]:
    """Block devices, what they are made of and what they carry."""
    mounted: dict[str, list[str]] = {}
    for mount in procfs.parse_mountinfo(host.read("/proc/self/mountinfo")):
        mounted.setdefault(mount.device, []).append(mount.path)
    found = []
    for name in host.names("/sys/class/block"):
        base = f"/sys/class/block/{name}"
        sectors = host.number(f"{base}/size")
        if name.startswith(("loop", "ram", "zram", "fd", "sr")) or not sectors:
            continue
        kind = "disk"
        if host.exists(f"{base}/partition"):
            kind = "partition"
        elif host.exists(f"{base}/md"):
            kind = "raid"
        elif host.exists(f"{base}/dm"):
            label = host.line(f"{base}/dm/uuid") or ""
            kind = {"LVM": "lvm", "CRYPT": "crypt", "mpath": "multipath"}.get(
                label.partition("-")[0], "mapped"
            )
        device = host.line(f"{base}/dev") or ""
        rotational = host.line(f"{base}/queue/rotational")
        found.append(
            {
                "name": name,
                "kind": kind,
                "device": device,
                "size_mib": round(sectors * 512 / 2**20, 1),
                "rotational": None if rotational is None else rotational == "1",
                "model": host.line(f"{base}/device/model"),
                "members": host.names(f"{base}/slaves"),
                "carries": host.names(f"{base}/holders"),
                "raid_level": host.line(f"{base}/md/level") if kind == "raid" else None,
                "raid_degraded": host.number(f"{base}/md/degraded") if kind == "raid" else None,
                "mounts": mounted.get(device, []),
                "holds_root": "/" in mounted.get(device, []),
            }
        )
    return found


def network(host: Host, addresses: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Interfaces. A speed is known only of real, connected ones."""
    found = []
    for name in host.names("/sys/class/net"):
        base = f"/sys/class/net/{name}"
        if name == "lo" or not host.exists(f"{base}/mtu"):
            continue
        bond = host.read(f"/proc/net/bonding/{name}")
        found.append(
            {
                "name": name,
                "state": host.line(f"{base}/operstate"),
                "mac": host.line(f"{base}/address"),
                "mtu": host.number(f"{base}/mtu"),
                "speed_mbit": host.number(f"{base}/speed") or None,
                "physical": host.exists(f"{base}/device"),
                "bond": procfs.parse_bond(bond) if bond else None,
                "addresses": addresses.get(name, []),
            }
        )
    return found


def interface_addresses(host: Host) -> dict[str, list[str]]:
    """IPv6 addresses from /proc; IPv4 ones by asking the kernel for each interface."""
    found: dict[str, list[str]] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for name in host.names("/sys/class/net"):
            try:
                answer = fcntl.ioctl(
                    probe.fileno(), 0x8915, struct.pack("256s", name.encode()[:15])
                )
            except OSError:
                continue
            found.setdefault(name, []).append(socket.inet_ntoa(answer[20:24]))
    for line in host.read("/proc/net/if_inet6").splitlines():
        words = line.split()
        if len(words) == 6 and words[3] == "00":
            raw = bytes.fromhex(words[0])
            found.setdefault(words[5], []).append(socket.inet_ntop(socket.AF_INET6, raw))
    return found


def gpus(host: Host, ask_driver: bool) -> GpuReport:
    """Ask the driver's library, else its program, else look at the bus."""
    reasons = []
    if ask_driver:
        try:
            return nvml.read_nvml(nvml.open_library())
        except OSError:
            pass
        except nvml.NvmlError as error:
            reasons.append(str(error))
        except AttributeError as error:
            reasons.append(f"NVML is too old: {error}")
        smi = next(
            (p for p in ("/usr/bin/nvidia-smi", "/usr/local/bin/nvidia-smi") if host.exists(p)),
            None,
        )
        if smi:
            try:
                done = subprocess.run(
                    [smi, "-q", "-x"], capture_output=True, timeout=20, check=False
                )
                if done.returncode == 0:
                    return parse_nvidia_smi(done.stdout.decode("utf-8", "replace"))
                said = (done.stdout or done.stderr).decode("utf-8", "replace").strip()
                reasons.append(f"nvidia-smi ended with {done.returncode}: {said[:200]}")
            except (OSError, subprocess.TimeoutExpired, GpuError) as error:
                reasons.append(str(error))
    tree = from_device_tree(
        host.read("/proc/device-tree/model"),
        host.read("/proc/device-tree/compatible"),
        procfs.parse_meminfo(host.read("/proc/meminfo")).total_mib,
    )
    if tree is not None:
        return tree
    devices = []
    for address in host.names("/sys/bus/pci/devices"):
        base = f"/sys/bus/pci/devices/{address}"
        devices.append(
            PciDevice(
                address=address,
                vendor=host.line(f"{base}/vendor") or "",
                device=host.line(f"{base}/device") or "",
                cls=host.line(f"{base}/class") or "",
                driver=host.link(f"{base}/driver"),
            )
        )
    report = from_pci(devices)
    for reason in reasons:
        host.note("gpus", reason)
    return report


def processes(host: Host, ticks: int, uptime: float) -> dict[str, Any]:
    """Who runs: memory and processors by unit, ours apart, and who owns which socket.

    Processor use is the average over a process's life; those younger than a minute only count.
    """
    units: dict[tuple[bool, str], dict[str, float]] = {}
    owners: dict[int, dict[str, Any]] = {}
    young = unread = hidden = 0
    for pid in (name for name in host.names("/proc") if name.isdecimal()):
        base = f"/proc/{pid}"
        stat = procfs.parse_process_stat(host.read(f"{base}/stat"))
        if stat is None or stat.parent == 2 or pid == "2":
            continue  # gone meanwhile, or the kernel's own thread
        cgroup = procfs.parse_cgroup(host.read(f"{base}/cgroup"))
        ours, unit = procfs.is_ours(cgroup), procfs.unit_of(cgroup) or stat.name
        row = units.setdefault((ours, unit), {"memory_mib": 0.0, "cpu_cores": 0.0, "processes": 0})
        row["processes"] += 1
        own = procfs.parse_own_memory_kib(host.read(f"{base}/smaps_rollup")) if ours else None
        if own is None:
            own = procfs.parse_own_memory_kib(host.read(f"{base}/status"))
        if own is None:
            unread += 1
        else:
            row["memory_mib"] += own / 1024
        age = uptime - stat.started_ticks / ticks
        if age < SHORT_LIVED_SECONDS:
            young += 1
        else:
            row["cpu_cores"] += stat.busy_ticks / ticks / age
        try:
            handles = os.listdir(host.path(f"{base}/fd"))
        except OSError:
            hidden += 1
            continue
        for handle in handles:
            target = host.link(f"{base}/fd/{handle}")
            if target and target.startswith("socket:["):
                owners.setdefault(
                    int(target[8:-1]),
                    {"pid": int(pid), "process": stat.name, "unit": unit, "ours": ours},
                )
    if unread:
        host.note("services", f"the memory of {unread} processes could not be read")
    if hidden:
        host.note(
            "listeners", f"the open files of {hidden} processes could not be read; run as root"
        )

    def rows(ours: bool) -> list[dict[str, Any]]:
        found = [
            {
                "unit": unit,
                "memory_mib": round(row["memory_mib"], 1),
                "cpu_cores": round(row["cpu_cores"], 3),
                "processes": int(row["processes"]),
            }
            for (owned, unit), row in units.items()
            if owned is ours
        ]
        return sorted(found, key=lambda row: (-row["memory_mib"], row["unit"]))

    return {"foreign": rows(False), "ours": rows(True), "young_processes": young, "owners": owners}


def listeners(host: Host, owners: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """Ports somebody listens on. An owner that cannot be seen is unknown, not absent."""
    found = []
    for name in ("tcp", "tcp6", "udp", "udp6"):
        text = host.read(f"/proc/net/{name}")
        if not text and name in ("tcp", "udp"):
            host.note(f"listeners {name}", f"/proc/net/{name} cannot be read")
        for entry in procfs.parse_sockets(text, name):
            owner = owners.get(entry.inode) or {
                "pid": None,
                "process": None,
                "unit": None,
                "ours": False,
            }
            found.append(
                {"protocol": entry.protocol, "address": entry.address, "port": entry.port, **owner}
            )
    return sorted(found, key=lambda row: (row["port"], row["protocol"], row["address"]))


def usage(path: str, deadline: float, clock: Callable[[], float]) -> tuple[float, int, bool]:
    """Bytes on disk and entries below a path, on its own file system, and whether all was seen."""
    total, entries, complete = 0, 0, True
    try:
        device = os.lstat(path).st_dev
    except OSError:
        return 0.0, 0, True
    waiting = [path]
    while waiting:
        if clock() > deadline:
            return total / 2**20, entries, False
        here = waiting.pop()
        try:
            with os.scandir(here) as listing:
                for entry in listing:
                    status = entry.stat(follow_symlinks=False)
                    if status.st_dev != device:
                        continue
                    total += status.st_blocks * 512
                    entries += 1
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            complete = False
    return total / 2**20, entries, complete


def ours(
    host: Host, deadline: float, clock: Callable[[], float], sizes: dict[str, float]
) -> dict[str, Any]:
    """What the platform already keeps on this host: it is not needed a second time."""
    things: list[dict[str, Any]] = []
    text = host.read(LEDGER)
    if text:
        try:
            things = list(json.loads(text).get("things", []))
        except (ValueError, AttributeError):
            host.note("ours", f"{LEDGER} is damaged")
    wanted = [path for path in OUR_DIRECTORIES if host.exists(path)]
    for thing in things:
        name = str(thing.get("name", ""))
        if thing.get("kind") in ("directory", "trace") and not any(
            name == path or name.startswith(path + "/") for path in wanted
        ):
            # A directory that packages may share is ours only where the ledger says so.
            wanted.append(name)
    outer = [
        path
        for path in sorted(set(wanted))
        if not any(path.startswith(other.rstrip("/") + "/") for other in wanted)
    ]
    directories = []
    for path in outer:
        children = (
            [f"{path}/{name}" for name in host.names(path)] if path in OUR_DIRECTORIES else []
        )
        for part in children or [path]:
            mib, entries, complete = usage(host.path(part), deadline, clock)
            directories.append(
                {"path": part, "mib": round(mib, 1), "entries": entries, "complete": complete}
            )
    packages = sorted(str(thing.get("name")) for thing in things if thing.get("kind") == "package")
    return {
        "installed": bool(things),
        "directories": directories,
        "packages": len(packages),
        "packages_mib": round(sum(sizes.get(name.partition(":")[0], 0.0) for name in packages), 1),
    }


def packages(host: Host) -> tuple[dict[str, Any], dict[str, float]]:
    """The package manager's state: whether an installation can begin."""
    text = host.read("/var/lib/dpkg/status")
    if not text:
        host.note("packages", "there is no /var/lib/dpkg/status; this is no Debian")
        return {"manager": None, "broken": None, "locked": None, "lists": None}, {}
    state = procfs.parse_dpkg_status(text)
    lists = [
        name
        for name in host.names("/var/lib/apt/lists")
        if name.endswith(("_Packages", "_Packages.lz4"))
    ]
    return {
        "manager": "apt",
        "broken": list(state.broken),
        "locked": _dpkg_locked(host),
        "lists": len(lists),
        "interrupted": any(name.isdecimal() for name in host.names("/var/lib/dpkg/updates")),
        # Packages of ours may be among the broken ones; the next run finishes them.
        "ours": "ledger.json" in host.names("/var/lib/mlops"),
    }, dict(state.sizes_mib)


def _dpkg_locked(host: Host) -> bool | None:
    """Whether another process holds dpkg's lock; asked without taking it."""
    path = "/var/lib/dpkg/lock-frontend"
    try:
        status = os.stat(host.path(path))
    except FileNotFoundError:
        return False
    except OSError as error:
        host.note("packages.locked", error)
        return None
    major, minor = os.major(status.st_dev), os.minor(status.st_dev)
    mark = f" {major:02x}:{minor:02x}:{status.st_ino} "
    return mark in host.read("/proc/locks")


def clock_state(host: Host, now: float) -> dict[str, Any]:
    """The host's time, and whether somebody keeps it right."""
    synchronised: bool | None = None
    if host.exists("/run/systemd/timesync/synchronized"):
        synchronised = True
    elif not host.exists("/run/systemd/timesync"):
        host.note("clock.synchronised", "no systemd-timesyncd; chrony or ntpd may do it")
    else:
        synchronised = False
    return {"epoch": round(now, 3), "synchronised": synchronised}


def system(host: Host) -> dict[str, Any]:
    """What kind of system this is."""
    release = procfs.parse_os_release(
        host.read("/etc/os-release") or host.read("/usr/lib/os-release")
    )
    secure: bool | None = None
    if not host.exists("/sys/firmware/efi"):
        secure = False
    else:
        for name in host.names("/sys/firmware/efi/efivars"):
            if name.startswith("SecureBoot-"):
                try:
                    with open(host.path(f"/sys/firmware/efi/efivars/{name}"), "rb") as stream:
                        secure = stream.read()[-1:] == b"\x01"
                except OSError as error:
                    host.note("secure_boot", error)
        if secure is None:
            host.note("secure_boot", "the firmware's variables cannot be read")
    dmi = [
        host.read(f"/sys/class/dmi/id/{name}").strip()
        for name in ("sys_vendor", "product_name", "bios_vendor")
    ]
    markers = [
        name
        for path, name in (
            ("/run/.containerenv", "podman"),
            ("/.dockerenv", "docker"),
            ("/run/systemd/container", ""),
        )
        if host.exists(path)
    ]
    markers = [name or (host.line("/run/systemd/container") or "container") for name in markers]
    return {
        "os": {
            "id": release.get("ID"),
            "version": release.get("VERSION_ID"),
            "codename": release.get("VERSION_CODENAME"),
            "name": release.get("PRETTY_NAME"),
        },
        "kernel": {"release": platform.release(), "architecture": platform.machine()},
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "init": {
            "name": host.line("/proc/1/comm"),
            "systemd_running": host.exists("/run/systemd/system"),
        },
        "virtualization": procfs.parse_hypervisor(
            host.read("/proc/cpuinfo"),
            dmi,
            host.read("/proc/1/environ"),
            markers,
            host.read("/sys/hypervisor/type"),
        ),
        "secure_boot": secure,
        "host_id": host.line("/etc/machine-id"),
        "hostname": socket.gethostname(),
        "user_is_root": os.geteuid() == 0,
    }


def gather(
    name: str, version: str, root: str = "/", ask_driver: bool = True, budget: float = 0.6
) -> dict[str, Any]:
    """All that is known about this host, measured now."""
    started = time.monotonic()
    host = Host(root)
    facts: dict[str, Any] = {"schema": SCHEMA, "tool_version": version, "host": name}
    facts["clock"] = clock_state(host, time.time())
    facts["measured_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(facts["clock"]["epoch"]))
    facts.update(system(host))
    if facts["host_id"] is None:
        host.note("host_id", "/etc/machine-id is empty or missing")
    facts["cpu"] = cpu(host)
    facts["memory"] = memory(host)
    facts["filesystems"] = filesystems(host)
    facts["disks"] = disks(host)
    facts["network"] = network(host, interface_addresses(host))
    facts["gpus"] = gpus(host, ask_driver).as_dict()
    uptime = host.read("/proc/uptime").split()
    running = processes(
        host, os.sysconf("SC_CLK_TCK"), float(uptime[0]) if uptime else time.monotonic()
    )
    facts["listeners"] = listeners(host, running.pop("owners"))
    facts["services"] = running
    facts["packages"], sizes = packages(host)
    facts["ours"] = ours(host, time.monotonic() + budget, time.monotonic, sizes)
    facts["system_uids_free"] = procfs.parse_system_uids(
        host.read("/etc/passwd", "system_uids_free")
    )
    facts["unknown"] = host.unknown
    facts["took_ms"] = round((time.monotonic() - started) * 1000)
    return facts

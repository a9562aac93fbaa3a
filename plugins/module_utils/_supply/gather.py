# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a host. Looks only; starts no process unless the GPU driver can be asked in no other way.

Everything below ``root`` can be a recorded tree, which is how it is tested.
"""

from __future__ import annotations

import fcntl
import os
import platform
import socket
import struct
import subprocess
import sys
import time
from dataclasses import asdict
from typing import Any

from . import nvml, procfs
from .cpu_use import WINDOW_SECONDS, sample, use
from .gpu import (
    GpuError,
    GpuReport,
    PciDevice,
    from_device_tree,
    from_pci,
    parse_nvidia_smi,
    with_main_memory,
    without_cards,
)
from .installed import ours, packages
from .installed import platform as our_platform
from .mig import with_files, with_lists
from .running import listeners, main_processes, processes
from .storage import filesystems, pools
from .tree import Host

SCHEMA = 1


def cpu(host: Host) -> dict[str, Any]:
    """Processors, what of them may be used, and how busy they are."""
    text = host.read("/proc/cpuinfo", "cpu")
    found = procfs.parse_cpuinfo(text)
    if not found.sockets:
        host.note("cpu.sockets", "/proc/cpuinfo does not tell on this architecture")
    nodes = []
    for name in host.names("/sys/devices/system/node"):
        if name.startswith("node") and name[4:].isdecimal():
            said = host.read(f"/sys/devices/system/node/{name}/meminfo")
            said = said.replace(f"Node {name[4:]} ", "")
            memory = procfs.parse_meminfo(said)
            nodes.append(
                {
                    "id": int(name[4:]),
                    "cpus": host.line(f"/sys/devices/system/node/{name}/cpulist"),
                    "memory_mib": memory.total_mib,
                    "free_mib": procfs.parse_free_mib(said),
                }
            )
    affinity: int | None = None
    try:
        affinity = len(os.sched_getaffinity(0))
    except (AttributeError, OSError) as error:
        host.note("cpu.affinity_threads", error)
    quota = _cpu_quota(host)
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


def _cpu_quota(host: Host) -> float | None:
    """Processors that control groups allow, of version 2 or 1; None is no limit."""
    found = procfs.parse_cpu_max(host.read("/sys/fs/cgroup/cpu.max"))
    for controller in ("cpu", "cpu,cpuacct"):
        if found is None:
            base = f"/sys/fs/cgroup/{controller}/cpu.cfs"
            quota, period = host.line(f"{base}_quota_us"), host.line(f"{base}_period_us")
            found = procfs.parse_cpu_max(f"{quota} {period}")
    return found


def memory(host: Host) -> dict[str, Any]:
    """Memory, less where a control group limits the whole host.

    Page cache that can be dropped is not in use, and what is used under a limit must be known.
    """
    found = procfs.parse_meminfo(host.read("/proc/meminfo", "memory"))
    if found.available_mib is None:
        host.note("memory.available_mib", "this kernel does not estimate MemAvailable")
    result = asdict(found)
    result["cgroup_limit_mib"] = None
    for base, limit_of, used_of in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        limit = procfs.parse_limit_mib(host.read(f"{base}/{limit_of}"))
        if limit is None or (found.total_mib is not None and limit >= found.total_mib):
            continue
        result["cgroup_limit_mib"], result["total_mib"] = limit, limit
        used = procfs.parse_limit_mib(host.read(f"{base}/{used_of}"))
        if used is None:
            host.note("memory.available_mib", f"{base}/{used_of} does not tell what is in use")
            result["available_mib"] = None
        elif found.available_mib is not None:
            cache = procfs.parse_inactive_file_mib(host.read(f"{base}/memory.stat")) or 0.0
            left = limit - max(0.0, used - cache)
            result["available_mib"] = round(min(found.available_mib, max(0.0, left)), 1)
        break
    return result


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


def gpus(host: Host, ask_driver: bool, memory_mib: float | None) -> GpuReport:
    """Ask the driver's library, else its program, else look at the bus.

    ``memory_mib`` is the memory of the host, which is that of GPUs without memory of their own.
    """
    reasons: list[str] = []
    report = _ask_driver(host, reasons) if ask_driver else None
    if report is None or not report.gpus:
        tree = from_device_tree(
            host.read("/proc/device-tree/model"),
            host.read("/proc/device-tree/compatible"),
            memory_mib,
        )
        report = tree or report
    if report is None:
        report = from_pci(_pci_devices(host))
        for reason in reasons:
            host.note("gpus", reason)
    return with_files(with_main_memory(report, memory_mib), host)


def _ask_driver(host: Host, reasons: list[str]) -> GpuReport | None:
    """What the library or the program answers; None, with reasons, where neither does."""
    try:
        return nvml.read_nvml(nvml.open_library())
    except OSError:
        pass
    except nvml.NvmlError as error:
        reasons.append(str(error))
    except AttributeError as error:
        reasons.append(f"NVML is too old: {error}")
    smi = next(
        (p for p in ("/usr/bin/nvidia-smi", "/usr/local/bin/nvidia-smi") if host.exists(p)), None
    )
    if smi is None:
        return None
    try:
        code, said = _smi(smi, "-q", "-x")
        if code == 0:
            report = parse_nvidia_smi(said)
            if any(gpu.mig_instances for gpu in report.gpus):
                lists = (_smi(smi, "-L")[1], _smi(smi, "mig", "-lgi")[1])
                report = with_lists(report, *lists)
            return report
        reasons.append(f"nvidia-smi ended with {code}: {said.strip()[:200]}")
    except (OSError, subprocess.TimeoutExpired, GpuError) as error:
        reasons.append(str(error))
    return None


def _smi(program: str, *words: str) -> tuple[int, str]:
    """How the driver's program ended, and what it said."""
    done = subprocess.run([program, *words], capture_output=True, timeout=20, check=False)
    said = done.stdout if done.returncode == 0 else done.stdout or done.stderr
    return done.returncode, said.decode("utf-8", "replace")


def _pci_devices(host: Host) -> list[PciDevice]:
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
    return devices


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
        "python": {
            "version": platform.python_version(),
            "executable": sys.executable,
            "bits": 64 if sys.maxsize > 2**32 else 32,
        },
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
    name: str,
    version: str,
    root: str = "/",
    ask_driver: bool = True,
    budget: float = 0.6,
    window: float = WINDOW_SECONDS,
) -> dict[str, Any]:
    """All that is known about this host, measured now.

    How busy it is is measured over ``window`` seconds, while everything else is looked at.
    """
    started = time.monotonic()
    host = Host(root)
    ticks = os.sysconf("SC_CLK_TCK")
    before = sample(host, ticks)
    facts: dict[str, Any] = {"schema": SCHEMA, "tool_version": version, "host": name}
    facts["clock"] = clock_state(host, time.time())
    facts["measured_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(facts["clock"]["epoch"]))
    facts.update(system(host))
    if facts["host_id"] is None:
        host.note("host_id", "/etc/machine-id is empty or missing")
    facts["cpu"] = cpu(host)
    facts["memory"] = memory(host)
    facts["filesystems"], facts["uncounted"] = filesystems(host)
    facts["pools"] = pools(host, facts["filesystems"])
    facts["disks"] = disks(host)
    facts["network"] = network(host, interface_addresses(host))
    cards = gpus(host, ask_driver, facts["memory"]["total_mib"])
    facts["gpus"] = cards.as_dict()
    facts["memory"].update(without_cards(facts["memory"], facts["cpu"]["numa_nodes"], cards.gpus))
    dead = [str(row["mount"]) for row in facts["uncounted"] if row.get("dead")]
    facts["packages"], sizes = packages(host, dead)
    facts["ours"] = ours(host, time.monotonic() + budget, time.monotonic, sizes, dead)
    time.sleep(max(0.0, before.when + window - time.monotonic()))
    running = processes(host, use(before, sample(host, ticks)))
    owners = running.pop("owners")
    units = {owner["unit"] for owner in owners.values() if not owner["ours"]}
    facts["listeners"] = listeners(host, owners, {} if host.root else main_processes(units))
    facts["services"] = running
    facts["system_uids_free"] = procfs.parse_system_uids(
        host.read("/etc/passwd", "system_uids_free")
    )
    facts["platform"] = our_platform(host)
    facts["unknown"] = host.unknown
    facts["took_ms"] = round((time.monotonic() - started) * 1000)
    return facts

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Readers of the kernel's and Debian's texts: text in, values out, nothing else.

A value that a text does not hold is None, never 0.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

# What makes a difference to inference on a CPU.
INFERENCE_FLAGS = (
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "asimdhp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
)
OUR_SLICE = "mlops.slice"


@dataclass(frozen=True)
class Cpu:
    """Processors as /proc/cpuinfo tells them."""

    model: str | None
    sockets: int | None
    cores: int | None
    threads: int
    flags: tuple[str, ...]


def parse_cpuinfo(text: str) -> Cpu:
    """Sockets, cores, threads and the flags that matter to inference."""
    threads = 0
    model: str | None = None
    flags: set[str] = set()
    cores: set[tuple[str, str]] = set()
    sockets: set[str] = set()
    for block in re.split(r"\n\s*\n", text):
        rows = dict(_colon_rows(block))
        if "processor" not in rows or not rows["processor"].isdecimal():
            continue
        threads += 1
        model = model or rows.get("model name") or rows.get("cpu model")
        flags.update((rows.get("flags") or rows.get("Features") or "").split())
        if "physical id" in rows:
            sockets.add(rows["physical id"])
            if "core id" in rows:
                cores.add((rows["physical id"], rows["core id"]))
    return Cpu(
        model=model,
        sockets=len(sockets) or None,
        cores=len(cores) or None,
        threads=threads,
        flags=tuple(flag for flag in INFERENCE_FLAGS if flag in flags),
    )


def _colon_rows(text: str) -> Iterable[tuple[str, str]]:
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            yield key.strip(), value.strip()


@dataclass(frozen=True)
class Memory:
    """Memory in MiB. Available is the kernel's own estimate: page cache does not count as used."""

    total_mib: float | None
    available_mib: float | None
    swap_total_mib: float | None
    swap_free_mib: float | None
    hugepage_kib: int | None
    hugepages_total: int | None
    hugepages_free: int | None


def parse_meminfo(text: str) -> Memory:
    """What /proc/meminfo says; None where an old kernel does not say it."""
    rows = {}
    for key, value in _colon_rows(text):
        words = value.split()
        if words and words[0].isdecimal():
            rows[key] = int(words[0])

    def mib(key: str) -> float | None:
        return round(rows[key] / 1024, 1) if key in rows else None

    return Memory(
        total_mib=mib("MemTotal"),
        available_mib=mib("MemAvailable"),
        swap_total_mib=mib("SwapTotal"),
        swap_free_mib=mib("SwapFree"),
        hugepage_kib=rows.get("Hugepagesize"),
        hugepages_total=rows.get("HugePages_Total"),
        hugepages_free=rows.get("HugePages_Free"),
    )


def parse_free_mib(text: str) -> float | None:
    """Memory that nothing is in, not even cache, from a meminfo; None if it does not say."""
    for key, value in _colon_rows(text):
        words = value.split()
        if key == "MemFree" and words and words[0].isdecimal():
            return round(int(words[0]) / 1024, 1)
    return None


@dataclass(frozen=True)
class Mount:
    """One mount as /proc/self/mountinfo tells it."""

    path: str
    device: str
    type: str
    source: str
    read_only: bool
    root: str = "/"
    options: tuple[str, ...] = ()

    def option(self, name: str) -> str | None:
        """The value of an option, such as the address of a server; None without it."""
        start = f"{name}="
        found = (word[len(start) :] for word in self.options if word.startswith(start))
        return next(found, None)


# File systems that hold no data of services.
VIRTUAL_TYPES = frozenset(
    (
        "autofs",
        "bpf",
        "binfmt_misc",
        "cgroup",
        "cgroup2",
        "configfs",
        "debugfs",
        "devpts",
        "devtmpfs",
        "efivarfs",
        "fusectl",
        "hugetlbfs",
        "mqueue",
        "nsfs",
        "proc",
        "pstore",
        "ramfs",
        "rpc_pipefs",
        "securityfs",
        "selinuxfs",
        "squashfs",
        "sysfs",
        "tmpfs",
        "tracefs",
    )
)


def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """Mounts that can hold data."""
    return tuple(mount for mount in every_mount(text) if mount.type not in VIRTUAL_TYPES)


def every_mount(text: str) -> tuple[Mount, ...]:
    """All mounts. Of several mounts on one path the last one counts."""
    found: dict[str, Mount] = {}
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        left, right = before.split(" "), after.split(" ")
        if not separator or len(left) < 6 or len(right) < 3:
            continue
        path = _unescape(left[4])
        found.pop(path, None)
        options = set(left[5].split(",")) | set(right[2].split(","))
        found[path] = Mount(
            path=path,
            device=left[2],
            type=right[0],
            source=_unescape(right[1]),
            read_only="ro" in options,
            root=_unescape(left[3]),
            options=tuple(_unescape(right[2]).split(",")),
        )
    return tuple(found.values())


def parse_nfs_volumes(text: str) -> dict[str, str]:
    """What the servers call their file systems, by the client's device number.

    From /proc/fs/nfsfs/volumes: version, server, port, device, file system.
    """
    rows = (line.split() for line in text.splitlines()[1:])
    return {words[3]: words[4] for words in rows if len(words) >= 5 and ":" in words[3]}


def parse_thin_pools(text: str) -> dict[str, float]:
    """Which part of each thin pool is in use, from ``dmsetup status --target thin-pool``."""
    found = {}
    for line in text.splitlines():
        name, colon, rest = line.partition(": ")
        words = rest.split()
        if not colon or len(words) < 6 or words[2] != "thin-pool":
            continue
        used, _slash, total = words[5].partition("/")
        if used.isdecimal() and total.isdecimal() and int(total):
            found[name] = int(used) / int(total)
    return found


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)


@dataclass(frozen=True)
class Socket:
    """A listening socket."""

    protocol: str
    address: str
    port: int
    inode: int


def parse_sockets(text: str, protocol: str) -> tuple[Socket, ...]:
    """Listening sockets from /proc/net/tcp, tcp6, udp or udp6."""
    listening = "0A" if protocol.startswith("tcp") else "07"
    found = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) < 10 or words[3] != listening:
            continue
        address, _colon, port = words[1].partition(":")
        if protocol.startswith("udp") and words[2].rpartition(":")[2] != "0000":
            continue
        found.append(
            Socket(protocol.rstrip("6"), _socket_address(address), int(port, 16), int(words[9]))
        )
    return tuple(found)


def _socket_address(digits: str) -> str:
    """The kernel prints addresses as hexadecimal words in the machine's byte order."""
    words = [int(digits[start : start + 8], 16) for start in range(0, len(digits), 8)]
    raw = b"".join(struct.pack("=I", word) for word in words)
    if len(raw) == 4:
        return socket.inet_ntop(socket.AF_INET, raw)
    address = socket.inet_ntop(socket.AF_INET6, raw)
    return address[7:] if address.startswith("::ffff:") and "." in address else address


def parse_busy_seconds(text: str, ticks: int) -> float | None:
    """Seconds that all processors worked, from /proc/stat: neither idle nor waiting for a disk.

    Time that a hypervisor took away counts: it cannot be had. Guests are in the user's time.
    """
    words = text.partition("\n")[0].split()
    if len(words) < 5 or words[0] != "cpu" or not all(word.isdecimal() for word in words[1:]):
        return None
    user, nice, system, _idle, *rest = (int(word) for word in words[1:9])
    return (user + nice + system + sum(rest[1:])) / ticks


def parse_usage_seconds(text: str) -> float | None:
    """Seconds that a control group used, from its cpu.stat."""
    for line in text.splitlines():
        key, _blank, value = line.partition(" ")
        if key == "usage_usec" and value.strip().isdecimal():
            return int(value) / 1e6
    return None


def parse_inactive_file_mib(text: str) -> float | None:
    """Page cache of a control group that can be dropped, from its memory.stat.

    Version 1 says it for the group alone and for all below, of which the latter is meant.
    """
    rows = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    for key in ("total_inactive_file", "inactive_file"):
        if rows.get(key, "").strip().isdecimal():
            return int(rows[key]) / 2**20
    return None


def parse_cgroup(text: str) -> str:
    """The path of systemd's hierarchy from /proc/PID/cgroup: version 2, or the named one of 1."""
    unified = ""
    for line in text.splitlines():
        _number, _colon, rest = line.partition(":")
        controllers, _colon, path = rest.partition(":")
        if controllers == "name=systemd" and path not in ("", "/"):
            return path
        if controllers == "":
            unified = path
    return unified


def is_ours(cgroup: str) -> bool:
    """Whether a control group lies in the slice of the platform."""
    return OUR_SLICE in cgroup.split("/")


def unit_of(cgroup: str) -> str:
    """The systemd unit that a control group belongs to; empty for the kernel's own threads."""
    for part in reversed(cgroup.split("/")):
        if part.endswith((".service", ".scope", ".socket")):
            return part
    return ""


@dataclass(frozen=True)
class ProcessStat:
    """One process from /proc/PID/stat, times in clock ticks."""

    name: str
    parent: int
    busy_ticks: int
    started_ticks: int


def parse_process_stat(text: str) -> ProcessStat | None:
    """The name may hold anything, blanks and brackets too, so it is cut out from both ends."""
    before, _open, rest = text.partition("(")
    name, bracket, tail = rest.rpartition(")")
    words = tail.split()
    if not bracket or not before.strip().isdecimal() or len(words) < 20:
        return None
    return ProcessStat(name, int(words[1]), int(words[11]) + int(words[12]), int(words[19]))


def parse_own_memory_kib(text: str) -> int | None:
    """What a process keeps from others, from /proc/PID/smaps_rollup or else /proc/PID/status.

    File pages are left out, since the kernel counts them as available.
    """
    rows = {}
    for key, value in _colon_rows(text):
        words = value.split()
        if words and words[0].isdecimal():
            rows[key] = int(words[0])
    for keys in (("Pss_Anon", "Pss_Shmem"), ("RssAnon", "RssShmem")):
        if keys[0] in rows:
            return rows[keys[0]] + rows.get(keys[1], 0)
    return None


def parse_os_release(text: str) -> dict[str, str]:
    """Assignments of /etc/os-release, without quotes."""
    found = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith("#"):
            found[key] = value.strip().strip("\"'")
    return found


@dataclass(frozen=True)
class DpkgState:
    """Packages that are half installed, and the installed size of those that are."""

    broken: tuple[str, ...]
    sizes_mib: Mapping[str, float]


def parse_dpkg_status(text: str) -> DpkgState:
    """The state of packages from /var/lib/dpkg/status."""
    broken, sizes = [], {}
    for block in text.split("\n\n"):
        name = re.search(r"^Package: (\S+)", block, re.M)
        status = re.search(r"^Status: (\S+) (\S+) (\S+)", block, re.M)
        if not name or not status:
            continue
        _want, flag, state = status.groups()
        if flag != "ok" or state in (
            "half-installed",
            "unpacked",
            "half-configured",
            "triggers-awaited",
        ):
            broken.append(f"{name.group(1)} ({state if flag == 'ok' else flag})")
        if state == "installed":
            size = re.search(r"^Installed-Size: (\d+)", block, re.M)
            sizes[name.group(1)] = int(size.group(1)) / 1024 if size else 0.0
    return DpkgState(tuple(broken), sizes)


def parse_system_uids(passwd: str, low: int = 100, high: int = 999) -> int:
    """How many numbers are free for system users."""
    used = set()
    for line in passwd.splitlines():
        words = line.split(":")
        if len(words) > 2 and words[2].isdecimal() and low <= int(words[2]) <= high:
            used.add(int(words[2]))
    return high - low + 1 - len(used)


def parse_cpu_max(text: str) -> float | None:
    """Processors that control group version 2 allows; None is no limit."""
    quota, _blank, period = text.strip().partition(" ")
    if not quota.isdecimal() or not period.strip().isdecimal() or int(period) == 0:
        return None
    return int(quota) / int(period)


def parse_limit_mib(text: str) -> float | None:
    """A memory limit of a control group; None is no limit."""
    said = text.strip()
    if not said.isdecimal() or int(said) >= 1 << 60:
        return None
    return int(said) / 2**20


def parse_bond(text: str) -> dict[str, object]:
    """Mode, state and members of a bond from /proc/net/bonding/NAME."""
    mode: str | None = None
    members: list[dict[str, str]] = []
    for key, value in _colon_rows(text):
        if key == "Bonding Mode":
            mode = value
        elif key == "Slave Interface":
            members.append({"name": value})
        elif key == "MII Status" and members:
            members[-1]["state"] = value
    return {"mode": mode, "members": members}


def parse_hypervisor(
    cpuinfo: str, dmi: Sequence[str], init_environment: str, markers: Sequence[str], type_text: str
) -> dict[str, str | None]:
    """Whether this is a container, a virtual machine or a machine, and which kind."""
    match = re.search(r"(?:^|\0)container=([^\0]+)", init_environment)
    if match:
        return {"kind": "container", "name": match.group(1)}
    if markers:
        return {"kind": "container", "name": markers[0]}
    vendors = " ".join(dmi).lower()
    for word, name in (
        ("qemu", "qemu"),
        ("kvm", "kvm"),
        ("vmware", "vmware"),
        ("virtualbox", "virtualbox"),
        ("innotek", "virtualbox"),
        ("microsoft corporation virtual", "hyper-v"),
        ("xen", "xen"),
        ("amazon ec2", "amazon"),
        ("google compute", "google"),
        ("openstack", "openstack"),
    ):
        if word in vendors:
            return {"kind": "vm", "name": name}
    if type_text.strip():
        return {"kind": "vm", "name": type_text.strip()}
    if re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.M):
        return {"kind": "vm", "name": None}
    return {"kind": "none", "name": None}

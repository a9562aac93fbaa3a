# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is there: texts of a host in, values out. Nothing here looks at a host."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from . import matrix

NVIDIA, AMD, INTEL = "0x10de", "0x1002", "0x8086"
DEBIAN, NVIDIA_REPOSITORY, RUNFILE, ELSEWHERE = "debian", "nvidia", "runfile", "elsewhere"
VERSION = re.compile(r"\b(\d{3}\.\d{2,3}(?:\.\d{2,3})?)\b")
RELEASE = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
# Packages of the kernel module, by their names in Debian and in NVIDIA's repository.
KERNEL_PACKAGE = re.compile(r"nvidia-(?:open-|tesla-\d+-)?kernel-(?:open-)?dkms$|nvidia-dkms-\d+")
OPEN_PACKAGE = re.compile(r"open")


@dataclass(frozen=True)
class Card:
    """A card of NVIDIA on the bus."""

    address: str
    device: int
    architecture: str
    driver: str

    @property
    def named(self) -> str:
        """As people are told of it."""
        return f"{self.architecture} card {self.device:04x} at {self.address}"


@dataclass(frozen=True)
class Package:
    """A package of the driver as dpkg has it."""

    name: str
    version: str
    state: str  # "installed", "half-configured" …
    held: bool
    nvidia: bool  # made by NVIDIA

    @property
    def broken(self) -> bool:
        """Whether its installation did not end."""
        return self.state not in ("installed", "config-files", "not-installed")


@dataclass(frozen=True)
class Build:
    """What dkms says of a module and a kernel; no kernel where it was only added."""

    module: str
    version: str
    kernel: str
    state: str

    @property
    def done(self) -> bool:
        """Whether the module can be loaded from where it is."""
        return self.state.startswith("installed")


@dataclass(frozen=True)
class Kernel:
    """A kernel of the host. ``module``: version of the driver's module for it; empty: none."""

    release: str
    headers: bool
    bootable: bool
    module: str = ""
    open: bool | None = None


@dataclass(frozen=True)
class Facts:
    """All that a verdict needs to know of a host."""

    cards: tuple[Card, ...] = ()
    others: tuple[str, ...] = ()  # cards of other makers, as words
    jetson: str = ""
    loaded: str = ""  # version of the module in the kernel
    loaded_open: bool | None = None
    library: str = ""  # version of libnvidia-ml or libcuda
    persistenced: str = ""  # version of the daemon that runs; empty: none runs
    origin: str = ""  # debian, nvidia, runfile or elsewhere
    packages: tuple[Package, ...] = ()
    builds: tuple[Build, ...] = ()
    kernels: tuple[Kernel, ...] = ()
    running: str = ""
    next: str = ""  # the kernel that boots next
    next_why: str = ""
    secure_boot: bool | None = None
    key: str = ""  # of dkms: "enrolled", "not enrolled", "none"; empty: not known
    nouveau: bool = False
    nouveau_off: bool = False
    candidates: Mapping[str, str] = field(default_factory=dict)
    held: tuple[str, ...] = ()
    toolkit: str = ""
    container: bool = False

    @property
    def version(self) -> str:
        """The driver that is on the host: loaded, or else installed."""
        modules = [one.module for one in self.kernels if one.module]
        return self.loaded or self.library or (modules[-1] if modules else "")

    @property
    def open(self) -> bool | None:
        """Whether the kernel module is the open one; None where it cannot be known."""
        if self.loaded:
            return self.loaded_open
        known = [one.open for one in self.kernels if one.module and one.open is not None]
        return known[-1] if known else None

    @property
    def architectures(self) -> tuple[str, ...]:
        """Of the cards, each once."""
        return tuple(dict.fromkeys(card.architecture for card in self.cards))

    def kernel(self, release: str) -> Kernel | None:
        """The kernel of that release, if the host has it."""
        return next((one for one in self.kernels if one.release == release), None)

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "version": self.version, "open": self.open}


def numbers(version: str) -> tuple[int, ...]:
    """A version as numbers, to be compared."""
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("-")[0]))


def branch_of(version: str) -> int:
    """The branch of a version of the driver or of its package; 0 where it has none."""
    found = re.match(r"(?:\d+:)?(\d{3})\.", version)
    return int(found.group(1)) if found else 0


def release_of(release: str) -> tuple[int, int, int]:
    """Major, minor and patch of a kernel release."""
    found = RELEASE.match(release)
    return tuple(int(part or 0) for part in found.groups()) if found else (0, 0, 0)  # type: ignore[return-value]


def order_of(release: str) -> tuple[tuple[int, ...], str]:
    """By which kernels of one host are sorted: as grub does, newest last."""
    return (tuple(int(part) for part in re.findall(r"\d+", release)), release)


def flavour_of(release: str) -> str:
    """The kind of a Debian kernel, by which its headers are named: ``cloud-amd64``."""
    words = re.sub(r"^[\d.]+(?:\+\w+)?", "", release)
    words = re.sub(r"^-(?:rc\d+|\d+)(?=-)", "", words)
    words = re.sub(r"^\+\w+", "", words)
    return words.lstrip("-+")


def loaded(text: str) -> tuple[str, bool | None]:
    """Version and kind of the module, of /proc/driver/nvidia/version.

    ``NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build …``; the
    closed one says ``NVIDIA UNIX x86_64 Kernel Module``.
    """
    for line in text.splitlines():
        if line.startswith("NVRM version"):
            found = VERSION.search(line)
            return (found.group(1) if found else "", "Open Kernel Module" in line)
    return "", None


def builds(text: str) -> tuple[Build, ...]:
    """What ``dkms status`` says, of dkms 2 (``nvidia, 470.1, 5.10, x86_64: installed``) and 3."""
    found = []
    for line in text.splitlines():
        head, _colon, state = line.partition(":")
        words = [word for word in re.split(r"[,/\s]+", head) if word]
        if len(words) < 2 or not words[0].startswith("nvidia"):
            continue
        kernel = words[2] if len(words) > 2 else ""
        found.append(Build(words[0], words[1], kernel, state.strip().lower() or "added"))
    return tuple(found)


def packages(text: str) -> tuple[Package, ...]:
    """Rows of dpkg-query: name, version, want, state and maintainer, divided by tabs."""
    found = []
    for line in text.splitlines():
        parts = line.split("\t")
        if len(parts) < 5 or parts[3] in ("not-installed", "config-files"):
            continue
        name, version, want, state, maintainer = parts[:5]
        found.append(Package(name, version, state, want == "hold", "@nvidia.com" in maintainer))
    return tuple(found)


def origin(found: Sequence[Package], runfile: bool, version: str) -> str:
    """Where a driver came from; empty where there is none."""
    kernel = [one for one in found if KERNEL_PACKAGE.match(one.name)]
    libraries = [one for one in found if re.match(r"libcuda1|libnvidia-ml|nvidia-driver", one.name)]
    for rows in (kernel, libraries):
        if rows:
            return NVIDIA_REPOSITORY if any(one.nvidia for one in rows) else DEBIAN
    if runfile:
        return RUNFILE
    return ELSEWHERE if version else ""


def next_boot(raw: Mapping[str, Any], bootable: Iterable[str]) -> tuple[str, str]:
    """The kernel that boots next, and by what it is known.

    What grub is told for once counts before what it saved, that before its default; a number or a
    title is looked up in the entries of its menu. Where nothing says more: the newest, since that
    is grub's first entry.
    """
    there = sorted(bootable, key=order_of)
    newest = there[-1] if there else ""
    environment = dict(
        line.split("=", 1) for line in str(raw.get("grubenv") or "").splitlines() if "=" in line
    )
    setting = re.search(r"^GRUB_DEFAULT=(.*)$", str(raw.get("grub_default") or ""), re.M)
    default = setting.group(1).strip().strip("\"'") if setting else "0"
    wanted, why = default, f"GRUB_DEFAULT={default}"
    if environment.get("next_entry"):
        wanted, why = environment["next_entry"], "grub-reboot"
    elif default == "saved":
        wanted, why = environment.get("saved_entry", ""), "grub-set-default"
    if wanted in ("", "0"):
        return newest, "the newest kernel"
    found = _entry(wanted, str(raw.get("grub_cfg") or ""), there)
    return (found, why) if found else (newest, "the newest kernel")


def _entry(wanted: str, menu: str, there: Sequence[str]) -> str:
    """The kernel of an entry of grub's menu, named by release, title, id or number."""
    last = wanted.rpartition(">")[2]
    named = [one for one in there if re.search(rf"(?<![\w.]){re.escape(one)}(?![\w.])", last)]
    if named:
        return named[-1]
    entries = re.findall(r"^\s*menuentry\s+'([^']*)'(.*?)^\s*\}", menu, re.M | re.S)
    releases = []
    for title, body in entries:
        kernel = re.search(r"vmlinuz-(\S+)", body)
        identity = re.search(r"\$menuentry_id_option\s+'([^']*)'", body)
        if kernel is None:
            continue
        releases.append(kernel.group(1))
        if last in (title, identity.group(1) if identity else ""):
            return kernel.group(1)
    if last.isdigit() and int(last) < len(releases):
        # ``1>2`` counts within the submenu, whose entries follow the one above it.
        index = int(last) + (1 if ">" in wanted else 0)
        return releases[index] if index < len(releases) else ""
    return ""


def candidates(text: str) -> dict[str, str]:
    """Candidate versions of ``apt-cache policy``."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line and not line[0].isspace() and line.endswith(":"):
            name = line[:-1]
        elif line.strip().startswith("Candidate:"):
            version = line.partition(":")[2].strip()
            if version != "(none)":
                found[name] = version
    return found


def cards(rows: Iterable[Sequence[str]]) -> tuple[tuple[Card, ...], tuple[str, ...]]:
    """NVIDIA's cards of rows of address, vendor, device, class and driver; others as words."""
    found: list[Card] = []
    others: list[str] = []
    for address, vendor, device, kind, driver in rows:
        display = kind.startswith("0x03")
        if vendor == NVIDIA and display:
            number = int(device, 16)
            found.append(Card(address, number, matrix.architecture_of(number), driver))
        elif vendor == AMD and (display or kind.startswith("0x1200")):
            others.append(f"AMD {device[2:]} at {address} ({driver or 'no driver'})")
        elif vendor == INTEL and kind.startswith(("0x0380", "0x0302")):
            others.append(f"Intel {device[2:]} at {address} ({driver or 'no driver'})")
    return tuple(found), tuple(others)


def kernels(rows: Iterable[Mapping[str, Any]]) -> tuple[Kernel, ...]:
    """Kernels, oldest first. The licence in modinfo tells the open module from the closed one."""
    found = []
    for row in rows:
        version = re.search(r"^version:\s*(\S+)", str(row.get("modinfo") or ""), re.M)
        licence = re.search(r"^license:\s*(.+)$", str(row.get("modinfo") or ""), re.M)
        found.append(
            Kernel(
                release=str(row["release"]),
                headers=bool(row.get("headers")),
                bootable=bool(row.get("bootable")),
                module=version.group(1) if version else "",
                open="GPL" in licence.group(1) if licence else None,
            )
        )
    return tuple(sorted(found, key=lambda one: order_of(one.release)))


def _library(names: Iterable[str]) -> str:
    """The newest version in names of files such as libnvidia-ml.so.550.163.01."""
    found = [match.group(1) for name in names if (match := VERSION.search(name))]
    return max(found, key=numbers) if found else ""


def _key(text: str) -> str:
    if "already enrolled" in text:
        return "enrolled"
    if "not enrolled" in text:
        return "not enrolled"
    return "none" if text == "none" else ""


def parse(raw: Mapping[str, Any]) -> Facts:
    """The facts of what `read` read."""
    found, others = cards(raw.get("pci") or ())
    version, is_open = loaded(str(raw.get("proc_version") or ""))
    installed = packages(str(raw.get("dpkg") or ""))
    library = _library(raw.get("libraries") or ())
    known = kernels(raw.get("kernels") or ())
    bootable = [one.release for one in known if one.bootable]
    boots, why = next_boot(raw, bootable)
    running = VERSION.search(str(raw.get("persistenced") or ""))
    modules = set(raw.get("modules") or ())
    return Facts(
        cards=found,
        others=others,
        jetson=str(raw.get("jetson") or ""),
        loaded=version,
        loaded_open=is_open,
        library=library,
        persistenced=running.group(1) if running else "",
        origin=origin(installed, bool(raw.get("runfile")), version or library),
        packages=installed,
        builds=builds(str(raw.get("dkms") or "")),
        kernels=known,
        running=str(raw.get("running") or ""),
        next=boots,
        next_why=why,
        secure_boot=raw.get("secure_boot"),
        key=_key(str(raw.get("mok") or "")),
        nouveau="nouveau" in modules,
        nouveau_off=bool(raw.get("nouveau_off")),
        candidates=candidates(str(raw.get("policy") or "")),
        held=tuple(str(raw.get("held") or "").split()),
        toolkit=str(raw.get("toolkit") or ""),
        container=bool(raw.get("container")),
    )

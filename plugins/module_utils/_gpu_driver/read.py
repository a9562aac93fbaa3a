# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at a host: files below ``root`` and a few commands that only tell."""

from __future__ import annotations

import glob
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from . import matrix

Run = Callable[[Sequence[str]], str]
LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")
MODPROBE = ("/etc/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d", "/run/modprobe.d")
DPKG = r"${Package}\t${Version}\t${db:Status-Want}\t${db:Status-Status}\t${Maintainer}\n"
PATTERNS = ("nvidia-*", "libnvidia-*", "libcuda1*", "libnvidia-tesla-*", "cuda-drivers*")
MORE_PATH = ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SECONDS = 30.0


def run(argv: Sequence[str]) -> str:
    """What a command says, whatever its exit status; empty where it cannot be run."""
    path = os.environ.get("PATH", "") + MORE_PATH
    program = shutil.which(argv[0], path=path)
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, *argv[1:]],
            env={**os.environ, "LC_ALL": "C.UTF-8", "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")


class Files:
    """Files below a root, which may be a recorded tree."""

    def __init__(self, root: str = "/") -> None:
        self._root = root.rstrip("/")

    def path(self, name: str) -> str:
        return self._root + name

    def text(self, name: str) -> str:
        """The text of a file; empty where there is none."""
        try:
            with open(self.path(name), encoding="utf-8", errors="replace") as stream:
                return stream.read()
        except OSError:
            return ""

    def names(self, name: str) -> list[str]:
        """What is in a directory, sorted; nothing where there is none."""
        try:
            return sorted(os.listdir(self.path(name)))
        except OSError:
            return []

    def exists(self, name: str) -> bool:
        return os.path.exists(self.path(name))

    def found(self, pattern: str) -> list[str]:
        """Paths that fit a pattern, as they are on the host."""
        return [one[len(self._root) :] for one in sorted(glob.glob(self.path(pattern)))]


def read(root: str = "/", ask: Run = run) -> dict[str, Any]:
    """Everything that `facts.parse` reads, as texts and rows."""
    files = Files(root)
    return {
        **read_versions(root, ask),
        "running": platform.release(),
        "pci": _pci(files),
        "jetson": _jetson(files),
        "modules": [line.split()[0] for line in files.text("/proc/modules").splitlines() if line],
        "nouveau_off": _nouveau_off(files),
        "dkms": ask(["dkms", "status"]),
        "dpkg": ask(["dpkg-query", "-W", "-f", DPKG, *PATTERNS]),
        "held": ask(["apt-mark", "showhold"]),
        "policy": ask(["apt-cache", "policy", *sorted({one.kernel for one in matrix.CANDIDATES})]),
        "runfile": files.exists("/usr/bin/nvidia-uninstall"),
        "kernels": _kernels(files, ask),
        "grub_default": "\n".join(
            files.text(name)
            for name in ("/etc/default/grub", *files.found("/etc/default/grub.d/*.cfg"))
        ),
        "grubenv": files.text("/boot/grub/grubenv"),
        "grub_cfg": files.text("/boot/grub/grub.cfg"),
        "secure_boot": _secure_boot(files),
        "mok": _key(files, ask),
        "toolkit": ask(["nvidia-ctk", "--version"]).partition("\n")[0].strip(),
        "container": files.exists("/run/systemd/container") or files.exists("/run/.containerenv"),
    }


def read_versions(root: str = "/", ask: Run = run) -> dict[str, Any]:
    """Versions of module, libraries and daemon alone, which is quick."""
    files = Files(root)
    return {
        "proc_version": files.text("/proc/driver/nvidia/version"),
        "libraries": [
            os.path.basename(os.path.realpath(files.path(path)))
            for folder in LIBRARIES
            for name in ("libcuda.so.1", "libnvidia-ml.so.1")
            for path in files.found(f"{folder}/{name}")
        ],
        "persistenced": _persistenced(files, ask),
    }


def _pci(files: Files) -> list[list[str]]:
    base = "/sys/bus/pci/devices"
    rows = []
    for address in files.names(base):
        kind = files.text(f"{base}/{address}/class").strip()
        if not kind.startswith(("0x03", "0x1200")):
            continue
        driver = files.path(f"{base}/{address}/driver")
        rows.append(
            [
                address,
                files.text(f"{base}/{address}/vendor").strip(),
                files.text(f"{base}/{address}/device").strip(),
                kind,
                os.path.basename(os.path.realpath(driver)) if os.path.islink(driver) else "",
            ]
        )
    return rows


def _jetson(files: Files) -> str:
    if "nvidia,tegra" not in files.text("/proc/device-tree/compatible"):
        return ""
    return files.text("/proc/device-tree/model").strip("\0 \n") or "a Jetson"


def _nouveau_off(files: Files) -> bool:
    words = files.text("/proc/cmdline")
    if "modprobe.blacklist=nouveau" in words or "nouveau.modeset=0" in words:
        return True
    for folder in MODPROBE:
        for name in files.names(folder):
            lines = files.text(f"{folder}/{name}").splitlines() if name.endswith(".conf") else []
            if any(line.split()[:2] == ["blacklist", "nouveau"] for line in lines):
                return True
    return False


def _persistenced(files: Files, ask: Run) -> str:
    """The version of the persistence daemon, if it runs."""
    for name in files.names("/proc"):
        if name.isdecimal() and files.text(f"/proc/{name}/comm").strip().startswith(
            "nvidia-persist"
        ):
            return ask([files.path("/usr/bin/nvidia-persistenced"), "--version"])
    return ""


def _kernels(files: Files, ask: Run) -> list[dict[str, Any]]:
    rows = []
    for release in files.names("/lib/modules"):
        folder = f"/lib/modules/{release}"
        module = [
            path
            for place in ("updates/dkms", "updates", "kernel/drivers/video", "extra")
            for kind in ("nvidia.ko", "nvidia.ko.*", "nvidia-current.ko*", "nvidia-tesla-*.ko*")
            for path in files.found(f"{folder}/{place}/{kind}")
        ]
        plain = [path for path in module if not path.rpartition("/")[2].startswith("nvidia-")]
        debian = [
            path
            for path in module
            if "-drm" not in path and "-modeset" not in path and "-uvm" not in path
        ]
        chosen = (plain or debian)[:1]
        rows.append(
            {
                "release": release,
                "headers": files.exists(f"{folder}/build/Makefile"),
                "bootable": files.exists(f"/boot/vmlinuz-{release}"),
                "modinfo": ask(["modinfo", files.path(chosen[0])]) if chosen else "",
            }
        )
    return rows


def _secure_boot(files: Files) -> bool | None:
    if not files.exists("/sys/firmware/efi"):
        return False
    for path in files.found("/sys/firmware/efi/efivars/SecureBoot-*"):
        try:
            with open(files.path(path), "rb") as stream:
                return stream.read()[-1:] == b"\x01"
        except OSError:
            return None
    return None


def _key(files: Files, ask: Run) -> str:
    """What mokutil says of the key with which dkms signs; "none" where there is no key."""
    if not files.exists("/sys/firmware/efi"):
        return ""
    for path in ("/var/lib/dkms/mok.pub", "/var/lib/shim-signed/mok/MOK.der"):
        if files.exists(path):
            return ask(["mokutil", "--test-key", files.path(path)])
    return "none"

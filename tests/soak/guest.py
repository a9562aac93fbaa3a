# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian with a kernel of its own, as a root and as a guest of QEMU without KVM.

For what a container cannot show: kernel modules, file systems with quotas. Nothing is installed on
this machine: QEMU is in a root of its own. Needs root.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from labhosts.image import Recipe
from labhosts.machine import CACHE, Machine

from tests.soak.roots import CannotRun, root_of

TOOLS = CACHE / "guests"
KERNEL = "linux-image-cloud-amd64"
INIT = "/usr/local/sbin/soak-init"
SAYS = "guest: "
"""What stands before each line of a guest that is for the campaign."""
# The kernel's own lines come in between, and its console ends lines in its own way.
BEGIN = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
"""
END = """
sync
echo o > /proc/sysrq-trigger
sleep 60
"""


@dataclass(frozen=True)
class WithDrivers(Recipe):
    """Debian with what is not free, where the drivers are."""

    @property
    def sources(self) -> list[str]:
        return [f"{line} contrib non-free non-free-firmware" for line in super().sources]


def trixie(place: Path, name: str, packages: tuple[str, ...], fresh: bool) -> Path:
    """A root of trixie with these packages below ``place``, made once."""
    machine = Machine()
    recipe = replace(WithDrivers.of(machine, "trixie"), extra_cas=(), packages=packages, hooks=())
    return root_of(machine, recipe, place, name, fresh)


def within(root: Path, *command: str, binds: tuple[Path, ...] = ()) -> list[str]:
    """A command in the root; what it starts and mounts ends with it."""
    mounts = [f"mount -t proc proc {root}/proc", f"mount --rbind /dev {root}/dev"]
    for path in binds:
        mounts.append(f"mkdir -p {root}{path} && mount --bind {path} {root}{path}")
    enter = " && ".join([*mounts, f'exec chroot {root} "$@"'])
    apart = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
    return [*apart, "sh", "-c", enter, "sh", *command]


def ran(root: Path, *command: str) -> str:
    """What a command in the root says."""
    done = subprocess.run(within(root, *command), capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotRun(f"{' '.join(command)[:200]}: {done.stderr[-2000:]}")
    return done.stdout


def kernel_of(root: Path) -> str:
    """The one kernel of a root."""
    (release,) = [path.name.removeprefix("vmlinuz-") for path in (root / "boot").glob("vmlinuz-*")]
    return release


@contextlib.contextmanager
def blank(place: Path, sizes: Sequence[str]) -> Iterator[list[Path]]:
    """Empty disks below ``place`` of these sizes, such as ``256M``; they go at the end."""
    disks = [place / f"blank{number}.img" for number, _size in enumerate(sizes)]
    try:
        for disk, size in zip(disks, sizes):
            disk.unlink(missing_ok=True)
            subprocess.run(["truncate", "--size", size, str(disk)], check=True)
        yield disks
    finally:
        for disk in disks:
            disk.unlink(missing_ok=True)


def bootable(root: Path) -> Path:
    """A disk with what is in the root, beside it."""
    ran(root, "depmod", kernel_of(root))
    disk = root.parent / "disk.img"
    disk.unlink(missing_ok=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(disk), "6G"], check=True)
    return disk


def emulated(
    root: Path, disks: Sequence[Path], fresh: bool, parameters: str, *more: str
) -> list[str]:
    """The command that starts the kernel of a root; the first of the disks is that of the system.

    The root and the disks have to lie below one directory.
    """
    tools = trixie(TOOLS, "tools", ("qemu-system-x86", "e2fsprogs"), fresh)
    release = kernel_of(root)
    drives = [f"file={one},if=virtio,format=raw" for one in disks]
    return within(
        tools,
        *("qemu-system-x86_64", "-accel", "tcg", "-m", "1024", "-smp", "1", "-nographic"),
        *(word for drive in drives for word in ("-drive", drive)),
        *("-kernel", f"{root}/boot/vmlinuz-{release}"),
        *("-initrd", f"{root}/boot/initrd.img-{release}"),
        *("-append", f"console=ttyS0 root=/dev/vda rw {parameters}".strip()),
        *more,
        binds=(root.parent,),
    )


def console(
    root: Path, script: str, fresh: bool, disks: Sequence[Path] = (), longest: float = 900
) -> str:
    """Start the kernel of a root on a disk that holds the root, run the script, and power off.

    Further disks are ``/dev/vdb`` and so on. A guest that has not ended after ``longest`` seconds
    is ended; what it said until then is what there is.
    """
    init = root / INIT.lstrip("/")
    init.write_text(BEGIN + script + END)
    init.chmod(0o755)
    disk = bootable(root)
    command = emulated(root, [disk, *disks], fresh, f"panic=-1 init={INIT}", "-no-reboot")
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=longest, check=False
        )
        return done.stdout.decode("utf-8", "replace")
    except subprocess.TimeoutExpired as error:
        return (error.stdout or b"").decode("utf-8", "replace")
    finally:
        disk.unlink(missing_ok=True)


def said(text: str) -> list[str]:
    """The lines of a console that are for the campaign."""
    lines = (line.partition(SAYS)[2].strip() for line in text.splitlines() if SAYS in line)
    return [line for line in lines if line]

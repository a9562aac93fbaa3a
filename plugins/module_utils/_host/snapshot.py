# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on the host around a package transaction."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable

from .packages import plain

ROOTS = ("/etc", "/home", "/opt", "/srv", "/usr", "/var")
# Places that belong to nobody's package, or are huge, or change by themselves.
SKIPPED = frozenset(
    {
        "/usr/share/doc",
        "/usr/share/locale",
        "/usr/share/man",
        "/var/cache/apt",
        "/var/cache/debconf",
        "/var/lib/apt",
        "/var/lib/containers",
        "/var/lib/docker",
        "/var/lib/dpkg",
        "/var/lib/mlops",
        "/var/log/apt",
        "/var/log/journal",
        "/var/tmp",  # noqa: S108 (skipped, nothing is put there)
        "/etc/mlops",
        "/opt/mlops",
    }
)
# In these, only directories matter: their files are packages' own or made from them.
DIRECTORIES_ONLY = ("/usr/",)
DPKG_INFO = "/var/lib/dpkg/info"


def paths_of(packages: Iterable[str]) -> set[str]:
    """Every path in the file lists of the packages, or declared by their tmpfiles.d."""
    found = listed(packages)
    return found | declared(found)


def listed(packages: Iterable[str]) -> set[str]:
    """Every path in the file lists of the packages."""
    found: set[str] = set()
    for package in packages:
        for name in about(package, "list"):
            with open(name, encoding="utf-8", errors="surrogateescape") as stream:
                found.update(plain(line.rstrip("\n")) for line in stream)
    return found


def about(package: str, kind: str) -> list[str]:
    """The files that dpkg keeps about a package: ``list``, ``postrm`` …"""
    name = f"{DPKG_INFO}/{glob.escape(package)}"
    return glob.glob(f"{name}.{kind}") or glob.glob(f"{name}:*.{kind}")


def declared(paths: Iterable[str]) -> set[str]:
    """The directories that the tmpfiles.d files among the paths have made."""
    found: set[str] = set()
    for path in paths:
        if not path.startswith("/usr/lib/tmpfiles.d/") or not os.path.isfile(path):
            continue
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            rows = [line.split() for line in stream]
        found.update(row[1] for row in rows if len(row) > 1 and row[0] in ("d", "D"))
    return found


def all_paths() -> set[str]:
    found: set[str] = set()
    for name in glob.glob(DPKG_INFO + "/*.list"):
        with open(name, encoding="utf-8", errors="surrogateescape") as stream:
            found.update(plain(line.rstrip("\n")) for line in stream)
    return found


def holders(packages: Iterable[str]) -> dict[str, str]:
    """The unit files and scripts of System V in the packages' file lists, and whose each is."""
    found = {}
    for package in packages:
        for path in listed([package]):
            if path.startswith(("/usr/lib/systemd/system/", "/etc/init.d/")):
                found[path] = package
    return found


def present(roots: Iterable[str] = ROOTS) -> set[str]:
    """All directories, and all files that no package lists."""
    packaged = all_paths()
    found: set[str] = set()
    for root in roots:
        device = os.lstat(root).st_dev if os.path.lexists(root) else None
        todo = [root]
        while todo:
            here = todo.pop()
            try:
                entries = list(os.scandir(here))
            except OSError:
                continue
            for entry in entries:
                if entry.path in SKIPPED:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    found.add(entry.path)
                    if entry.stat(follow_symlinks=False).st_dev == device:
                        todo.append(entry.path)
                elif entry.path not in packaged and not entry.path.startswith(DIRECTORIES_ONLY):
                    found.add(entry.path)
    return found


def accounts() -> tuple[list[str], list[str]]:
    """The local users and groups by name."""
    names = []
    for path in ("/etc/passwd", "/etc/group"):
        with open(path, encoding="utf-8", errors="replace") as stream:
            names.append([line.split(":", 1)[0] for line in stream if ":" in line])
    return names[0], names[1]


def units() -> list[str]:
    """The services that the host knows, by file name."""
    found: set[str] = set()
    for folder in ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"):
        if os.path.isdir(folder):
            found.update(
                name
                for name in os.listdir(folder)
                if name.endswith((".service", ".socket", ".timer", ".target", ".path"))
            )
    if os.path.isdir("/etc/init.d"):
        found.update(name + ".service" for name in os.listdir("/etc/init.d"))
    return sorted(found)

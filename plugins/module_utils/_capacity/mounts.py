# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which file system holds a path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from .._supply.facts import FileSystem

# Where people mount things: a path here that lies on the root's file system is a mistake.
MOUNT_PLACES = re.compile(
    r"^/(mnt|media|net|nfs|nas|san|ceph|cephfs|gluster|gpfs|lustre|beegfs|shares?|volumes?)/"
    r"|^/(srv|data|export)/([^/]*[-_.])?(nas|nfs|san|shared?|smb|cifs|ceph|cephfs|gluster|storage)"
    r"[0-9]*([-_.][^/]*)?(/|$)",
    re.IGNORECASE,
)


def holding(path: str, systems: Iterable[str]) -> str | None:
    """The mount that holds a path: the longest one that the path lies below."""
    best: str | None = None
    for mount in systems:
        inside = path == mount or path.startswith(mount.rstrip("/") + "/")
        if inside and (best is None or len(mount) > len(best)):
            best = mount
    return best


def by_device(systems: Mapping[str, FileSystem]) -> dict[str, list[str]]:
    """Mounts by file system: one that is mounted twice has its room once."""
    found: dict[str, list[str]] = {}
    for mount in sorted(systems):
        found.setdefault(systems[mount].behind, []).append(mount)
    return found

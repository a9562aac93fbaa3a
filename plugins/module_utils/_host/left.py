# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stays on a host when an account of the platform goes: it gets an owner that is still there.

A file with the number of a group that is gone is of whoever gets that number next.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Iterable

from .ledger import Ledger


def number_of(kind: str, name: str) -> int | None:
    """The number of a user or group; None if the host has none of that name."""
    try:
        return pwd.getpwnam(name).pw_uid if kind == "user" else grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def heir(kind: str, going: int, uid: int) -> int:
    """Who gets what the number had: root, or for a group the primary one of the file's user."""
    if kind == "user":
        return 0
    with contextlib.suppress(KeyError):
        own = pwd.getpwuid(uid).pw_gid
        return 0 if own == going else own
    return 0


def kept(ledger: Ledger, kind: str, number: int) -> list[str]:
    """The directories that were made whole, are still there, and are of the account themselves.

    Those of roles that stay are of other accounts, and are not looked through.
    """
    found = []
    for thing in ledger:
        if thing.kind == "directory" and thing.data.get("whole"):
            with contextlib.suppress(OSError):
                status = os.lstat(thing.name)
                if stat.S_ISDIR(status.st_mode) and _number(status, kind) == number:
                    found.append(thing.name)
    return found


def hand_on(folders: Iterable[str], kind: str, number: int) -> int:
    """Give what bears the number to its heirs; returns how many files and directories that were.

    People can write in these directories while this goes on: nothing follows a link, and a
    directory is changed by the handle by which it was read.
    """
    count = 0
    for top in folders:
        for _path, _folders, names, handle in os.fwalk(top, follow_symlinks=False):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    status = os.stat(name, dir_fd=handle, follow_symlinks=False)
                    if _number(status, kind) == number:
                        owner = _owner(status, kind, number)
                        os.chown(name, *owner, dir_fd=handle, follow_symlinks=False)
                        count += 1
            status = os.fstat(handle)
            if _number(status, kind) == number:
                os.fchown(handle, *_owner(status, kind, number))
                if kind == "group":  # what people make there later is of their own group
                    os.fchmod(handle, stat.S_IMODE(status.st_mode) & ~stat.S_ISGID)
                count += 1
    return count


def _number(status: os.stat_result, kind: str) -> int:
    return status.st_uid if kind == "user" else status.st_gid


def _owner(status: os.stat_result, kind: str, number: int) -> tuple[int, int]:
    to = heir(kind, number, status.st_uid)
    return (to, -1) if kind == "user" else (-1, to)

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings what jobs said and left behind on their node to the object store.

Travels to hosts with ``batch``. It reads, as root, what people wrote: links are never followed, and
of a job only files of whoever owns its log count.
"""

from __future__ import annotations

import os
import pwd
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from .store import MOST_BYTES, Readable, StoreError

LOG = re.compile(r"(?P<workload>[a-z0-9][a-z0-9-]*)\.(?P<job>[0-9]+)\.log")
MOST_FILES = 10_000

Put = Callable[[str, Readable, int], None]


@dataclass(frozen=True)
class Found:
    """A file of a job: where it lies, its key in the bucket, and by what it is known again."""

    path: str
    key: str
    uid: int
    mark: str


def found(folder: str) -> Iterator[Found]:
    """The files of all jobs that ran here."""
    for entry in sorted(os.scandir(folder), key=lambda one: one.name):
        named = LOG.fullmatch(entry.name)
        if named is None or not entry.is_file(follow_symlinks=False):
            continue
        uid = entry.stat(follow_symlinks=False).st_uid
        base = f"jobs/{named['workload']}/{named['job']}-{_who(uid)}"
        yield from _file(entry.path, f"{base}/log", uid)
        results = entry.path[: -len(".log")] + ".result"
        yield from _below(results, f"{base}/result", uid)


def _who(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _file(path: str, key: str, uid: int) -> Iterator[Found]:
    status = os.lstat(path)
    if stat.S_ISREG(status.st_mode) and status.st_uid == uid:
        yield Found(path, key, uid, f"{status.st_mtime_ns}:{status.st_size}")


def _below(folder: str, key: str, uid: int) -> Iterator[Found]:
    if not os.path.isdir(folder) or os.path.islink(folder):
        return
    count = 0
    for place, folders, names in os.walk(folder, followlinks=False):
        folders.sort()
        for name in sorted(names):
            count += 1
            if count > MOST_FILES:
                return
            path = os.path.join(place, name)
            yield from _file(path, f"{key}/{os.path.relpath(path, folder)}", uid)


def collect(
    folder: str, known: Mapping[str, str], put: Put, now: float, settled: float = 5.0
) -> tuple[dict[str, str], list[str]]:
    """Put what is new or has changed; what was put so far, and a sentence for each failure.

    A result that was written within the last seconds is still being written, most likely.
    """
    done: dict[str, str] = {}
    wrong: list[str] = []
    for one in found(folder):
        if known.get(one.key) == one.mark:
            done[one.key] = one.mark
            continue
        written = int(one.mark.partition(":")[0]) / 1e9
        if not one.key.endswith("/log") and now - written < settled:
            continue
        try:
            if _send(one, put):
                done[one.key] = one.mark
        except (OSError, StoreError) as error:
            wrong.append(f"{one.path}: {error}")
            if one.key in known:
                done[one.key] = known[one.key]
    return done, wrong


def _send(one: Found, put: Put) -> bool:
    """Put one file; whether it was the one that was found."""
    handle = os.open(one.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as content:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != one.uid:
            return False
        if status.st_size > MOST_BYTES:
            raise StoreError(
                f"{status.st_size:,} bytes are more than one object of {MOST_BYTES:,}; let the job"
                " write it to a dataset, or to the bucket itself"
            )
        put(one.key, _Whole(content, status.st_size), status.st_size)
    return True


class _Whole:
    """So many bytes of a file that may grow while it is read."""

    def __init__(self, content: BinaryIO, size: int) -> None:
        self._content, self._left = content, size

    def read(self, amount: int = -1, /) -> bytes:
        wanted = self._left if amount < 0 else min(amount, self._left)
        data = self._content.read(wanted)
        self._left -= len(data)
        return data

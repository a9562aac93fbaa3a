# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The content of files, directories and globs as one hash, and when it last changed."""

from __future__ import annotations

import glob
import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Planned:
    """Contents that files are about to get, and when."""

    contents: Mapping[str, bytes] = field(default_factory=dict)
    when: float = 0.0


NOTHING = Planned()


def fingerprint(patterns: Sequence[str], planned: Planned = NOTHING) -> tuple[str, float]:
    """The hash over everything the patterns name, and the newest change time among it.

    A name without a match is part of the hash as missing, so its appearing is a change.
    """
    digest = hashlib.sha256()
    newest = 0.0
    for pattern in sorted(set(patterns)):
        found = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]
        digest.update(b"pattern\0" + os.fsencode(pattern) + b"\0")
        if glob.has_magic(pattern) and not glob.has_magic(os.path.dirname(pattern)):
            newest = max(newest, _changed(os.path.dirname(pattern)))  # a match may have gone
        for path in found:
            newest = max(newest, _add(digest, path, planned))
    return digest.hexdigest(), newest


def _changed(path: str) -> float:
    try:
        return os.stat(path).st_ctime
    except OSError:
        return 0.0


def _add(digest: hashlib._Hash, path: str, planned: Planned) -> float:
    digest.update(os.fsencode(path) + b"\0")
    if path in planned.contents:
        digest.update(hashlib.sha256(planned.contents[path]).digest())
        return planned.when
    try:
        status = os.stat(path)
    except FileNotFoundError:
        digest.update(b"missing\0")
        return 0.0
    newest = max(status.st_ctime, os.lstat(path).st_ctime)
    if stat.S_ISDIR(status.st_mode):
        for entry in sorted(os.listdir(path)):
            if not entry.startswith(".mlops-new-"):
                newest = max(newest, _add(digest, os.path.join(path, entry), planned))
    elif stat.S_ISREG(status.st_mode):
        inner = hashlib.sha256()
        with open(path, "rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                inner.update(block)
        digest.update(inner.digest())
    return newest

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk that a step takes: what it may take is declared, what it takes and what is left is measured.

A project writes what it likes, and so does whoever filled a source of data. The disk belongs to
the host and to everything else on it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .errors import PipelineError

MIB = 2**20
MOST_MIB = 10240
"""What a step may take unless the operator says otherwise."""
LEFT_MIB = 256
"""What has to be left of the disk for everybody else."""
SHARE = 20
"""Of this many parts of the time, looking at the disk may take one."""
MOST_PAUSE = 30.0


def used(folders: Iterable[Path]) -> int:
    """Bytes that files below the folders occupy; holes in them occupy none."""
    found = 0
    for folder in folders:
        for root, _folders, names in os.walk(folder):
            for name in names:
                try:
                    found += Path(root, name).lstat().st_blocks * 512
                except OSError:  # gone since
                    continue
    return found


def check_room(folder: Path, size: int, what: str) -> None:
    """Refuse to copy what the disk has no room for."""
    free = shutil.disk_usage(folder).free
    if free < size + LEFT_MIB * MIB:
        raise PipelineError(
            f"{what} takes {size / MIB:.0f} MiB and {folder} has {free / MIB:.0f} MiB of disk "
            f"left, of which {LEFT_MIB} are kept for others. Free some, or set TMPDIR to a place "
            "with more."
        )


SAID = (
    "MiB that a step may take (disk_max_mib of the configuration; in the inventory "
    "pipeline_disk_max_mib, for timers pipelines_disk_max_mib)"
)


@dataclass
class Filling:
    """What is copied into a folder, counted before it comes."""

    folder: Path
    most_mib: int
    what: str
    taken: int = 0

    def add(self, size: int) -> None:
        """Take so many bytes more, or refuse them."""
        if self.taken + size > self.most_mib * MIB:
            raise PipelineError(
                f"{self.what} has {(self.taken + size) / MIB:.0f} MiB or more, above the "
                f"{self.most_mib} {SAID}."
            )
        check_room(self.folder, size, self.what)
        self.taken += size


@dataclass(frozen=True)
class Disk:
    """The folders of a step, and the MiB that they may occupy together."""

    folders: tuple[Path, ...]
    most_mib: int = MOST_MIB

    def problem(self) -> str:
        """Why the step cannot go on; empty if it can."""
        taken = used(self.folders) / MIB
        if taken > self.most_mib:
            return f"its files take {taken:.0f} MiB of disk, above the {self.most_mib} {SAID}"
        free = min(shutil.disk_usage(folder).free for folder in self.folders) / MIB
        if free < LEFT_MIB:
            return (
                f"{self.folders[0]} has {free:.0f} MiB of disk left, wanted at least {LEFT_MIB}; "
                "free some, or set TMPDIR to a place with more"
            )
        return ""

    def check(self, what: str) -> None:
        """Refuse to go on."""
        found = self.problem()
        if found:
            raise PipelineError(f"{what} cannot go on: {found}.")

    def look(self) -> tuple[str, float]:
        """The problem, and the seconds until it is worth looking again."""
        started = time.monotonic()
        found = self.problem()
        return found, min(MOST_PAUSE, max(1.0, SHARE * (time.monotonic() - started)))

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a model's rollouts: the journal, and the lock beside it. All else here is pure."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .errors import RolloutError
from .journal import Entry, read

JOURNAL = "journal.jsonl"
LOCK = "lock"
PATIENCE = 60.0  # seconds; a call holds the lock only as long as it decides
FILE_MODE = 0o640


@dataclass(frozen=True)
class Holder:
    """Who leads the rollout, by which generation, since when."""

    generation: int = 0
    name: str = ""
    since: float = 0.0

    def __str__(self) -> str:
        when = datetime.fromtimestamp(self.since, timezone.utc)
        return f"{self.name or 'nobody'} since {when:%Y-%m-%d %H:%M:%S} UTC"


class Keeper:
    """The journal of one model on this host."""

    def __init__(self, directory: Path, model: str) -> None:
        self.place = directory / model
        self._directory = directory
        self._good = 0

    @contextmanager
    def held(
        self, patience: float = PATIENCE, pause: Callable[[float], None] = time.sleep
    ) -> Iterator[None]:
        """Hold the lock. It goes with the process, so a killed one holds nothing."""
        if not self._directory.is_dir():
            raise RolloutError(
                f"The directory {self._directory} is not there; apply the role rollout to this "
                "host first (playbooks/site.yml)."
            )
        self.place.mkdir(mode=0o2750, exist_ok=True)
        handle = os.open(self.place / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            left = patience
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if left <= 0:
                        raise RolloutError(
                            f"The journal in {self.place} is being written by another controller "
                            f"({self.holder()}) for more than {patience:g} s."
                        ) from None
                    pause(0.05)
                    left -= 0.05
            yield
        finally:
            os.close(handle)

    def entries(self) -> list[Entry]:
        """Everything that was decided."""
        path = self.place / JOURNAL
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return []
        found, self._good = read(content, str(path))
        return found

    def add(self, entries: Sequence[Entry]) -> None:
        """Add decisions; they are on the disk before this returns. A torn line is cut off first."""
        if not entries:
            return
        path = self.place / JOURNAL
        new = not path.exists()
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            os.ftruncate(handle, self._good)
            os.lseek(handle, self._good, os.SEEK_SET)
            for entry in entries:
                line = entry.line()
                _write(handle, line)
                os.fsync(handle)
                self._good += len(line)
        finally:
            os.close(handle)
        if new:
            sync(self.place)
            sync(self._directory)

    def holder(self) -> Holder:
        """Who leads. Only for sentences: the generation that counts is the journal's."""
        try:
            data: Any = json.loads((self.place / LOCK).read_bytes())
            return Holder(int(data["generation"]), str(data["name"]), float(data["since"]))
        except (OSError, ValueError, KeyError, TypeError):
            return Holder()

    def hold(self, holder: Holder) -> None:
        """Write down who leads, before it orders anything."""
        # In place: a file put over this one would not be the file that others have locked.
        handle = os.open(self.place / LOCK, os.O_WRONLY | os.O_CLOEXEC)
        try:
            data = json.dumps(asdict(holder)).encode() + b"\n"
            _write(handle, data)
            os.ftruncate(handle, len(data))
            os.fsync(handle)
        finally:
            os.close(handle)


def _write(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


def sync(directory: Path) -> None:
    """Have a directory's names survive a power loss."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(path: Path, content: str, mode: int) -> None:
    """Put a whole file in place of another."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(content, encoding="utf-8")
    fresh.chmod(mode)
    fresh.replace(path)

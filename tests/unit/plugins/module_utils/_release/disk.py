# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that loses power.

The real code runs on a real directory. ``os.fsync`` and every call that changes a directory are
looked at on the way, and a second image is kept of what a disk would have after a power cut:

* an entry of a directory (made, removed, renamed) is there for good only when that directory was
  synchronised after it; a rename is one step and needs the directory that it leads to;
* what stands in a file is there for good as it was when that file was synchronised last.

``cut`` makes the disk of the next start: of the changes that were not made to last, any of them
may have happened and any may not, each by itself and whatever came before or after it; what was
written to a file and not synchronised may be there, in part, or not at all, also where its name
has become another one by then. That is more than the journals of file systems lose, which keep an
order among the changes of directories.

Not simulated: sectors written in part inside a synchronised file, and disks that say that they
have synchronised what they have not.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

Key = tuple[int, str]
"""A directory by our number, and a name in it."""

CALLS = ("rename", "replace", "symlink", "link", "unlink", "remove", "mkdir", "rmdir", "fsync")


class PowerCut(BaseException):
    """The device is off; nothing of the process goes on."""


@dataclass(frozen=True)
class Node:
    """What an entry leads to: one of our numbers, and where a symbolic link points."""

    number: int
    kind: str
    target: str = ""


@dataclass
class Change:
    """A change of directories that is not there for good yet."""

    entries: dict[Key, Node | None]
    home: int


@dataclass
class Disk:
    """What of a directory tree outlives a power cut."""

    root: Path
    fuse: int = -1
    calls: int = 0
    dead: bool = False
    _numbers: dict[int, int] = field(default_factory=dict)
    _next: int = 1
    _seen: dict[Key, Node] = field(default_factory=dict)
    _lasting: dict[Key, Node] = field(default_factory=dict)
    _pending: list[Change] = field(default_factory=list)
    _content: dict[int, bytes] = field(default_factory=dict)
    _synced: dict[int, bytes] = field(default_factory=dict)
    _stamps: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._scan()
        self.settle()

    def settle(self) -> None:
        """Everything is on the disk, as after a long while."""
        self._scan()
        self._lasting, self._pending = dict(self._seen), []
        self._synced = dict(self._content)

    # -- looking ------------------------------------------------------------------------------

    def _number(self, inode: int) -> int:
        if inode not in self._numbers:
            self._numbers[inode], self._next = self._next, self._next + 1
        return self._numbers[inode]

    def _walk(self, place: Path) -> Iterator[tuple[Key, Node, os.stat_result, Path]]:
        number = self._number(place.stat().st_ino)
        for entry in sorted(os.scandir(place), key=lambda one: one.name):
            status = entry.stat(follow_symlinks=False)
            path = Path(entry.path)
            if stat.S_ISLNK(status.st_mode):
                node = Node(self._number(status.st_ino), "link", str(path.readlink()))
            else:
                kind = "directory" if stat.S_ISDIR(status.st_mode) else "file"
                node = Node(self._number(status.st_ino), kind)
            yield (number, entry.name), node, status, path
            if node.kind == "directory":
                yield from self._walk(path)

    def _scan(self) -> dict[Key, Node | None]:
        """Look at the tree; return what is different from the time before."""
        found: dict[Key, Node] = {}
        inodes = {self.root.stat().st_ino}
        for key, node, status, path in self._walk(self.root):
            found[key] = node
            inodes.add(status.st_ino)
            stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if node.kind == "file" and self._stamps.get(node.number) != stamp:
                self._content[node.number] = path.read_bytes()
                self._stamps[node.number] = stamp
        # A number is never given twice, also where the file system gives an inode again.
        self._numbers = {ino: number for ino, number in self._numbers.items() if ino in inodes}
        different: dict[Key, Node | None] = {
            key: found.get(key)
            for key in {*found, *self._seen}
            if found.get(key) != self._seen.get(key)
        }
        self._seen = found
        return different

    def _look(self) -> None:
        """Note entries that came by opening a file."""
        for key, node in sorted(self._scan().items()):
            self._pending.append(Change({key: node}, key[0]))

    # -- the calls ------------------------------------------------------------------------------

    def call(self, name: str, real: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Do what the code asks for, and keep account of it."""
        self._burn()
        self._look()
        if name == "fsync":
            self._sync(os.fstat(arguments[0]).st_ino)
            result = None
        else:
            result = real(*arguments, **options)
            home = self._home(Path(os.fspath(arguments[1 if name in TWO else 0])))
            entries = self._scan()
            if entries:
                self._pending.append(Change(entries, home))
        self._burn()
        return result

    def _burn(self) -> None:
        if self.dead:
            raise PowerCut
        self.calls += 1
        if self.calls == self.fuse:
            self._look()
            self.dead = True
            raise PowerCut

    def _home(self, path: Path) -> int:
        return self._number(path.parent.resolve().stat().st_ino)

    def _sync(self, inode: int) -> None:
        number = self._numbers.get(inode)
        if number is None:
            return
        if number in self._content:
            self._synced[number] = self._content[number]
            return
        left = []
        for change in self._pending:
            if change.home == number:
                _put(self._lasting, change.entries)
            else:
                left.append(change)
        self._pending = left

    # -- the cut --------------------------------------------------------------------------------

    def cut(self, target: Path, chance: random.Random) -> Path:
        """Make the disk as the next start finds it."""
        likely = chance.choice((0.0, 0.5, 0.5, 0.9, 1.0))
        entries = dict(self._lasting)
        for change in self._pending:
            if chance.random() < likely:
                _put(entries, change.entries)
        target.mkdir()
        self._make(self._number(self.root.stat().st_ino), target, entries, chance, {})
        return target

    def _make(
        self,
        number: int,
        place: Path,
        entries: dict[Key, Node],
        chance: random.Random,
        made: dict[int, Path],
    ) -> None:
        for (home, name), node in entries.items():
            path = place / name
            if home != number:
                continue
            if node.kind == "link":
                path.symlink_to(node.target)
            elif node.kind == "directory":
                path.mkdir()
                self._make(node.number, path, entries, chance, made)
            elif node.number in made:
                os.link(made[node.number], path)
            else:
                path.write_bytes(self._left(node.number, chance))
                made[node.number] = path

    def _left(self, number: int, chance: random.Random) -> bytes:
        """What is left of a file."""
        written = self._content.get(number, b"")
        synced = self._synced.get(number)
        if synced == written:
            return written
        part = written[: chance.randint(0, len(written))]
        return chance.choice((synced or b"", part, b"\0" * len(part), written))


TWO = ("rename", "replace", "symlink", "link")


def _put(entries: dict[Key, Node], changes: dict[Key, Node | None]) -> None:
    for key, node in changes.items():
        if node is None:
            entries.pop(key, None)
        else:
            entries[key] = node


@contextmanager
def watched(disk: Disk) -> Iterator[None]:
    """Have the calls of the code pass the disk."""

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            return disk.call(name, real, *arguments, **options)

        return call

    def rmtree(path: Path) -> None:
        for entry in sorted(path.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                rmtree(entry)
            else:
                entry.unlink()
        path.rmdir()

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, wrapped(name, getattr(os, name)))
        patch.setattr(shutil, "rmtree", rmtree)
        yield

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The releases on a device's disk. Every step is safe against a power cut.

<root>/releases/<sha256>/    one release each, never changed once it is there
<root>/incoming/<sha256>/    what has been fetched of a release that is not complete
<root>/current, previous     links to releases; switched by rename
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from ..errors import RegistryError
from ..oci import hex_of

READ_BYTES = 1024 * 1024
DIRECTORY_MODE = 0o750
FILE_MODE = 0o640


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _files(place: Path) -> list[Path]:
    return [path for path in place.iterdir() if path.is_file() and not path.is_symlink()]


class PartialFile:
    """A file that grows over several attempts; the sink of a download."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def start(self, digest: hashlib._Hash) -> int:
        if not self._path.exists():
            return 0
        size = 0
        with self._path.open("rb") as stream:
            while True:
                data = stream.read(READ_BYTES)
                if not data:
                    return size
                digest.update(data)
                size += len(data)

    def write(self, data: bytes) -> None:
        with self._path.open("ab") as stream:
            stream.write(data)

    def restart(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()


class ReleaseStore:
    """The directory of releases."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._releases = root / "releases"
        self._incoming = root / "incoming"

    # -- reading ----------------------------------------------------------------------------

    def path(self, digest: str) -> Path:
        """Return the directory of a release."""
        return self._releases / hex_of(digest)

    def has(self, digest: str) -> bool:
        """Say whether a release is complete here."""
        return self.path(digest).is_dir()

    def releases(self) -> list[str]:
        """Return the digests of all releases, the one activated last first."""
        if not self._releases.is_dir():
            return []
        found = [path for path in self._releases.iterdir() if len(path.name) == 64]
        found.sort(key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
        return ["sha256:" + path.name for path in found]

    def linked(self, link: str, present: bool = True) -> str | None:
        """Return the digest that ``current`` or ``previous`` points to.

        A release that is not on the disk counts only where ``present`` is false.
        """
        try:
            name = Path(os.readlink(self.root / link)).name
        except OSError:
            return None
        digest = "sha256:" + name
        if not re.fullmatch("[0-9a-f]{64}", name):
            return None
        return digest if self.has(digest) or not present else None

    # -- changing ---------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Let one process at a time work on the releases."""
        if not self.root.is_dir():
            raise RegistryError(
                f"The directory {self.root} is not there; install model serving first."
            )
        with open(self.root / ".lock", "w", encoding="utf-8") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RegistryError(
                    f"Another process works on the releases in {self.root}; try again later."
                ) from None
            yield

    def _own(self, path: Path, mode: int) -> None:
        group = self.root.stat().st_gid
        if path.stat().st_gid != group:
            os.chown(path, -1, group)
        os.chmod(path, mode)

    def begin(self, digest: str) -> Path:
        """Return the place where a release is put together, with what an earlier run left."""
        for path in (self._releases, self._incoming, self._incoming / hex_of(digest)):
            path.mkdir(exist_ok=True)
            self._own(path, DIRECTORY_MODE)
        return self._incoming / hex_of(digest)

    def complete(self, digest: str, files: list[str]) -> None:
        """Put a release that is complete in its place."""
        place = self._incoming / hex_of(digest)
        for path in place.iterdir():
            if path.name not in files:
                path.unlink()
        for name in files:
            path = place / name
            self._own(path, FILE_MODE)
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        _sync_directory(place)
        os.rename(place, self.path(digest))
        _sync_directory(self._releases)

    def misplaced(self, digest: str) -> bool:
        """Say whether the model server may not read a release, or others may write to it."""
        group, place = self.root.stat().st_gid, self.path(digest)
        entries = [(place, DIRECTORY_MODE), *((path, FILE_MODE) for path in _files(place))]
        return any(
            path.stat().st_gid != group or stat.S_IMODE(path.stat().st_mode) != mode
            for path, mode in entries
        )

    def give(self, digest: str) -> None:
        """Give a release the group and the modes that it has when it is fetched."""
        self._own(self.path(digest), DIRECTORY_MODE)
        for path in _files(self.path(digest)):
            self._own(path, FILE_MODE)

    def replace(self, digest: str, files: list[str]) -> None:
        """Put fresh files, complete in ``incoming``, over those of a release, one by one.

        Every fresh file is the one that the digest names, so there is no moment in which the
        release is worse than before.
        """
        place, target = self._incoming / hex_of(digest), self.path(digest)
        activated = target.stat().st_mtime_ns
        for path in list(target.iterdir()):
            if path.name not in files or (path.is_dir() and not path.is_symlink()):
                self._take_out(path)
        for name in files:
            path = place / name
            self._own(path, FILE_MODE)
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
            os.replace(path, target / name)
        _sync_directory(target)
        self._own(target, DIRECTORY_MODE)
        os.utime(target, ns=(activated, activated))
        shutil.rmtree(place)

    def _take_out(self, path: Path) -> None:
        """Take something out of a release that does not belong there; `tidy` removes it."""
        os.replace(path, self._incoming / f"dropped-{path.name}")

    def switch(self, link: str, digest: str | None) -> None:
        """Point ``current`` or ``previous`` at a release, atomically, or take the link away."""
        path, fresh = self.root / link, self.root / f".{link}.new"
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        if digest is None:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        else:
            os.symlink(os.path.join("releases", hex_of(digest)), fresh)
            os.replace(fresh, path)
        _sync_directory(self.root)

    def touch(self, digest: str) -> None:
        """Remember that a release was activated now; the oldest are dropped first."""
        os.utime(self.path(digest))

    def surplus(self, keep: int) -> list[str]:
        """Return the releases beyond the number kept; never the current or the previous one."""
        linked = {self.linked("current"), self.linked("previous")}
        order = self.releases()
        kept = [digest for digest in order if digest in linked]
        for digest in order:
            if digest not in linked and len(kept) < keep:
                kept.append(digest)
        return [digest for digest in order if digest not in kept]

    def drop(self, digest: str) -> None:
        """Remove a release; a run killed halfway leaves it in ``incoming``, never half in place."""
        self._incoming.mkdir(exist_ok=True)
        place = self._incoming / f"dropped-{hex_of(digest)}"
        os.rename(self.path(digest), place)
        shutil.rmtree(place)

    def tidy(self, wanted: str | None = None) -> None:
        """Remove what earlier runs left, but for the release that is being fetched."""
        if not self._incoming.is_dir():
            return
        for path in self._incoming.iterdir():
            if wanted is not None and path.name == hex_of(wanted):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

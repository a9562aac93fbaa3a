# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The releases on a device's disk. Every step is safe against a power cut.

<root>/releases/<sha256>/               one release each, never changed once it is there
<root>/incoming/<sha256>/               what has been fetched of a release that is not complete
<root>/models/<name>/current, previous  links to releases; switched by rename
<root>/models/<name>/refused            link to what was served and may not be served any longer
<root>/models/<name>/state.json         what has to be remembered of a model (``memory``)
<root>/models/<name>/rollout.json       where it is with a staged rollout (``record``)
<root>/models/<name>/armed              is there while an activated release waits to be committed

A model server of version 0.3 or older knows one model and reads <root>/current. Until it is
replaced the links stay there (``single``); then ``adopt`` moves them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from ..errors import BusyError, RegistryError
from ..oci import Descriptor, digest_of, hex_of
from ..release import MANIFEST_FILE, MODEL_NAME, parse_release
from .disk import digest_of_file, files_in, make_directory, sync_directory
from .memory import Memory, read_memory
from .orders import ACTIVATED, COMMITTED, NONE, STAGED
from .record import Record, read_record

DIRECTORY_MODE = 0o750
FILE_MODE = 0o640
CURRENT, PREVIOUS, REFUSED = "current", "previous", "refused"
STATE_FILE = "state.json"
ROLLOUT_FILE, ARMED_FILE = "rollout.json", "armed"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class ReleaseStore:
    """The directory of releases."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.single = False
        self._releases = root / "releases"
        self._incoming = root / "incoming"
        self._models = root / "models"

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

    def model_of(self, digest: str) -> str:
        """Return the name of the model of a release; nothing where its manifest is damaged."""
        try:
            data = (self.path(digest) / MANIFEST_FILE).read_bytes()
            name = json.loads(data)["annotations"][MODEL_NAME]
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        whole = digest_of(data) == digest and isinstance(name, str)
        return name if whole and NAME.fullmatch(name) else ""

    def models(self) -> list[str]:
        """Return the names of the models that this device has or is to have."""
        names = set()
        if self._models.is_dir():
            names = {path.name for path in self._models.iterdir() if NAME.fullmatch(path.name)}
        if self.old_links():
            digest = self.old_target()
            names.add(self.model_of(digest) if digest else "")
        return sorted(names - {""})

    def old_links(self) -> bool:
        """Say whether links of the layout for one model are there."""
        return any(os.path.lexists(self.root / link) for link in (CURRENT, PREVIOUS))

    def old_target(self) -> str | None:
        """Return the release that the links of the layout for one model are about."""
        return self._target(self.root / CURRENT) or self._target(self.root / PREVIOUS)

    def linked(self, model: str, link: str, present: bool = True) -> str | None:
        """Return the digest that a link of a model points to.

        A release that is not on the disk counts only where ``present`` is false.
        """
        digest = self._target(self._link(model, link))
        if digest is None and not self.single and link != REFUSED:
            # Not moved yet; that is done by whoever changes something.
            digest = self._target(self.root / link)
            if digest is not None and self.model_of(digest) not in ("", model):
                digest = None
        if digest is None:
            return None
        return digest if self.has(digest) or not present else None

    def all_linked(self) -> set[str]:
        """Return every release that any link of any model points to."""
        links = [self.root / CURRENT, self.root / PREVIOUS]
        for model in self.models():
            links += [self._link(model, link) for link in (CURRENT, PREVIOUS, REFUSED)]
        return {digest for link in links if (digest := self._target(link)) is not None}

    def held(self) -> set[str]:
        """Return every release that a link points to or that a rollout may need."""
        found = self.all_linked()
        for model in self.models():
            with contextlib.suppress(RegistryError):
                record = self.record(model)
                found |= {
                    NONE: {record.digest},
                    STAGED: {record.digest},
                    ACTIVATED: {record.digest, record.origin, record.before},
                    COMMITTED: {record.origin},
                }.get(record.phase, set())
        return found - {""}

    def _link(self, model: str, link: str) -> Path:
        if self.single and link != REFUSED:
            return self.root / link
        return self._models / model / link

    @staticmethod
    def _target(path: Path) -> str | None:
        try:
            name = Path(os.readlink(path)).name
        except OSError:
            return None
        return "sha256:" + name if re.fullmatch("[0-9a-f]{64}", name) else None

    def memory(self, model: str) -> Memory:
        """Return what is remembered of a model."""
        return read_memory(self._models / model / STATE_FILE)

    def record(self, model: str) -> Record:
        """Return where a model is with a rollout."""
        return read_record(self._models / model / ROLLOUT_FILE)

    def armed(self, model: str) -> bool:
        """Say whether a model may have a release that waits to be committed."""
        return (self._models / model / ARMED_FILE).exists()

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
                raise BusyError(
                    f"Another process works on the releases in {self.root}; try again later."
                ) from None
            yield

    @contextlib.contextmanager
    def fetching(self) -> Iterator[None]:
        """Let one process at a time put a release together in ``incoming``.

        That may take hours; what is here meanwhile goes on under ``lock``.
        """
        with open(self.root / ".fetching", "w", encoding="utf-8") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise BusyError(
                    f"Another process fetches a release into {self.root}; try again later."
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
            make_directory(path)
            self._own(path, DIRECTORY_MODE)
        return self._incoming / hex_of(digest)

    def share(self, digest: str, name: str, layer: Descriptor) -> int:
        """Take a file of the release that is put together from one that is here, if it has it.

        Returns the bytes that need not be fetched. It becomes another name of the same file: what
        mends a release puts new files in the place of damaged ones and writes into none.
        """
        target = self._incoming / hex_of(digest) / name
        # What was begun is gone on with; a name of a file of another release is no beginning.
        if target.exists() and target.stat().st_nlink == 1 and target.stat().st_size:
            return 0
        with contextlib.suppress(FileNotFoundError):
            target.unlink()
        for source in self._bearing(layer, digest):
            if digest_of_file(source) != layer.digest:
                continue
            try:
                os.link(source, target)
            except OSError:
                shutil.copyfile(source, target)
            return layer.size
        return 0

    def _bearing(self, layer: Descriptor, but: str) -> Iterator[Path]:
        """Files of releases that by their manifests are the one that is wanted."""
        for digest in self.releases():
            try:
                release = parse_release((self.path(digest) / MANIFEST_FILE).read_bytes())
            except (OSError, RegistryError):
                continue
            for name, own in release.files.items():
                path = self.path(digest) / name
                same = (own.digest, own.size) == (layer.digest, layer.size) and digest != but
                if same and path.is_file() and path.stat().st_size == layer.size:
                    yield path

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
        sync_directory(place)
        os.rename(place, self.path(digest))
        sync_directory(self._releases)

    def misplaced(self, digest: str) -> bool:
        """Say whether the model server may not read a release, or others may write to it."""
        group, place = self.root.stat().st_gid, self.path(digest)
        entries = [(place, DIRECTORY_MODE), *((path, FILE_MODE) for path in files_in(place))]
        return any(
            path.stat().st_gid != group or stat.S_IMODE(path.stat().st_mode) != mode
            for path, mode in entries
        )

    def give(self, digest: str) -> None:
        """Give a release the group and the modes that it has when it is fetched."""
        self._own(self.path(digest), DIRECTORY_MODE)
        for path in files_in(self.path(digest)):
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
        sync_directory(target)
        self._own(target, DIRECTORY_MODE)
        os.utime(target, ns=(activated, activated))
        shutil.rmtree(place)

    def _take_out(self, path: Path) -> None:
        """Take something out of a release that does not belong there; `tidy` removes it."""
        os.replace(path, self._incoming / f"dropped-{path.name}")

    def switch(self, model: str, link: str, digest: str | None) -> None:
        """Point a link of a model at a release, atomically, or take the link away."""
        path = self._link(model, link)
        if path.parent != self.root:
            self.welcome(model)
        fresh = path.with_name(f".{link}.new")
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        if digest is None:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        else:
            # Whoever put the release there may have been killed before this.
            sync_directory(self._releases)
            releases = os.path.relpath(self._releases, path.parent)
            os.symlink(os.path.join(releases, hex_of(digest)), fresh)
            os.replace(fresh, path)
        sync_directory(path.parent)

    def welcome(self, model: str) -> None:
        """Make the directory of a model: from now on its releases are kept."""
        if not NAME.fullmatch(model):
            raise RegistryError(
                f"Found {model[:80]!r}, wanted the name of a model: letters, digits, dots, dashes "
                "and underscores."
            )
        for path in (self._models, self._models / model):
            make_directory(path)
            self._own(path, DIRECTORY_MODE)

    def part(self, model: str) -> None:
        """Take away the directory of a model of which nothing came."""
        with contextlib.suppress(OSError):
            (self._models / model).rmdir()
            sync_directory(self._models)

    def adopt(self, model: str) -> None:
        """Move the links of the layout for one model to that model.

        Where a link is there already an earlier run was killed in between; it is the newer one.
        The release that was ``previous`` of another model is nobody's and is dropped in time.
        """
        self.welcome(model)
        for link in (CURRENT, PREVIOUS):
            digest = self._target(self.root / link)
            gone = not os.path.lexists(self._link(model, link))
            if digest is not None and gone and self.model_of(digest) in ("", model):
                self.switch(model, link, digest)
        for link in (PREVIOUS, CURRENT):
            with contextlib.suppress(FileNotFoundError):
                (self.root / link).unlink()
        sync_directory(self.root)

    def remember(self, model: str, memory: Memory) -> None:
        """Write down what is to be remembered of a model; it is on the disk when this returns."""
        self._write(model, STATE_FILE, memory.to_bytes())

    def _write(self, model: str, name: str, data: bytes) -> None:
        self.welcome(model)
        path = self._models / model / name
        if path.exists() and path.read_bytes() == data:
            # Who wrote it may have been killed before this.
            sync_directory(path.parent)
            return
        fresh = path.with_name(f".{name}.new")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(fresh, path)
        sync_directory(path.parent)

    def note(self, model: str, record: Record) -> None:
        """Write down where a model is with a rollout; it is on the disk when this returns."""
        self._write(model, ROLLOUT_FILE, record.to_bytes())

    def arm(self, model: str) -> None:
        """Have the device look at the deadline of a model; before it is written down."""
        self._write(model, ARMED_FILE, b"")

    def disarm(self, model: str) -> None:
        """Let it look no longer; after that was written down."""
        path = self._models / model / ARMED_FILE
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            sync_directory(path.parent)

    def forget(self, model: str) -> None:
        """Remove the links and the memory of a model; its releases are then nobody's.

        The links go first: a run killed in between leaves no model that is half there.
        """
        for link in (CURRENT, PREVIOUS, REFUSED):
            if os.path.lexists(self._link(model, link)):
                self.switch(model, link, None)
        place = self._models / model
        if place.is_dir():
            shutil.rmtree(place)
            sync_directory(self._models)

    def touch(self, digest: str) -> None:
        """Remember that a release was activated now; the oldest are dropped first."""
        os.utime(self.path(digest))

    def surplus(self, keep: int) -> list[str]:
        """Return the releases that need not be here: of each model those beyond the number kept.

        Never one that a link points to. One that could not be served counts for nothing, and so
        does one of a model that is not here.
        """
        linked, models = self.held(), set(self.models())
        failed = {model: set(self.memory(model).failed) for model in models}
        order = self.releases()
        owner = {digest: self.model_of(digest) for digest in order}
        kept = dict.fromkeys(models, 0)
        for digest in order:
            if digest in linked and owner[digest] in models:
                kept[owner[digest]] += 1
        gone = []
        for digest in order:
            model = owner[digest]
            if digest in linked:
                continue
            if model in models and digest not in failed[model] and kept[model] < keep:
                kept[model] += 1
            else:
                gone.append(digest)
        return gone

    def drop(self, digest: str) -> None:
        """Remove a release; a run killed halfway leaves it in ``incoming``, never half in place."""
        self._incoming.mkdir(exist_ok=True)
        place = self._incoming / f"dropped-{hex_of(digest)}"
        os.rename(self.path(digest), place)
        shutil.rmtree(place)

    def tidy(self, wanted: str | None = None) -> None:
        """Remove what earlier runs left, but for what is being fetched.

        Nothing is removed while somebody fetches, nor what a rollout has begun to fetch.
        """
        if not self._incoming.is_dir():
            return
        with contextlib.suppress(BusyError), self.fetching():
            begun = {hex_of(digest) for digest in {*self._begun(), wanted} if digest}
            for path in self._incoming.iterdir():
                if path.name in begun:
                    continue
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def _begun(self) -> Iterator[str]:
        for model in self.models():
            with contextlib.suppress(RegistryError):
                record = self.record(model)
                if record.digest and record.phase in (NONE, STAGED):
                    yield record.digest

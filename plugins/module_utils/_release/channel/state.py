# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a device remembers of what it believed: on the disk before anything of it is used.

Two files are written in turn, each with its number and its digest. One that was torn, by power loss
on a medium that does not keep its word, is passed over for the other: that one is a step behind,
and the step was not used yet.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from ..errors import RegistryError
from ..oci import read_json
from ..openssl import verifier
from .documents import MAX_NUMBER, Signed, parse_root
from .rules import Clock, Judgement, Own, Ratchet, State, Verify, first, judge

SLOTS = ("channel-a.json", "channel-b.json")
FRESH = ".channel.new"
MAX_STATE_BYTES = 1024 * 1024
FILE_MODE = 0o640


class Disk(Protocol):
    """One directory, with the steps between which the power may fail."""

    def read(self, name: str) -> bytes | None:
        """Return a file, None if it is not there."""

    def write(self, name: str, data: bytes) -> None:
        """Write a new file; one of that name is taken away first, never written into."""

    def sync(self, name: str) -> None:
        """Return when a file is on the medium."""

    def rename(self, name: str, target: str) -> None:
        """Put a file in the place of another."""

    def sync_names(self) -> None:
        """Return when the names in the directory are on the medium."""


class Folder:
    """A real directory. Its files belong to the group that it belongs to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str) -> bytes | None:
        """Return a file, None if it is not there."""
        try:
            with (self.path / name).open("rb") as stream:
                return stream.read(MAX_STATE_BYTES + 1)
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Write a new file; one of that name is taken away first, never written into.

        A rename that power loss cut short can leave one file under both names.
        """
        with contextlib.suppress(FileNotFoundError):
            (self.path / name).unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with open(os.open(self.path / name, flags, FILE_MODE), "wb") as stream:
            os.fchmod(stream.fileno(), FILE_MODE)
            with contextlib.suppress(PermissionError):  # who may not give it, need not
                os.fchown(stream.fileno(), -1, self.path.stat().st_gid)
            stream.write(data)

    def sync(self, name: str) -> None:
        """Return when a file is on the medium."""
        with (self.path / name).open("rb") as stream:
            os.fsync(stream.fileno())

    def rename(self, name: str, target: str) -> None:
        """Put a file in the place of another."""
        os.replace(self.path / name, self.path / target)

    def sync_names(self) -> None:
        """Return when the names in the directory are on the medium."""
        handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class Keeper:
    """Keeps the state on a disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def load(self) -> State | None:
        """Return what is remembered, None on a device that was never enrolled."""
        found, damaged = self._look()
        if found:
            return found[0][2]
        if damaged:
            raise RegistryError(
                f"What this device remembers of its channel cannot be read ({damaged[0]}). It "
                "keeps serving and takes nothing new; enrol it again."
            )
        return None

    def save(self, state: State) -> None:
        """Remember a state; it is on the medium when this returns."""
        found, _damaged = self._look()
        serial = found[0][0] + 1 if found else 1
        # Never over the newest that is whole.
        slot = next(name for name in SLOTS if not found or name != found[0][1])
        body = json.dumps({"serial": serial, **_written(state)}, sort_keys=True).encode() + b"\n"
        disk = self._disk
        disk.write(FRESH, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        disk.sync(FRESH)
        disk.rename(FRESH, slot)
        disk.sync_names()

    def _look(self) -> tuple[list[tuple[int, str, State]], list[str]]:
        """Return what is whole, the newest first, and what is wrong with the rest."""
        found, damaged = [], []
        for name in SLOTS:
            data = self._disk.read(name)
            if data is None:
                continue
            try:
                serial, state = _parse(data)
                found.append((serial, name, state))
            except (RegistryError, ValueError, KeyError, TypeError, AttributeError) as error:
                damaged.append(f"{name}: {type(error).__name__}: {error}")
        return sorted(found, key=lambda one: one[0], reverse=True), damaged


def _written(state: State) -> dict[str, Any]:
    return {
        "root": state.root_data.decode("ascii"),
        "sequence": state.sequence,
        "digest": state.digest,
        "signers": list(state.signers),
        "issued": state.issued,
        "expires": state.expires,
        "resets": state.resets,
        "models": {
            name: [ratchet.generation, ratchet.counter, ratchet.minimum]
            for name, ratchet in state.models.items()
        },
    }


def _parse(data: bytes) -> tuple[int, State]:
    mark, _newline, body = data.partition(b"\n")
    if len(data) > MAX_STATE_BYTES or hashlib.sha256(body).hexdigest().encode() != mark:
        raise ValueError("the file is torn")
    value = read_json(body, "state")
    root_data = value["root"].encode("ascii")
    state = State(
        root=parse_root(root_data),
        root_data=root_data,
        sequence=_number(value["sequence"]),
        digest=str(value["digest"]),
        signers=tuple(str(key) for key in value["signers"]),
        issued=_number(value["issued"]),
        expires=_number(value["expires"]),
        resets=_number(value["resets"]),
        models={
            str(name): Ratchet(_number(row[0]), _number(row[1]), _number(row[2]))
            for name, row in value["models"].items()
        },
    )
    return _number(value["serial"]), state


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_NUMBER:
        raise ValueError(f"{value!r} is no number")
    return value


class Trust:
    """What one device believes: the rules over a memory that survives.

    Whoever uses it holds the lock of the device: there is one writer at a time.
    """

    def __init__(self, keeper: Keeper, own: Own, verify: Verify) -> None:
        self._keeper, self._own, self._verify = keeper, own, verify

    def enrol(self, root: Signed, again: bool = False) -> bool:
        """Begin with a root document that a person brought; say whether anything changed.

        A device that was enrolled stays with what it knows. ``again`` is for one that a person
        enrols anew: what it remembered is forgotten.
        """
        if not again:
            known = self._keeper.load()
            if known is not None:
                if known.root.site != self._own.site:
                    raise RegistryError(
                        f"This device is enrolled at the site {known.root.site}, its settings say "
                        f"{self._own.site}; enrol it again, or mend the settings."
                    )
                return False
        self._keeper.save(first(root, self._own.site, self._verify))
        return True

    def state(self) -> State:
        """Return what is remembered."""
        state = self._keeper.load()
        if state is None:
            raise RegistryError(
                "This device was never enrolled: it has no root document to believe."
            )
        return state

    def take(self, roots: Sequence[Signed], channel: Signed | None, clock: Clock) -> Judgement:
        """Judge what was fetched. What came of it is on the disk when this returns."""
        before = self.state()
        verdict = judge(before, roots, channel, clock, self._own, self._verify)
        if verdict.state != before:
            self._keeper.save(verdict.state)
        return verdict


def by_openssl(public_key: str, payload: bytes, signature: bytes) -> bool:
    """Verify with the openssl command, which every device has."""
    return verifier(public_key)(payload, signature)

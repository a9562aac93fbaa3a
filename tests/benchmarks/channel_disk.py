# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory whose power fails: what was not synced may be there, torn, or not at all.

A file's content is safe after ``sync``, names after ``sync_names``. When the power fails, each
change of a name since then survives or does not, in no order, and content that was not synced is
cut off or garbled. That is at least as bad as what POSIX allows a file system.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field


class PowerLoss(Exception):
    """The device went off in the middle of something."""


class Broken(Exception):
    """A promise was broken; the message says which."""


@dataclass
class _File:
    data: bytes
    synced: bytes | None = None


@dataclass
class FakeDisk:
    """``fail_at`` is the number of the operation at which the power fails; None where it stays."""

    chance: random.Random
    names: dict[str, _File] = field(default_factory=dict)
    kept: dict[str, _File] = field(default_factory=dict)
    pending: list[tuple[str, _File | None]] = field(default_factory=list)
    fail_at: int | None = None
    done: int = 0

    def _step(self) -> None:
        if self.fail_at is not None and self.done >= self.fail_at:
            self.lose()
            raise PowerLoss
        self.done += 1

    def read(self, name: str) -> bytes | None:
        """Return a file as the running system sees it."""
        found = self.names.get(name)
        return None if found is None else found.data

    def write(self, name: str, data: bytes) -> None:
        """Begin to write; the power may fail before, or when half of it is there."""
        self._step()
        found = self.names[name] = _File(data)
        self.pending += [(name, None), (name, found)]
        self._step()

    def sync(self, name: str) -> None:
        """Put content on the medium."""
        self._step()
        found = self.names[name]
        found.synced = found.data

    def rename(self, name: str, target: str) -> None:
        """Change names; they are not on the medium yet."""
        self._step()
        found = self.names.pop(name)
        self.names[target] = found
        self.pending += [(target, found), (name, None)]

    def sync_names(self) -> None:
        """Put names on the medium."""
        self._step()
        self.kept = dict(self.names)
        self.pending.clear()
        # The power may also fail just after: everything is there, and nobody was told.
        self._step()

    def lose(self) -> None:
        """Leave what survives."""
        for name, found in self.pending:
            if self.chance.random() < 0.5:
                if found is None:
                    self.kept.pop(name, None)
                else:
                    self.kept[name] = found
        for found in self.kept.values():
            if found.synced is None:
                found.data = self._torn(found.data)
            else:
                found.data = found.synced
            found.synced = found.data
        self.names = dict(self.kept)
        self.pending.clear()
        self.fail_at = None
        self.done = 0

    def _torn(self, data: bytes) -> bytes:
        kept = data[: self.chance.randrange(len(data) + 1)]
        how = self.chance.randrange(3)
        if how == 0:
            return kept
        if how == 1:  # the length is there, the content is not
            return kept + bytes(len(data) - len(kept))
        return kept + self.chance.randbytes(len(data) - len(kept))

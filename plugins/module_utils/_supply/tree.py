# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's files, as the kernel and the system show them. They can be a recorded tree."""

from __future__ import annotations

import os


class Host:
    """A host's files. Notes what could not be read, and why."""

    def __init__(self, root: str = "/") -> None:
        self.root = root.rstrip("/")
        self.unknown: list[dict[str, str]] = []

    def path(self, path: str) -> str:
        """Where a path of the host really is."""
        return self.root + path

    def note(self, what: str, reason: object) -> None:
        """Something is unknown."""
        said = reason.strerror if isinstance(reason, OSError) and reason.strerror else reason
        self.unknown.append({"what": what, "reason": str(said)})

    def read(self, path: str, what: str = "") -> str:
        """The text of a file; empty if it cannot be read, which is noted if `what` is given."""
        try:
            with open(self.path(path), encoding="utf-8", errors="replace") as stream:
                return stream.read()
        except OSError as error:
            if what:
                self.note(what, f"{path}: {error.strerror}")
            return ""

    def line(self, path: str) -> str | None:
        """The one line of a file, None if there is none."""
        return self.read(path).strip() or None

    def number(self, path: str) -> int | None:
        """The number in a file; None if it holds none. The kernel writes -1 for unknown."""
        said = self.line(path)
        return int(said) if said is not None and said.isdecimal() else None

    def names(self, path: str) -> list[str]:
        """What is in a directory, nothing if it is not there."""
        try:
            return sorted(os.listdir(self.path(path)))
        except OSError:
            return []

    def link(self, path: str) -> str | None:
        """The last part of where a link leads."""
        try:
            return os.path.basename(os.readlink(self.path(path)))
        except OSError:
            return None

    def exists(self, path: str) -> bool:
        return os.path.lexists(self.path(path))

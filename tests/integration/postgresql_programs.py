# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Programs of PostgreSQL: installed here, or Debian's taken out of their packages.

Packages of another release of Debian come with its own C library, and every program is started
through that library's loader. Nothing is installed on this machine.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from .debian_programs import archives, start_through_loader, unpack

RELEASES = {15: "bookworm", 17: "trixie"}


@dataclass(frozen=True)
class Programs:
    """Where the programs of one major version are, and the root they were unpacked into."""

    major: int
    path: Path
    root: Path | None = None

    def find(self, name: str) -> Path | None:
        """A program beside those of the server, None if it is not there."""
        if self.root is None:
            found = shutil.which(name, path="/usr/sbin:/usr/bin")
            return Path(found) if found else None
        places = (self.root / place / name for place in ("usr/sbin", "usr/bin"))
        return next((path for path in places if path.exists()), None)


def installed(major: int) -> Programs | None:
    """The server of this major version, if Debian's package is installed here."""
    path = Path(f"/usr/lib/postgresql/{major}/bin")
    return Programs(major, path) if (path / "initdb").exists() else None


def unpacked(major: int, place: Path) -> Programs:
    """The server of this major version, pgbouncer and the sources of locales, below ``place``.

    Where packages cannot be had, the tests that need them are skipped.
    """
    root = place / RELEASES[major]
    unpack(archives(RELEASES[major], [f"postgresql-{major}", "pgbouncer", "locales"]), root)
    path = root / f"usr/lib/postgresql/{major}/bin"
    wanted = [*path.iterdir(), root / "usr/sbin/pgbouncer", root / "usr/bin/localedef"]
    for program in wanted:
        start_through_loader(program, root)
    return Programs(major, path, root)

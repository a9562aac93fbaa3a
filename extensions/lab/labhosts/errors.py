# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The errors of this package: LabError, and of its kind OthersRunError."""

from __future__ import annotations


class LabError(Exception):
    """A sentence for the person at the terminal; no traceback belongs to it."""


class OthersRunError(LabError):
    """Hosts of another checkout run under our project's name; ``beside_ours`` are there as well."""

    def __init__(self, project: str, owners: list[str], mine: str, *, beside_ours: bool) -> None:
        self.owners = owners
        self.beside_ours = beside_ours
        super().__init__(
            f"The hosts of project {project!r} on this machine belong to {', '.join(owners)}, not "
            f"to {mine}. Take them down there, or replace them with --take-over."
        )

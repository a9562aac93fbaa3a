# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lanes: sets of test hosts beside one another, each with its own network, inventory and state.

Lane 1 is the topology and the inventory in ``extensions/molecule``, which Molecule uses by itself.
Every further lane is a copy of it below ``.cache``, in the next network, written anew each time.

    python3 -m tests.lanes 2       # what a shell needs to use lane 2: eval "$(...)"
    python3 -m tests.lanes clean   # take the hosts of all lanes away

Needs nothing but Python.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "extensions" / "molecule"
COPIED = ("topology.toml", "inventory/hosts.yml", "inventory/group_vars/all/main.yml")
MOST = 4  # lanes that `clean` looks for


def environment_of(site: Path, name: str) -> dict[str, str]:
    """What makes Molecule and the tests use the hosts of an inventory."""
    return {
        "MLOPS_TEST_SITE": str(site.relative_to(ROOT)),
        # Molecule's own memory would otherwise be one for all, in HOME.
        "MOLECULE_EPHEMERAL_DIRECTORY": str(ROOT / ".cache" / f"molecule-{name}" / "ephemeral"),
    }


def own_hosts(scenario: str) -> Path | None:
    """The topology of a scenario that brings hosts of its own and shares none of a lane."""
    topology = MODEL / scenario / "topology.toml"
    return topology if topology.exists() else None


@dataclass(frozen=True)
class Lane:
    """One set of test hosts."""

    number: int

    @property
    def directory(self) -> Path:
        """Where its topology and its inventory are."""
        return MODEL if self.number == 1 else ROOT / ".cache" / f"molecule-{self.number}"

    @property
    def topology(self) -> Path:
        """The file that says which hosts it has."""
        return self.directory / "topology.toml"

    @property
    def site(self) -> Path:
        """The inventory, beside which its state, its secrets and the company's facts lie."""
        return self.directory / "inventory"

    @property
    def environment(self) -> dict[str, str]:
        """What makes Molecule and the tests use this lane."""
        return environment_of(self.site, str(self.number))

    def write(self) -> None:
        """Write the files of the lane; those of the first lane are there."""
        if self.number == 1:
            return
        for name in COPIED:
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.of_this_lane((MODEL / name).read_text("utf-8")), "utf-8")

    def of_this_lane(self, text: str) -> str:
        """The text of the first lane, with the network and the project of this one."""
        return text.replace("10.204.0.", f"10.{203 + self.number}.0.").replace(
            'project = "molecule"', f'project = "molecule-{self.number}"'
        )

    def stop_s3(self) -> None:
        """Stop the company's S3 endpoint of this lane, if it runs."""
        file = self.site / ".state" / "s3" / "pid"
        try:
            pid = int(file.read_text("utf-8"))
            if b"moto" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGTERM)
        except (OSError, ValueError):
            return
        file.unlink()

    def clean(self) -> bool:
        """Take its hosts away, with all that was written for them; false if that failed."""
        self.write()
        self.stop_s3()
        return clean_hosts(self.topology, str(self.number))


def clean_hosts(topology: Path, name: str) -> bool:
    """Take the hosts of a topology away, with what Molecule remembers of them."""
    command = [sys.executable, "extensions/lab/lab.py", "clean", "--topology", str(topology)]
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        return False
    shutil.rmtree(ROOT / ".cache" / f"molecule-{name}", ignore_errors=True)
    return True


def main(words: list[str]) -> int:
    """Do what the command line says."""
    if words == ["clean"]:
        cleaned = [Lane(number).clean() for number in range(1, MOST + 1)]
        for topology in sorted(MODEL.glob("*/topology.toml")):
            cleaned.append(clean_hosts(topology, topology.parent.name))
        return int(not all(cleaned))
    if len(words) != 1 or words[0] not in {str(number) for number in range(1, MOST + 1)}:
        print(f"usage: python3 -m tests.lanes clean | 1..{MOST}", file=sys.stderr)
        return 2
    lane = Lane(int(words[0]))
    lane.write()
    for name, value in lane.environment.items():
        print(f"export {name}='{value}'")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

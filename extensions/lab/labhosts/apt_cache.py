# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Downloaded packages, kept once for all hosts and runs.

Each host has a directory of its own under /var/cache/apt/archives, because apt locks it. The
files in them are hard links into one store: linked when a host is made, harvested at every run
of the builder. No service runs, nothing is stored twice.
"""

from __future__ import annotations

from pathlib import Path

from .machine import CACHE, Machine
from .topology import Host, Topology

_STORE = CACHE / "apt" / "store"


def directory_of(project: str, host: str) -> Path:
    return CACHE / "apt" / "hosts" / project / host


def directory(topology: Topology, host: Host) -> Path:
    return directory_of(topology.project, host.name)


def fill(machine: Machine, target: Path) -> None:
    _STORE.mkdir(parents=True, exist_ok=True)
    target.mkdir(parents=True, exist_ok=True)
    script = 'cp --recursive --link --no-clobber "$1/." "$2/"'
    machine.run(["sh", "-c", script, "fill", str(_STORE), str(target)], root=True)


def harvest(machine: Machine) -> None:
    """From the hosts of all projects."""
    source = CACHE / "apt" / "hosts"
    if not source.is_dir():
        return
    _STORE.mkdir(parents=True, exist_ok=True)
    script = (
        'find "$1" -mindepth 3 -maxdepth 3 -name "*.deb" -links 1 '
        '-exec cp --link --no-clobber --target-directory="$2" {} +'
    )
    machine.run(["sh", "-c", script, "harvest", str(source), str(_STORE)], root=True, check=False)


def drop(machine: Machine, topology: Topology) -> None:
    source = directory(topology, topology.hosts[0]).parent
    machine.run(["rm", "-rf", str(source)], root=True)


def remove_all(machine: Machine) -> None:
    machine.run(["rm", "-rf", str(CACHE / "apt")], root=True)

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""podman as root, also where cgroups are hybrid and where device filters cannot be loaded."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from .errors import LabError
from .machine import CACHE, Machine, Result, say

RUN = Path("/run/mlops-lab")
PROC = Path("/proc")
DEAD = ("Z", "X")
PROJECT_LABEL = "mlops.lab.project"
LOST = "lost"
_WATCHES = Path("/proc/sys/fs/inotify/max_user_instances")
_MANY_WATCHES = 1024
_PID_FILE = RUN / "holder.pid"
_HOLDER = "mlops-lab-holder"
_UNSHARE = ["unshare", "-m", "--propagation", "private"]
REVIVE = """
for namespace in /run/netns/netns-*; do
  [ ! -e "$namespace" ] || [ "$(stat -fc %T "$namespace")" = nsfs ] ||
  unshare --net="$namespace" true || exit 1
done
"""
_HOLD = f"""
[ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ] ||
{{ umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup; }} || exit 1
{REVIVE}
echo $$ >{_PID_FILE}.new && mv {_PID_FILE}.new {_PID_FILE}
exec -a {_HOLDER} sleep infinity
"""
_NO_DEVICE_FILTER = """#!/usr/bin/python3
# Without CAP_SYS_RESOURCE crun cannot load a device filter; the hosts get no devices anyway.
import json, sys
config = json.load(sys.stdin)
config["linux"].get("resources", {}).pop("devices", None)
json.dump(config, sys.stdout)
"""
_HOOK = {
    "version": "1.0.0",
    "hook": {"path": str(RUN / "hooks" / "no_device_filter.py")},
    "when": {"annotations": {"^mlops.lab$": "^host$"}},
    "stages": ["precreate"],
}


class Podman:
    """Every call goes through one mount namespace if this machine's cgroups are hybrid.

    One per call would do for a start, but network teardown and container names break when the
    namespace that set them up is gone. Where that has happened all the same, because everything
    was killed at once, the names that podman still knows get new, empty network namespaces:
    it refuses to look at a container, even to remove it, without one.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def __call__(self, *words: str, data: bytes | None = None, check: bool = True) -> Result:
        return self.machine.run([*self.command, *words], root=True, data=data, check=check)

    @cached_property
    def command(self) -> list[str]:
        hooks: list[str] = []
        if not self.machine.can_filter_devices:
            self._write_hook()
            hooks = ["--hooks-dir", str(RUN / "hooks")]
        if self.machine.pure_cgroup2:
            return ["podman", *hooks]
        holder = self._holder() or self._start_holder()
        return ["nsenter", "-t", str(holder), "-m", "--wdns=/", "--", "podman", *hooks]

    def inspect(self, project: str | None = None) -> list[dict[str, Any]]:
        """Our containers, of one project or of all.

        One that podman takes for running, but whose processes somebody has killed together with
        their monitor, is in the state "lost": podman can do nothing with it but remove it.
        """
        containers = self._listed(project)
        if any(map(_lost, containers)):
            # Look again: of one that ended between the question and the look podman knows by now.
            containers = [
                {**container, "State": LOST} if _lost(container) else container
                for container in self._listed(project)
            ]
        return containers

    def _listed(self, project: str | None) -> list[dict[str, Any]]:
        label = PROJECT_LABEL if project is None else f"{PROJECT_LABEL}={project}"
        listed = self("ps", "--all", "--format", "json", "--filter", f"label={label}").out
        containers: list[dict[str, Any]] = json.loads(listed or "[]")
        return containers

    def remove(self, *names: str) -> None:
        """Remove containers, running or not; of one that was killed podman learns by trying."""
        words = ("rm", "--force", "--ignore", "--time", "0", "--volumes", *names)
        if self(*words, check=False).code != 0:
            self(*words)

    def make_room(self) -> None:
        """Every systemd watches files; a machine's usual limit is enough for twenty hosts only."""
        limit = int(_WATCHES.read_text())
        if limit < _MANY_WATCHES:
            script = (
                f"mkdir -p {RUN} && echo {limit} >{RUN}/watches && echo {_MANY_WATCHES} >{_WATCHES}"
            )
            self.machine.run(["sh", "-c", script], root=True)
            say(f"Raised {_WATCHES} from {limit} to {_MANY_WATCHES}, as long as there are hosts")

    def release(self) -> None:
        """End the mount namespace when no host of any project is left."""
        holder = self._holder()
        if self.inspect():
            return
        if holder:
            self.machine.run(["kill", str(holder)], root=True, check=False)
        restore = f"[ ! -e {RUN}/watches ] || cat {RUN}/watches >{_WATCHES}; rm -rf {RUN}"
        self.machine.run(["sh", "-c", restore], root=True)
        self.__dict__.pop("command", None)

    def settle(self, prefix: str) -> None:
        """Let commands end that a killed run of the builder has left at work on our containers."""
        own = os.getpid()
        for _attempt in range(300):
            at_work = any(
                b"podman" in words and any(word.startswith(prefix.encode()) for word in words)
                for pid, words in commands()
                if pid != own
            )
            if not at_work:
                return
            time.sleep(0.1)

    @property
    def in_use(self) -> bool:
        """Whether there may be anything of ours, without starting anything to find out."""
        return self.machine.pure_cgroup2 or self._holder() is not None

    def _holder(self) -> int | None:
        try:
            pid = int(_PID_FILE.read_text())
            name = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if name.startswith(_HOLDER.encode()) else None

    def _start_holder(self) -> int:
        self.machine.run(["mkdir", "-p", str(RUN)], root=True)
        # A host that outlived a holder still has a monitor in the old namespace: go on there.
        orphan = monitor("mlops-")
        enter = ["nsenter", "-t", str(orphan), "-m", "--wdns=/"] if orphan else _UNSHARE
        quiet = f'exec setsid --fork "$@" >{RUN}/holder.log 2>&1'
        self.machine.run(["bash", "-c", quiet, "hold", *enter, "bash", "-c", _HOLD], root=True)
        for _attempt in range(100):
            pid = self._holder()
            if pid:
                return pid
            time.sleep(0.05)
        log = self.machine.run(["cat", str(RUN / "holder.log")], root=True, check=False).out
        raise LabError(f"Could not set up a mount namespace with cgroup2 for podman: {log.strip()}")

    def _write_hook(self) -> None:
        hooks = RUN / "hooks"
        if (hooks / "no_device_filter.json").exists():
            return
        script = f"mkdir -p {hooks} && cat >{hooks}/no_device_filter.py && chmod 0755 {hooks}/*.py"
        self.machine.run(["sh", "-c", script], root=True, data=_NO_DEVICE_FILTER.encode())
        target = f"cat >{hooks}/no_device_filter.json"
        self.machine.run(["sh", "-c", target], root=True, data=json.dumps(_HOOK).encode())


def _lost(container: dict[str, Any]) -> bool:
    return container["State"] == "running" and not runs(container["Id"], container["Pid"])


def runs(container: str, pid: int, proc: Path = PROC) -> bool:
    """Whether a container has its process, not a later one of that number, or yet a monitor.

    A process that is dead and only waits to be reaped does not count. Taken for running where the
    processes of others are hidden: a host is not lost on a guess.
    """
    if not (proc / "1").exists():
        return True
    try:
        state = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
        if state not in DEAD and container in (proc / str(pid) / "cgroup").read_text():
            return True
    except OSError:
        pass
    return monitor(container, proc) is not None


def monitor(prefix: str, proc: Path = PROC) -> int | None:
    """The process of a conmon with a word on its command line that begins like this."""
    for pid, words in commands(proc):
        if words[0].endswith(b"/conmon") and any(w.startswith(prefix.encode()) for w in words):
            return pid
    return None


def commands(proc: Path = PROC) -> Iterator[tuple[int, list[bytes]]]:
    """Number and command line of every process that there is to see."""
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            yield int(entry.name), words


@contextmanager
def machine_lock(name: str) -> Iterator[None]:
    """One builder at a time does what belongs to the whole machine (or to one project)."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Waiting for another run of the builder to finish with {name} …", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield

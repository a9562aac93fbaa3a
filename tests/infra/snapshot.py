"""What a host holds, as JSON, and what two such pictures differ in.

    snapshot.py --ssh-config CONFIG take HOST --output before.json
    snapshot.py --ssh-config CONFIG compare HOST before.json     exit 1 if anything differs
    snapshot.py diff before.json after.json                      the same for two files

Runs anywhere; on the host it needs only Python 3.9 (this very file is sent there by stdin).
"""

from __future__ import annotations

import argparse
import contextlib
import grp
import hashlib
import json
import os
import pwd
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Snapshot = dict[str, dict[str, str]]

# What changes by itself, or is told elsewhere in the snapshot.
EXCLUDED = re.compile(
    r"^(/proc|/sys|/dev|/run)$"  # not files
    r"|^/var/log$"  # logs
    r"|^/var/cache$"  # caches, apt's archives among them
    r"|^/var/lib/apt$"  # package lists, marks (told as packages)
    r"|^/var/lib/dpkg$"  # told as packages
    r"|^/var/lib/ucf$|^/var/backups$"  # dpkg's and ucf's own bookkeeping
    r"|^/var/lib/systemd$"  # timers' stamps, random seed, what was enabled when
    r"|/__pycache__$"  # written by whatever imports first
    r"|^/etc/(passwd|group|shadow|gshadow)-?$|^/etc/sub[ug]id-?$"  # told as users and groups
    r"|^/etc/\.pwd\.lock$|^/etc/ld\.so\.cache$|^/etc/\.updated$|^/var/\.updated$"
    r"|^/(var/)?tmp/(systemd-private-|\.[A-Z0-9a-z]+-unix$|ansible)"  # of running services
    r"|^/root/\.ansible$"  # Ansible's scratch directory
    r"|^/etc/(hostname|resolv\.conf)$"  # of the machine that holds the host
)
# Units that come and go with logins and boots.
PASSING_UNITS = re.compile(r"^(session-|user@|user-\d|run-|systemd-(tmpfiles|hostnamed|timedated))")
PASSING_MOUNTS = re.compile(r"^/run/(user|credentials)/|^/run/systemd/")


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def came_with_others(path: str = "/var/lib/apt/extended_states") -> set[str]:
    """Packages that apt installed because another one wanted them.

    Read where apt keeps it: ``apt-mark showauto`` says the same, and builds or maps a cache of all
    packages of the distribution first.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:  # nothing was ever installed that way
        return set()
    found = set()
    for part in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in part.splitlines() if ": " in line)
        if fields.get("Auto-Installed") == "1":
            found.update({fields["Package"], f"{fields['Package']}:{fields['Architecture']}"})
    return found


def packages() -> dict[str, str]:
    listing = run("dpkg-query", "-W", "-f", "${binary:Package}\t${Version}\t${db:Status-Abbrev}\n")
    automatic = came_with_others()
    found = {}
    for line in listing.splitlines():
        name, version, state = line.split("\t")
        mark = "automatic" if {name, name.split(":")[0]} & automatic else "manual"
        found[name] = f"{version} {state.strip()} {mark}"
    return found


def units() -> dict[str, str]:
    """Unit files by state; loaded units by whether they run or have failed."""
    found = {}
    for line in run("systemctl", "list-unit-files", "--no-legend", "--no-pager").splitlines():
        name, state = line.split()[:2]
        if state not in {"transient", "generated"}:
            found[name] = state
    kinds = "service,socket,timer,path,slice"
    listing = run("systemctl", "list-units", "--all", "--plain", "--no-legend", "-t", kinds)
    for line in listing.splitlines():
        name, _load, active, how = line.split()[:4]
        # What ran once at boot and ended well says nothing.
        if active in {"active", "failed"} and how != "exited" and not PASSING_UNITS.match(name):
            found[name] = f"{found.get(name, 'loaded')}, {active}"
    return found


def users() -> dict[str, str]:
    return {u.pw_name: f"{u.pw_uid} {u.pw_gid} {u.pw_dir} {u.pw_shell}" for u in pwd.getpwall()}


def groups() -> dict[str, str]:
    return {g.gr_name: f"{g.gr_gid} {' '.join(sorted(g.gr_mem))}".strip() for g in grp.getgrall()}


def ports() -> dict[str, str]:
    found = {}
    for line in run("ss", "-H", "-l", "-n", "-t", "-u").splitlines():
        kind, _state, _received, _sent, local = line.split()[:5]
        found[f"{kind} {local}"] = "listening"
    return found


def mounts() -> dict[str, str]:
    found = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        point = left.split()[4]
        if not PASSING_MOUNTS.match(point):
            found[point] = right.split()[0]
    return found


def processes() -> dict[str, str]:
    """Programs that run, by user; not how many of each."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            program = str((entry / "exe").readlink())
            owner = pwd.getpwuid(entry.stat().st_uid).pw_name
        except (OSError, KeyError):
            continue
        # Helpers that systemd starts when asked, and this very connection.
        if not re.search(r"/usr/lib/systemd/|/sshd|/ss$|/python3|/bin/(ba|da)?sh$", program):
            found[f"{owner} {program}"] = "running"
    return found


def walk(directory: str) -> Iterator[os.DirEntry[str]]:
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in entries:
        if EXCLUDED.search(entry.path):
            continue
        yield entry
        if entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path)


class Sums:
    """What files hold, read once: a second snapshot of a host reads what was touched since.

    Whatever touches a file sets its time of change, which no program can set back. A file touched
    just now is read again the next time: two changes may bear the same time.
    """

    JUST_NOW = 2_000_000_000  # nanoseconds

    def __init__(self, path: str = "/run/snapshot-sums.json") -> None:
        self._path = Path(path)
        self._known: dict[str, list[Any]] = {}
        self._seen: dict[str, list[Any]] = {}
        with contextlib.suppress(OSError, ValueError):
            if self._path.stat().st_uid == os.geteuid():
                self._known = json.loads(self._path.read_text())

    def of(self, path: str, status: os.stat_result) -> str:
        marks = [status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns]
        known = self._known.get(path)
        if known and known[1:] == marks:
            self._seen[path] = known
            return str(known[0])
        digest = hashlib.sha256()
        with Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        found = digest.hexdigest()[:32]
        if time.time_ns() - status.st_ctime_ns > self.JUST_NOW:
            self._seen[path] = [found, *marks]
        return found

    def keep(self) -> None:
        """For the next snapshot; it is of no use to anybody else, and not worth a failure."""
        with contextlib.suppress(OSError):
            fresh = self._path.with_suffix(f".{os.getpid()}")
            fresh.touch(mode=0o600)
            fresh.write_text(json.dumps(self._seen))
            fresh.replace(self._path)


def describe(entry: os.DirEntry[str], sums: Sums) -> str:
    status = entry.stat(follow_symlinks=False)
    mode = f"{stat.S_IMODE(status.st_mode):04o} {status.st_uid}:{status.st_gid}"
    if entry.is_symlink():
        return f"link to {Path(entry.path).readlink()}"
    if entry.is_dir():
        return f"directory {mode}"
    if not entry.is_file():
        return f"special {mode}"
    return f"file {mode} sha256:{sums.of(entry.path, status)}"


def files() -> dict[str, str]:
    found = {}
    sums = Sums()
    for entry in walk("/"):
        try:
            found[entry.path] = describe(entry, sums)
        except FileNotFoundError:
            continue  # gone since it was listed
    sums.keep()
    return found


def snapshot() -> Snapshot:
    return {
        "package": packages(),
        "unit": units(),
        "user": users(),
        "group": groups(),
        "port": ports(),
        "mount": mounts(),
        "process": processes(),
        "file": files(),
    }


def differences(before: Snapshot, after: Snapshot, keep: list[str]) -> list[str]:
    """One line per difference; lines that match a pattern of `keep` are expected to remain."""
    lines = []
    for kind in sorted(set(before) | set(after)):
        old, new = before.get(kind, {}), after.get(kind, {})
        for name in sorted(set(old) | set(new)):
            if name not in old:
                lines.append(f"+ {kind} {name}: {new[name]}")
            elif name not in new:
                lines.append(f"- {kind} {name}: {old[name]}")
            elif old[name] != new[name]:
                lines.append(f"~ {kind} {name}: {old[name]} -> {new[name]}")
    left = [line for line in lines if not any(re.search(pattern, line) for pattern in keep)]
    return list(collapsed(left))


def collapsed(lines: list[str]) -> Iterator[str]:
    """A directory that came or went is one line; what is in it is only counted."""
    top, count = "", 0
    whole = re.compile(r"^([+-] file /.*): directory \d{4} ")
    for line in [*lines, ""]:
        if top and line.startswith(f"{top}/"):
            count += 1
            continue
        if top:
            yield f"{top}/: directory with {count} entries"
        match = whole.match(line)
        top, count = (match[1] if match else ""), 0
        if line and not match:
            yield line


def take(host: str, ssh_config: Path | None) -> Snapshot:
    config = ["-F", str(ssh_config)] if ssh_config else []
    remote = "if [ $(id -u) = 0 ]; then python3 - here; else sudo -n python3 - here; fi"
    done = subprocess.run(
        ["ssh", *config, host, remote],
        input=Path(__file__).read_text(encoding="utf-8"),
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"snapshot.py: no snapshot of {host}: {done.stderr.strip()}")
    answer: Snapshot = json.loads(done.stdout)
    return answer


def read(path: Path) -> Snapshot:
    answer: Snapshot = json.loads(path.read_text(encoding="utf-8"))
    return answer


def write(value: Any, path: Path | None) -> None:
    text = json.dumps(value, indent=0, sort_keys=True) + "\n"
    if path is None:
        sys.stdout.write(text)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    top.add_argument("--ssh-config", type=Path, metavar="FILE", help="how hosts are reached")
    verbs = top.add_subparsers(dest="verb", required=True)
    verbs.add_parser("here", help="print the snapshot of this very host")
    one = verbs.add_parser("take", help="take the snapshot of a host over SSH")
    one.add_argument("host")
    one.add_argument("--output", type=Path, metavar="FILE")
    keep = argparse.ArgumentParser(add_help=False)
    keep.add_argument(
        "--keep", action="append", default=[], metavar="REGEX", help="lines to expect"
    )
    compare = verbs.add_parser("compare", parents=[keep], help="compare a host with a snapshot")
    compare.add_argument("host")
    compare.add_argument("before", type=Path)
    two = verbs.add_parser("diff", parents=[keep], help="compare two snapshots")
    two.add_argument("before", type=Path)
    two.add_argument("after", type=Path)
    return top


def main() -> int:
    options = parser().parse_args()
    if options.verb == "here":
        write(snapshot(), None)
        return 0
    if options.verb == "take":
        write(take(options.host, options.ssh_config), options.output)
        return 0
    if options.verb == "compare":
        after = take(options.host, options.ssh_config)
    else:
        after = read(options.after)
    lines = differences(read(options.before), after, options.keep)
    print("\n".join(lines) if lines else "Nothing differs")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())

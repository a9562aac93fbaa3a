# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all hands of this package share: the ledger's file and lock, commands, atomic writes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

from .errors import HostError
from .ledger import STATE_DIR, Ledger, dump, load

# Locking a directory that every Debian has leaves nothing behind.
LOCKED = "/var/lib"
LOCK_TIMEOUT = 900.0
READABLE = 0o755


@dataclass(frozen=True)
class Ran:
    """What a command answered."""

    rc: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Its last words, for a sentence."""
        return (self.err.strip() or self.out.strip())[-2000:]


def run(
    argv: Sequence[str],
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    cwd: str | None = None,
) -> Ran:
    """Run a command without a shell; English messages, no input."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", **(env or {})}
    path = environment.get("PATH", "")
    environment["PATH"] = path + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    program = shutil.which(argv[0], path=environment["PATH"])
    if program is None:
        return Ran(127, "", f"{argv[0]} is not installed")
    try:
        done = subprocess.run(
            [program, *argv[1:]],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            cwd=cwd,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Ran(124, "", f"{argv[0]} did not end within {timeout:g} seconds")
    except OSError as error:
        return Ran(126, "", f"{argv[0]} could not be started: {error.strerror}")
    return Ran(
        done.returncode,
        done.stdout.decode("utf-8", "replace"),
        done.stderr.decode("utf-8", "replace"),
    )


def must(argv: Sequence[str], doing: str, **options: object) -> Ran:
    """Run a command that has to succeed; ``doing`` completes "Could not …"."""
    ran = run(argv, **options)  # type: ignore[arg-type]
    if ran.rc != 0:
        raise HostError(f"Could not {doing}: {' '.join(argv)} ended with {ran.rc}: {ran.said}")
    return ran


def properties(unit: str, *names: str, timeout: float | None = 30) -> dict[str, str]:
    """What systemd says of a unit."""
    ran = run(["systemctl", "show", unit, "--property=" + ",".join(names)], timeout=timeout)
    if ran.rc != 0:
        raise HostError(f"systemd does not answer about {unit}: {ran.said}")
    pairs = (line.partition("=") for line in ran.out.splitlines())
    return {key: value for key, _sign, value in pairs}


def shut(path: str) -> str:
    """Why even root cannot change a file or directory, and what to do; empty if it can, or if there
    is no such thing."""
    if os.geteuid() != 0 or os.access(path, os.W_OK) or not os.path.exists(path):
        return ""
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        top = mount_of(path)
        return (
            f"{path} lies on {top}, which is mounted read-only; mount it writable, with: "
            f"mount -o remount,rw {top}"
        )
    return (
        f"{path} does not let even root write, as if it were immutable; look with: "
        f"lsattr -d {path}, and free it with: chattr -i {path}"
    )


def noexec(path: str) -> str:
    """Why no program in a directory can be run, and what to do; empty if it can."""
    if not os.path.exists(path) or not os.statvfs(path).f_flag & os.ST_NOEXEC:
        return ""
    top = mount_of(path)
    return (
        f"{path} lies on {top}, which is mounted noexec; mount it with exec, with: "
        f"mount -o remount,exec {top}"
    )


def mount_of(path: str) -> str:
    """The mount point that a path lies on."""
    path = os.path.realpath(path)
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as stream:
        mounts = {line.split()[1].replace("\\040", " ") for line in stream}
    while path not in mounts and path != "/":
        path = os.path.dirname(path)
    return path


def nearest(path: str) -> str:
    """The path itself, or the nearest one above it that exists."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: str, content: bytes, mode: int, uid: int = 0, gid: int = 0) -> None:
    """Replace the file in one step: a reader, or a crash, sees the old one or the new one."""
    folder = os.path.dirname(path)
    fresh = fresh_name(path)
    put(fresh, content, mode, uid, gid)
    os.replace(fresh, path)
    sync_directory(folder)


def fresh_name(path: str) -> str:
    """Where the next content of a file waits. Fixed, so that a killed run leaves at most one;
    hidden, so that ``*.conf`` does not see it; the ending stays, for checkers that look at it."""
    folder, name = os.path.split(path)
    return os.path.join(folder, ".mlops-new-" + name)


def put(path: str, content: bytes, mode: int, uid: int = 0, gid: int = 0) -> None:
    """Make the file anew, whatever was there, and have it on the disk."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as stream:
            stream.write(content)
        os.fchown(descriptor, uid, gid)
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Book:
    """The ledger of this host while we hold its lock.

    ``with Book(check) as book:`` then read ``book.ledger`` and call ``book.write(ledger)`` before
    the change that the new ledger tells of. In check mode nothing is written.

    ``site`` is the identity of the site that the caller works for, empty if it does not know it:
    a host of another site is refused before anything is done. None asks nothing.
    """

    def __init__(
        self,
        check: bool,
        timeout: float = LOCK_TIMEOUT,
        folder: str = STATE_DIR,
        site: str | None = None,
    ) -> None:
        self.check = check
        self._site = site
        self._timeout = timeout
        self._folder = folder
        self._path = folder + "/ledger.json"
        self._lock = -1
        self.ledger = Ledger()

    def __enter__(self) -> Book:
        # What is made without a mode of its own, also by programs, is read by services.
        os.umask(0o022)
        # Whoever holds the lock may be a run whose controller died: wait for it to end.
        self._lock = os.open(LOCKED, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        give_up = time.monotonic() + self._timeout
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise HostError(
                        f"Another run has been changing this host for {self._timeout:g} seconds; "
                        "wait until it ends and run again."
                    ) from None
                time.sleep(0.2)
        self.ledger = self.peek(self._folder)
        refusal = self.ledger.refusal_of(self._site)
        if refusal:
            os.close(self._lock)
            raise HostError(refusal)
        return self

    @staticmethod
    def peek(folder: str = STATE_DIR) -> Ledger:
        """The ledger as it is now, for those who only look and need not wait for a run."""
        path = folder + "/ledger.json"
        try:
            with open(path, encoding="utf-8") as stream:
                return load(stream.read(), path)
        except FileNotFoundError:
            return Ledger()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._lock)

    def write(self, ledger: Ledger) -> None:
        """Make ``ledger`` the truth, durably; an empty one leaves no file and no directory."""
        ledger = ledger.after(self.ledger)
        if ledger == self.ledger:
            return
        self.ledger = ledger
        if self.check:
            return
        if ledger.empty:
            for path in (self._path, fresh_name(self._path)):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
            with contextlib.suppress(OSError):
                os.rmdir(self._folder)
            return
        if not os.path.isdir(self._folder):
            os.mkdir(self._folder, 0o755)
            os.chmod(self._folder, READABLE)
        write_whole(self._path, dump(ledger).encode(), 0o600)


def remove_tree(path: str, protected: frozenset[str]) -> bool:
    """Remove a path with all below it, except protected paths and the way to them; never leave
    the file system. Returns whether something is left."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    if path in protected:
        return True
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(path)
        return False
    if os.path.ismount(path):
        raise HostError(
            f"{path} is a mount point, which the platform did not make; unmount it and run again."
        )
    left = False
    for entry in sorted(os.listdir(path)):
        left = remove_tree(os.path.join(path, entry), protected) or left
    if not left:
        os.rmdir(path)
    return left

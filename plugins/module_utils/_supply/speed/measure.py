# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures a host: one bounded file that has no name, memory, and one connection to a named peer.

The file is created without a name (or loses it at once), so that the kernel frees its space when
this process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import ipaddress
import mmap
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .judge import (
    LARGE_BYTES,
    LEAST_SAMPLES,
    LOG_WRITE_BYTES,
    MIB,
    SMALL_BYTES,
    BenchmarkError,
    fio_arguments,
    latencies,
    parse_fio,
    refusal,
    throughput,
)

OWN = "own measurement"
# A slow disk gets this many times the time given, to know its 99th percentile.
PATIENCE = 3
# How much longer fio may run than it was told, before it is ended.
FIO_GRACE_SECONDS = 60
# Copied at once: larger than any cache, a small part of what is free.
MOST_COPY_BYTES, LEAST_COPY_BYTES = 256 * MIB, 16 * MIB
GREETING = b"mlops-onprem-benchmark 1\n"
PIECE = 128 * 1024

Clock = Callable[[], float]


class BoundedFile:
    """A file without a name, of a fixed size, below a directory."""

    def __init__(self, directory: str, size_mib: int) -> None:
        self.size = size_mib * MIB
        try:
            self.fd = self._nameless(directory)
        except OSError as error:
            raise BenchmarkError(
                f"no file can be written below {directory}: {error.strerror}"
            ) from None

    @staticmethod
    def _nameless(directory: str) -> int:
        try:
            return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            # Not every file system has such files, and some say so in their own way.
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
                raise
        fd, path = tempfile.mkstemp(prefix=".mlops-benchmark-", dir=directory)
        os.unlink(path)
        return fd

    def close(self) -> None:
        """Give the space back."""
        os.close(self.fd)

    @property
    def path(self) -> str:
        """A path by which another process opens the file, as long as this one runs."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    @contextlib.contextmanager
    def direct(self) -> Iterator[bool]:
        """Past the page cache, if the file system can; tells whether it does."""
        flags = fcntl.fcntl(self.fd, fcntl.F_GETFL)
        try:
            fcntl.fcntl(self.fd, fcntl.F_SETFL, flags | os.O_DIRECT)
        except OSError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.fcntl(self.fd, fcntl.F_SETFL, flags)

    def forget(self) -> None:
        """Ask the kernel to drop what it caches of the file."""
        os.fdatasync(self.fd)
        with contextlib.suppress(OSError):
            os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)


def free_mib(directory: str) -> float:
    """Space that may be written below a directory, in MiB."""
    try:
        found = os.statvfs(directory)
    except OSError as error:
        raise BenchmarkError(f"{directory} cannot be examined: {error.strerror}") from None
    return found.f_bavail * found.f_frsize / MIB


def disk(
    directory: str,
    size_mib: int,
    margin_mib: int,
    seconds: float,
    use_fio: bool = True,
    clock: Clock = time.perf_counter,
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Throughput and latency below a directory; and what could not be measured, with the reason.

    Raises BenchmarkError where there is no directory or too little space.
    """
    if not os.path.isdir(directory):
        raise BenchmarkError(f"{directory} is no directory")
    refused = refusal(directory, free_mib(directory), size_mib, margin_mib)
    if refused:
        raise BenchmarkError(refused)
    fio = shutil.which("fio") if use_fio else None
    found: dict[str, Any] = {}
    unknown: list[dict[str, str]] = []
    file = BoundedFile(directory, size_mib)
    try:
        # The first fills the file, which the others use.
        found["sequential_write"] = sequential_write(file, seconds, clock)
        jobs: tuple[tuple[str, Callable[[BoundedFile, float, Clock], dict[str, Any]]], ...] = (
            ("fdatasync", fdatasync),
            ("sequential_read", sequential_read),
            ("random_read", random_read),
        )
        for name, measure in jobs:
            if fio:
                try:
                    direct = bool(found["sequential_write"]["direct"])
                    found[name] = run_fio(fio, name, file, seconds, direct)
                    continue
                except BenchmarkError as error:
                    unknown.append({"what": f"{name} by fio", "reason": str(error)})
            found[name] = measure(file, seconds, clock)
    except OSError as error:
        raise BenchmarkError(
            f"writing below {directory} failed: {error.strerror or error}; nothing was left there"
        ) from None
    finally:
        file.close()
    return found, unknown


def run_fio(
    program: str, job: str, file: BoundedFile, seconds: float, direct: bool
) -> dict[str, Any]:
    """One job of fio on our file."""
    if job != "fdatasync":
        file.forget()
    arguments = fio_arguments(job, file.path, file.size // MIB, seconds, direct)
    try:
        done = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds + FIO_GRACE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchmarkError(f"fio did not end as it should: {error}") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise BenchmarkError(f"fio failed: {said[-1] if said else f'code {done.returncode}'}")
    found = parse_fio(job, done.stdout.decode("utf-8", "replace"))
    return found if job == "fdatasync" else {**found, "direct": direct}


def _page_buffer(size: int) -> mmap.mmap:
    """Memory that begins at a page, as reads and writes past the cache need it.

    Not closed by hand: that fails while an error still holds a view of it.
    """
    return mmap.mmap(-1, size)


def sequential_write(
    file: BoundedFile, seconds: float, clock: Clock = time.perf_counter
) -> dict[str, Any]:
    """Fills the file with 1 MiB writes of random bytes, the last fdatasync included.

    On a slow disk it stops after three times ``seconds``; the file is then as large as it got.
    """
    buffer = _page_buffer(LARGE_BYTES)
    buffer.write(os.urandom(LARGE_BYTES))
    with file.direct() as can:
        direct, begin, done = can, clock(), 0
        while done < file.size and (not done or clock() - begin < PATIENCE * seconds):
            direct = _write_all(file, buffer, done, direct)
            done += LARGE_BYTES
        os.fdatasync(file.fd)
        took = clock() - begin
    file.size = done
    return {**throughput(done, took), "direct": direct, "tool": OWN}


def _write_all(file: BoundedFile, buffer: mmap.mmap, start: int, direct: bool) -> bool:
    """One block; falls back to the page cache where the file system refuses on writing."""
    done, view = 0, memoryview(buffer)
    while done < len(view):
        try:
            done += os.pwrite(file.fd, view[done:], start + done)
        except OSError as error:
            if error.errno != errno.EINVAL or not direct:
                raise
            flags = fcntl.fcntl(file.fd, fcntl.F_GETFL)
            fcntl.fcntl(file.fd, fcntl.F_SETFL, flags & ~os.O_DIRECT)
            direct = False
    return direct


def fdatasync(
    file: BoundedFile, seconds: float, clock: Clock = time.perf_counter
) -> dict[str, Any]:
    """The time of each fdatasync after a small write, one after the other, as a log writes.

    Ends after ``seconds``; a slow disk gets three times as long to reach 100 samples.
    """
    data = os.urandom(LOG_WRITE_BYTES)
    samples: list[float] = []
    begin, at = clock(), 0
    while True:
        if at + LOG_WRITE_BYTES > file.size:
            at = 0
        os.pwrite(file.fd, data, at)
        at += LOG_WRITE_BYTES
        before = clock()
        os.fdatasync(file.fd)
        after = clock()
        samples.append(after - before)
        used = after - begin
        if used >= seconds and (len(samples) >= LEAST_SAMPLES or used >= PATIENCE * seconds):
            return {**latencies(samples), "tool": OWN}


def sequential_read(
    file: BoundedFile, seconds: float, clock: Clock = time.perf_counter
) -> dict[str, Any]:
    """Reads the file from its begin in 1 MiB steps, once, or until the time is over."""
    file.forget()
    buffer = _page_buffer(LARGE_BYTES)
    with file.direct() as direct:
        begin, done, took = clock(), 0, 0.0
        while done < file.size and took < seconds:
            got = os.preadv(file.fd, [buffer], done)
            if not got:
                break
            done += got
            took = clock() - begin
    return {**throughput(done, took), "direct": direct, "tool": OWN}


def random_read(
    file: BoundedFile, seconds: float, clock: Clock = time.perf_counter, seed: int = 1
) -> dict[str, Any]:
    """Reads 4 KiB at random places, one after the other, until the time is over."""
    file.forget()
    chance, places = random.Random(seed), file.size // SMALL_BYTES
    samples: list[float] = []
    buffer = _page_buffer(SMALL_BYTES)
    with file.direct() as direct:
        begin = clock()
        while True:
            before = clock()
            os.preadv(file.fd, [buffer], chance.randrange(places) * SMALL_BYTES)
            after = clock()
            samples.append(after - before)
            took = after - begin
            if took >= seconds:
                break
    found = throughput(len(samples) * SMALL_BYTES, took)
    found["iops"] = round(len(samples) / took, 1) if took > 0 else None
    found["p99_ms"] = latencies(samples)["p99_ms"]
    return {**found, "direct": direct, "tool": OWN}


# -- memory ---------------------------------------------------------------------------------------


def available_bytes(meminfo: str = "/proc/meminfo") -> int:
    """Memory that can be used without swapping, as the kernel estimates it; 0 if unknown."""
    with contextlib.suppress(OSError, ValueError), open(meminfo, encoding="ascii") as stream:
        for line in stream:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def memory_copy(
    seconds: float, clock: Clock = time.perf_counter, available: int | None = None
) -> dict[str, Any]:
    """How fast one processor copies memory, in MiB a second, read and written counted once each.

    A lower bound of the memory's bandwidth: several processors together move more.
    """
    free = available_bytes() if available is None else available
    size = min(MOST_COPY_BYTES, free // 16)
    if size < LEAST_COPY_BYTES:
        raise BenchmarkError(
            f"{free // MIB} MiB of memory are free, too little to measure without harm"
        )
    # Written once, so that the kernel has given the memory before it is measured.
    source = bytearray(b"\1") * size
    target = bytearray(source)
    best, begin = 0.0, clock()
    while True:
        before = clock()
        target[:] = source
        after = clock()
        best = max(best, 2 * size / MIB / (after - before)) if after > before else best
        if after - begin >= seconds:
            break
    return {
        "mib_per_s": round(best, 1),
        "mib": round(size / MIB, 1),
        "lower_bound": True,
        "tool": OWN,
    }


# -- network --------------------------------------------------------------------------------------


def _address(value: str, what: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise BenchmarkError(f"{what} must be an IP address, but is {value!r}") from None


def _among(value: str, peers: Sequence[str], what: str) -> str:
    address = _address(value, what)
    known = [_address(peer, "an entry of peers") for peer in peers]
    if address not in known:
        raise BenchmarkError(
            f"{what} {address} is none of the peers {', '.join(known) or '(none)'}"
        )
    return address


def serve(
    address: str,
    port: int,
    peer: str,
    peers: Sequence[str],
    limit_mib: int,
    seconds: float,
    wait: float,
    clock: Clock = time.monotonic,
) -> dict[str, Any]:
    """Wait for the named peer, receive from it within the limits, and tell it what arrived.

    Connections from elsewhere are closed unread. Nothing that arrives is kept.
    """
    wanted = _among(peer, peers, "peer")
    own = _address(address, "address")
    family = socket.AF_INET6 if ":" in own else socket.AF_INET
    deadline = clock() + wait
    strangers = 0
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((own, port))
            listener.listen(4)
        except OSError as error:
            raise BenchmarkError(
                f"no connection can be taken at {own} port {port}: {error.strerror}"
            ) from None
        while True:
            left = deadline - clock()
            if left <= 0:
                more = f" ({strangers} connections from elsewhere were closed)" if strangers else ""
                raise BenchmarkError(f"{wanted} did not connect within {wait:g} s{more}")
            listener.settimeout(left)
            try:
                connection, source = listener.accept()
            except socket.timeout:
                continue
            if str(ipaddress.ip_address(source[0].partition("%")[0])) == wanted:
                break
            strangers += 1
            connection.close()
    with connection:
        return _receive(connection, wanted, limit_mib * MIB, seconds, clock)


def _receive(
    connection: socket.socket, peer: str, limit: int, seconds: float, clock: Clock
) -> dict[str, Any]:
    connection.settimeout(seconds + 5)
    buffer = bytearray(PIECE)
    try:
        greeting = b""
        while len(greeting) < len(GREETING):
            piece = connection.recv(len(GREETING) - len(greeting))
            if not piece:
                break
            greeting += piece
        if greeting != GREETING:
            raise BenchmarkError(f"{peer} sent something else than a benchmark")
        begin, done, took = clock(), 0, 0.0
        while done < limit and took < seconds + 5:
            got = connection.recv_into(buffer, min(PIECE, limit - done))
            took = clock() - begin
            if not got:
                break
            done += got
        connection.sendall(f"{done} {took!r}\n".encode("ascii"))
    except OSError as error:
        raise BenchmarkError(f"the connection to {peer} broke: {error.strerror or error}") from None
    return _speed(done, took, peer, "receive")


def connect(
    peer: str,
    port: int,
    peers: Sequence[str],
    limit_mib: int,
    seconds: float,
    wait: float,
    clock: Clock = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Send to the named peer within the limits; what it received in which time is the result."""
    wanted = _among(peer, peers, "peer")
    deadline = clock() + wait
    while True:
        try:
            connection = socket.create_connection((wanted, port), timeout=max(0.1, min(5.0, wait)))
            break
        except OSError as error:
            if clock() >= deadline:
                raise BenchmarkError(
                    f"{wanted} port {port} cannot be reached within {wait:g} s:"
                    f" {error.strerror or error}"
                ) from None
            sleep(0.2)
    with connection:
        connection.settimeout(seconds + 10)
        data = os.urandom(PIECE)
        try:
            connection.sendall(GREETING)
            begin, sent, limit = clock(), 0, limit_mib * MIB
            while sent < limit and clock() - begin < seconds:
                piece = min(PIECE, limit - sent)
                connection.sendall(data[:piece])
                sent += piece
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while len(answer) < 100 and not answer.endswith(b"\n"):
                got = connection.recv(100 - len(answer))
                if not got:
                    break
                answer += got
        except OSError as error:
            raise BenchmarkError(
                f"the connection to {wanted} broke: {error.strerror or error}"
            ) from None
    try:
        received, took = answer.decode("ascii").split()
        return _speed(int(received), float(took), wanted, "send")
    except ValueError:
        raise BenchmarkError(f"{wanted} did not tell what it received") from None


def _speed(size: int, seconds: float, peer: str, direction: str) -> dict[str, Any]:
    if seconds <= 0 or size <= 0:
        raise BenchmarkError(f"nothing arrived between this host and {peer}")
    return {
        "mbit_per_s": round(size * 8 / 1e6 / seconds, 1),
        "mib": round(size / MIB, 1),
        "seconds": round(seconds, 4),
        "peer": peer,
        "direction": direction,
        "tool": OWN,
    }

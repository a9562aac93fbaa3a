# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measuring leaves nothing behind, keeps its limits, and talks to named peers only."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._supply.speed import measure
from ansible_collections.mlops.onprem.plugins.module_utils._supply.speed.judge import BenchmarkError
from ansible_collections.mlops.onprem.plugins.module_utils._supply.speed.measure import BoundedFile

from tests.patience import PATIENCE

LOOPBACK = "127.0.0.1"
ROOT = Path(__file__).resolve().parents[6]


class Ticks:
    """A clock that goes on by a fixed step each time it is read."""

    def __init__(self, step: float) -> None:
        self.step, self.now = step, 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> Iterator[BoundedFile]:
    found = BoundedFile(str(tmp_path), 4)
    yield found
    found.close()


def test_a_directory_is_measured_and_left_empty(tmp_path: Path) -> None:
    # Time goes by at each look at the clock, however long the machine takes in between.
    ticks = itertools.count()
    found, unknown = measure.disk(
        str(tmp_path), 4, 1, 0.05, use_fio=False, clock=lambda: next(ticks) / 1000
    )
    assert list(tmp_path.iterdir()) == []
    assert unknown == []
    assert found["sequential_write"]["mib"] == 4
    assert found["sequential_read"]["mib"] == 4
    assert found["fdatasync"]["samples"] > 0
    assert found["random_read"]["iops"] > 0
    assert {section["tool"] for section in found.values()} == {"own measurement"}


def test_the_file_never_has_a_name(tmp_path: Path, file: BoundedFile) -> None:
    assert list(tmp_path.iterdir()) == []
    assert os.fstat(file.fd).st_nlink == 0
    assert Path(file.path).stat().st_ino == os.fstat(file.fd).st_ino


def test_without_such_files_the_name_is_taken_away_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refusing(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refusing)
    file = BoundedFile(str(tmp_path), 4)
    assert list(tmp_path.iterdir()) == []
    assert os.fstat(file.fd).st_nlink == 0
    file.close()


def test_a_measurement_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    program = (
        "from ansible_collections.mlops.onprem.plugins.module_utils._supply.speed import measure\n"
        f"file = measure.BoundedFile({str(tmp_path)!r}, 4)\n"
        "measure.sequential_write(file, 1000)\n"
        "print('written', flush=True)\n"
        "measure.fdatasync(file, 3600)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".collections")}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment
    ) as running:
        assert running.stdout
        assert running.stdout.readline() == b"written\n"
        running.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_too_little_space_and_no_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"MiB free, but the file takes 4 MiB and 1073741824"):
        measure.disk(str(tmp_path), 4, 2**30, 1)
    with pytest.raises(BenchmarkError, match=r"/none is no directory$"):
        measure.disk(str(tmp_path / "none"), 4, 1, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_sentence_and_the_space_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int, _data: Any, _at: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(
        BenchmarkError, match=r"failed: No space left on device; nothing was left there$"
    ):
        measure.disk(str(tmp_path), 4, 1, 1, use_fio=False)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_slow_disk_ends_in_time_with_a_smaller_file(file: BoundedFile) -> None:
    found = measure.sequential_write(file, 1.0, Ticks(2.0))
    # After the first block 4 s are over, more than three times the one given.
    assert found["mib"] < 4
    assert file.size == found["mib"] * 2**20


def test_fdatasync_waits_for_100_samples_but_not_for_ever(file: BoundedFile) -> None:
    assert measure.fdatasync(file, 1.0, Ticks(0.01))["samples"] == 100
    slow = measure.fdatasync(file, 1.0, Ticks(0.1))
    assert slow["samples"] < 20
    assert slow["p99_ms"] is None
    assert slow["p50_ms"] == 100.0


def test_reading_ends_with_the_file_or_with_the_time(file: BoundedFile) -> None:
    measure.sequential_write(file, 1000.0)
    assert measure.sequential_read(file, 1000.0)["mib"] == 4
    assert measure.sequential_read(file, 1.0, Ticks(2.0))["mib"] == 1
    assert measure.random_read(file, 1.0, Ticks(0.1))["mib"] < 1


def test_a_file_system_without_direct_access_goes_through_the_page_cache(
    file: BoundedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.fcntl

    def refusing(fd: int, command: int, flags: int = 0) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return int(real(fd, command, flags))

    monkeypatch.setattr(fcntl, "fcntl", refusing)
    assert measure.sequential_write(file, 1000.0)["direct"] is False
    assert measure.sequential_read(file, 1000.0)["direct"] is False


def test_memory_is_measured_only_where_enough_is_free() -> None:
    found = measure.memory_copy(0.01, available=16 * measure.LEAST_COPY_BYTES)
    assert found["lower_bound"] is True
    assert found["mib"] == 16
    assert found["mib_per_s"] > 0
    with pytest.raises(BenchmarkError, match=r"^255 MiB of memory are free, too little"):
        measure.memory_copy(0.01, available=255 * 2**20)


def test_available_memory_is_the_kernels_estimate(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  2048 kB\n")
    assert measure.available_bytes(str(tmp_path / "meminfo")) == 2**21
    assert measure.available_bytes(str(tmp_path / "none")) == 0


# -- fio ------------------------------------------------------------------------------------------

FIO = """#!{python}
import json, os, sys
given = dict(word[2:].partition("=")[::2] for word in sys.argv[1:] if "=" in word)
with open(given["filename"], "r+b") as stream:
    size = os.fstat(stream.fileno()).st_size
assert size == 4 * 2**20, size
{failure}
latency = {{"N": 500, "percentile": {{"50.000000": 1e6, "99.000000": 2e6}}}}
side = {{"io_bytes": size, "runtime": 100, "iops": 5, "clat_ns": latency}}
job = {{"error": 0, "sync": {{"lat_ns": latency}}, "read": side, "write": side}}
print(json.dumps({{"fio version": "fio-3.33", "jobs": [job]}}))
"""


@pytest.fixture
def fio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a program in the place of fio, which opens our file as fio would."""

    def put(failure: str = "") -> Path:
        programs, data = tmp_path / "bin", tmp_path / "data"
        programs.mkdir()
        data.mkdir()
        program = programs / "fio"
        program.write_text(FIO.format(python=sys.executable, failure=failure))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(programs))
        return data

    return put


def test_fio_measures_our_nameless_file(fio: Callable[[str], Path]) -> None:
    data = fio("")
    found, unknown = measure.disk(str(data), 4, 1, 0.05)
    assert unknown == []
    assert found["sequential_write"]["tool"] == "own measurement"
    assert found["fdatasync"] == {
        "samples": 500,
        "p50_ms": 1.0,
        "p99_ms": 2.0,
        "tool": "fio-3.33",
    }
    assert found["random_read"]["iops"] == 5
    assert found["sequential_read"]["mib_per_s"] == 40
    assert list(data.iterdir()) == []


def test_where_fio_fails_our_own_measurement_is_used_and_it_is_said(
    fio: Callable[[str], Path],
) -> None:
    data = fio("sys.exit('fio: no such engine')")
    found, unknown = measure.disk(str(data), 4, 1, 0.05)
    assert {section["tool"] for section in found.values()} == {"own measurement"}
    assert unknown[0] == {
        "what": "fdatasync by fio",
        "reason": "fio failed: fio: no such engine",
    }
    assert len(unknown) == 3


# -- network --------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


class Serving(threading.Thread):
    """The receiving side, with its answer or error."""

    def __init__(
        self, port: int, wait: float = PATIENCE, peer: str = LOOPBACK, mib: int = 8
    ) -> None:
        super().__init__(daemon=True)
        self.arguments = (LOOPBACK, port, peer, [peer], mib, PATIENCE, wait)
        self.found: dict[str, Any] = {}
        self.error = ""
        self.start()

    def run(self) -> None:
        try:
            self.found = measure.serve(*self.arguments)
        except BenchmarkError as error:
            self.error = str(error)


def test_two_peers_measure_what_arrives_and_agree() -> None:
    port = free_port()
    other = Serving(port)
    sent = measure.connect(LOOPBACK, port, [LOOPBACK], 8, PATIENCE, PATIENCE)
    other.join(PATIENCE)
    assert other.error == ""
    assert (sent["direction"], other.found["direction"]) == ("send", "receive")
    assert sent["mib"] == other.found["mib"] == 8
    assert sent["mbit_per_s"] == other.found["mbit_per_s"] > 0


def test_no_more_is_taken_than_the_limit() -> None:
    port = free_port()
    other = Serving(port, mib=1)
    with socket.create_connection(_reachable(port)) as link:
        link.sendall(measure.GREETING + b"\0" * 2**20)
        assert link.recv(100).startswith(b"1048576 ")
    other.join(PATIENCE)
    assert other.found["mib"] == 1


def _reachable(port: int) -> tuple[str, int]:
    """The address, once somebody listens there: seen in the kernel's table, without connecting."""
    wanted = f"0100007F:{port:04X} 00000000:0000 0A"
    deadline = time.monotonic() + PATIENCE
    while wanted not in Path("/proc/net/tcp").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return LOOPBACK, port


def test_a_stranger_is_closed_unread_and_told_of() -> None:
    port = free_port()
    other = Serving(port, wait=1.5, peer="127.0.0.2")
    with socket.create_connection(_reachable(port)) as link:
        assert link.recv(1) == b""
    other.join(PATIENCE)
    assert other.error == (
        "127.0.0.2 did not connect within 1.5 s (1 connections from elsewhere were closed)"
    )


def test_a_peer_that_sends_something_else_is_refused() -> None:
    port = free_port()
    other = Serving(port)
    with socket.create_connection(_reachable(port)) as link:
        link.sendall(b"GET / HTTP/1.1\r\n\r\n" + b"x" * 20)
    other.join(PATIENCE)
    assert other.error in (
        f"{LOOPBACK} sent something else than a benchmark",
        f"the connection to {LOOPBACK} broke: Connection reset by peer",
    )


def test_addresses_that_are_none_of_the_peers_are_refused() -> None:
    with pytest.raises(
        BenchmarkError, match=r"^peer 192.0.2.9 is none of the peers 192.0.2.1, 192.0.2.2$"
    ):
        measure.connect("192.0.2.9", 5299, ["192.0.2.1", "192.0.2.2"], 1, 1, 1)
    with pytest.raises(BenchmarkError, match=r"^peer 192.0.2.9 is none of the peers \(none\)$"):
        measure.serve(LOOPBACK, 5299, "192.0.2.9", [], 1, 1, 1)
    with pytest.raises(BenchmarkError, match=r"^peer must be an IP address, but is 'gpu-1'$"):
        measure.connect("gpu-1", 5299, ["192.0.2.1"], 1, 1, 1)


def test_a_peer_that_is_not_there_is_a_sentence() -> None:
    port = free_port()
    clock = Ticks(1.0)
    with pytest.raises(
        BenchmarkError,
        match=rf"^{LOOPBACK} port {port} cannot be reached within 2 s: Connection refused$",
    ):
        measure.connect(LOOPBACK, port, [LOOPBACK], 1, 1, 2, clock, sleep=lambda _seconds: None)

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the model server does with many clients at once, some of them wrong, within a memory limit.

    python tests/benchmarks/serving.py [--requests 2000] [--clients 50] [--malformed 10]
                                       [--large 20] [--memory 512] [--output FILE]

Starts the server of the role in its locked environment (built once, below the cache directory) with
the model of the tests. The memory limit is enforced by the kernel where this user may make a
control group (version 1 or 2); otherwise it is only compared with the peak, and the table says so.
Requests are small ones in JSON and binary form, compressed ones, and malformed ones of many kinds;
--large adds clients that send bodies of the largest size, one after the other, all the time.

Prints a table and writes everything as JSON. Fails if a good request was not answered, or a
malformed one with anything but a 4xx in the protocol's form.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "roles/model_serving/files"
FIXTURE = ROOT / "tests/fixtures/release"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mlops.onprem"
MIB = 2**20
PYTHONS = ("3.13", "3.12", "3.11", "3.10")
"""Pythons that the locked packages take; the first that is here, or MLOPS_SERVING_PYTHON."""


class CannotServe(Exception):
    """The server cannot be started here; the message says what is missing."""


# -- the server -------------------------------------------------------------------------------


def python_here() -> tuple[str, str]:
    """A Python that the locked packages take, and its version."""
    chosen = os.environ.get("MLOPS_SERVING_PYTHON")
    wanted = (chosen,) if chosen else PYTHONS
    for version in wanted:
        name = f"python{version}"
        installed = sorted(Path.home().glob(f".pyenv/versions/*/bin/{name}"))
        for path in (name, sys.executable, *map(str, installed)):
            said = "import sys; print('%d.%d' % sys.version_info[:2])"
            done = subprocess.run(
                ["sh", "-c", '"$0" -c "$1"', path, said],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0 and done.stdout.strip() == version:
                return path, version
    raise CannotServe(f"needs Python {' or '.join(wanted)} for the packages of the model server")


def lock_for(version: str) -> Path:
    """The locked file for a Python: one beside the others, or the one for all of them."""
    own = FILES / f"requirements-py{version.replace('.', '')}.txt"
    return own if own.exists() else FILES / "requirements.txt"


def environment() -> Path:
    """Build the environment of the model server once; return its Python."""
    python, version = python_here()
    requirements = lock_for(version)
    name = hashlib.sha256(requirements.read_bytes() + python.encode()).hexdigest()[:16]
    place = CACHE / f"serving-{name}"
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([python, "-m", "venv", str(place)], check=True)
        pip = [str(place / "bin/pip"), "install", "--quiet", "--no-deps", "--require-hashes"]
        done = subprocess.run(
            [*pip, "-r", str(requirements)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason"])[-1]
            raise CannotServe(f"the packages of the model server cannot be had: {last}")
        (place / "complete").touch()
    return place / "bin/python"


def put_release(
    root: Path,
    name: str,
    version: str,
    model: Path,
    golden: bytes,
    more: Mapping[str, bytes] | None = None,
) -> str:
    """Write a release below the root and make it the current one; return its digest."""
    files = {
        "model.onnx": model.read_bytes(),
        "golden.json": golden,
        "config.json": b'{"tolerance": 1e-5}',
        **(more or {}),
    }
    layers = [
        {
            "digest": "sha256:" + hashlib.sha256(data).hexdigest(),
            "size": len(data),
            "annotations": {"org.opencontainers.image.title": file},
        }
        for file, data in files.items()
    ]
    notes = {"org.mlops.model.name": name, "org.mlops.model.version": version}
    manifest = json.dumps({"layers": layers, "annotations": notes}).encode()
    digest = hashlib.sha256(manifest).hexdigest()
    directory = root / "releases" / digest
    directory.mkdir(parents=True, exist_ok=True)
    for file, data in {**files, "manifest.json": manifest}.items():
        (directory / file).write_bytes(data)
    link = root / "models" / name / "current"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(f"../../releases/{digest}")
    return f"sha256:{digest}"


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Group:
    """A control group of ours below that of this process, so that its limits go on to hold."""

    def __init__(self, limit_mib: int) -> None:
        self.path: Path | None = None
        self.words = "compared with the peak only: no control group can be made here"
        self._first = False
        for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
            _number, controllers, name = line.split(":", 2)
            if controllers == "memory":
                self._first = True
                self._make(Path("/sys/fs/cgroup/memory") / name.lstrip("/"), limit_mib)
            elif not controllers and not self._first:
                self._make(Path("/sys/fs/cgroup") / name.lstrip("/"), limit_mib)

    def _make(self, parent: Path, limit_mib: int) -> None:
        path = parent / f"mlops-serving-{os.getpid()}"
        try:
            path.mkdir()
        except OSError:
            return
        try:
            file = "memory.limit_in_bytes" if self._first else "memory.max"
            (path / file).write_text(str(limit_mib * MIB))
            swap = path / ("memory.memsw.limit_in_bytes" if self._first else "memory.swap.max")
            if swap.exists():
                swap.write_text(str(limit_mib * MIB) if self._first else "0")
        except OSError:
            path.rmdir()
            return
        self.path = path
        self.words = f"enforced by the kernel (control group version {1 if self._first else 2})"

    def inside(self, command: list[str]) -> list[str]:
        """Run a command within the group from its first instruction on."""
        if not self.path:
            return command
        enter = 'echo $$ > "$0" && exec "$@"'
        return ["/bin/sh", "-c", enter, str(self.path / "cgroup.procs"), *command]

    def peak_mib(self) -> float | None:
        """The most that the group ever had, with the caches of its files."""
        file = "memory.max_usage_in_bytes" if self._first else "memory.peak"
        if self.path and (self.path / file).exists():
            return int((self.path / file).read_text()) / MIB
        return None

    def killed(self) -> int:
        """How many processes the kernel ended for memory."""
        if not self.path:
            return 0
        file = "memory.oom_control" if self._first else "memory.events"
        rows = dict(line.split() for line in (self.path / file).read_text().splitlines())
        return int(rows.get("oom_kill", 0))

    def remove(self) -> None:
        """Take the group away, when the kernel has noticed that it is empty."""
        for _attempt in range(50):
            try:
                if self.path:
                    self.path.rmdir()
                return
            except OSError:
                time.sleep(0.1)


@dataclass
class Server:
    """A server that runs."""

    port: int
    process: subprocess.Popen[bytes]
    group: Group
    log: Path

    def peak_mib(self) -> float:
        """The most memory of its own that the process ever had."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        rows = dict(line.split(":", 1) for line in text.splitlines())
        return int(rows["VmHWM"].split()[0]) / 1024

    def ask(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body or None, named)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()


@contextmanager
def serving(root: Path, limit_mib: int = 512, *options: str) -> Iterator[Server]:
    """Run the server of the role, as its unit does but for the sandbox."""
    python = environment()
    port = free_port()
    group = Group(limit_mib)
    log = root / "server.log"
    variables = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(FILES),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONWARNINGS": "ignore",
        "MALLOC_ARENA_MAX": "2",
        "OMP_NUM_THREADS": "1",
        "PROMETHEUS_DISABLE_CREATED_SERIES": "true",
    }
    command = [str(python), "-m", "mlops_serving", f"--root={root}", f"--port={port}"]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            group.inside([*command, f"--memory-max-mib={limit_mib}", *options]),
            env=variables,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    server = Server(port, process, group, log)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                if server.ask("GET", "/v2/health/live")[0] == 200:
                    break
            except OSError:
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                raise CannotServe(f"the server did not start: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        group.remove()


# -- the requests -----------------------------------------------------------------------------

PATH = "/v2/models/iris/infer"
ROW = [5.1, 3.5, 1.4, 0.2]


@dataclass(frozen=True)
class Ask:
    """A request, and whether it is a good one."""

    body: bytes
    headers: dict[str, str]
    good: bool
    path: str = PATH
    method: str = "POST"


def document(rows: int) -> bytes:
    """A good request in JSON."""
    tensor = {"name": "features", "shape": [rows, 4], "datatype": "FP32", "data": ROW * rows}
    return json.dumps({"inputs": [tensor]}).encode()


def good(dice: random.Random) -> Ask:
    """A small request that is right, in one of the forms."""
    rows = dice.randint(1, 20)
    form = dice.randrange(3)
    if form == 0:
        return Ask(document(rows), {"Content-Type": "application/json"}, True)
    if form == 1:
        return Ask(gzip.compress(document(rows)), {"Content-Encoding": "gzip"}, True)
    tensor = {
        "name": "features",
        "shape": [rows, 4],
        "datatype": "FP32",
        "parameters": {"binary_data_size": 16 * rows},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    return Ask(head + bytes(16 * rows), length, True)


MALFORMED: list[tuple[str, bytes, dict[str, str]]] = [
    (PATH, b"", {}),
    (PATH, b"{", {}),
    (PATH, b"\xff\xfe", {}),
    (PATH, b"[" * 5000, {}),
    (PATH, b"{}", {}),
    (PATH, b'{"inputs": 3}', {}),
    (PATH, b'{"inputs": [{}]}', {}),
    (PATH, document(1).replace(b"features", b"feature"), {}),
    (PATH, document(1).replace(b"FP32", b"INT64"), {}),
    (PATH, document(2).replace(b"[2, 4]", b"[3, 4]"), {}),
    (PATH, document(1).replace(b"[1, 4]", b"[-1, 4]"), {}),
    (PATH, document(1).replace(b"5.1", b'"5.1"'), {}),
    (PATH, document(1), {"Inference-Header-Content-Length": "x"}),
    (PATH, document(1), {"Inference-Header-Content-Length": "99999"}),
    (PATH, document(1), {"Inference-Header-Content-Length": "-5"}),
    (PATH, document(1), {"Inference-Header-Content-Length": "3"}),
    (PATH, document(1), {"Content-Encoding": "gzip"}),
    (PATH, document(1), {"Content-Encoding": "br"}),
    (PATH, gzip.compress(bytes(20 * MIB)), {"Content-Encoding": "gzip"}),
    (PATH.replace("iris", "nobody"), document(1), {}),
    (PATH.replace("infer", "versions/9/infer"), document(1), {}),
    ("/v2/nothing", document(1), {}),
    ("/v2/models", document(1), {}),
]
"""Paths, bodies and headers of requests that are wrong, each in its own way."""


def malformed(dice: random.Random) -> Ask:
    """A request that is wrong, in one of many ways."""
    path, body, headers = dice.choice(MALFORMED)
    return Ask(body, headers, False, path)


def large(size: int) -> list[Ask]:
    """Requests of the largest size: good ones, and ones made to take as much memory as they can."""
    rows = (size - 200) // 20
    fillers = [b"[],", b"{},", b'{"":1},', b"[1],", b'"",', b"1,"]
    head = b'{"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 4], "data": ['
    worst = [head + filler * ((size - 200) // len(filler)) + b"1]}]}" for filler in fillers]
    return [
        Ask(document(rows)[: size - 1], {}, True),
        *(Ask(body, {}, False) for body in worst),
        Ask(gzip.compress(worst[0], 1), {"Content-Encoding": "gzip"}, False),
    ]


# -- the load ---------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What became of the requests."""

    answers: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def judge(ask: Ask, status: int, body: bytes, outcome: Outcome, busy_is_fine: bool) -> None:
    """Say what is wrong with an answer."""
    kind = "good" if ask.good else "malformed"
    outcome.answers[f"{kind} {status}"] += 1
    if ask.good and status == 200:
        return
    try:
        told = isinstance(json.loads(body)["error"], str)
    except (ValueError, KeyError, TypeError):
        told = False
    refused = 400 <= status < 500 and not ask.good
    fine = told and (refused or (status == 503 and busy_is_fine))
    if not fine:
        outcome.wrong.append(f"{kind}: {status} {body[:200]!r}")


def unpacks(ask: Ask) -> bool:
    """Say whether a request that is wrong is small only until it is unpacked."""
    return not ask.good and ask.headers.get("Content-Encoding") == "gzip"


def drive(
    server: Server,
    asks: list[Ask],
    outcome: Outcome,
    busy_is_fine: bool = False,
    beside_large: bool = False,
) -> None:
    """Send requests one after the other on a connection that is kept.

    Beside large ones, one that unpacks to as much may have to wait for memory in vain, too.
    """
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    for ask in asks:
        started = time.perf_counter()
        try:
            connection.request(ask.method, ask.path, ask.body, ask.headers)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            outcome.wrong.append(f"{'good' if ask.good else 'malformed'}: {error!r}")
            connection.close()
            continue
        if ask.good and not busy_is_fine:
            outcome.seconds.append(time.perf_counter() - started)
        judge(ask, answer.status, body, outcome, busy_is_fine or (beside_large and unpacks(ask)))
    connection.close()


def load(
    server: Server, requests: int, clients: int, share_malformed: float, larges: int, large_mib: int
) -> tuple[Outcome, Outcome, float]:
    """Send everything; the outcomes of the small and of the large requests, and the seconds."""
    dice = random.Random(9)
    small, big = Outcome(), Outcome()
    asks = [
        malformed(dice) if dice.random() < share_malformed else good(dice)
        for _number in range(requests)
    ]
    bodies = large(large_mib * MIB - 1024) if larges else []
    threads = [
        threading.Thread(
            target=drive, args=(server, asks[client::clients], small, False, larges > 0)
        )
        for client in range(clients)
    ]
    for number in range(min(larges, 8)):
        mine = [bodies[(number + each) % len(bodies)] for each in range(number, larges, 8)]
        threads.append(threading.Thread(target=drive, args=(server, mine, big, True)))
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return small, big, time.perf_counter() - started


def measure(root: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Start the server, send everything, and say what came of it."""
    model, golden = FIXTURE / "model.onnx", (FIXTURE / "golden.json").read_bytes()
    put_release(root, "iris", "1", model, golden)
    with serving(root, arguments.memory) as server:
        resting = server.peak_mib()
        lines = len(server.log.read_text().splitlines())
        small, big, seconds = load(
            server,
            arguments.requests,
            arguments.clients,
            arguments.malformed / 100,
            arguments.large,
            8,
        )
        alive = server.process.poll() is None
        peak = server.peak_mib() if alive else float("nan")
        written = len(server.log.read_text().splitlines()) - lines
        times = sorted(small.seconds) or [float("nan")]
        return {
            "requests": arguments.requests,
            "clients": arguments.clients,
            "malformed percent": arguments.malformed,
            "large requests": arguments.large,
            "answers": dict(sorted(small.answers.items())),
            "answers to large ones": dict(sorted(big.answers.items())),
            "wrong": small.wrong + big.wrong,
            "requests a second": round(arguments.requests / seconds),
            "p50 ms": round(1000 * statistics.median(times), 1),
            "p99 ms": round(1000 * times[int(len(times) * 0.99) - 1], 1),
            "resting MiB": round(resting),
            "peak MiB": round(peak),
            "peak of the group MiB": round(server.group.peak_mib() or 0) or None,
            "limit MiB": arguments.memory,
            "limit": server.group.words,
            "ended by the kernel": server.group.killed() or not alive,
            "lines in the journal": written,
        }


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--malformed", type=float, default=10, help="percent")
    parser.add_argument("--large", type=int, default=0, help="requests of the largest size beside")
    parser.add_argument("--memory", type=int, default=512, help="MiB")
    parser.add_argument("--output", type=Path, default=ROOT / "build/benchmarks/serving.json")
    arguments = parser.parse_args()
    place = ROOT / ".cache" / f"serving-{os.getpid()}"
    place.mkdir(parents=True)
    try:
        found = measure(place, arguments)
    finally:
        shutil.rmtree(place)
    for name, value in found.items():
        print(f"{name:24} {value}")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if found["wrong"] or found["ended by the kernel"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CannotServe as reason:
        sys.exit(f"The benchmark cannot run: {reason}.")

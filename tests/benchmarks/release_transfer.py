# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A large release to several devices at once over a link with a cap, and the next one after it.

Each device is a process with the real code and a disk of its own; the registry is a server on
loopback that sends as fast as it can. So all that keeps the link from being exceeded are the
devices. What is on the link is asked of the kernel at the server (``tcpi_bytes_acked``), ten times
a second, and judged by the second.

1. All devices fetch the release; one of them is killed half-way and goes on.
2. A second release shares its large file: only what differs is to travel.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import http.server
import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import struct
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._release import oci, release, signature
from ansible_collections.mlops.onprem.plugins.module_utils._release.client import RegistryClient
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.device import Device
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.orders import Order
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.rate import rated
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.rollout import Rollouts
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.serving import Answers
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.source import Source
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.store import ReleaseStore
from ansible_collections.mlops.onprem.plugins.module_utils._release.web import WebTransport

MIB, MODEL, KEY = 2**20, "demo", "0123456789abcdef"
SAMPLE_SECONDS = 0.1
BYTES_ACKED = 120
ESTABLISHED = 1
PIECE = 256 * 1024


class Key:
    """A key that is a word."""

    id = KEY


class Ring:
    """Signatures that cost nothing."""

    def verify(self, _payload: bytes, _mark: bytes, _wanted: str = "") -> Any:
        return Key()


class Idle:
    """A model server that serves nothing: nothing is activated here."""

    def look(self) -> Answers:
        return Answers({})

    def load(self, _model: str) -> str:
        return "not here"

    def unload(self, _model: str) -> str:
        return ""

    def ask(self, _model: str, _question: Any) -> tuple[int, Any]:
        return 404, {}

    def probe(self, _model: str, _question: Any) -> tuple[int, Any]:
        return 404, {}


class Shelf:
    """Releases on the disk of the registry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def blob(self, pieces: Iterator[bytes]) -> oci.Descriptor:
        hasher, size, fresh = hashlib.sha256(), 0, self.folder / "fresh"
        with fresh.open("wb") as stream:
            for piece in pieces:
                hasher.update(piece)
                size += len(piece)
                stream.write(piece)
        digest = "sha256:" + hasher.hexdigest()
        fresh.replace(self.folder / digest)
        return oci.Descriptor("", digest, size)

    def publish(self, version: int, large: oci.Descriptor) -> str:
        files = {
            "model.onnx": large,
            "config.json": self.blob(iter([b'{"version": %d}' % version])),
            "golden.json": self.blob(iter([b'{"cases": []}'])),
            "labels.bin": self.blob(iter([os.urandom(MIB)])),
        }
        manifest = release.build_manifest(files, MODEL, str(version), "run", "2026").to_bytes()
        digest = oci.digest_of(manifest)
        claims = signature.Claims("site", MODEL, str(version), signature.ONNX, version, KEY)
        payload = signature.build_payload(f"registry/models/{MODEL}", digest, claims)
        self.blob(iter([payload]))
        stored = signature.build_signature_manifest(payload, b"mark").to_bytes()
        (self.folder / digest).write_bytes(manifest)
        (self.folder / signature.signature_tag(digest)).write_bytes(stored)
        return digest


class Wire:
    """What the devices have taken in, as the kernel counts it."""

    def __init__(self) -> None:
        self._open: set[socket.socket] = set()
        self._closed = 0
        self._lock = threading.Lock()

    @staticmethod
    def _acked(sock: socket.socket) -> int:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
        return int(struct.unpack_from("Q", info, BYTES_ACKED)[0])

    @staticmethod
    def _waits(sock: socket.socket) -> bool:
        queued = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"    "))[0]
        state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)[0]
        return bool(queued) and state == ESTABLISHED

    def add(self, sock: socket.socket) -> None:
        with self._lock:
            self._open.add(sock)

    def drop(self, sock: socket.socket) -> None:
        # What is written is not there yet: with a slow reader the most of it waits here.
        while self._waits(sock):
            time.sleep(SAMPLE_SECONDS / 2)
        with self._lock:
            self._open.discard(sock)
            self._closed += self._acked(sock)

    def total(self) -> int:
        with self._lock:
            return self._closed + sum(self._acked(sock) for sock in self._open)


class Handler(http.server.BaseHTTPRequestHandler):
    """Sends files, also from the middle."""

    folder: Path
    wire: Wire

    def do_GET(self) -> None:
        path = self.folder / self.path.rsplit("/", 1)[-1]
        if not path.is_file():
            self.send_error(404)
            return
        begun = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        start = int(begun[1]) if begun else 0
        self.send_response(206 if begun else 200)
        self.send_header("content-length", str(path.stat().st_size - start))
        self.end_headers()
        self.wire.add(self.connection)
        try:
            with path.open("rb") as stream, contextlib.suppress(OSError):
                stream.seek(start)
                while data := stream.read(PIECE):
                    self.wfile.write(data)
        finally:
            self.wire.drop(self.connection)

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


def device(root: Path, url: str, rate: int, digest: str, answers: Any) -> None:
    """One device: stage a release."""

    def client(repository: str) -> RegistryClient:
        transport = rated(WebTransport(), rate)
        return RegistryClient(url, repository, transport, pause=time.sleep)

    store = ReleaseStore(root)
    rollouts = Rollouts(
        Device(store, Source("models", client, Ring()), Idle(), keep=3), lock_file=root / "none"
    )
    generation = store.record(MODEL).generation + 1
    answer = rollouts.do(Order("stage", f"r{digest[7:15]}", generation, MODEL, digest))
    answers.put((root.name, {**answer.to_json(), "done": time.monotonic()}))


def watched(wire: Wire, work: list[multiprocessing.Process], half: int) -> dict[str, Any]:
    """Watch the link until all devices are done; kill the first one half-way."""
    samples = [(time.monotonic(), wire.total())]
    killed = 0
    for one in work[:-1]:
        one.start()
    while any(one.is_alive() for one in work[:-1]) or work[-1].is_alive():
        time.sleep(SAMPLE_SECONDS)
        samples.append((time.monotonic(), wire.total()))
        if half and not killed and samples[-1][1] - samples[0][1] > half:
            assert work[0].pid is not None
            os.kill(work[0].pid, signal.SIGKILL)
            work[0].join()
            killed = 1
            work[-1].start()
    return {"samples": samples, "killed": killed}


def rates(samples: list[tuple[float, int]], until: float) -> tuple[float, float]:
    """Bytes a second: the most in any second, and the mean while all devices were fetching."""
    most = 0.0
    for number, (began, before) in enumerate(samples):
        for ended, after in samples[number + 1 :]:
            if ended - began >= 1.0:
                most = max(most, (after - before) / (ended - began))
                break
    (began, before), *_rest = samples
    ended, after = max(one for one in samples if one[0] <= until)
    return most, (after - before) / (ended - began)


def fetch(folder: Path, url: str, options: Any, digest: str, wire: Wire, half: int) -> Any:
    """Have all devices fetch a release; what they answered and what was on the link."""
    answers: Any = multiprocessing.Queue()
    rate = int(options.mbit * 1e6 / 8 / options.devices)
    names = [f"device{number}" for number in range(options.devices)]
    work = [
        multiprocessing.Process(target=device, args=(folder / name, url, rate, digest, answers))
        for name in [*names, names[0]]
    ]
    if not half:
        work[-1] = work[0]
    before = wire.total()
    seen = watched(wire, [*work[:-1], work[-1]] if half else [*work[:-1], work[0]], half)
    found = dict(answers.get(timeout=60) for _one in names)
    return found, seen, wire.total() - before


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=500)
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--mbit", type=float, default=400.0, help="cap of the link")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="release-transfer-"))
    try:
        shelf, wire = Shelf(folder / "registry"), Wire()
        large = shelf.blob(os.urandom(MIB) for _mib in range(options.mib))
        digests = [shelf.publish(version, large) for version in (1, 2)]
        for number in range(options.devices):
            (folder / f"device{number}").mkdir()
        handler = type("Ours", (Handler,), {"folder": shelf.folder, "wire": wire})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        total = (options.mib + 1) * MIB * options.devices
        first, seen, on_link = fetch(folder, url, options, digests[0], wire, total // 2)
        second, _seen, again = fetch(folder, url, options, digests[1], wire, 0)
    finally:
        shutil.rmtree(folder)
    cap = options.mbit * 1e6 / 8
    until = min(one["done"] for one in first.values())
    most, mean = rates(seen["samples"], until)
    told = {
        "mib": options.mib,
        "devices": options.devices,
        "cap_bytes_per_second": cap,
        "seconds": round(seen["samples"][-1][0] - seen["samples"][0][0], 1),
        "most_in_a_second_of_cap": round(most / cap, 3),
        "filled_of_cap": round(mean / cap, 3),
        "on_link_of_release": round(on_link / total, 3),
        "killed_half_way": seen["killed"],
        "second_release_bytes": again,
        "second_release_of_first": round(again / on_link, 5),
        "staged": sum(one["phase"] == "staged" for one in [*first.values(), *second.values()]),
    }
    print(json.dumps(told))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(told) + "\n")
    good = (
        told["staged"] == 2 * options.devices
        and told["filled_of_cap"] >= 0.8
        and told["most_in_a_second_of_cap"] <= 1.0
        and told["on_link_of_release"] <= 1.05
        and again <= options.devices * 2 * MIB
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

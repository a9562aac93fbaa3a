# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults at random while a device is in rollouts, and what those who ask it see meanwhile.

The code of the device runs in processes of its own against a real directory and, over loopback, a
registry and a model server that read what is really there. Each fault is one of

kill         SIGKILL, at a moment or at a call that changes the disk
network      the registry is away, or breaks off in the middle of a file
server       the model server is away, and starts anew from the disk
host         SIGKILL, then a new start of the model server and of the clock

All the while threads ask the model server and read the disk beside it. Every answer has to be of
one release, with its digest, version and file; every moment ``current`` has to lead to a complete
release; and a release that is not committed has to have a deadline. Every few faults the rollout
is brought to an end, by the controller or by the deadline, and has to end as it should.

``kill`` loses nothing that was written; losing power is simulated in ``test_power.py``.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import hashlib
import http.server
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ansible_collections.mlops.onprem.plugins.module_utils._release import oci, release, signature
from ansible_collections.mlops.onprem.plugins.module_utils._release.client import RegistryClient
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.device import Device
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.orders import Order
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.record import read_record
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.rollout import Rollouts
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.serving import (
    HttpServing,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.source import Source
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.store import ReleaseStore
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import UntrustedError
from ansible_collections.mlops.onprem.plugins.module_utils._release.web import WebTransport

ROOT = Path(__file__).resolve().parents[2]
MODEL, KEY = "demo", "0123456789abcdef"
STEPS = ("stage", "activate", "commit", "revert", "expire")
LIKELY = (5, 6, 2, 2, 2)
KINDS = ("kill", "network", "server", "host")
PATIENT = 60.0
DEADLINE = 600.0


# -- what is published ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Published:
    """A release, and what an answer of it has to say."""

    digest: str
    version: str
    model: str


@dataclass
class Shelf:
    """What the registry holds."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    releases: list[Published] = field(default_factory=list)

    def publish(self, version: int, size: int) -> None:
        """Put a signed release there; half of its large file is that of every other one."""
        golden = {"request": {"inputs": []}, "expected": {"y": [float(version)]}}
        files = {
            "model.onnx": random.Random(version).randbytes(size),
            "config.json": b'{"version": %d}' % version,
            "golden.json": json.dumps({"cases": [golden]}).encode(),
            "labels.bin": random.Random(0).randbytes(size),
        }
        self.blobs.update({oci.digest_of(data): data for data in files.values()})
        described = {name: oci.Descriptor.of("", data) for name, data in files.items()}
        manifest = release.build_manifest(described, MODEL, str(version), "run", "2026").to_bytes()
        digest = oci.digest_of(manifest)
        claims = signature.Claims("site", MODEL, str(version), signature.ONNX, version, KEY)
        payload = signature.build_payload(f"registry/models/{MODEL}", digest, claims)
        stored = signature.build_signature_manifest(payload, Ring.mark(payload)).to_bytes()
        self.blobs[oci.digest_of(payload)] = payload
        self.manifests[digest] = manifest
        self.manifests[signature.signature_tag(digest)] = stored
        model = hashlib.sha256(files["model.onnx"]).hexdigest()
        self.releases.append(Published(digest, str(version), model))


@dataclass(frozen=True)
class Key:
    """A key that is a word."""

    id: str = KEY


class Ring:
    """Signatures that cost nothing; real ones are tested elsewhere."""

    @staticmethod
    def mark(payload: bytes) -> bytes:
        return KEY.encode() + payload[-8:]

    def verify(self, payload: bytes, mark: bytes, wanted: str = "") -> Key:  # noqa: ARG002
        if mark != self.mark(payload):
            raise UntrustedError("The signature was not made with a key that is trusted here.")
        return Key()


# -- the two servers ------------------------------------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    """Hands requests to the owner of the server."""

    def _answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        self.rfile.read(length)
        owner = cast("Loopback", self.server).owner
        found = owner(self.command, self.path, {k.lower(): v for k, v in self.headers.items()})
        self.close_connection = True
        if found is None:
            return
        status, body, most = found
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:most])

    do_GET = do_POST = do_HEAD = _answer  # noqa: N815

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


Owner = Callable[[str, str, Mapping[str, str]], "tuple[int, bytes, int | None] | None"]


class Loopback(http.server.ThreadingHTTPServer):
    """A server on a port of its own."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, owner: Owner) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.owner = owner
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@dataclass
class Registry:
    """The registry behind a network; ``breaks`` is after how many bytes a file ends."""

    shelf: Shelf
    away: bool = False
    breaks: int | None = None
    struck: int = 0

    def __call__(
        self, _method: str, path: str, headers: Mapping[str, str]
    ) -> tuple[int, bytes, int | None] | None:
        if self.away:
            self.struck += 1
            return None
        name = path.rsplit("/", 1)[-1]
        held = self.shelf.blobs if "/blobs/" in path else self.shelf.manifests
        if name not in held:
            return 404, b"", None
        data = held[name]
        self.struck += self.breaks is not None and len(data) > self.breaks
        begun = headers.get("range", "")
        if begun:
            return 206, data[int(begun[6:-1]) :], self.breaks
        return 200, data, self.breaks if len(data) > 4096 else None


@dataclass(frozen=True)
class Loaded:
    """A release in the memory of the model server."""

    digest: str
    version: str
    model: str


class ModelServer:
    """Loads what is current as the real one does: every file has to be the one of the manifest."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.away = False
        self.loaded: Loaded | None = None
        self.failure = ""
        self.struck = 0
        self._one_at_a_time = threading.Lock()

    def _load(self, link: str) -> Loaded:
        place = (self._root / "models" / MODEL / link).resolve(strict=True)
        manifest = (place / "manifest.json").read_bytes()
        digest = oci.digest_of(manifest)
        if place.name != digest.partition(":")[2]:
            raise ValueError(f"{place} is not {digest}")
        files = {}
        for layer in json.loads(manifest)["layers"]:
            name = layer["annotations"][oci.TITLE]
            files[name] = (place / name).read_bytes()
            if oci.digest_of(files[name]) != layer["digest"]:
                raise ValueError(f"{place / name} is not {layer['digest']}")
        version = str(json.loads(files["config.json"])["version"])
        return Loaded(digest, version, hashlib.sha256(files["model.onnx"]).hexdigest())

    def start(self) -> None:
        """Start anew from what is on the disk."""
        with self._one_at_a_time:
            self.loaded, self.failure = None, ""
            for link in ("current", "previous"):
                if (self._root / "models" / MODEL / link).is_symlink():
                    try:
                        self.loaded = self._load(link)
                        break
                    except (OSError, ValueError) as error:
                        self.failure = str(error)
            self.away = False

    def __call__(
        self, method: str, path: str, _headers: Mapping[str, str]
    ) -> tuple[int, bytes, int | None] | None:
        if self.away:
            # What the device asks; those who watch go another way.
            self.struck += path == "/release" or "/repository/" in path
            return None
        with self._one_at_a_time:
            return self._do(method, path)

    def _do(self, method: str, path: str) -> tuple[int, bytes, int | None]:
        current = self._root / "models" / MODEL / "current"
        if path.endswith("/load"):
            try:
                self.loaded, self.failure = self._load("current"), ""
            except (OSError, ValueError) as error:
                self.failure = str(error)
                return 503, json.dumps({"error": str(error)}).encode(), None
        elif path.endswith("/unload"):
            if current.is_symlink():
                return 409, b'{"error": "A release is still there."}', None
            self.loaded = None
        loaded = self.loaded
        if method == "GET":
            digest = loaded.digest if loaded else None
            entry = {"digest": digest, "failure": self.failure or None}
            models = {MODEL: entry} if loaded or self.failure else {}
            return 200, json.dumps({"models": models}).encode(), None
        if path.endswith("/infer"):
            if loaded is None:
                return 404, b"{}", None
            answer = {
                "outputs": [{"name": "y", "data": [float(loaded.version)]}],
                **vars(loaded),
            }
            return 200, json.dumps(answer).encode(), None
        return 200, b"{}", None


# -- the device, in processes of its own ----------------------------------------------------------


class FileClock:
    """Times that the campaign sets."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _read(self, name: str) -> Any:
        return json.loads(self._path.read_text())[name]

    def now(self) -> float:
        return float(self._read("wall"))

    def uptime(self) -> float:
        return float(self._read("up"))

    def boot(self) -> str:
        return str(self._read("boot"))


@functools.cache
def web() -> WebTransport:
    """Made once: it reads the certificates of the system, which takes longer than a step."""
    return WebTransport(timeout=PATIENT)


def device_of(root: Path, registry: str, server: str) -> Device:
    """The code of the device with everything real but keys and TLS."""

    def short(_seconds: float) -> None:
        time.sleep(0.01)

    def client(repository: str) -> RegistryClient:
        return RegistryClient(registry, repository, web(), "", "", short)

    source = Source("models", client, Ring())
    serving = HttpServing(server, web())
    return Device(ReleaseStore(root), source, serving, keep=2, pause=short, patience=2.0)


def blow(fuse: int) -> None:
    """Be killed at a call that changes the disk."""
    left = [fuse]

    def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    for name in ("rename", "replace", "symlink", "link", "unlink", "mkdir", "rmdir", "fsync"):
        setattr(os, name, wrapped(getattr(os, name)))


def one_order(told: Mapping[str, Any]) -> dict[str, Any]:
    """What one process of the device does."""
    root = Path(told["root"])
    clock = FileClock(Path(told["clock"]))
    rollouts = Rollouts(
        device_of(root, told["registry"], told["server"]),
        clock=clock,
        gauge=NoGauge(),
        lock_file=root / "none",
        pause=lambda _seconds: time.sleep(0.01),
        patience=10.0,
    )
    if told["fuse"]:
        blow(told["fuse"])
    if told["step"] == "expire":
        return {"said": rollouts.revert_expired()}
    if told["step"] == "start":
        said = rollouts.device.guard()
        rollouts.point_back()
        return {"said": said}
    return rollouts.do(Order(**told["order"])).to_json()


class NoGauge:
    """There is no unit whose memory could be measured."""

    def start(self) -> None:
        """Measure nothing."""

    def stop(self) -> int | None:
        return None


def workshop() -> None:
    """Do orders that come in lines, each in a process of its own that may be killed."""
    web()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                sys.stdout.write(json.dumps({"pid": os.getpid()}) + "\n")
                sys.stdout.flush()
                answer = one_order(json.loads(line))
                # One write is whole or is not.
                os.write(1, json.dumps({"answer": answer}).encode() + b"\n")
            except BaseException as error:
                os.write(1, json.dumps({"error": repr(error)}).encode() + b"\n")
            os._exit(0)
        _pid, status = os.waitpid(pid, 0)
        os.write(1, json.dumps({"status": status}).encode() + b"\n")


# -- the campaign ---------------------------------------------------------------------------------


@dataclass
class Campaign:
    """A device, its faults, and what was seen."""

    root: Path
    clock: Path
    shelf: Shelf
    chance: random.Random
    registry: Registry
    model_server: ModelServer
    urls: tuple[str, str]
    process: subprocess.Popen[str]
    told: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)
    boots: int = 0
    wall: float = 1_800_000_000.0
    up: float = 0.0
    past: list[str] = field(default_factory=list)

    # -- what others see ------------------------------------------------------------------------

    def ask_on(self) -> None:
        """Ask the model server again and again."""
        known = {one.digest: one for one in self.shelf.releases}
        while not self.done.is_set():
            found = self.model_server("POST", f"/v2/models/{MODEL}/infer", {})
            if found is None or found[0] != 200:
                time.sleep(0.01)
                continue
            answer = json.loads(found[1])
            one = known.get(answer["digest"])
            said = (answer["version"], answer["model"])
            if one is None or said != (one.version, one.model):
                self.wrong.append(f"an answer is of no release: {answer}")
            self.told["answers"] += 1
            time.sleep(0.004)

    def read_on(self) -> None:
        """Read what is current on the disk again and again."""
        link = self.root / "models" / MODEL / "current"
        while not self.done.is_set():
            time.sleep(0.005)
            try:
                before = link.readlink()
            except FileNotFoundError:
                continue
            said = self.complete(before.name)
            with contextlib.suppress(FileNotFoundError):
                # Something that is no longer current may go away while it is read.
                if said and link.readlink() == before:
                    self.wrong.append(f"current is not complete: {said}")
            self.told["looks"] += 1

    def complete(self, name: str) -> str:
        """What is wrong with a release on the disk; empty if nothing is."""
        place = self.root / "releases" / name
        try:
            manifest = (place / "manifest.json").read_bytes()
            if oci.digest_of(manifest) != f"sha256:{name}":
                return f"{place} has another manifest"
            for layer in json.loads(manifest)["layers"]:
                file = place / layer["annotations"][oci.TITLE]
                if oci.digest_of(file.read_bytes()) != layer["digest"]:
                    return f"{file} has another digest"
        except (OSError, ValueError) as error:
            return repr(error)
        return ""

    # -- orders ---------------------------------------------------------------------------------

    def say_time(self) -> None:
        fresh = self.clock.with_name("clock.new")
        fresh.write_text(
            json.dumps({"wall": self.wall, "up": self.up, "boot": f"boot{self.boots}"})
        )
        fresh.replace(self.clock)

    def later(self, seconds: float) -> None:
        self.wall += seconds
        self.up += seconds
        self.say_time()

    def run(
        self, step: str, order: Mapping[str, Any], fuse: int = 0, moment: float | None = None
    ) -> dict[str, Any] | None:
        """Have the device do something; None where it was killed."""
        told = {
            "root": str(self.root),
            "clock": str(self.clock),
            "registry": self.urls[0],
            "server": self.urls[1],
            "step": step,
            "order": {**order, "step": step},
            "fuse": fuse,
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()
        pid = json.loads(self.process.stdout.readline())["pid"]
        self.past.append(f"{step} {order.get('generation')} fuse {fuse} moment {moment}")
        if moment is not None:
            time.sleep(moment)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        answer: dict[str, Any] | None = None
        while True:
            line = json.loads(self.process.stdout.readline())
            if "error" in line:
                raise RuntimeError(line["error"])
            if "status" in line:
                self.past.append(f"  {answer}, current {self.current()[7:15]}")
                return answer
            answer = line["answer"]

    def start_server(self) -> None:
        """What the unit of the model server does: the guard, then the server."""
        answer = self.run("start", {})
        assert answer is not None
        if answer["said"]:
            self.wrong.append(f"the guard found {answer['said']}")
        self.model_server.start()

    def fault(self, kind: str, step: str, order: Mapping[str, Any]) -> bool:
        """One step with a fault in it; whether the fault has struck."""
        answer = None
        before = self.registry.struck
        if kind in ("kill", "host"):
            if self.chance.random() < 0.6:
                answer = self.run(step, order, fuse=self.chance.randint(1, 45))
            else:
                answer = self.run(step, order, moment=self.chance.uniform(0, 0.12))
            if kind == "host":
                self.model_server.away = True
                self.boots += 1
                self.wall += self.chance.choice((1.0, DEADLINE * 2))
                self.up = 1.0
                self.say_time()
                self.start_server()
        elif kind == "network":
            self.registry.away = self.chance.random() < 0.3
            self.registry.breaks = self.chance.randint(0, 40_000)
            answer = self.run(step, order)
            self.registry.away, self.registry.breaks = False, None
        else:
            self.model_server.struck = 0
            self.model_server.away = True
            back = threading.Timer(self.chance.uniform(0, 0.05), self.model_server.start)
            back.start()
            answer = self.run(step, order)
            back.join()
        struck = {
            "kill": answer is None,
            "host": True,
            "network": self.registry.struck > before,
            "server": self.model_server.struck > 0,
        }[kind]
        self.told[kind if struck else "missed"] += 1
        self.told["killed"] += answer is None
        return struck

    # -- judging --------------------------------------------------------------------------------

    def current(self) -> str:
        try:
            return "sha256:" + (self.root / "models" / MODEL / "current").readlink().name
        except FileNotFoundError:
            return ""

    def judge(self, order: Mapping[str, Any], before: str) -> None:
        """What has to be so after every fault."""
        current = self.current()
        if current not in (before, order["digest"]):
            self.wrong.append(f"{current} is current, wanted {before} or {order['digest']}")
        said = self.complete(current.partition(":")[2]) if current else ""
        if said:
            self.wrong.append(said)
        place = self.root / "models" / MODEL
        record = read_record(place / "rollout.json")
        if current == order["digest"] != before:
            armed = record.phase == "activated" and (place / "armed").exists()
            if not armed and record.phase != "committed":
                self.wrong.append(f"{current} is current and has no deadline: {record}")

    def end(self, order: Mapping[str, Any], before: str) -> None:
        """Bring the rollout to its end, and see that it is the right one."""
        place = self.root / "models" / MODEL / "rollout.json"
        record = read_record(place)
        committed = (record.rollout, record.phase) == (order["rollout"], "committed")
        again = {**order, "generation": int(order["generation"]) + 1}
        answer = None
        if self.chance.random() < 0.5:
            self.later(DEADLINE * 3)
            self.run("expire", order)
            wanted = order["digest"] if committed else before
        else:
            # The controller that goes on: what has gone back by itself is staged anew.
            for step in ("stage", "activate", "stage", "activate", "commit"):
                again["generation"] += step == "stage"
                answer = self.run(step, again)
            if answer is None or answer["failure"] or answer["refused"]:
                self.wrong.append(f"the rollout could not be ended: {answer}")
            wanted = order["digest"]
        served = self.model_server.loaded.digest if self.model_server.loaded else ""
        if (self.current(), served) != (wanted, wanted):
            self.wrong.append(f"{self.current()} is current, {served} served, wanted {wanted}")
        if (place.parent / "armed").exists():
            self.wrong.append("a deadline is left")

    def faults(self, number: int, each: int = 8) -> None:
        """At least so many faults that have struck, in rollouts one after the other."""
        left, generation = number, 0
        while left > 0:
            before = self.current()
            self.past.clear()
            others = [one for one in self.shelf.releases if one.digest != before]
            generation += 10
            order: dict[str, Any] = {
                "rollout": f"r{generation}",
                "generation": generation,
                "model": MODEL,
                "digest": self.chance.choice(others).digest,
                "deadline": DEADLINE,
                "rollback": True,
            }
            for fault in range(each):
                if self.chance.random() < 0.5:
                    # Without a fault, so that faults also come late on the way.
                    self.run(self.chance.choice(("stage", "activate")), order)
                kind = self.chance.choice(KINDS)
                step = self.chance.choices(STEPS, LIKELY)[0]
                if fault == 0 or kind == "network":
                    step = "stage"
                if step == "expire":
                    self.later(DEADLINE * 3)
                left -= self.fault(kind, step, order)
                self.judge(order, before)
                if self.chance.random() < 0.2:
                    order["generation"] += 1
                    generation += 1
            self.end(order, before)
            if self.wrong:
                self.wrong.append(f"before {before}, order {order}: {'; '.join(self.past)}")
                return
            self.told["rollouts"] += 1


@contextlib.contextmanager
def campaign(seed: int, size: int = 100_000) -> Iterator[Campaign]:
    """A device without a release, and those who watch it."""
    folder = Path(tempfile.mkdtemp(prefix="device-faults-"))
    root = folder / "device"
    root.mkdir()
    shelf = Shelf()
    for version in range(1, 7):
        shelf.publish(version, size)
    registry, model_server = Registry(shelf), ModelServer(root)
    servers = Loopback(registry), Loopback(model_server)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / ".collections"), *sys.path]),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.soak.device_faults", "--workshop"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    made = Campaign(
        root,
        folder / "clock.json",
        shelf,
        random.Random(seed),
        registry,
        model_server,
        (servers[0].url, servers[1].url),
        process,
    )
    made.say_time()
    watchers = [threading.Thread(target=one) for one in (made.ask_on, made.ask_on, made.read_on)]
    for one in watchers:
        one.start()
    try:
        yield made
    finally:
        made.done.set()
        for one in watchers:
            one.join()
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
        for server in servers:
            server.shutdown()
            server.server_close()
        shutil.rmtree(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--workshop", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.workshop:
        workshop()
        return 0
    began = time.monotonic()
    with campaign(options.seed) as made:
        made.faults(options.faults)
        told, wrong = dict(sorted(made.told.items())), made.wrong
    struck = sum(told.get(kind, 0) for kind in KINDS)
    for sentence in wrong:
        print(json.dumps({"wrong": sentence}))
    print(json.dumps({"seconds": round(time.monotonic() - began, 1), "seed": options.seed, **told}))
    print(f"{struck - len(wrong)} passed, {len(wrong)} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program: reads what is new in each source, adds it to the stream, tells the second host.

    mlops-audit-collect --config /etc/mlops/audit_log/config.json

It runs as an account that may read what it needs and write its own directory. A source that cannot
be read is said, and does not keep the others from being read.
"""

from __future__ import annotations

import argparse
import base64
import functools
import hashlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import denied, syslog, witness
from . import names as named
from .chain import ITSELF, first_of
from .errors import AuditError
from .event import FAILURE, Event, Thing, parse, stamp
from .names import Names
from .sources import devices, gateway, hourly, rollout, runs, slurm, workloads
from .store import Store

BATCH = 5_000
"""Lines of a source that are read at once: what bounds the memory."""
KEPT_HOURS = 2  # a log of an hour that has passed and was read is deleted after this time
_HOURLY = re.compile(r"gateway-(\d{4}-\d\d-\d\dT\d\d)\.log")
_NEWEST_FORWARDED = "forwarded"
REPOSITORY = "models"
"""Where the pipeline publishes: a repository below it for each model."""


class Collector:
    """One look at everything."""

    def __init__(self, config: Mapping[str, Any], store: Store, now: float) -> None:
        self.config = config
        self.store = store
        self.now = now
        self.host = str(config["host"])
        self.problems: list[str] = []
        self.names: Names = named.names(
            config.get("people") or [],
            config.get("services") or [],
            list((config.get("addresses") or {}).values()),
            str(config.get("pseudonym_key") or ""),
            str(config["secret"]),
        )

    @property
    def memory(self) -> dict[str, Any]:
        return self.store.state.memory

    def run(self) -> None:
        """All sources, then what is too old, then the others who are told."""
        self._source("gateway", self._gateway)
        self._source("metrics", self._metrics)
        self._source("rollouts", self._rollouts)
        self._source("runs", self._runs)
        self._source("devices", self._devices)
        self._source("states", self._states)
        self._source("slurm", self._slurm)
        self._source("expiry", self._expire)
        self._source("witness", self._witness)
        self._source("syslog", self._syslog)

    def _source(self, name: str, look: Callable[[], None]) -> None:
        """One source; that it fails, and that it works again, is told once."""
        failing: dict[str, str] = self.memory.setdefault("failing", {})
        try:
            look()
        except (AuditError, OSError, ValueError, KeyError) as error:
            said = str(error) or type(error).__name__
            self.problems.append(f"{name}: {said}")
            if name not in failing:
                failing[name] = said
                self._own("audit.source_failed", name, {"said": said}, FAILURE)
            return
        if failing.pop(name, None) is not None:
            self._own("audit.source_back", name, {})

    def _own(
        self, action: str, name: str, details: Mapping[str, Any], outcome: str = "success"
    ) -> None:
        thing = Thing("source", name)
        self._add(
            [
                Event(
                    stamp(self.now), ITSELF, action, thing, self.host, "audit_log", outcome, details
                )
            ]
        )

    def _add(self, events: list[Event]) -> None:
        hidden = [self.names.hide(one) for one in events]
        self.store.append(hidden, self.now)

    # The gateway.

    def _gateway(self) -> None:
        directory = Path(self.config["gateway_log"])
        places: dict[str, int] = self.memory.setdefault("gateway_places", {})
        files = sorted(one for one in directory.iterdir() if _HOURLY.fullmatch(one.name))
        for path in files:
            while True:
                place = places.get(path.name, 0)
                lines, place = new_lines(path, place, BATCH)
                if not lines:
                    break
                memory = self.memory.setdefault("gateway", {})
                found = gateway.events(
                    lines, self.names, self.config.get("addresses") or {}, self.host, memory
                )
                traced = [self._traced(one) for one in found]
                denied.add(self.memory.setdefault("denied", {}), found, self.names)
                places[path.name] = place  # kept together with what was found
                self._add(traced)
        self._tidy(files, places)

    def _tidy(self, files: list[Path], places: dict[str, int]) -> None:
        """What was read to its end and is not written any more goes."""
        for path in files:
            about = path.stat()
            idle = self.now - about.st_mtime > KEPT_HOURS * 3600
            if idle and places.get(path.name, 0) >= about.st_size:
                path.unlink()
        there = {path.name for path in files if path.exists()}
        for gone in set(places) - there:
            del places[gone]

    def _traced(self, event: Event) -> Event:
        """A release tells itself which run and which data it comes from, when it is published and
        when it is rolled out: it may be older than this stream."""
        repository = str(event.details.get("repository") or f"{REPOSITORY}/{event.thing.name}")
        if event.action not in ("release.publish", "release.rollout") or not event.thing.digest:
            return event
        socket_path = str(self.config.get("registry_socket") or "")
        told = origin(socket_path, repository, event.thing.digest)
        version = told.pop("version", "")
        thing = replace(event.thing, version=event.thing.version or version)
        return replace(event, thing=thing, details={**event.details, **told})

    # The rollouts.

    def _rollouts(self) -> None:
        directory = Path(self.config["rollouts"])
        known: dict[str, Any] = self.memory.setdefault("rollouts", {})
        for path in sorted(directory.glob("*/journal.jsonl")):
            own: dict[str, Any] = known.setdefault(path.parent.name, {"place": 0})
            while True:
                lines, place = new_lines(path, own["place"], BATCH)
                if not lines:
                    break
                found = rollout.events(lines, self.names, self.host, own)
                traced = [self._traced(one) for one in found]
                own["place"] = place
                self._add(traced)

    # Runs of Ansible.

    def _runs(self) -> None:
        directory = Path(self.config["inbox"])
        seen: list[str] = self.memory.setdefault("runs", [])
        for path in sorted(directory.glob("*.json")):
            content = path.read_bytes()
            mark = hashlib.sha256(content).hexdigest()
            if mark not in seen:
                seen.append(mark)
                del seen[:-1000]
                self._add(runs.events(content, self.names))
            path.unlink()

    # Devices.

    def _devices(self) -> None:
        url = str(self.config.get("prometheus") or "")
        if not url:
            return
        memory = self.memory.setdefault("devices", {})
        if self.now - float(memory.get("looked", 0)) < float(self.config["device_seconds"]):
            return
        memory["looked"] = self.now
        shown = [str(self.config.get(f"prometheus_{part}") or "") for part in ("user", "password")]
        told = functools.partial(ask, url, account=(shown[0], shown[1]))
        info = told("mlops_model_info")
        counts = devices.clients(
            told("mlops_client_requests_total"), told("mlops_model_requests_total")
        )
        found = devices.serving(info, self.now, memory)
        found += devices.queries(counts, info, self.names, self.now, memory)
        asked = self.memory.setdefault("workloads", {})
        found += workloads.queries(told(workloads.COUNTER), self.now, asked)
        self._add(found)

    def _states(self) -> None:
        directory = Path(str(self.config.get("states") or ""))
        if not self.config.get("states") or not directory.is_dir():
            return
        memory = self.memory.setdefault("devices", {})
        times: dict[str, float] = self.memory.setdefault("states", {})
        for path in sorted(directory.glob("*.json")):
            written = path.stat().st_mtime
            if times.get(path.stem) != written:
                times[path.stem] = written
                self._add(devices.state(path.read_bytes(), path.stem, written, memory))

    # Slurm.

    def _slurm(self) -> None:
        program = str(self.config.get("sacct") or "")
        if not program:
            return
        memory = self.memory.setdefault("slurm", {})
        if self.now - float(memory.get("looked", 0)) < float(self.config["device_seconds"]):
            return
        since = float(memory.get("since", self.now - 86400))
        command = [program, "--parsable2", "--noheader", "--allocations", "--allusers"]
        command += [f"--format={','.join(slurm.FIELDS)}", f"--starttime={stamp(since)[:19]}"]
        done = subprocess.run(
            command,
            env={"TZ": "UTC", "PATH": "/usr/bin:/bin", "SLURM_TIME_FORMAT": "standard"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise AuditError(f"sacct ended with {done.returncode}: {done.stderr.strip()[:200]}")
        found = slurm.events(done.stdout.splitlines(), self.names, self.host, memory)
        memory.update(looked=self.now, since=self.now - 86400)
        self._add(found)

    # What Prometheus reads.

    def _metrics(self) -> None:
        if not self.config.get("metrics"):
            return
        path = Path(self.config["metrics"])
        draft = path.with_name(f"{path.name}.new")
        told = denied.page(self.memory.get("denied", {}), self.names)
        draft.write_text(told, encoding="utf-8")
        draft.chmod(0o644)
        draft.replace(path)

    # What goes, and who is told.

    def _expire(self) -> None:
        self.store.expire(
            int(self.config["retention_days"]), self.now, int(self.config["most_mib"]) << 20
        )

    def _witness(self) -> None:
        target = self.config.get("witness") or {}
        head = self.store.state.head
        told = self.memory.setdefault("witnessed", {"seq": 0, "at": 0.0})
        due = self.now - told["at"] >= float(self.config["witness_seconds"])
        if target and head.seq != told["seq"] and due:
            witness.tell(target, head)
            self.memory["witnessed"] = {"seq": head.seq, "at": self.now}
            self.store.append([], self.now)

    def _syslog(self) -> None:
        target = self.config.get("syslog") or {}
        if not target:
            return
        while True:
            after = int(self.memory.get(_NEWEST_FORWARDED, 0))
            batch = self._after(after) if after < self.store.state.head.seq else []
            if not batch:
                return
            syslog.send(target, [syslog.message(one, line, self.host) for one, line in batch])
            self.memory[_NEWEST_FORWARDED] = batch[-1][0].seq
            self.store.append([], self.now)

    def _after(self, seq: int) -> list[tuple[Event, bytes]]:
        """The next lines of the stream after a number."""
        paths = self.store.segments()
        wanted = [
            path
            for path, after in zip(paths, [*paths[1:], None])
            if after is None or (first_of(after.name) or 0) > seq + 1
        ]
        found: list[tuple[Event, bytes]] = []
        for path in wanted:
            for line in path.read_bytes().splitlines():
                event = parse(line)
                if event.seq > seq:
                    found.append((event, line))
                if len(found) >= BATCH:
                    return found
        return found


def new_lines(path: Path, place: int, most: int) -> tuple[list[bytes], int]:
    """The next whole lines of a file, and where the one after them begins."""
    with path.open("rb") as stream:
        if place > os.fstat(stream.fileno()).st_size:
            raise AuditError(
                f"{path} is shorter than when it was last read: somebody has cut or replaced it"
            )
        stream.seek(place)
        found: list[bytes] = []
        for line in stream:
            if not line.endswith(b"\n") or len(found) >= most:
                break
            found.append(line[:-1])
            place += len(line)
    return found, place


def ask(url: str, query: str, account: tuple[str, str] = ("", "")) -> list[hourly.Sample]:
    """An instant query of Prometheus, as an account and its password where it has any."""
    words = base64.b64encode(":".join(account).encode()).decode()
    headers = {"Authorization": f"Basic {words}"} if account[0] else {}
    parts = urllib.parse.urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=20)
    try:
        asked = urllib.parse.urlencode({"query": query})
        connection.request("GET", f"{parts.path}/api/v1/query?{asked}", headers=headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise ValueError(f"HTTP {answer.status}")
        return devices.samples(answer.read())
    except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
        raise AuditError(f"Prometheus at {url} did not answer {query}: {error}") from None
    finally:
        connection.close()


class _Socket(http.client.HTTPConnection):
    """HTTP over a socket of this host."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(self._path)


def origin(path: str, repository: str, digest: str) -> dict[str, str]:
    """Model version, run and data of a release, as its own manifest and configuration say.

    Both are named by their hash, so that what is read is what was published. A registry that does
    not answer, or a release of another kind, has nothing to tell.
    """
    if not path:
        return {}
    try:
        manifest = json.loads(_content(path, repository, "manifests", digest))
        notes = manifest.get("annotations") or {}
        told = {
            "version": str(notes.get("org.mlops.model.version", "")),
            "run_id": str(notes.get("org.mlops.mlflow.run_id", "")),
        }
        for layer in manifest.get("layers") or []:
            title = (layer.get("annotations") or {}).get("org.opencontainers.image.title")
            if title == "config.json" and int(layer["size"]) <= 1 << 20:
                config = json.loads(_content(path, repository, "blobs", str(layer["digest"])))
                told["data_version"] = str(config.get("data_version", ""))
    except (OSError, ValueError, KeyError, AttributeError, TypeError, http.client.HTTPException):
        return {}
    return {name: value for name, value in told.items() if value}


def _content(path: str, repository: str, kind: str, digest: str) -> bytes:
    connection = _Socket(path)
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    try:
        connection.request("GET", f"/v2/{repository}/{kind}/{digest}", headers=accept)
        answer = connection.getresponse()
        content = answer.read(4 << 20)
    finally:
        connection.close()
    if answer.status != 200 or "sha256:" + hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(digest)
    return content


def main(arguments: list[str] | None = None, clock: Callable[[], float] = time.time) -> int:
    """The program."""
    parser = argparse.ArgumentParser(description="Add what is new to the event stream.")
    parser.add_argument("--config", type=Path, default=Path("/etc/mlops/audit_log/config.json"))
    options = parser.parse_args(arguments)
    os.umask(0o027)
    try:
        config = json.loads(options.config.read_text(encoding="utf-8"))
        collector = Collector(config, Store(Path(config["directory"])), clock())
        collector.run()
    except AuditError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for problem in collector.problems:
        sys.stderr.write(f"{problem}\n")
    return 1 if collector.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics of the workloads of a host, on one page: of every replica with its name, and who asked.

Engines say the same series each for itself; here they get the labels ``workload`` and ``replica``.
The gateway's nginx sends a line for each request, as to a syslog; they are counted by team.
"""

from __future__ import annotations

import json
import os
import re
import socket
import socketserver
import ssl
import threading
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from .web import MOST_BYTES, Unanswered, ask

SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})?[ \t]+(\S.*)$")
TYPED = re.compile(r"^# (HELP|TYPE) (\S+)(.*)$")
LINE = re.compile(rb"\{.*\}")
BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
MOST_LINES = 100_000
MOST_SERIES = 5_000
PIECE = 65_536
OK, PATIENCE = 200, 4.0
AUTHORITIES = "/etc/mlops/tls/ca.crt"


def escaped(value: str) -> str:
    """A value of a label."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def labels(given: Mapping[str, str]) -> str:
    """Labels as they are written."""
    return ",".join(f'{name}="{escaped(value)}"' for name, value in given.items())


class Page:
    """Series by family: a family stands together, whoever of its replicas says it."""

    def __init__(self) -> None:
        self._heads: dict[str, list[str]] = {}
        self._samples: dict[str, list[str]] = {}

    def family(self, name: str, kind: str, text: str) -> None:
        """A family of our own."""
        self._heads.setdefault(name, [f"# HELP {name} {text}", f"# TYPE {name} {kind}"])
        self._samples.setdefault(name, [])

    def add(self, name: str, given: Mapping[str, str], value: float, family: str = "") -> None:
        """One sample of our own."""
        line = f"{name}{{{labels(given)}}} {value:.12g}"
        self._samples.setdefault(family or name, []).append(line)

    def merge(self, text: str, given: Mapping[str, str]) -> None:
        """What an engine says, with labels that say which one."""
        more = labels(given)
        current = ""
        for line in text.splitlines()[:MOST_LINES]:
            head = TYPED.match(line)
            if head:
                current = head[2]
                heads = self._heads.setdefault(current, [])
                # The first replica that says a family says what it is.
                if not any(one.startswith(f"# {head[1]} ") for one in heads):
                    heads.append(line)
                self._samples.setdefault(current, [])
                continue
            sample = SAMPLE.match(line)
            if sample:
                name, inner, value = sample[1], (sample[2] or "{}")[1:-1], sample[3]
                family = current if current and name.startswith(current) else name
                joined = ",".join(part for part in (more, inner.strip(",")) if part)
                self._samples.setdefault(family, []).append(f"{name}{{{joined}}} {value}")

    def __str__(self) -> str:
        lines: list[str] = []
        for family, samples in self._samples.items():
            if samples:
                lines += [*self._heads.get(family, []), *samples]
        return "\n".join(lines) + "\n"


class Usage:
    """Requests by team and workload, as the gateway told them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, str, str], int] = defaultdict(int)
        self._bytes: dict[tuple[str, str], float] = defaultdict(float)
        self._buckets: dict[tuple[str, str], list[int]] = {}
        self._seconds: dict[tuple[str, str], float] = defaultdict(float)

    def take(self, line: bytes) -> None:
        """Count one line of the gateway; one that cannot be read counts nothing."""
        found = LINE.search(line)
        try:
            value: Any = json.loads(found[0]) if found else {}
            who = str(value["team"] or "none"), str(value["workload"])
            status, seconds = str(int(value["status"])), float(value["seconds"])
            size = float(value["bytes"])
        except (ValueError, KeyError, TypeError):
            return
        with self._lock:
            if len(self._requests) >= MOST_SERIES and (*who, status) not in self._requests:
                return
            self._requests[(*who, status)] += 1
            self._bytes[who] += size
            self._seconds[who] += seconds
            buckets = self._buckets.setdefault(who, [0] * (len(BOUNDS) + 1))
            for number, bound in enumerate(BOUNDS):
                buckets[number] += seconds <= bound
            buckets[-1] += 1

    def tell(self, page: Page) -> None:
        """Write it on the page."""
        with self._lock:
            page.family(
                "mlops_workload_requests_total", "counter", "Requests at the gateway by team."
            )
            for (team, workload, status), count in sorted(self._requests.items()):
                given = {"team": team, "workload": workload, "code": status}
                page.add("mlops_workload_requests_total", given, count)
            page.family(
                "mlops_workload_response_bytes_total", "counter", "Bytes of answers by team."
            )
            for (team, workload), size in sorted(self._bytes.items()):
                given = {"team": team, "workload": workload}
                page.add("mlops_workload_response_bytes_total", given, size)
            name = "mlops_workload_request_seconds"
            page.family(name, "histogram", "How long requests took, as the gateway saw it.")
            for (team, workload), buckets in sorted(self._buckets.items()):
                given = {"team": team, "workload": workload}
                for bound, count in zip([*BOUNDS, float("inf")], buckets):
                    le = "+Inf" if bound == float("inf") else f"{bound:g}"
                    page.add(f"{name}_bucket", {**given, "le": le}, count, name)
                page.add(f"{name}_sum", given, self._seconds[(team, workload)], name)
                page.add(f"{name}_count", given, buckets[-1], name)


def read_replicas(path: Path) -> list[dict[str, str]]:
    """The replicas of this host, as the role wrote them down."""
    try:
        rows: Any = json.loads(path.read_bytes())["replicas"]
        return [{key: str(value) for key, value in row.items()} for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def local(row: Mapping[str, str]) -> tuple[int, bytes]:
    """What a replica of this host says."""
    try:
        return ask(row["socket"], "GET", "/metrics", timeout=PATIENCE)
    except Unanswered:
        return 0, b""


def external(row: Mapping[str, str]) -> tuple[int, bytes]:
    """What somebody else's endpoint says: its metrics, or nothing but that it is well."""
    path = row.get("metrics") or row.get("health") or "/"
    context = ssl.create_default_context(cafile=row.get("ca") or AUTHORITIES)
    try:
        with urllib.request.urlopen(row["url"] + path, timeout=PATIENCE, context=context) as answer:
            data = answer.read(MOST_BYTES)
            return answer.status, data if row.get("metrics") else b""
    except (OSError, ValueError):
        return 0, b""


def page_of(replicas: Iterable[Mapping[str, str]], usage: Usage) -> str:
    """Everything, as it is now."""
    page = Page()
    page.family("mlops_workload_up", "gauge", "Whether a replica answers, by its own metrics.")
    said = []
    for row in replicas:
        given = {"workload": row["workload"], "replica": row["replica"]}
        status, data = external(row) if row.get("url") else local(row)
        up = status == OK
        page.add("mlops_workload_up", {**given, "engine": row["engine"]}, int(up))
        if up:
            said.append((given, data.decode("utf-8", "replace")))
    for given, text in said:
        page.merge(text, given)
    usage.tell(page)
    return str(page)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 16


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(path))
    return made


def _count(listener: socket.socket, usage: Usage) -> None:
    while True:
        usage.take(listener.recv(PIECE))


def serve(replicas: Path, directory: Path) -> None:
    """Answer ``/metrics`` on a socket until told to stop."""
    usage = Usage()
    listener = _listen(directory / "usage.sock")
    threading.Thread(target=_count, args=(listener, usage), daemon=True).start()

    class Handler(BaseHTTPRequestHandler):
        """One page; nobody but nginx of this host reaches it."""

        def do_GET(self) -> None:
            body = page_of(read_replicas(replicas), usage).encode()
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "nginx"

        def log_message(self, *_said: Any) -> None:
            return

    place = directory / "metrics.sock"
    place.unlink(missing_ok=True)
    os.umask(0)
    with _Server(str(place), Handler) as server:
        server.serve_forever()

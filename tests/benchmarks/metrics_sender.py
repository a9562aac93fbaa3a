# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Samples that Debian's vmagent and Prometheus' agent mode lose over an outage.

    make bench-metrics-sender            or: python -m tests.benchmarks.metrics_sender --help

A sender scrapes a page whose number grows with every scrape, and sends to a real Prometheus behind
a real nginx. nginx is taken away, the sender is stopped (or killed) and started in the outage,
nginx comes back. A number that was handed out and is not in Prometheus in the end is a lost sample;
what nobody scraped, because the sender was down, is none. The cases with ``relay`` have a second
vmagent between nginx and Prometheus, which is restarted or killed as well, and which says by itself
which device it was: a device that claims another name is tried beside.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.integration.debian_programs import archives, start_through_loader, unpack
from tests.integration.fleet_gateway import ROLES, free_port, rendered
from tests.integration.fleet_gateway import program as nginx_program

SERIES = 40
RELAY_RULES = ROLES / "gateway/templates/metrics_relay.yml.j2"
DEADLINE = 120.0
CLAIMED = "somebody_else"


class Page:
    """A page of metrics whose numbers say which scrape it was."""

    def __init__(self) -> None:
        self.handed_out: list[int] = []
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = page.next()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, *_args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def next(self) -> bytes:
        number = len(self.handed_out) + 1
        self.handed_out.append(number)
        lines = [f'bench_scrape{{code="{n}"}} {number}\n' for n in range(SERIES)]
        return "".join([*lines, f'bench_claim{{host="{CLAIMED}"}} {number}\n']).encode()


@dataclass
class Process:
    """A program that is started again and again, with the most that it took."""

    name: str
    command: Sequence[str]
    log: Path
    running: subprocess.Popen[bytes] | None = None
    peak_mib: float = 0.0

    def start(self) -> None:
        with self.log.open("ab") as stream:
            self.running = subprocess.Popen(self.command, stdout=stream, stderr=stream)

    def look(self) -> None:
        if self.running is None:
            return
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self.running.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    self.peak_mib = max(self.peak_mib, int(line.split()[1]) / 1024)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.running is not None:
            self.look()
            self.running.send_signal(number)
            self.running.wait(150)  # the agent waits a minute for who does not answer
            self.running = None


def size_mib(place: Path) -> float:
    """What a directory takes on the disk."""
    total = 0
    for directory, _names, files in os.walk(place):
        for one in files:
            with contextlib.suppress(OSError):
                total += (Path(directory) / one).stat().st_blocks * 512
    return total / 1048576


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


def wait_for(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE
    while True:
        with contextlib.suppress(OSError, ValueError, KeyError):
            if true():
                return
        if time.monotonic() > end:
            raise RuntimeError(f"not after {DEADLINE:.0f} s: {what}")
        time.sleep(0.2)


@dataclass(frozen=True)
class Programs:
    """What Debian's packages of one release have."""

    prometheus: str
    vmagent: str


def programs(release: str, place: Path) -> Programs:
    """The programs of a release, unpacked and not installed."""
    found = []
    for package, name in (("prometheus", "prometheus"), ("victoria-metrics", "vmagent")):
        root = place / f"{release}-{name}"
        if not root.exists():
            unpack(archives(release, [package], f"sender-{release}-{package}"), root)
            start_through_loader(root / "usr/bin" / name, root)
        found.append(str(root / "usr/bin" / name))
    return Programs(*found)


@dataclass
class World:
    """A receiver, nginx before it, and one sender."""

    place: Path
    page: Page
    receiver: Process
    nginx: Process
    sender: Process
    queue: Path
    receiver_url: str
    relay: Process | None = None
    queue_mib: float = 0.0
    said: list[str] = field(default_factory=list)

    def query(self, text: str) -> list[dict[str, Any]]:
        address = f"{self.receiver_url}/api/v1/query?query={urllib.parse.quote(text)}"
        found: list[dict[str, Any]] = get(address)["data"]["result"]
        return found

    def arrived(self) -> dict[str, set[int]]:
        """Numbers that came in, by series."""
        rows = self.query('bench_scrape{code=~".+"}[2h]')
        return {row["metric"]["code"]: {int(float(v)) for _at, v in row["values"]} for row in rows}

    def look(self) -> None:
        self.sender.look()
        self.queue_mib = max(self.queue_mib, size_mib(self.queue))

    def during(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()
            time.sleep(0.2)


SCRAPE = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: bench
    honor_labels: true
    static_configs: [{{targets: ["{address}"]}}]
"""
NGINX = """
worker_processes 1; pid {place}/nginx.pid; error_log stderr; user root;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;
  fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;
  server {{
    listen 127.0.0.1:{port}; client_max_body_size 32m;
    location = /write {{ proxy_pass {target}; }}
  }}
}}
"""


def vmagent(program: str, scrape: Path, queue: Path, url: str, port: int) -> list[str]:
    """As a device runs it."""
    return [
        program,
        *([f"-promscrape.config={scrape}"] if scrape.name else []),
        f"-remoteWrite.tmpDataPath={queue}",
        f"-remoteWrite.url={url}",
        "-remoteWrite.queues=1",
        "-remoteWrite.maxDiskUsagePerURL=256MB",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-memory.allowedBytes=32MiB",
    ]


def agent(program: str, config: Path, queue: Path, url: str, port: int) -> list[str]:
    """Prometheus as an agent."""
    config.write_text(config.read_text() + f"remote_write: [{{url: '{url}'}}]\n")
    return [
        program,
        "--enable-feature=agent",
        f"--config.file={config}",
        f"--storage.agent.path={queue}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]


@contextlib.contextmanager
def world(kind: str, relay: bool, found: Programs, place: Path) -> Iterator[World]:
    """Everything runs, and samples come in."""
    place.mkdir(parents=True)
    page, (front, own, inner, back) = Page(), [free_port() for _ in range(4)]
    receiver_url = f"http://127.0.0.1:{inner}"
    config = place / "receiver.yml"
    config.write_text("storage: {tsdb: {out_of_order_time_window: 7d}}\n")
    receiver = Process(
        "receiver",
        [
            found.prometheus,
            f"--config.file={config}",
            f"--storage.tsdb.path={place}/tsdb",
            "--web.enable-remote-write-receiver",
            f"--web.listen-address=127.0.0.1:{inner}",
        ],
        place / "receiver.log",
    )
    target = f"{receiver_url}/api/v1/write"
    between = None
    if relay:
        rules = place / "relay.yml"
        rules.write_text(rendered(RELAY_RULES, gateway_metrics_names="up|bench_.+"))
        command = vmagent(found.vmagent, Path(), place / "relay", target, back)
        command.append(f"-remoteWrite.relabelConfig={rules}")
        between = Process("relay", command, place / "relay.log")
        target = f"http://127.0.0.1:{back}/api/v1/write?extra_label=mlops_writer=device7"
    (place / "nginx.conf").write_text(NGINX.format(place=place, port=front, target=target))
    nginx = Process(
        "nginx",
        [nginx_program(), "-e", "stderr", "-c", f"{place}/nginx.conf", "-g", "daemon off;"],
        place / "nginx.log",
    )
    scrape, queue = place / "scrape.yml", place / "queue"
    scrape.write_text(SCRAPE.format(address=page.address))
    url = f"http://127.0.0.1:{front}/write"
    make, program = (vmagent, found.vmagent) if kind == "vmagent" else (agent, found.prometheus)
    sender = Process(kind, make(program, scrape, queue, url, own), place / "sender.log")
    one = World(place, page, receiver, nginx, sender, queue, receiver_url, between)
    everything = [receiver, *([between] if between else []), nginx, sender]
    try:
        for process in everything:
            process.start()
        wait_for(lambda: len(one.arrived()) == SERIES, "the first samples have come")
        yield one
    finally:
        for process in reversed(everything):
            process.stop()
        page.server.shutdown()


def measure(one: World, number: int, seconds: float) -> dict[str, Any]:
    """Take nginx away, restart the sender in the outage, let nginx come back, and count."""
    one.during(3)
    one.nginx.stop()
    one.during(seconds)
    one.sender.stop(number)
    one.sender.start()
    one.during(seconds)
    if one.relay is not None:
        one.relay.stop(number)
        one.relay.start()
    one.nginx.start()
    back = time.monotonic()
    late = len(one.page.handed_out)
    wait_for(lambda: max(one.arrived()["0"]) > late + 3, "fresh samples come again")
    if one.relay is not None:  # the receiver is away for a while as well, and the relay waits
        one.receiver.stop()
        one.during(3)
        one.relay.stop(number)
        one.relay.start()
        one.receiver.start()
        late = len(one.page.handed_out)
        wait_for(lambda: max(one.arrived()["0"]) > late + 3, "the receiver is back")
    end = max(one.page.handed_out) - 3  # the last ones may be under way
    # A sender that sends the newest first is given the time to send the rest.
    settled = time.monotonic() + 20
    while time.monotonic() < settled:
        lost = {n: set(range(1, end + 1)) - seen for n, seen in one.arrived().items()}
        if not any(lost.values()):
            break
        time.sleep(1)
    worst = max(lost.values(), key=len)
    claims = [row["metric"].get("host", "") for row in one.query("bench_claim")]
    return {
        "scrapes": end,
        "lost_scrapes": len(worst),
        "lost_samples": sum(map(len, lost.values())),
        "lost": sorted(worst)[:5],
        "caught_up_s": round(time.monotonic() - back, 1),
        "sender_mib": round(one.sender.peak_mib, 1),
        "queue_mib": round(one.queue_mib, 2),
        "claimed_name_arrives_as": claims,
    }


CASES = [
    ("vmagent", "restart", False),
    ("vmagent", "kill", False),
    ("prometheus-agent", "restart", False),
    ("prometheus-agent", "kill", False),
    ("vmagent", "restart", True),
    ("vmagent", "kill", True),
]


def main() -> None:
    """Print a row for each case, and write all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--release", action="append", help="of Debian (default: trixie, bookworm)")
    parser.add_argument("--seconds", type=float, default=8.0, help="before and after the restart")
    parser.add_argument("--case", action="append", help="vmagent, prometheus-agent")
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks/metrics-sender.json"))
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="metrics-sender-") as name:
        for release in options.release or ["trixie", "bookworm"]:
            found = programs(release, Path(name))
            for number, (kind, how, relay) in enumerate(CASES):
                if options.case and kind not in options.case:
                    continue
                place = Path(name) / f"{release}-{number}"
                with world(kind, relay, found, place) as one:
                    how_number = signal.SIGTERM if how == "restart" else signal.SIGKILL
                    row = measure(one, how_number, options.seconds)
                rows.append({"release": release, "sender": kind, "how": how, "relay": relay, **row})
                print(json.dumps(rows[-1]), flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()

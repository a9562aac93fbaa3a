# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus needs for ten thousand devices: memory, processors, and the rules' time.

Debian's Prometheus scrapes devices that do not exist: one small server answers for all of them,
each with the same number of series under the names that devices really have. Our rules run beside.
What is measured is read from the kernel (RSS, seconds of the process) and from Prometheus itself.

On a machine that has more to do than it can, Prometheus computes less than it should and looks
cheap; so it is also said what part of the scrapes it did, and how many evaluations it left out.
"""

from __future__ import annotations

import argparse
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from tests.prometheus_programs import program  # noqa: E402

SCRAPED = "prometheus_target_interval_length_seconds_count"
EVALUATED = "prometheus_rule_group_iterations_total"
MISSED = "prometheus_rule_group_iterations_missed_total"
COUNTED = (SCRAPED, EVALUATED, MISSED)
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
NAMES = (
    ("node_memory_MemAvailable_bytes", 1),
    ("node_memory_MemTotal_bytes", 1),
    ("node_time_seconds", 1),
    ('node_filesystem_avail_bytes{mountpoint="/m%d"}', 3),
    ('node_filesystem_size_bytes{mountpoint="/m%d"}', 3),
    ('mlops_unit_memory_bytes{unit="mlops-%d.service"}', 4),
    ('mlops_unit_planned_memory_bytes{unit="mlops-%d.service"}', 4),
    ('mlops_unit_cpu_seconds_total{unit="mlops-%d.service"}', 4),
    ('mlops_model_requests_total{model_name="m",model_version="1",outcome="o%d"}', 3),
    ('mlops_model_request_seconds_bucket{model_name="m",model_version="1",le="%d"}', 12),
)


def page(series: int, value: float) -> bytes:
    """What one device answers: real names first, then others up to the number."""
    lines = []
    for name, count in NAMES:
        lines += [f"{name % at if '%d' in name else name} {value + at}" for at in range(count)]
    more = [f'mlops_other{{part="{at}"}} {value + at}' for at in range(len(lines), series)]
    return ("\n".join([*lines, *more][:series]) + "\n").encode()


class Devices(http.server.ThreadingHTTPServer):
    """All devices; each request is one of them."""

    daemon_threads = True
    request_queue_size = 1024
    series = 0


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Devices

    def do_GET(self) -> None:
        body = page(self.server.series, time.time() % 1000)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def prepared(folder: Path, devices: int, interval: int, serves: int) -> None:
    """Targets, rules and configuration."""
    rows = [
        {
            "targets": [f"127.0.0.1:{serves}"],
            "labels": {"host": f"device{at}", "__metrics_path__": f"/{at}"},
        }
        for at in range(devices)
    ]
    (folder / "targets.json").write_text(json.dumps(rows))
    rules = sorted(str(path) for path in ROOT.glob("roles/*/files/alerts.yml"))
    rules.append(str(ROOT / "roles" / "monitoring" / "files" / "recording.yml"))
    config = {
        "global": {"scrape_interval": f"{interval}s", "evaluation_interval": f"{interval}s"},
        "rule_files": rules,
        "scrape_configs": [
            {"job_name": "node", "file_sd_configs": [{"files": [str(folder / "targets.json")]}]}
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))


class Prometheus:
    """Debian's, started for this."""

    def __init__(self, folder: Path) -> None:
        self._url = f"http://127.0.0.1:{free_port()}"
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    program("prometheus"),
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'tsdb'}",
                    f"--web.listen-address={self._url.removeprefix('http://')}",
                    "--storage.tsdb.wal-compression",
                ],
                stderr=log,
            )

    def value(self, query: str) -> float:
        address = f"{self._url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                result = json.load(answer)["data"]["result"]
        except OSError:
            return 0.0
        return float(result[0]["value"][1]) if result else 0.0

    def series(self) -> float:
        address = f"{self._url}/api/v1/status/tsdb"
        with urllib.request.urlopen(address, timeout=60) as answer:
            return float(json.load(answer)["data"]["headStats"]["numSeries"])

    def groups_seconds(self) -> dict[str, float]:
        """The time of the last evaluation of each group of rules, which run beside one another."""
        with urllib.request.urlopen(f"{self._url}/api/v1/rules", timeout=60) as answer:
            groups = json.load(answer)["data"]["groups"]
        return {str(group["name"]): float(group["evaluationTime"]) for group in groups}

    def counters(self) -> dict[str, float]:
        """What it counts of itself, over all labels."""
        found = dict.fromkeys(COUNTED, 0.0)
        with urllib.request.urlopen(f"{self._url}/metrics", timeout=60) as answer:
            for line in answer.read().decode().splitlines():
                name, _, value = line.rpartition(" ")
                if name.partition("{")[0] in found:
                    found[name.partition("{")[0]] += float(value)
        return found

    def processor_seconds(self) -> float:
        parts = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(parts[11]) + int(parts[12])) / TICKS

    def memory_mib(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * PAGE / 1048576


def measured(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    server = Devices(("127.0.0.1", 0), Handler)
    server.series = args.series
    threading.Thread(target=server.serve_forever, daemon=True).start()
    prepared(folder, args.devices, args.interval, server.server_address[1])
    prometheus = Prometheus(folder)
    try:
        deadline = time.monotonic() + args.patience
        while prometheus.value("count(up == 1)") < args.devices:
            if time.monotonic() > deadline or prometheus.process.poll() is not None:
                log = (folder / "log").read_text()[-1000:]
                raise SystemExit(f"not all devices were read within {args.patience} s\n{log}")
            time.sleep(1)
        before = prometheus.counters()
        began, used, peak = time.monotonic(), prometheus.processor_seconds(), 0.0
        while time.monotonic() - began < args.seconds:
            peak = max(peak, prometheus.memory_mib())
            time.sleep(0.5)
        took, used = time.monotonic() - began, prometheus.processor_seconds() - used
        after = prometheus.counters()
        counted = {name: after[name] - before[name] for name in COUNTED}
        groups = prometheus.groups_seconds()
        slowest = max(groups, key=lambda name: groups[name])
        wanted = args.devices * took / args.interval
        return {
            "devices": args.devices,
            "series_of_each": args.series,
            "series": prometheus.series(),
            "interval_seconds": args.interval,
            "memory_mib": round(peak),
            "cores": round(used / took, 2),
            "scraped_share": round(counted[SCRAPED] / wanted, 2),
            "evaluations": counted[EVALUATED],
            "evaluations_missed": counted[MISSED],
            "slowest_group": slowest,
            "slowest_group_seconds": round(groups[slowest], 2),
            "up": prometheus.value("count(up == 1)"),
        }
    finally:
        prometheus.process.send_signal(signal.SIGTERM)
        try:
            prometheus.process.wait(timeout=args.patience)
        except subprocess.TimeoutExpired:
            prometheus.process.kill()
        server.shutdown()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--series", type=int, default=40)
    parser.add_argument("--interval", type=int, default=60, help="seconds between two scrapes")
    parser.add_argument("--seconds", type=int, default=120, help="how long is measured")
    parser.add_argument("--patience", type=int, default=900)
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks/cardinality.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cardinality") as folder:
        found = measured(args, Path(folder))
    print(
        f"{found['devices']:,} devices with {found['series_of_each']} series, every"
        f" {found['interval_seconds']} s: {found['series']:,.0f} series in memory (those of up and"
        f" of our rules included), {found['memory_mib']:,} MiB, {found['cores']} cores;"
        f" {found['scraped_share']:.0%} of the scrapes that there should have been; of"
        f" {found['evaluations']:.0f} evaluations of a group of rules"
        f" {found['evaluations_missed']:.0f} left out, the slowest ({found['slowest_group']}) took"
        f" {found['slowest_group_seconds']} s"
    )
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

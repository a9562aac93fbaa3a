# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The start page behind the role's own nginx, with a real Prometheus.

Debian's Alertmanager runs only where its package is installed, so its version 2 API is stood in
for: alerts, and silences that match by equal labels. The scenario of monitoring sets a silence with
the real one, by the same request.

    python -m tests.integration.start_page DIRECTORY SETTINGS CHECKS

runs the checks of ``tests/browser`` against it, and hands on what they print.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests import site_to_look_at as werk
from tests.browsers import browser
from tests.integration.fleet_gateway import free_port, program, rendered
from tests.patience import PATIENCE
from tests.prometheus_programs import program as monitoring
from tests.unit.plugins.module_utils._trust.companies import authority, leaf

ROOT = Path(__file__).resolve().parents[2]
ROLES = ROOT / "roles"
ACCOUNT, PASSWORD = "vera", "only-for-this-test"
SERVICES = [
    {
        "name": "Model registry",
        "path": "/mlflow/",
        "about": "Experiments, runs and registered models (MLflow).",
        "languages": {"de": {"name": "Modell-Register", "about": "Experimente (MLflow)."}},
    },
    {
        "name": "Metrics",
        "path": "/prometheus/classic/graph",
        "about": "Measurements and alert rules (Prometheus).",
        "languages": {"de": {"name": "Messwerte", "about": "Messwerte (Prometheus)."}},
    },
]
# What other roles answer at this gateway, in a word by which the page is known.
OTHERS = """
location /prometheus/classic/ { default_type text/html; return 200 "<title>Prometheus</title>"; }
location /runbooks/ { default_type text/html; return 200 "<title>Runbook</title>What to do"; }
location /mlflow/ { default_type text/html; return 200 "<title>MLflow</title>Experiments"; }
"""


@dataclass(frozen=True)
class Gateway:
    """Where the page is, and who alerts."""

    url: str
    alertmanager: Alertmanager


class Alertmanager:
    """Alerts and silences, as the version 2 API of Alertmanager tells and takes them."""

    def __init__(self, alerts: list[dict[str, Any]]) -> None:
        self.alerts = alerts
        self.silences: dict[str, dict[str, Any]] = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    @property
    def address(self) -> str:
        host, port = self.server.server_address[:2]
        return f"{host!s}:{port}"

    def told(self) -> list[dict[str, Any]]:
        """The alerts with what silences them."""
        found = []
        for number, alert in enumerate(self.alerts):
            by = [name for name, silence in self.silences.items() if silences(silence, alert)]
            state = {"state": "suppressed" if by else "active", "silencedBy": by, "inhibitedBy": []}
            found.append({**alert, "fingerprint": f"f{number}", "status": state})
        return found

    def take(self, silence: dict[str, Any]) -> str:
        """Keep a silence; what Alertmanager refuses is an error."""
        for word in ("matchers", "startsAt", "endsAt", "createdBy", "comment"):
            if not silence[word]:
                raise KeyError(word)
        name = str(uuid.uuid4())
        self.silences[name] = {**silence, "id": name, "status": {"state": "active"}}
        return name

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        desk = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self, status: int, data: Any) -> None:
                body = json.dumps(data).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                listed = desk.told() if "/alerts" in self.path else list(desk.silences.values())
                self.answer(200, listed)

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                try:
                    self.answer(200, {"silenceID": desk.take(json.loads(data))})
                except KeyError as error:
                    self.answer(400, f"{error} is missing")

            def do_DELETE(self) -> None:
                known = desk.silences.pop(self.path.rpartition("/")[2], None)
                self.answer(200 if known else 404, {})

            def log_message(self, *_said: Any) -> None:
                """The tests look at the page, not at a log."""

        return Handler


def silences(silence: Mapping[str, Any], alert: Mapping[str, Any]) -> bool:
    """Whether every matcher of a silence matches an alert."""
    labels = alert["labels"]
    return all(labels.get(one["name"]) == one["value"] for one in silence["matchers"])


@contextmanager
def process(command: Sequence[str | Path], log: Path, ready: str) -> Iterator[None]:
    """A program that runs until the block ends; it answers at an address when the block begins."""
    with log.open("wb") as said:
        running = subprocess.Popen([str(word) for word in command], stdout=said, stderr=said)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with urllib.request.urlopen(ready, timeout=5):
                    break
            except urllib.error.HTTPError:
                break
            except OSError:
                assert running.poll() is None, log.read_text()[-2000:]
                assert time.monotonic() < deadline, f"{command[0]} is not ready"
                time.sleep(0.1)
        yield
    finally:
        running.terminate()
        running.wait(timeout=PATIENCE)


def pages(place: Path, **settings: Any) -> None:
    """Everything that the role places for the page, as it places it."""
    words = {
        "mlops_site_name": "werk",
        "__gateway_services": SERVICES,
        "gateway_inventory": {"devices": werk.DEVICES, "hosts": werk.HOSTS},
        "gateway_measured_here": True,
        "gateway_plan": werk.PLAN,
        **settings,
    }
    start = place / "pages" / "start"
    start.mkdir(parents=True)
    for path in (ROLES / "gateway/files/start").iterdir():
        (start / path.name).write_bytes(path.read_bytes())
    for name in ("index.html", "site.json"):
        text = page_template(name, words)
        (place / "pages" / name).write_text(text)


def page_template(name: str, words: Mapping[str, Any]) -> str:
    """A template of the page."""
    return rendered(ROLES / f"gateway/templates/{name}.j2", **words)


def configure(place: Path, port: int, prometheus: str, alertmanager: str) -> Path:
    """Write what nginx reads: the role's own entrance, over plain HTTP on loopback."""
    hashed = subprocess.run(
        ["openssl", "passwd", "-apr1", PASSWORD], check=True, capture_output=True, text=True
    ).stdout.strip()
    (place / "people.htpasswd").write_text(f"{ACCOUNT}:{hashed}\n")
    site = rendered(
        ROLES / "gateway/templates/site.conf.j2",
        gateway_port=f"127.0.0.1:{port}",
        __gateway_people=[{"name": ACCOUNT, "rights": "operator"}],
    )
    services = rendered(
        ROLES / "monitoring/templates/gateway.conf.j2",
        __monitoring_prometheus=prometheus,
        __monitoring_alertmanager=alertmanager,
    )
    holder = leaf(authority("Site"), ["localhost"])
    (place / "host.crt").write_text(holder.pem)
    (place / "host.key").write_text(holder.key)
    for old, new in (
        ("    http2 on;\n", ""),  # the nginx of Debian 12 does not know it
        ("/etc/mlops/gateway/", f"{place}/"),
        ("root /etc/mlops/gateway/pages", f"root {place}/pages"),
        ("/etc/mlops/nginx/", f"{place}/"),
    ):
        site, services = site.replace(old, new), services.replace(old, new)
    for name in ("prometheus", "alertmanager"):
        (place / f"{name}.account").write_text('proxy_set_header Authorization "Basic bTpw";\n')
    (place / "gateway.d").mkdir()
    (place / "gateway.d/monitoring.conf").write_text(services)
    (place / "gateway.d/others.conf").write_text(OTHERS)
    (place / "site.conf").write_text(site)
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = "".join(
        f"{kind}_temp_path {place}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = place / "nginx.conf"
    main.write_text(
        f"{user} pid {place}/pid; worker_processes 1; error_log stderr; daemon off;\n"
        "events { worker_connections 256; }\n"
        f"http {{ {temporary} access_log off; ssl_certificate {place}/host.crt;"
        f" ssl_certificate_key {place}/host.key; include {place}/site.conf; }}\n"
    )
    return main


def measured(place: Path, now: float) -> None:
    """Blocks of measurements for Prometheus."""
    source = place / "series.txt"
    with source.open("w", encoding="utf-8") as file:
        file.writelines(werk.open_metrics(now))
    subprocess.run(
        [
            monitoring("promtool"),
            "tsdb",
            "create-blocks-from",
            "openmetrics",
            source,
            place / "data",
        ],
        check=True,
        capture_output=True,
    )
    source.unlink()


@contextmanager
def running(place: Path) -> Iterator[Gateway]:
    """The gateway with everything behind it; its alerts fire."""
    now = time.time()
    place.chmod(0o755)
    port, prometheus = free_port(), f"127.0.0.1:{free_port()}"
    alertmanager = Alertmanager(werk.alerts(now))
    measured(place, now)
    pages(place)
    (place / "prometheus.yml").write_text("{}\n")
    with ExitStack() as stack:
        stack.enter_context(
            process(
                [
                    monitoring("prometheus"),
                    f"--config.file={place / 'prometheus.yml'}",
                    f"--storage.tsdb.path={place / 'data'}",
                    f"--web.listen-address={prometheus}",
                    "--web.external-url=http://localhost/prometheus",
                    "--web.route-prefix=/prometheus",
                ],
                place / "prometheus.log",
                f"http://{prometheus}/prometheus/-/ready",
            )
        )
        threading.Thread(target=alertmanager.server.serve_forever, daemon=True).start()
        stack.callback(alertmanager.server.server_close)
        stack.callback(alertmanager.server.shutdown)
        nginx = configure(place, port, prometheus, alertmanager.address)
        stack.enter_context(
            process(
                [program(), "-e", "stderr", "-c", nginx],
                place / "nginx.log",
                f"http://127.0.0.1:{port}/healthz",
            )
        )
        yield Gateway(f"https://127.0.0.1:{port}", alertmanager)


def fetched() -> None:
    """See that every program is here, also those that have to be fetched from elsewhere first."""
    browser()
    program()
    for name in ("prometheus", "promtool"):
        monitoring(name)


def main(place: str, settings: str, checks: str) -> int:
    """Look at the page with a browser."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started ends as well
    chromium = browser()
    with running(Path(place)) as gateway:
        told = {
            "url": gateway.url,
            "account": ACCOUNT,
            "password": PASSWORD,
            "chromium": str(chromium.chromium),
            "packages": str(chromium.packages),
            **json.loads(settings),
        }
        command = [chromium.node, checks, json.dumps(told)]
        return subprocess.run(command, check=False, env=chromium.environment).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

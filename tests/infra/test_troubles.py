# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two of the ten troubles of ``make soak SOAK=troubles``, where hosts stand anyway.

A device is switched off and a scheduled training fails. Each is to be seen where the start page
looks, and to come as a mail to a mail server; both are undone, and both alerts end. The company has
an Alertmanager of its own (Debian's, with its own routes), which gets them too and stays as it was.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import testinfra
import tomllib
from aiosmtpd.controller import Controller

from tests import prometheus_programs
from tests.infra.outside import ROOT, SITE, address_of, ca_bundle, secret
from tests.patience import eventually
from tests.soak.troubles import Mailbox, Trouble, firing_in, strike

SERVER, DEVICE = "mol1", "mol2"
PORT, COMPANY_PORT = 2525, 19093  # of extensions/molecule/monitoring/vars.yml
TOPOLOGY = SITE.parent / "topology.toml"
JOB = "mlops-pipeline-tried"
# An alert waits for two minutes at most, and its mail for half a minute more.
WITHIN = 600


class Gateway:
    """The alerts as the start page asks for them."""

    def __init__(self) -> None:
        self._session = requests.Session()
        self._session.verify = ca_bundle()
        self._session.auth = ("admin", secret("gateway_admin_password"))
        self._session.trust_env = False
        self._url = f"https://{address_of(SERVER)}/alertmanager/api/v2/alerts"

    def alerts(self) -> list[dict[str, Any]]:
        answer = self._session.get(self._url, params={"active": "true"}, timeout=60)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return found


@pytest.fixture(name="mailbox")
def _mailbox() -> Iterator[Mailbox]:
    """The company's mail server, on the controller as the hosts reach it."""
    box = Mailbox()
    server = Controller(box, hostname=str(gateway_of_the_network()), port=PORT)
    server.start()
    yield box
    server.stop()


@dataclass
class Company:
    """The company's Alertmanager: its folder, and what its own receiver was told."""

    folder: Path
    told: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{gateway_of_the_network()}:{COMPANY_PORT}/alarms"

    def kept(self) -> dict[str, str]:
        """Every file of its configuration, with its content and time."""
        return {
            path.name: f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_mtime_ns}"
            for path in sorted(self.folder.iterdir())
            if path.is_file()
        }

    def active(self) -> set[tuple[str, str]]:
        answer = requests.get(
            f"{self.url}/api/v2/alerts", params={"active": "true"}, timeout=60, proxies={"http": ""}
        )
        answer.raise_for_status()
        return firing_in(answer.json())


@pytest.fixture(name="company")
def _company(tmp_path: Path) -> Iterator[Company]:
    """Debian's Alertmanager as a company has it: a route by severity, a receiver of its own."""
    found = Company(tmp_path / "alertmanager")
    found.folder.mkdir()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            for one in body["alerts"]:
                labels = one["labels"]
                found.told.append((labels["alertname"], labels.get("host", ""), one["status"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    sink = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    hook = {"url": f"http://127.0.0.1:{sink.server_address[1]}/", "send_resolved": True}
    route = {"receiver": "pager", "matchers": ['severity="critical"'], "group_wait": "1s"}
    config = {
        "route": {"receiver": "nobody", "group_interval": "5s", "routes": [route]},
        "receivers": [{"name": "nobody"}, {"name": "pager", "webhook_configs": [hook]}],
    }
    (found.folder / "alertmanager.yml").write_text(json.dumps(config))
    command = [
        *prometheus_programs.alertmanager(),
        f"--config.file={found.folder / 'alertmanager.yml'}",
        f"--storage.path={tmp_path / 'state'}",
        f"--web.listen-address={gateway_of_the_network()}:{COMPANY_PORT}",
        "--web.route-prefix=/alarms",
        "--cluster.listen-address=",
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        eventually(lambda: answers(found), "a start of the company's Alertmanager")
        yield found
    finally:
        process.terminate()
        process.wait(timeout=60)
        sink.shutdown()


def answers(company: Company) -> bool:
    try:
        return company.active() is not None
    except requests.RequestException:
        return False


def gateway_of_the_network() -> str:
    network = str(tomllib.loads(TOPOLOGY.read_text(encoding="utf-8"))["network"])
    return network.rpartition(".")[0] + ".1"


def lab(*words: str) -> None:
    command = [sys.executable, "extensions/lab/lab.py", words[0], f"--topology={TOPOLOGY}"]
    subprocess.run([*command, *words[1:]], check=True, capture_output=True, cwd=ROOT)


def container(host: str) -> str:
    project = tomllib.loads(TOPOLOGY.read_text(encoding="utf-8"))["project"]
    return f"mlops-{project}-{host}"


def test_two_troubles_are_seen_mailed_and_over(mailbox: Mailbox, company: Company) -> None:
    before = company.kept()
    control = testinfra.get_host(f"ssh://{SERVER}", ssh_config=str(SITE / ".state/ssh/config"))
    troubles = [
        Trouble(
            *("device off", "HostUnreachable", DEVICE, WITHIN),
            lambda: lab("podman", "stop", "--time", "30", container(DEVICE)),
            lambda: lab("restart", DEVICE),
        ),
        Trouble(
            *("failed job", "ScheduledTrainingFailed", SERVER, WITHIN),
            lambda: control.check_output(f"systemd-run --quiet --unit={JOB} /bin/false"),
            lambda: control.check_output(f"systemctl reset-failed {JOB}"),
        ),
    ]
    strike(Gateway(), troubles, mailbox)
    assert {one.name: one.against() for one in troubles} == {one.name: [] for one in troubles}
    # Who reads the mail is told of the one and the other, and not of what follows from it.
    assert not [mail for mail in mailbox.mails if "TargetDown" in mail.subject.split()]
    # The company's own routes decide who is told of what: a training that fails pages nobody.
    eventually(
        lambda: (
            {("HostUnreachable", DEVICE, "firing"), ("HostUnreachable", DEVICE, "resolved")}
            <= set(company.told)
        ),
        "a page of the company's Alertmanager, and its end",
    )
    assert not [one for one in company.told if one[0] == "ScheduledTrainingFailed"]
    assert company.kept() == before

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real Prometheus and Alertmanager turn away whoever shows no account, and know each other."""

from __future__ import annotations

import base64
import functools
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pytest
from ansible_collections.mlops.onprem.plugins.filter.web_accounts import web_accounts
from ansible_collections.mlops.onprem.plugins.modules import alert_test

from tests.integration.fleet_gateway import ROLES, free_port
from tests.integration.test_metrics_relay import started, wait_for
from tests.prometheus_programs import alertmanager, program

OURS = {"prometheus": "of prometheus", "alertmanager": "of alertmanager"}
SILENCE = json.dumps(
    {
        "matchers": [{"name": "a", "value": "b", "isRegex": False}],
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": "2126-01-01T00:00:00Z",
        "createdBy": "nobody",
        "comment": "x",
    }
)


@dataclass(frozen=True)
class Both:
    place: Path
    ports: dict[str, int]

    def ask(self, who: str, path: str, password: str = "", body: str = "") -> tuple[int, bytes]:
        """The answer of one of the two to an account with a password, or to none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[who], timeout=60)
        words = base64.b64encode(f"mlops:{password}".encode()).decode()
        headers = {"Authorization": f"Basic {words}"} if password else {}
        if body:
            headers["Content-Type"] = "application/json"
        try:
            connection.request("POST" if body else "GET", f"/{who}/{path}", body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def up(self, job: str) -> bool:
        path = f"api/v1/query?query=up%7Bjob%3D%22{job}%22%7D%3D%3D1"
        status, body = self.ask("prometheus", path, OURS["prometheus"])
        return status == 200 and bool(json.loads(body)["data"]["result"])


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    place = tmp_path_factory.mktemp("accounts")
    ports = {name: free_port() for name in OURS}
    shown = {}
    for name, password in OURS.items():
        (place / f"{name}-web.yml").write_text(web_accounts({"mlops": password}))
        (place / f"{name}.password").write_text(f"{password}\n")
        shown[name] = {"user": "mlops", "password_file": str(place / f"{name}.password")}
    (place / "alertmanager.yml").write_text("route: {receiver: a}\nreceivers: [{name: a}]\n")
    # What comes of other hosts has no part in this.
    template = (ROLES / "monitoring/templates/prometheus.yml.j2").read_text()
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters.update(bool=bool, to_json=json.dumps)
    configuration = environment.from_string(template.partition("{% set prefix")[0]).render(
        __monitoring_directory=str(place),
        __monitoring_alertmanager=f"127.0.0.1:{ports['alertmanager']}",
        __monitoring_alertmanager_shown=shown["alertmanager"],
        __monitoring_company={"configuration": []},
        __monitoring_loopback=[
            {
                "job": name,
                "target": f"127.0.0.1:{port}",
                "path": f"/{name}/metrics",
                "shown": shown[name],
            }
            for name, port in ports.items()
        ],
        monitoring_scrape_interval=1,
        monitoring_receives=False,
        inventory_hostname="ctl1",
    )
    (place / "prometheus.yml").write_text(configuration)
    commands = {
        "alertmanager": [
            *alertmanager(),
            f"--storage.path={place}/am",
            "--cluster.listen-address=",
        ],
        "prometheus": [program("prometheus"), f"--storage.tsdb.path={place}/tsdb"],
    }
    found = Both(place, ports)
    with ExitStack() as stack:
        for name, command in commands.items():
            more = [
                f"--config.file={place}/{name}.yml",
                f"--web.config.file={place}/{name}-web.yml",
                f"--web.listen-address=127.0.0.1:{ports[name]}",
                f"--web.route-prefix=/{name}/",
            ]
            stack.enter_context(started([*command, *more], place / f"{name}.log"))
        for name in commands:
            ready = lambda name=name: found.ask(name, "-/ready", OURS[name])[0] == 200  # noqa: E731
            wait_for(ready, f"{name} is ready: {place}/{name}.log")
        yield found


@pytest.mark.parametrize("who", OURS)
@pytest.mark.parametrize("path", ["metrics", "-/ready", "-/healthy"])
def test_nothing_is_read_without_the_account(both: Both, who: str, path: str) -> None:
    assert both.ask(who, path)[0] == 401
    assert both.ask(who, path, "guessed")[0] == 401
    assert both.ask(who, path, OURS[who])[0] == 200


def test_nobody_silences_without_the_account(both: Both) -> None:
    path = "api/v2/silences"
    assert both.ask("alertmanager", path, body=SILENCE)[0] == 401
    assert both.ask("alertmanager", path, OURS["prometheus"], SILENCE)[0] == 401
    assert json.loads(both.ask("alertmanager", path, OURS["alertmanager"])[1]) == []
    assert both.ask("alertmanager", path, OURS["alertmanager"], SILENCE)[0] == 200


def test_prometheus_asks_itself_and_alertmanager_with_their_accounts(both: Both) -> None:
    for job in OURS:
        wait_for(functools.partial(both.up, job), f"{job} is measured")
    path = "api/v1/alertmanagers"
    told = json.loads(both.ask("prometheus", path, OURS["prometheus"])[1])["data"]
    port = both.ports["alertmanager"]
    assert [one["url"] for one in told["activeAlertmanagers"]] == [
        f"http://127.0.0.1:{port}/alertmanager/api/v2/alerts"
    ]


def test_a_test_alert_and_the_watch_show_the_account(both: Both) -> None:
    url = f"http://127.0.0.1:{both.ports['alertmanager']}/alertmanager"
    file = both.place / "alertmanager.password"
    manager = alert_test.Alertmanager(url, "mlops", str(file))
    manager.counted()
    manager.send({"labels": {"alertname": "Watchdog"}})
    code = (ROLES / "monitoring/files/mlops_alert_watch.py").read_text()
    words = [url, "ctl1", "https://gw", "mlops"]
    for path, ends in ((str(file), 0), (str(both.place / "prometheus.password"), 1)):
        done = subprocess.run(
            [sys.executable, "-IS", "-c", code, *words, path], check=False, capture_output=True
        )
        assert done.returncode == ends, done.stderr
    assert b"401" in done.stderr
    with pytest.raises(OSError, match="401"):
        alert_test.Alertmanager(url).counted()


def test_another_password_counts_at_once_and_without_a_restart(both: Both) -> None:
    file = both.place / "alertmanager-web.yml"
    before = file.read_text()
    file.write_text(web_accounts({"mlops": "changed"}))
    try:
        assert both.ask("alertmanager", "-/ready", OURS["alertmanager"])[0] == 401
        assert both.ask("alertmanager", "-/ready", "changed")[0] == 200
    finally:
        file.write_text(before)

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Prometheus of the company's own, with jobs and rules: attached, proved, and left as it was.

Its Alertmanager, with a route and a receiver of the company, gets the alerts of the site by that.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from testinfra.host import Host

from tests.infra.site.conftest import ROOT, Site
from tests.patience import eventually

PORT, ALERTS_PORT = 19091, 19094
UNIT, ALERTS_UNIT = "company-prometheus", "company-alertmanager"
FOLDER = f"/etc/{UNIT}"
OWN_RULES = """\
groups:
  - name: company
    rules:
      - {record: "company:up:count", expr: count(up)}
"""
# The two lines with `mlops` are what the company writes once.
CONFIG = f"""\
global: {{scrape_interval: 2s, evaluation_interval: 2s}}
rule_files: [own.yml, mlops/rules.yml]
scrape_config_files: [mlops/scrape.yml]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["127.0.0.1:{ALERTS_PORT}"]}}]}}]}}
scrape_configs:
  - job_name: node
    static_configs: [{{targets: ["127.0.0.1:{PORT}"]}}]
"""
ALERTS = """\
route: {receiver: night shift}
receivers: [{name: night shift}]
"""
# Every file with its time, and the directories; what is put into one and taken out moves its time.
SEEN = (
    f"find {FOLDER} -type d -printf '%p %m %u %g\\n' | sort;"
    f" find {FOLDER} -type f -printf '%p %m %u %g %T@\\n' -exec sha256sum {{}} + | sort"
)
ASK = (
    "import sys, urllib.request as r;"
    "print(r.urlopen(r.Request(sys.argv[2], method=sys.argv[1])).read().decode())"
)
HERE = Path(__file__).with_name("existing_prometheus")


def write(host: Host, path: str, text: str) -> None:
    host.check_output(
        "python3 -c %s %s %s", "import sys; open(sys.argv[1], 'w').write(sys.argv[2])", path, text
    )


def ask(host: Host, path: str, method: str = "GET") -> Any:
    said = host.check_output("python3 -c %s %s %s", ASK, method, f"http://127.0.0.1:{PORT}/{path}")
    return json.loads(said)["data"] if said else None


def alerts(host: Host) -> dict[str, list[str]]:
    """What the company's Alertmanager has, and whom it tells, by the name of the alert."""
    url = f"http://127.0.0.1:{ALERTS_PORT}/api/v2/alerts"
    said = host.run("python3 -c %s GET %s", ASK, url)
    found = json.loads(said.stdout) if said.succeeded else []
    return {
        one["labels"]["alertname"]: [receiver["name"] for receiver in one["receivers"]]
        for one in found
    }


def query(host: Host, text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(host, f"api/v1/query?query={quote(text, safe='')}")["result"]
    return found


@pytest.fixture(scope="module", name="company")
def _company(site: Site) -> Iterator[Host]:
    """The control host with a second Prometheus, which is the company's."""
    host = site.connect(site.groups["control"][0])
    host.check_output(f"mkdir -p {FOLDER} /var/lib/{UNIT}")
    write(host, f"{FOLDER}/prometheus.yml", CONFIG)
    write(host, f"{FOLDER}/own.yml", OWN_RULES)
    write(host, f"{FOLDER}/alertmanager.yml", ALERTS)
    host.check_output(
        f"systemd-run --unit={ALERTS_UNIT} /usr/bin/prometheus-alertmanager"
        f" --config.file={FOLDER}/alertmanager.yml --storage.path=/var/lib/{ALERTS_UNIT}"
        f" --web.listen-address=127.0.0.1:{ALERTS_PORT} --cluster.listen-address="
    )
    host.check_output(
        f"systemd-run --unit={UNIT} --property=MemoryMax=1G /usr/bin/prometheus"
        f" --config.file={FOLDER}/prometheus.yml --storage.tsdb.path=/var/lib/{UNIT}"
        f" --web.listen-address=127.0.0.1:{PORT} --web.enable-lifecycle"
    )
    try:
        ready = ("python3 -c %s GET %s", ASK, f"http://127.0.0.1:{PORT}/api/v1/status/config")
        eventually(lambda: host.run(*ready).succeeded, "a start of the company's Prometheus")
        yield host
    finally:
        host.check_output(
            f"systemctl stop {UNIT} {ALERTS_UNIT};"
            f" rm -rf {FOLDER} /var/lib/{UNIT} /var/lib/{ALERTS_UNIT}"
        )


@pytest.fixture(scope="module", name="play")
def _play(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    given = tmp_path_factory.mktemp("given")

    def play(name: str, *more: str, wrong: bool = False) -> str:
        command = [
            str(Path(sys.executable).with_name("ansible-playbook")),
            *("-i", str(site.inventory), str(HERE / name)),
            *("-e", f"company={FOLDER} company_port={PORT} given={given}", *more),
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
        assert (done.returncode != 0) is wrong, done.stdout + done.stderr
        return done.stdout

    return play


def changes(said: str) -> int:
    return sum(int(number) for number in re.findall(r"changed=(\d+)", said))


def test_attached_proved_and_left_as_it_was(company: Host, play: Callable[..., str]) -> None:
    before = company.check_output(SEEN)
    eventually(lambda: query(company, 'up{job="node"} == 1'), "a first scrape of the company's job")
    assert changes(play("attach.yml")) > 0
    # Not only that the module says so: the series are there, and so are the rules.
    assert len(query(company, 'up{job="node",host!=""} == 1')) > 1
    measured = 'mlops_inventory_target{job!="probe_answers"}'
    assert len(query(company, measured)) > 1
    eventually(
        lambda: not query(company, f"{measured} unless on (host, job, service) up"),
        "a series of each job of the inventory",
    )
    rules = {
        rule["name"] for group in ask(company, "api/v1/rules")["groups"] for rule in group["rules"]
    }
    assert {"company:up:count", "HostUnreachable", "mlops:host_seen:bool"} <= rules
    # What our rules say goes to the people whom the company's own routes name.
    eventually(lambda: "Watchdog" in alerts(company), "an alert of the site at the company's")
    assert alerts(company)["Watchdog"] == ["night shift"]
    assert changes(play("attach.yml")) == 0
    # Check mode says what would change, and waits for nothing.
    unknown = (
        '{"monitoring_extra_targets": [{"job": "node", "host": "ghost", "address": "127.0.0.1"}]}'
    )
    said = play("attach.yml", "-e", unknown, "-e", "monitoring_existing_reload=false", "--check")
    assert changes(said) > 0
    play("detach.yml")
    ask(company, "-/reload", "POST")
    assert company.check_output(SEEN) == before
    left = {
        rule["name"] for group in ask(company, "api/v1/rules")["groups"] for rule in group["rules"]
    }
    assert left == {"company:up:count"}
    # Its own job went on all the time, in one process.
    own = 'up{job="node",host=""}'
    (lowest,) = query(company, f"min_over_time({own}[30m])")
    assert lowest["value"][1] == "1"
    (restarts,) = query(company, 'changes(process_start_time_seconds{job="node",host=""}[30m])')
    assert restarts["value"][1] == "0"
    (gaps,) = query(company, f"max_over_time((time() - timestamp({own}))[30m:2s])")
    assert float(gaps["value"][1]) < 30

"""The collector on a directory of its own: nothing twice, nothing lost, old logs taken away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.onprem.plugins.module_utils._audit import collector, syslog, witness
from ansible_collections.mlops.onprem.plugins.module_utils._audit.chain import read
from ansible_collections.mlops.onprem.plugins.module_utils._audit.collector import Collector, main
from ansible_collections.mlops.onprem.plugins.module_utils._audit.errors import AuditError
from ansible_collections.mlops.onprem.plugins.module_utils._audit.event import Event
from ansible_collections.mlops.onprem.plugins.module_utils._audit.names import pseudonym
from ansible_collections.mlops.onprem.plugins.module_utils._audit.store import Store, read_whole

from tests.unit.plugins.module_utils._audit.day import ONE, PEOPLE, at, gateway_day, journal, run

NOW = at("23:00:00")
ROOT = Path(__file__).resolve().parents[5]


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    for name in ("audit/events", "inbox", "log", "rollout/defects"):
        (tmp_path / name).mkdir(parents=True)
    return {
        "directory": str(tmp_path / "audit"),
        "inbox": str(tmp_path / "inbox"),
        "gateway_log": str(tmp_path / "log"),
        "rollouts": str(tmp_path / "rollout"),
        "host": "ctl1",
        "people": list(PEOPLE),
        "services": ["push", "pull"],
        "secret": "5ec",
        "device_seconds": 300,
        "retention_days": 30,
        "most_mib": 0,
        "witness_seconds": 600,
    }


def look(config: dict[str, Any], now: float = NOW) -> Collector:
    found = Collector(config, Store(Path(config["directory"])), now)
    found.run()
    return found


def events(config: dict[str, Any]) -> list[Event]:
    segments, known = read_whole(Path(config["directory"]))
    found = read(segments, (), known)
    assert found.damage is None, found.damage
    return list(found.events)


def log(
    config: dict[str, Any], lines: list[bytes], name: str = "gateway-2026-11-27T09.log"
) -> Path:
    path = Path(config["gateway_log"], name)
    with path.open("ab") as stream:
        stream.write(b"".join(line + b"\n" for line in lines))
    return path


def test_a_day_is_collected_once(config: dict[str, Any]) -> None:
    log(config, gateway_day())
    Path(config["rollouts"], "defects/journal.jsonl").write_bytes(
        b"".join(line + b"\n" for line in journal())
    )
    Path(config["inbox"], "a.json").write_bytes(run("07:00:00", "begun", "one", "eva@desk"))
    assert look(config).problems == []
    first = [one.action for one in events(config)]
    assert {"model.register", "release.rollout", "device.serve", "site.change"} <= set(first)
    assert look(config).problems == []
    assert [one.action for one in events(config)] == first
    assert list(Path(config["inbox"]).iterdir()) == []


def test_a_log_is_read_on_where_it_was_left_and_half_a_line_waits(config: dict[str, Any]) -> None:
    whole = gateway_day()
    path = log(config, whole[:6])
    with path.open("ab") as stream:
        stream.write(whole[6][:30])
    look(config)
    with path.open("ab") as stream:
        stream.write(whole[6][30:] + b"\n")
    log(config, whole[7:])
    look(config)
    pieces = [one.action for one in events(config)]
    other = {**config, "directory": str(Path(config["directory"]).with_name("other"))}
    Path(other["directory"], "events").mkdir(parents=True)
    look(other)
    assert sorted(one.action for one in events(other)) == sorted(pieces)


def test_a_log_that_was_read_is_taken_away_two_hours_later(config: dict[str, Any]) -> None:
    path = log(config, gateway_day())
    os.utime(path, (NOW, NOW))
    look(config, NOW + 3600)
    assert path.exists()
    look(config, NOW + 7300)
    assert not path.exists()


def test_a_log_that_was_not_read_to_its_end_stays(config: dict[str, Any]) -> None:
    path = log(config, gateway_day())
    with path.open("ab") as stream:
        stream.write(b'{"half":')
    os.utime(path, (NOW, NOW))
    look(config, NOW + 7300)
    assert path.exists()


def test_a_log_that_was_cut_is_said_once_and_that_it_works_again(config: dict[str, Any]) -> None:
    path = log(config, gateway_day())
    look(config)
    content = path.read_bytes()
    path.write_bytes(content[:100])
    assert "somebody has cut or replaced it" in look(config).problems[0]
    look(config)
    path.write_bytes(content)
    assert look(config).problems == []
    told = [one.action for one in events(config) if one.action.startswith("audit.")]
    assert told == ["audit.source_failed", "audit.source_back"]


def test_one_source_that_fails_keeps_none_of_the_others_back(config: dict[str, Any]) -> None:
    log(config, gateway_day())
    config["prometheus"] = "http://127.0.0.1:9/prometheus"
    found = look(config)
    assert [problem.partition(":")[0] for problem in found.problems] == ["devices"]
    assert "model.register" in {one.action for one in events(config)}


def test_prometheus_is_asked_with_the_account_of_the_configuration(config: dict[str, Any]) -> None:
    shown: list[str | None] = []

    class Prometheus(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.append(self.headers["Authorization"])
            body = b'{"data": {"result": []}}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: object) -> None:
            pass

    httpd = HTTPServer(("127.0.0.1", 0), Prometheus)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    try:
        config["prometheus"] = f"http://127.0.0.1:{httpd.server_port}/prometheus"
        assert look(config).problems == []
        config.update(prometheus_user="me", prometheus_password="p")
        assert look(config, NOW + 3600).problems == []
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()
    assert shown == [None] * 4 + ["Basic bWU6cA=="] * 4


def test_requests_of_teams_to_workloads_are_told_once_by_the_hour(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = {"value": 40.0}

    def asked(_url: str, query: str, account: tuple[str, str]) -> list[Any]:
        assert account == ("", "")
        if query != "mlops_workload_requests_total":
            return []
        labels = {"host": "ctl1", "team": "vision", "workload": "chat", "code": "200"}
        return [(labels, counter["value"])]

    monkeypatch.setattr(collector, "ask", asked)
    config["prometheus"] = "http://127.0.0.1:9/prometheus"
    for later, value in ((0, 40), (600, 47), (3600, 48), (4200, 48), (7200, 50)):
        counter["value"] = value
        assert look(config, NOW + later).problems == []
    told = [
        (one.time, one.actor.name, one.thing.name, one.details["count"])
        for one in events(config)
        if one.action == "workload.query"
    ]
    assert told == [
        ("2026-11-27T23:59:59Z", "vision", "chat", 7),
        ("2026-11-28T00:59:59Z", "vision", "chat", 1),
    ]


def test_what_the_role_places_is_all_that_the_collector_imports(tmp_path: Path) -> None:
    told = (ROOT / "roles/audit_log/vars/main.yml").read_text(encoding="utf-8")
    names = yaml.safe_load(told)["__audit_log_modules"]
    for name in names:
        source = ROOT / f"plugins/module_utils/_audit/{name}.py"
        placed = tmp_path / f"mlops_audit/{name}.py"
        placed.parent.mkdir(parents=True, exist_ok=True)
        placed.write_bytes(source.read_bytes())
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import mlops_audit.collector"
    subprocess.run([sys.executable, "-IB", "-c", program], check=True)


def test_a_release_tells_its_data_from_the_registry(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(_path: str, repository: str, digest: str) -> dict[str, str]:
        assert (repository, digest) == ("models/defects", ONE)
        return {"version": "1", "run_id": "run-a", "data_version": "data-1"}

    monkeypatch.setattr(collector, "origin", asked)
    Path(config["rollouts"], "defects/journal.jsonl").write_bytes(journal()[0] + b"\n")
    look(config)
    (one,) = events(config)
    assert one.details["data_version"] == "data-1"


def test_an_outage_of_the_syslog_server_loses_nothing(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[bytes] = []
    away = True

    def send(_target: object, messages: list[bytes]) -> None:
        if away:
            raise AuditError("away")
        got.extend(messages)

    monkeypatch.setattr(syslog, "send", send)
    config["syslog"] = {"host": "sink", "port": 6514, "ca_file": "x"}
    log(config, gateway_day()[:8])
    assert look(config).problems == ["syslog: away"]
    log(config, gateway_day()[8:])
    look(config, NOW + 86400)
    away = False
    look(config, NOW + 86500)
    look(config, NOW + 86600)
    sent = [json.loads(text.partition(b" - ")[2].partition(b" - ")[2])["seq"] for text in got]
    assert sent == [one.seq for one in events(config)]


def test_the_second_host_is_told_no_more_often_than_asked(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    monkeypatch.setattr(witness, "tell", lambda _target, head: told.append(head.seq))
    config["witness"] = {"address": "store1"}
    for minute, line in enumerate(gateway_day()[1:4]):
        log(config, [line])
        look(config, NOW + minute * 60)
    assert len(told) == 1
    look(config, NOW + 601)
    assert told == [told[0], events(config)[-1].seq]
    look(config, NOW + 1300)
    assert len(told) == 2


def test_the_program_says_what_is_wrong(
    config: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(os, "umask", asked.append)  # it would be that of all later tests
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    assert main(["--config", str(file)], lambda: NOW) == 0
    Path(config["directory"], "state.json").write_text("{")
    assert main(["--config", str(file)], lambda: NOW) == 1
    assert "is damaged" in capsys.readouterr().err
    assert asked == [0o027, 0o027]


def refused(user: str, count: int) -> list[bytes]:
    line = {"msec": str(NOW), "addr": "10.0.0.9", "user": user, "method": "GET"}
    said = json.dumps({**line, "path": "/sign-in", "status": "401", "digest": "", "body": ""})
    return [said.encode()] * count


def told(config: dict[str, Any]) -> dict[str, int]:
    rows = Path(config["metrics"]).read_text().splitlines()
    found = [row.rpartition(" ") for row in rows if not row.startswith("#")]
    return {name: int(value) for name, _space, value in found}


def test_wrong_passwords_are_counted_by_account_and_never_by_a_name_that_nobody_has(
    config: dict[str, Any], tmp_path: Path
) -> None:
    config["metrics"] = str(tmp_path / "metrics.prom")
    look(config)
    before = told(config)
    assert set(before.values()) == {0}
    assert len(before) == len(PEOPLE) + 3  # push, pull, and whoever else
    log(config, [*refused("ada", 3), *refused("push", 2)])
    log(config, [line for number in range(50) for line in refused(f"made-up-{number}", 1)])
    look(config)
    log(config, refused("ada", 1))
    look(config)
    after = told(config)
    assert set(after) == set(before)
    counted = {name.split('"')[1]: count for name, count in after.items() if count}
    assert counted == {"ada": 4, "push": 2, "unknown": 50}


def test_who_has_a_pseudonym_is_counted_by_it(config: dict[str, Any], tmp_path: Path) -> None:
    config.update(metrics=str(tmp_path / "metrics.prom"), pseudonym_key="k")
    log(config, refused("ada", 3))
    look(config)
    counted = {name.split('"')[1]: count for name, count in told(config).items()}
    assert counted[pseudonym("ada", b"k")] == 3
    assert not set(counted) & set(PEOPLE)

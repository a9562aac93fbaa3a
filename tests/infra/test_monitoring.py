"""A host's metrics, seen from outside: over TLS, for the monitoring host alone."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from testinfra.host import Host

from tests.infra.outside import Client, address_of, secret

SERVER = "mol1"
UNITS = ["mlops-prometheus", "mlops-alertmanager", "mlops-blackbox-exporter"]
ASK = """
import json, ssl, sys, urllib.error, urllib.request
url, certificate = sys.argv[1], sys.argv[2:]
context = ssl.create_default_context(cafile="/etc/mlops/tls/ca.crt")
if certificate:
    context.load_cert_chain(*certificate)
try:
    with urllib.request.urlopen(url, context=context, timeout=10) as answer:
        print(json.dumps([answer.status, answer.read().decode()]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.code, ""]))
"""
OWN = ["/etc/mlops/tls/host.crt", "/etc/mlops/tls/host.key"]


def name_of(host: Host) -> str:
    return str(host.check_output("hostname"))


# Where an address sends its caller, without going there.
WHERE_TO = """
import http.client, ssl, sys, urllib.parse
url = sys.argv[1]
place = urllib.parse.urlsplit(url).netloc
context = ssl.create_default_context(cafile="/etc/mlops/tls/ca.crt")
connection = http.client.HTTPSConnection(place, timeout=10, context=context)
connection.request("GET", url.partition(place)[2])
print(urllib.parse.urljoin(url, connection.getresponse().getheader("Location")))
"""


def ask(host: Host, url: str, *certificate: str) -> tuple[int, str]:
    words = " ".join(f"'{word}'" for word in [url, *certificate])
    status, body = json.loads(host.check_output(f"python3 - {words} <<'END'\n{ASK}\nEND"))
    return int(status), str(body)


def query(host: Host, text: str) -> list[dict[str, Any]]:
    url = "http://127.0.0.1:9090/prometheus/api/v1/query?query=" + text.replace(" ", "%20")
    status, body = ask(host, url)
    assert status == 200
    result: list[dict[str, Any]] = json.loads(body)["data"]["result"]
    return result


@pytest.fixture
def server(host: Host) -> Host:
    if name_of(host) != SERVER:
        pytest.skip("not the monitoring host")
    return host


def test_the_node_exporter_runs_for_itself(host: Host) -> None:
    assert host.service("mlops-node-exporter").is_running
    assert host.service("mlops-node-exporter").is_enabled
    assert not host.service("prometheus-node-exporter").is_running
    assert not host.service("prometheus-node-exporter").is_enabled


def test_plain_metrics_do_not_leave_the_host(host: Host) -> None:
    outside = {
        socket.rsplit(":", 1)[1]
        for socket in host.socket.get_listening_sockets()
        if socket.startswith("tcp://") and "127.0.0.1" not in socket
    }
    assert not outside & {"9090", "9093", "9094", "9100", "9115", "9187"}
    assert "9443" in outside


def test_metrics_are_for_the_monitoring_host_alone(host: Host) -> None:
    url = f"https://{address_of('mol2')}:9443/metrics/node"
    assert ask(host, url)[0] == 403
    status, body = ask(host, url, *OWN)
    assert (status, "node_uname_info" in body) == (
        (200, True) if name_of(host) == SERVER else (403, False)
    )


@pytest.mark.parametrize("unit", UNITS)
def test_every_service_is_sandboxed(server: Host, unit: str) -> None:
    assert server.service(unit).is_running
    level = server.check_output(f"systemd-analyze security --no-pager {unit}").split()[-3]
    assert float(level) <= 4.0


# Alertmanager has a mail server here; without one it is shut in as well (tests/infra/site).
@pytest.mark.parametrize("unit", ["mlops-node-exporter", "mlops-nginx-exporter"])
def test_who_only_answers_on_loopback_reaches_nobody(server: Host, unit: str) -> None:
    shown = server.check_output(f"systemctl show -P IPAddressDeny -P IPAddressAllow {unit}")
    assert "0.0.0.0/0" in shown
    assert "127.0.0.0/8" in shown


def test_every_target_is_up(server: Host) -> None:
    assert {(one["metric"]["job"], one["metric"]["host"]) for one in query(server, "up==1")} == {
        ("inventory", "mol1"),
        ("node", "mol1"),
        ("node", "mol2"),
        ("nginx", "mol1"),
        ("prometheus", "mol1"),
        ("alertmanager", "mol1"),
        ("blackbox", "mol1"),
        ("probe_answers", "mol1"),
        ("probe_certificate", "mol1"),
        ("probe_certificate", "mol2"),
    }


def test_addresses_are_asked_as_clients_do(server: Host) -> None:
    assert len(query(server, "probe_success==1")) == 3
    (expiry,) = query(server, 'probe_ssl_earliest_cert_expiry{service="gateway"}-time()>0')
    assert float(expiry["value"][1]) > 86400


def test_alerts_reach_alertmanager(server: Host) -> None:
    status, body = ask(server, "http://127.0.0.1:9090/prometheus/api/v1/alertmanagers")
    assert status == 200
    assert len(json.loads(body)["data"]["activeAlertmanagers"]) == 1
    rules = ask(server, "http://127.0.0.1:9090/prometheus/api/v1/rules")[1]
    assert "CertificateExpires" in rules


def test_pages_ask_for_an_account(server: Host) -> None:
    for page in ("prometheus/classic/graph", "alertmanager/api/v2/status"):
        assert ask(server, f"https://{address_of(SERVER)}/{page}")[0] == 401


@pytest.mark.parametrize(
    ("link", "place"),
    [
        ("prometheus/graph?g0.expr=up%3D%3D0&g0.tab=1", "graph?g0.expr=up%3D%3D0&g0.tab=1"),
        ("prometheus/alerts", "alerts"),
        ("prometheus/targets?search=node", "targets?search=node"),
        ("prometheus/", "graph"),
        ("alertmanager/", "alerts"),
    ],
)
def test_links_lead_to_pages_that_are_there(server: Host, link: str, place: str) -> None:
    said = server.check_output("python3 -c %s %s", WHERE_TO, f"https://{address_of(SERVER)}/{link}")
    assert said == f"https://{address_of(SERVER)}/prometheus/classic/{place}"


@pytest.mark.parametrize("page", ["graph", "alerts", "targets", "rules", "status"])
def test_the_pages_of_prometheus_say_what_they_are(server: Host, page: str) -> None:
    body = ask(server, f"http://127.0.0.1:9090/prometheus/classic/{page}")[1]
    assert "Prometheus Time Series" in body
    assert "does not include" not in body.split("<body", 1)[-1].split("modern", 1)[0]


def test_a_silence_is_set_and_ended_as_the_start_page_does(server: Host) -> None:
    client = Client(server, ("admin", secret("gateway_admin_password")))
    now = datetime.datetime.now(datetime.timezone.utc)
    matcher = {"name": "alertname", "value": "NobodyFires", "isRegex": False, "isEqual": True}
    silence = {
        "matchers": [matcher],
        "startsAt": now.isoformat(),
        "endsAt": (now + datetime.timedelta(hours=1)).isoformat(),
        "createdBy": "vera",
        "comment": "tried by the tests",
    }
    silences = "/alertmanager/api/v2/silences"
    name = client.ask("POST", silences, json=silence).json()["silenceID"]
    told = {one["id"]: one for one in client.ask("GET", silences).json()}
    assert told[name]["status"]["state"] == "active"
    assert told[name]["createdBy"] == "vera"
    assert client.ask("DELETE", f"/alertmanager/api/v2/silence/{name}").status_code == 200
    told = {one["id"]: one for one in client.ask("GET", silences).json()}
    assert told[name]["status"]["state"] == "expired"


def test_prometheus_comes_back_after_it_was_killed(server: Host) -> None:
    server.check_output("systemctl kill --signal=KILL mlops-prometheus")
    for _attempt in range(20):
        if ask_quietly(server):
            return
        server.check_output("sleep 0.5")
    pytest.fail("Prometheus was not back within ten seconds")


def ask_quietly(host: Host) -> bool:
    return bool(
        host.run(
            "python3 -c 'import urllib.request as r; r.urlopen(\"http://127.0.0.1:9090/prometheus/-/ready\")'"
        ).succeeded
    )

"""A host's metrics, seen from outside: over TLS, for the monitoring host alone."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from testinfra.host import Host

from tests.infra.outside import Client, address_of, secret
from tests.patience import eventually

SERVER = "mol1"
UNITS = ["mlops-prometheus", "mlops-alertmanager", "mlops-blackbox-exporter"]
ASK = """
import base64, json, pathlib, ssl, sys, urllib.error, urllib.request
url, account, certificate = sys.argv[1], sys.argv[2], sys.argv[3:]
if account:
    account = "mlops:" + pathlib.Path(account).read_text().strip()
    account = {"Authorization": "Basic " + base64.b64encode(account.encode()).decode()}
request = urllib.request.Request(url, headers=account or {})
context = ssl.create_default_context(cafile="/etc/mlops/tls/ca.crt")
if certificate:
    context.load_cert_chain(*certificate)
try:
    with urllib.request.urlopen(request, context=context, timeout=120) as answer:
        print(json.dumps([answer.status, answer.read().decode()]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.code, ""]))
"""
PROMETHEUS = "/etc/mlops/monitoring/prometheus.password"
EXPORTERS = "/etc/mlops/monitoring/exporters.password"
ALERTMANAGER = "/etc/mlops/monitoring/alertmanager.password"
NODE = "/etc/mlops/monitoring/node.password"
OWN = ["/etc/mlops/tls/host.crt", "/etc/mlops/tls/host.key"]


def name_of(host: Host) -> str:
    return str(host.check_output("hostname"))


# Where an address sends its caller, without going there.
WHERE_TO = """
import http.client, ssl, sys, urllib.parse
url = sys.argv[1]
place = urllib.parse.urlsplit(url).netloc
context = ssl.create_default_context(cafile="/etc/mlops/tls/ca.crt")
connection = http.client.HTTPSConnection(place, timeout=120, context=context)
connection.request("GET", url.partition(place)[2])
print(urllib.parse.urljoin(url, connection.getresponse().getheader("Location")))
"""


def ask(host: Host, url: str, *certificate: str, account: str = "") -> tuple[int, str]:
    words = " ".join(f"'{word}'" for word in [url, account, *certificate])
    status, body = json.loads(host.check_output(f"python3 - {words} <<'END'\n{ASK}\nEND"))
    return int(status), str(body)


def query(host: Host, text: str) -> list[dict[str, Any]]:
    url = "http://127.0.0.1:9090/prometheus/api/v1/query?query=" + text.replace(" ", "%20")
    status, body = ask(host, url, account=PROMETHEUS)
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
    wanted = {
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

    def seen() -> set[tuple[str, str]]:
        return {(one["metric"]["job"], one["metric"]["host"]) for one in query(server, "up==1")}

    # Each is scraped for the first time within an interval of the service's start.
    eventually(lambda: seen() >= wanted, lambda: f"targets, without {wanted - seen()}", pause=1)
    assert seen() == wanted


def test_addresses_are_asked_as_clients_do(server: Host) -> None:
    eventually(lambda: len(query(server, "probe_success==1")) == 3, "three answers", pause=1)
    (expiry,) = query(server, 'probe_ssl_earliest_cert_expiry{service="gateway"}-time()>0')
    assert float(expiry["value"][1]) > 86400


def test_alerts_reach_alertmanager(server: Host) -> None:
    address = "http://127.0.0.1:9090/prometheus/api/v1"
    status, body = ask(server, f"{address}/alertmanagers", account=PROMETHEUS)
    assert status == 200
    found = [one["url"] for one in json.loads(body)["data"]["activeAlertmanagers"]]
    # Our own, and the company's that the scenario names.
    assert [url for url in found if "127.0.0.1" in url] == [
        "http://127.0.0.1:9093/alertmanager/api/v2/alerts"
    ]
    assert [url.partition("/api")[0].rpartition(":")[2] for url in found if "127." not in url] == [
        "19093/alarms"
    ]
    rules = ask(server, f"{address}/rules", account=PROMETHEUS)[1]
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
    where = f"http://127.0.0.1:9090/prometheus/classic/{page}"
    body = ask(server, where, account=PROMETHEUS)[1]
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
    eventually(lambda: ask_quietly(server), "Prometheus is back", pause=0.5)


def ask_quietly(host: Host) -> bool:
    words = f"'http://127.0.0.1:9090/prometheus/-/ready' '{PROMETHEUS}'"
    done = host.run(f"python3 - {words} <<'END'\n{ASK}\nEND")
    return bool(done.succeeded and json.loads(done.stdout)[0] == 200)


@pytest.mark.parametrize(
    ("path", "password"),
    [
        (":9090/prometheus/api/v1/query?query=up", PROMETHEUS),
        (":9090/prometheus/metrics", PROMETHEUS),
        (":9090/prometheus/-/ready", PROMETHEUS),
        (":9093/alertmanager/api/v2/silences", ALERTMANAGER),
        (":9093/alertmanager/metrics", ALERTMANAGER),
        (":9093/alertmanager/-/ready", ALERTMANAGER),
        (":9115/metrics", EXPORTERS),
        (":9115/probe?module=answers&target=https://127.0.0.1:9443", EXPORTERS),
    ],
)
def test_nobody_on_the_host_asks_without_the_account(
    server: Host, path: str, password: str
) -> None:
    url = f"http://127.0.0.1{path}"
    assert ask(server, url)[0] == 401
    assert ask(server, url, account=password)[0] == 200
    # One program's password is none of the other's.
    other = ALERTMANAGER if password == PROMETHEUS else PROMETHEUS
    assert ask(server, url, account=other)[0] == 401


@pytest.mark.parametrize("port", ["9100/metrics", "9113/metrics", "9114/status"])
def test_what_measures_the_host_asks_for_the_hosts_own_account(host: Host, port: str) -> None:
    url = f"http://127.0.0.1:{port}"
    assert ask(host, url)[0] == 401
    file = NODE
    if port != "9100/metrics":
        # The program alone has it, in its environment.
        file = "/run/nginx_exporter.password"
        line = "sed 's,.*//mlops:,,; s,@.*,,' /etc/mlops/nginx_exporter/exporter.env"
        host.check_output(f"umask 077; {line} > {file}")
    try:
        assert ask(host, url, account=file)[0] == 200
    finally:
        host.check_output("rm -f /run/nginx_exporter.password")
    if name_of(host) == SERVER:
        assert ask(host, url, account=EXPORTERS)[0] == 401
    names = " -o -path ".join(["'*node*'", "'*exporter*'", "'*status.account'"])
    for path in host.check_output(f"find /etc/mlops -type f \\( -path {names} \\)").split():
        assert not host.run("runuser -u nobody -- cat %s", path).succeeded, path


def test_nobody_on_the_host_silences_alerts(server: Host) -> None:
    code = (
        'import http.client as h; c = h.HTTPConnection("127.0.0.1", 9093); '
        'c.request("POST", "/alertmanager/api/v2/silences", "{}"); print(c.getresponse().status)'
    )
    assert server.check_output(f"runuser -u nobody -- python3 -c '{code}'") == "401"


def test_the_accounts_are_read_by_root_and_their_users_alone(server: Host) -> None:
    kept = [
        *(f"/etc/mlops/monitoring/{n}" for n in ("prometheus-web.yml", "alertmanager-web.yml")),
        "/etc/mlops/monitoring/blackbox-web.yml",
        EXPORTERS,
        "/etc/mlops/nginx/exporters.account",
        *(f"/etc/mlops/monitoring/{n}.password" for n in ("prometheus", "alertmanager")),
        "/etc/mlops/monitoring/alert-watch.password",
        *(f"/etc/mlops/nginx/{n}.account" for n in ("prometheus", "alertmanager")),
    ]
    for path in kept:
        assert (server.file(path).user, server.file(path).mode) == ("root", 0o640), path
        assert not server.run("runuser -u nobody -- cat %s", path).succeeded
        assert not server.run("runuser -u mlops-node-exporter -- cat %s", path).succeeded
    found = [secret(f"monitoring_{name}_password") for name in ("prometheus", "alertmanager")]
    shown = server.check_output(
        "ps axww -o args; systemctl show 'mlops-*' -p ExecStart -p Environment"
    )
    assert not any(one in shown for one in found)


def test_a_person_who_is_root_asks_with_the_tools(server: Host) -> None:
    series = (
        "promtool query instant --http.config.file=/etc/mlops/monitoring/prometheus-client.yml "
        "http://127.0.0.1:9090/prometheus 'up{job=\"node\"}'"
    )
    alerts = (
        "amtool --http.config.file=/etc/mlops/monitoring/alertmanager-client.yml "
        "--alertmanager.url=http://127.0.0.1:9093/alertmanager alert query alertname=Watchdog"
    )
    # Both services may have started a moment ago: a scrape, an evaluation and a delivery ago.
    eventually(lambda: 'host="mol2"' in server.check_output(series), "a series by promtool")
    eventually(lambda: "Watchdog" in server.check_output(alerts), "an alert by amtool")

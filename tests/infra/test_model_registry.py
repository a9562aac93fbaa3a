"""The model registry, as clients and browsers use it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from testinfra.backend.base import CommandResult
from testinfra.host import Host

from tests.infra.outside import (
    SITE,
    Client,
    address,
    exposure,
    open_ports,
    secret,
    spills,
)
from tests.patience import PATIENCE

API = "/mlflow/api/2.0/mlflow"
UNITS = ["mlops-mlflow", "mlops-mlflow-2"]
TRIES = 10  # of an address at each of them, unless model_registry_wrong_passwords says otherwise


@pytest.fixture
def admin(host: Host) -> Client:
    return Client(host, ("admin", secret("model_registry_admin_password")))


def call(client: Client, what: str, **arguments: object) -> dict[str, object]:
    answer = client.ask("POST", f"{API}/{what}", json=arguments)
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


def test_a_model_goes_from_run_to_alias(admin: Client) -> None:
    name = f"seen-{time.time_ns()}"
    experiment = call(admin, "experiments/create", name=name)["experiment_id"]
    run = call(admin, "runs/create", experiment_id=experiment)["run"]
    run_id = run["info"]["run_id"]  # type: ignore[index]
    call(admin, "runs/log-metric", run_id=run_id, key="accuracy", value=0.97, timestamp=1)

    content = os.urandom(10_000_000)
    place = f"/mlflow/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run_id}/artifacts/model.onnx"
    assert admin.ask("PUT", place, data=content).status_code == 200
    assert admin.ask("GET", place).content == content

    call(admin, "registered-models/create", name=name)
    source = f"mlflow-artifacts:/{experiment}/{run_id}/artifacts"
    made = call(admin, "model-versions/create", name=name, source=source, run_id=run_id)
    version = made["model_version"]["version"]  # type: ignore[index]
    call(admin, "registered-models/alias", name=name, alias="champion", version=version)
    found = admin.ask("GET", f"{API}/registered-models/alias?name={name}&alias=champion")
    assert found.json()["model_version"]["run_id"] == run_id


FILES = f"{API}-artifacts/artifacts"
TIDY = "mlops-mlflow-tidy.service"
DROP_IN = f"/run/systemd/system/{TIDY}.d"


def logged_run(admin: Client, experiment: object) -> tuple[str, str]:
    """A run with a file and with a model that it has logged, which has one too."""
    run = call(admin, "runs/create", experiment_id=experiment)["run"]
    run_id = str(run["info"]["run_id"])  # type: ignore[index]
    told = call(
        *(admin, "logged-models"), experiment_id=experiment, name="model", source_run_id=run_id
    )
    model_id = str(told["model"]["info"]["model_id"])  # type: ignore[index]
    for place in (f"{run_id}/artifacts/a", f"models/{model_id}/artifacts/model.onnx"):
        assert (
            admin.ask("PUT", f"{FILES}/{experiment}/{place}", data=b"x" * 1000).status_code == 200
        )
    return run_id, model_id


def files_of(admin: Client, experiment: object, place: str) -> list[str]:
    """What the object store has below a place, as the registry lists it."""
    answer = admin.ask("GET", f"{FILES}?path={experiment}/{place}")
    assert answer.status_code == 200, answer.text
    return [each["path"] for each in answer.json().get("files", [])]


def tidy_now(host: Host) -> str:
    """Look as the timer does, but at what was deleted just now; what it said."""
    host.check_output("mkdir -p %s", DROP_IN)
    try:
        host.check_output(
            "printf '[Service]\\nEnvironment=MODEL_REGISTRY_DELETED_DAYS=0\\n' > %s/now.conf",
            DROP_IN,
        )
        host.check_output("systemctl daemon-reload && systemctl start %s", TIDY)
        return str(host.check_output("journalctl --unit=%s --output=cat --lines=40", TIDY))
    finally:
        host.check_output("rm -r %s && systemctl daemon-reload", DROP_IN)


def test_what_was_deleted_goes_for_good_but_not_what_a_version_refers_to(
    host: Host, admin: Client
) -> None:
    assert host.service("mlops-mlflow-tidy.timer").is_enabled
    name = f"seen-{time.time_ns()}"
    experiment = call(admin, "experiments/create", name=name)["experiment_id"]
    gone, gone_model = logged_run(admin, experiment)
    held, held_model = logged_run(admin, experiment)
    alive, _model = logged_run(admin, experiment)
    call(admin, "registered-models/create", name=name)
    source = f"models:/{held_model}"
    call(admin, "model-versions/create", name=name, source=source, model_id=held_model)
    for run in (gone, held):
        call(admin, "runs/delete", run_id=run)
    # Thirty days have not passed.
    host.check_output("systemctl start %s", TIDY)
    assert files_of(admin, experiment, f"{gone}/artifacts") == ["a"]
    tidy_now(host)
    assert admin.ask("GET", f"{API}/runs/get?run_id={gone}").status_code == 404
    for place in (gone, f"models/{gone_model}"):
        assert files_of(admin, experiment, f"{place}/artifacts") == []
    for run in (held, alive):
        assert admin.ask("GET", f"{API}/runs/get?run_id={run}").status_code == 200
        assert files_of(admin, experiment, f"{run}/artifacts") == ["a"]
    assert files_of(admin, experiment, f"models/{held_model}/artifacts") == ["model.onnx"]
    # An experiment goes when nothing is left in it that anybody refers to.
    call(admin, "experiments/delete", experiment_id=experiment)
    tidy_now(host)
    assert files_of(admin, experiment, f"{held}/artifacts") == ["a"]
    call(admin, "experiments/restore", experiment_id=experiment)
    empty = call(admin, "experiments/create", name=f"{name}-empty")["experiment_id"]
    run, _model = logged_run(admin, empty)
    call(admin, "experiments/delete", experiment_id=empty)
    said = tidy_now(host)
    assert "Removed for good: run" in said
    assert admin.ask("GET", f"{API}/experiments/get?experiment_id={empty}").status_code == 404
    assert files_of(admin, empty, f"{run}/artifacts") == []


ASK = """
import http.client, socket, sys
asked = http.client.HTTPConnection("127.0.0.1")
asked.sock = socket.socket(socket.AF_UNIX)
asked.sock.connect(sys.argv[1])
asked.request("GET", sys.argv[2])
print(asked.getresponse().read().decode())
"""


def over_socket(host: Host, place: str, path: str, user: str = "root") -> CommandResult:
    """Ask a service where nginx asks it."""
    return host.run("runuser -u %s -- python3 -c %s %s %s", user, ASK, place, path)


def new_run(client: Client) -> str:
    experiment = call(client, "experiments/create", name=f"seen-{time.time_ns()}")
    run = call(client, "runs/create", experiment_id=experiment["experiment_id"])["run"]
    return str(run["info"]["run_id"])  # type: ignore[index]


def clients(host: Host, count: int) -> list[Client]:
    """Clients that have been at work already, so that their password is known."""
    account = ("admin", secret("model_registry_admin_password"))
    made = [Client(host, account) for _one in range(count)]
    for client in made:
        client.ask("GET", f"{API}/experiments/search?max_results=1")
    return made


def batch(client: Client, run: str, numbers: list[int], **more: object) -> int:
    """Log one metric for each number."""
    metrics = [{"key": f"m{n}", "value": n, "timestamp": 1, "step": n} for n in numbers]
    body = {"run_id": run, "metrics": metrics, **more}
    return client.ask("POST", f"{API}/runs/log-batch", json=body).status_code


def search(client: Client) -> None:
    answer = client.ask("GET", f"{API}/experiments/search?max_results=1")
    assert answer.status_code == 200, answer.text


def seconds(action: Callable[[], None]) -> float:
    begun = time.monotonic()
    action()
    return time.monotonic() - begun


def searching(client: Client, until: threading.Event) -> list[float]:
    """How long another client waits, again and again, at least once."""
    waited = [seconds(lambda: search(client))]
    while not until.wait(0.1):
        waited.append(seconds(lambda: search(client)))
    return waited


def test_parallel_batches_lose_nothing_and_hold_nobody_up(host: Host, admin: Client) -> None:
    """Each batch opens several sessions: more callers than connections once stood still here."""
    run, done, own = new_run(admin), threading.Event(), clients(host, 16)
    alone = max(seconds(lambda: search(admin)) for _time in range(5))

    def log(number: int) -> int:
        named = {"key": "mlflow.runName", "value": f"run {number}"}
        return batch(own[number], run, list(range(5 * number, 5 * number + 5)), tags=[named])

    with ThreadPoolExecutor(17) as threads:
        other = threads.submit(searching, admin, done)
        try:
            codes = list(threads.map(log, range(16)))
        finally:
            done.set()
        waited = other.result()
    assert codes == [200] * 16
    found = admin.ask("GET", f"{API}/runs/get?run_id={run}").json()["run"]["data"]["metrics"]
    assert {metric["key"] for metric in found} == {f"m{number}" for number in range(80)}
    # Who got no connection stood still for the 30 s that the pool waits for one. On a machine too
    # slow to tell that from work, nothing is claimed.
    assert max(waited) <= max(25, 20 * alone), (max(waited), alone)


def test_two_hundred_metrics_sent_asynchronously_are_all_there(host: Host, admin: Client) -> None:
    """Ten threads, one metric each time, as MLflow's client does for asynchronous logging."""
    run, own = new_run(admin), clients(host, 10)

    def log(first: int) -> list[int]:
        return [batch(own[first], run, [number]) for number in range(first, 200, 10)]

    with ThreadPoolExecutor(10) as threads:
        codes = [code for some in threads.map(log, range(10)) for code in some]
    assert codes == [200] * 200
    found = admin.ask("GET", f"{API}/runs/get?run_id={run}").json()["run"]["data"]["metrics"]
    assert len(found) == 200


def test_clients_are_not_sent_to_s3(admin: Client) -> None:
    told = admin.ask("GET", "/mlflow/api/3.0/mlflow/server-info")
    assert "true" not in [
        str(value).lower() for name, value in told.json().items() if "multipart" in name
    ]


def test_the_pages_say_nothing_of_usage_data(admin: Client) -> None:
    """The pages look for these in the browser's memory before they show the notice."""
    page = admin.ask("GET", "/mlflow/").text
    script = page.index("localStorage.setItem('mlflow.telemetry.info.alert.dismissed_v1','true')")
    assert script < page.index("static-files/static/js/main")
    assert "localStorage.setItem('mlflow.settings.telemetry.enabled_v1','false')" in page


def test_the_user_interface_is_there(admin: Client) -> None:
    page = admin.ask("GET", "/mlflow/")
    assert page.status_code == 200
    assert "/mlflow/static-files/" in page.text or "static-files" in page.text


@pytest.mark.parametrize("path", ["/mlflow/", f"{API}/experiments/search?max_results=1"])
def test_strangers_may_do_nothing(host: Host, path: str) -> None:
    assert Client(host).ask("GET", path).status_code == 401
    assert Client(host, ("admin", "password1234")).ask("GET", path).status_code == 401


def test_a_name_that_the_company_made_is_accepted(admin: Client) -> None:
    path = f"{API}/experiments/search?max_results=1"
    for name in ("mlflow.example.com", "mlflow.example.com:8443"):
        assert admin.ask("GET", path, headers={"Host": name}).status_code == 200


def test_a_strange_name_for_the_server_is_refused(admin: Client) -> None:
    path = f"{API}/experiments/search?max_results=1"
    assert admin.ask("GET", path, headers={"Host": "evil.example"}).status_code == 403


def test_a_page_from_elsewhere_may_not_change_anything(admin: Client) -> None:
    answer = admin.ask(
        "POST",
        f"{API}/experiments/create",
        json={"name": "foreign"},
        headers={"Origin": "https://evil.example"},
    )
    assert answer.status_code == 403


def test_nobody_makes_up_methods(host: Host) -> None:
    def counted() -> str:
        return str(over_socket(host, "/run/mlops-mlflow/metrics.sock", "/metrics").stdout)

    for method in ("BREW", "PROPFIND", "X_Y"):
        assert Client(host).ask(method, "/mlflow/").status_code == 405
    assert 'method="GET"' in counted()
    assert "BREW" not in counted()


def test_other_users_of_the_host_do_not_get_past_the_gateway(host: Host) -> None:
    for place in ("/run/mlops-mlflow/mlflow.sock", "/run/mlops-mlflow/metrics.sock"):
        asked = over_socket(host, place, "/mlflow/health", user="nobody")
        assert "Permission denied" in asked.stderr
        assert over_socket(host, place, "/mlflow/health", user="mlops-nginx").succeeded
    listening = host.check_output("ss -Hltnp")
    assert "/opt/mlops/model_registry" not in listening
    owners = host.check_output("pgrep -f model_registry/server.py").split()
    assert owners
    assert not any(f"pid={pid}," in listening for pid in owners)


def test_it_cannot_read_the_key_of_the_host(host: Host) -> None:
    tried = host.run("runuser -u mlops-mlflow -- cat /etc/mlops/tls/host.key")
    assert tried.failed
    assert "Permission denied" in tried.stderr
    assert host.run("runuser -u mlops-mlflow -- cat /etc/mlops/tls/ca.crt").succeeded


def test_it_may_reach_only_what_was_said(host: Host) -> None:
    shown = host.check_output("systemctl show mlops-mlflow -p IPAddressDeny -p IPAddressAllow")
    assert "IPAddressDeny=0.0.0.0/0" in shown or "IPAddressDeny=::/0" in shown
    assert "127.0.0.0/8" in shown


def test_metrics_are_not_for_everybody(host: Host, admin: Client) -> None:
    for unit in UNITS:
        assert "mlflow_" in over_socket(host, f"/run/{unit}/metrics.sock", "/metrics").stdout
    assert admin.ask("GET", admin.url + ":9443/metrics/mlflow").status_code == 403


@pytest.mark.parametrize("unit", UNITS)
def test_a_killed_worker_is_not_missed(host: Host, admin: Client, unit: str) -> None:
    for other in UNITS:
        deadline = time.monotonic() + PATIENCE
        while over_socket(host, f"/run/{other}/mlflow.sock", "/mlflow/health").failed:
            assert time.monotonic() < deadline
            time.sleep(1)
    host.check_output(f"systemctl kill --signal=KILL {unit}.service")
    deadline = time.monotonic() + PATIENCE
    while admin.ask("GET", f"{API}/experiments/search?max_results=1").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_nothing_but_tls_leaves_the_host(host: Host) -> None:
    assert open_ports(host) == {22, 443, 9443}


@pytest.mark.parametrize("unit", UNITS)
def test_it_is_sandboxed(host: Host, unit: str) -> None:
    assert exposure(host, unit) <= 4.0


@pytest.mark.parametrize("name", ["model_registry_admin_password", "model_registry_session_key"])
def test_its_secrets_are_nowhere_to_be_read(host: Host, name: str) -> None:
    assert spills(host, secret(name)) == []


def person(host: Host, name: str) -> Client:
    return Client(host, (name, secret(f"people_password_{name}")))


def test_each_person_may_do_what_his_rights_allow(host: Host, admin: Client) -> None:
    run, name = new_run(admin), f"seen-{time.time_ns()}"
    metric = {"run_id": run, "key": "accuracy", "value": 0.9, "timestamp": 1}
    seen = {}
    for one in ("vera", "sam", "olga", "ada"):
        client = person(host, one)
        seen[one] = [
            client.ask("GET", f"{API}/experiments/search?max_results=1").status_code,
            client.ask("POST", f"{API}/runs/log-metric", json=metric).status_code,
            client.ask(
                "POST", f"{API}/experiments/create", json={"name": f"{name}-{one}"}
            ).status_code,
            client.ask(
                "POST", f"{API}/registered-models/create", json={"name": f"{name}-{one}"}
            ).status_code,
            client.ask("GET", f"{API}/users/get?username=admin").status_code,
        ]
    assert seen == {
        "vera": [200, 403, 403, 403, 403],
        "sam": [200, 200, 200, 200, 403],
        "olga": [200, 200, 200, 200, 403],
        "ada": [200, 200, 200, 200, 200],
    }


def test_nobody_makes_himself_administrator(host: Host) -> None:
    for one in ("vera", "sam", "olga"):
        body = {"username": one, "is_admin": True}
        asked = person(host, one).ask("PATCH", f"{API}/users/update-admin", json=body)
        assert asked.status_code == 403


def test_a_removed_person_is_refused_by_every_worker_at_once(host: Host, admin: Client) -> None:
    """Both workers have the password in memory; what the person made stays."""
    name, path = f"gone{time.time_ns()}", f"{API}/experiments/search?max_results=1"
    account = (name, "a-password-of-20-chars")
    call(admin, "users/create", username=name, password=account[1])
    made = call(Client(host, account), "experiments/create", name=name)["experiment_id"]
    assert [Client(host, account).ask("GET", path).status_code for _time in range(8)] == [200] * 8
    removed = admin.ask("DELETE", f"{API}/users/delete", json={"username": name})
    assert removed.status_code == 200, removed.text
    assert [Client(host, account).ask("GET", path).status_code for _time in range(8)] == [401] * 8
    assert admin.ask("GET", f"{API}/experiments/get?experiment_id={made}").status_code == 200


def test_people_are_invited_by_files_that_nobody_else_reads(host: Host) -> None:
    for one in ("vera", "sam", "olga", "ada"):
        file = SITE / f".state/invitations/{one}.invitation.txt"
        assert file.stat().st_mode & 0o777 == 0o600
        assert secret(f"people_password_{one}") in file.read_text(encoding="utf-8")
        assert f"https://{address(host)}/" in file.read_text(encoding="utf-8")


def test_passwords_of_people_are_nowhere_to_be_read(host: Host) -> None:
    for one in ("vera", "ada"):
        assert spills(host, secret(f"people_password_{one}")) == []


def test_passwords_cannot_be_guessed_and_nobody_else_is_held_up(host: Host, admin: Client) -> None:
    """The last one: this address has no tries left for a while."""
    path = f"{API}/experiments/search?max_results=1"
    assert admin.ask("GET", path).status_code == 200
    codes: list[int] = []
    begun = time.monotonic()
    while True:  # a try comes back while one guesses
        refused = Client(host, ("admin", f"guess-{len(codes):06}")).ask("GET", path)
        codes.append(refused.status_code)
        if len(codes) >= 40 and refused.status_code == 429:
            break
        assert time.monotonic() < begun + PATIENCE, codes
    assert set(codes) == {401, 429}
    # Each worker allows so many, and one more every six seconds (guard.py).
    allowed = len(UNITS) * (TRIES + 1 + (time.monotonic() - begun) / 6)
    assert codes.count(401) <= allowed
    assert int(refused.headers["Retry-After"]) in range(1, 7)
    assert "Too many wrong passwords" in refused.text
    assert [admin.ask("GET", path).status_code for _time in range(20)] == [200] * 20

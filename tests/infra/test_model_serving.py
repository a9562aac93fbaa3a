# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""An edge device from outside: what it answers, what it hides, what it costs."""

from __future__ import annotations

import json
import re
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from tests.infra.outside import SITE, address_of
from tests.patience import PATIENCE

STATE = SITE / ".state"
DEVICE = f"https://{address_of('mol2')}"
UNIT = "mlops-model-serving"
GOLDEN = Path(__file__).resolve().parents[1] / "fixtures/release/golden.json"


def ask(path: str, body: Any = None, method: str = "") -> tuple[int, Any]:
    """Ask the device as a client does, over TLS with the CA of the site."""
    context = ssl.create_default_context(cafile=str(STATE / "ca-bundle.crt"))
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        DEVICE + path,
        data,
        {"content-type": "application/json"},
        method=method or ("POST" if data is not None else "GET"),
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE, context=context) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def prop(host: Host, name: str) -> str:
    return str(host.check_output(f"systemctl show -P {name} {UNIT}"))


def test_the_model_answers_over_tls() -> None:
    case = json.loads(GOLDEN.read_text())["cases"][0]
    status, answer = ask("/v2/models/iris/infer", case["request"])
    assert status == 200
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    assert outputs["label"] == case["expected"]["label"]
    assert answer["model_version"] == "2"


def test_metadata_say_what_is_served() -> None:
    status, answer = ask("/v2/models/iris")
    assert status == 200
    assert (answer["versions"], answer["platform"]) == (["2"], "onnxruntime_onnx")
    assert answer["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 4]}]


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2/models/iris/ready"])
def test_health_is_told(path: str) -> None:
    assert ask(path)[0] == 200


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ([], "lacks the input features"),
        (
            [{"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}],
            "has no input 'X'; it has features",
        ),
        (
            [{"name": "features", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}],
            "has the shape [-1, 4], the request has [1, 3]",
        ),
        (
            [{"name": "features", "shape": [1, 4], "datatype": "INT64", "data": [1, 2, 3, 4]}],
            "is FP32, the request says INT64",
        ),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(inputs: list[Any], sentence: str) -> None:
    status, answer = ask("/v2/models/iris/infer", {"inputs": inputs})
    assert status == 400
    assert sentence in json.loads(answer)["error"]


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/v2/repository/models/iris/unload", "POST"),
        ("/v2/repository/models/iris/load", "POST"),
        ("/v1/models", "GET"),
        ("/metrics", "GET"),
        ("/docs", "GET"),
        ("/", "GET"),
    ],
)
def test_nothing_but_the_protocol_is_reached_from_outside(path: str, method: str) -> None:
    status, answer = ask(path, method=method)
    assert status == 404
    assert json.loads(answer)["error"].startswith("There is nothing at this path")


def test_a_request_that_is_too_large_is_refused() -> None:
    status, answer = ask("/v2/models/iris/infer", {"x": "y" * 9_000_000})
    assert (status, json.loads(answer)) == (413, {"error": "A request may be 8 MiB large."})


def test_what_nginx_refuses_is_counted_by_the_server(host: Host) -> None:
    read = "python3 -c 'import urllib.request as r; print(r.urlopen(\"http://127.0.0.1:8080/metrics\").read().decode())'"

    def refused() -> float:
        found = re.search(
            r'^mlops_front_errors_total\{code="404"\} (\S+)', host.check_output(read), re.MULTILINE
        )
        return float(found[1]) if found else 0.0

    before = refused()
    assert ask("/nothing")[0] == 404
    deadline = time.monotonic() + PATIENCE
    while refused() < before + 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert refused() >= before + 1


def test_the_served_version_has_a_path() -> None:
    assert ask("/v2/models/iris/versions/2")[1]["versions"] == ["2"]
    assert ask("/v2/models/iris/versions/3")[0] == 404


def test_the_description_names_what_is_there() -> None:
    status, answer = ask("/openapi.json")
    assert status == 200
    assert "/v2/models/{model_name}/infer" in answer["paths"]
    assert not [path for path in answer["paths"] if "repository" in path or "metrics" in path]


def test_the_server_listens_on_loopback_only(host: Host) -> None:
    pid = prop(host, "MainPID")
    sockets = host.check_output("ss -Hltnp")
    mine = [line.split()[3] for line in sockets.splitlines() if f"pid={pid}," in line]
    assert mine == ["127.0.0.1:8080"]


def test_the_sandbox_is_tight(host: Host) -> None:
    report = host.run(f"systemd-analyze security --no-pager {UNIT}").stdout
    level = re.search(r"exposure level for .*: ([0-9.]+)", report)
    assert level
    assert float(level[1]) <= 4.0
    assert prop(host, "User") == "mlops-model-serving"
    assert prop(host, "Slice") == "mlops.slice"


def test_a_small_model_takes_less_than_250_mib(host: Host) -> None:
    status = host.file(f"/proc/{prop(host, 'MainPID')}/status").content_string
    resident = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert resident
    assert int(resident[1]) / 1024 <= 250


def test_nothing_is_reported_to_the_maker_of_the_runtime(host: Host) -> None:
    pid = prop(host, "MainPID")
    environment = host.file(f"/proc/{pid}/environ").content_string.split("\0")
    assert "ORT_DISABLE_TELEMETRY=1" in environment
    assert "telemetry" not in host.check_output(f"journalctl -u {UNIT} -I --no-pager").lower()


def test_metrics_name_model_and_version(host: Host) -> None:
    program = (
        "import urllib.request as r;"
        "print(r.urlopen('http://127.0.0.1:8080/metrics').read().decode())"
    )
    metrics = host.check_output(f'python3 -c "{program}"')
    info = re.search(r"mlops_model_info\{(.*)\} 1.0", metrics)
    assert info
    assert 'model_name="iris",model_version="2"' in info[1]
    assert 'digest="sha256:' in info[1]
    for name in ("mlops_model_requests_total", "mlops_model_request_seconds_count"):
        assert re.search(rf'{name}\{{model_name="iris",model_version="2"', metrics)
    buckets = re.findall(
        r'mlops_model_predictions_total\{bucket="([^"]+)",model_name="iris",model_version="2"\}',
        metrics,
    )
    assert 1 <= len(buckets) <= 20


def test_only_root_reads_the_password_and_nobody_else_changes_a_release(host: Host) -> None:
    password = host.file("/etc/mlops/model_serving/registry.password")
    assert (password.user, oct(password.mode)) == ("root", "0o600")
    root = host.file("/var/lib/mlops/model_serving")
    assert (root.user, root.group, oct(root.mode)) == ("root", "mlops-model-serving", "0o750")
    writable = "find /var/lib/mlops/model_serving -not -user root -o -perm /022 -not -type l"
    assert host.check_output(writable) == ""


def test_the_command_on_the_device_says_what_is_served(host: Host) -> None:
    command = "/opt/mlops/model_serving_app/mlops-release"
    state = json.loads(host.check_output(f"{command} status"))
    assert state["current"] == state["served"]
    assert json.loads(host.check_output(f"{command} verify {state['current']}"))["files"] == [
        "config.json",
        "golden.json",
        "model.onnx",
    ]
    refusal = host.run(f"{command} activate latest")
    assert refusal.rc == 1
    assert refusal.stderr.startswith("Found latest, wanted a digest")


def test_a_sample_of_the_requests_goes_to_who_has_the_token(host: Host) -> None:
    case = json.loads(GOLDEN.read_text())["cases"][0]
    assert ask("/v2/models/iris/infer", {**case["request"], "id": "order-7"})[0] == 200
    assert ask("/v2/samples", {})[0] == 401
    context = ssl.create_default_context(cafile=str(STATE / "ca-bundle.crt"))
    shown = {"authorization": "Bearer samples.fetch-of-the-scenario"}
    request = urllib.request.Request(f"{DEVICE}/v2/samples", b"{}", shown)
    with urllib.request.urlopen(request, timeout=PATIENCE, context=context) as answer:
        said = answer.read().decode()
    kept = [json.loads(line) for line in said.splitlines()]
    assert kept
    assert {one["model"] for one in kept} == {"iris"}
    assert set(kept[-1]["inputs"]["features"]) == {"features[1]", "features[2]", "features[3]"}
    assert "order-7" not in said
    assert host.file("/etc/mlops/model_serving/samples.json").mode == 0o640


def test_a_killed_server_is_back_with_its_model(host: Host) -> None:
    host.check_output(f"systemctl kill -s KILL {UNIT}")
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if ask("/v2/models/iris/ready")[0] == 200:
            return
        time.sleep(0.2)
    pytest.fail("the model did not come back")

# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The model server itself, in its locked environment: what clients of the protocol may expect."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import importlib
import json
import random
import re
import struct
import subprocess
import sys
import time
import zlib
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ansible_collections.mlops.onprem.plugins.module_utils._host import app

from tests.benchmarks import serving
from tests.patience import PATIENCE, eventually

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "roles/model_serving/files"))
access = importlib.import_module("mlops_serving.access")
engine = importlib.import_module("mlops_serving.engine")

MODELS = ROOT / "tests/fixtures/models"
TYPES: dict[str, tuple[str, list[Any]]] = {
    "float16": ("FP16", [1.5, -2.0]),
    "float": ("FP32", [0.1, None]),
    "double": ("FP64", [0.1, 1e300]),
    "int8": ("INT8", [-128, 127]),
    "int16": ("INT16", [-32768, 0]),
    "int32": ("INT32", [-(2**31), 1]),
    "int64": ("INT64", [-(2**63), 2**63 - 1]),
    "uint8": ("UINT8", [0, 255]),
    "uint16": ("UINT16", [0, 65535]),
    "uint32": ("UINT32", [0, 2**32 - 1]),
    "uint64": ("UINT64", [0, 2**64 - 1]),
    "bool": ("BOOL", [True, False]),
    "string": ("BYTES", ["naïve", ""]),
}
IMPORTED = """
import json, sys
import mlops_serving.__main__
import onnxruntime
found = [getattr(one, "__file__", None) or "" for one in list(sys.modules.values())]
print(json.dumps([one for one in found if one.endswith(".py")]))
"""
TOKEN, HASH = access.make_token("line-3")


def tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def golden(inputs: list[dict[str, Any]], expected: dict[str, list[Any]]) -> bytes:
    case = {"request": {"inputs": inputs}, "expected": expected}
    return json.dumps({"cases": [case]}).encode()


EVERY = [tensor(name, datatype, [2], data) for name, (datatype, data) in TYPES.items()]
TWO = [
    tensor("counts", "INT64", [1, 2], [1, 2]),
    tensor("values", "FP32", [1, 3], [1, 1, 1]),
    tensor("kind", "BYTES", [1], ["k"]),
]


def release(root: Path, name: str, version: str, model: str, case: bytes) -> str:
    return serving.put_release(root, name, version, MODELS / f"{model}.onnx", case)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[serving.Server]:
    """A server with several models, one of which it cannot serve."""
    root = tmp_path_factory.mktemp("serving")
    fixture = serving.FIXTURE
    serving.put_release(
        root, "iris", "2", fixture / "model.onnx", (fixture / "golden.json").read_bytes()
    )
    expected = {f"{name}_out": data for name, (_datatype, data) in TYPES.items()}
    release(root, "types", "1", "every_type", golden(EVERY, expected))
    release(root, "two", "7", "two_inputs", golden(TWO, {"sum": [6.0], "kind_out": ["k"]}))
    release(root, "bf16", "1", "bfloat16", golden(TWO, {}))
    square = tensor("x", "FP32", [4], [1, 2, 3, 4])
    release(root, "fragile", "1", "fragile", golden([square], {"y": [1, 2, 3, 4]}))
    try:
        with serving.serving(root) as running:
            yield running
    except serving.CannotServe as reason:
        pytest.skip(str(reason))


def told(answer: tuple[int, dict[str, str], bytes], status: int) -> str:
    """The sentence of an error, which has to be in the protocol's form."""
    found, headers, body = answer
    assert (found, headers["content-type"]) == (status, "application/json")
    document = json.loads(body)
    assert list(document) == ["error"]
    return str(document["error"])


def series(server: serving.Server, name: str) -> dict[str, float]:
    rows = server.ask("GET", "/metrics")[2].decode().splitlines()
    return {
        row.rpartition(" ")[0]: float(row.rpartition(" ")[2])
        for row in rows
        if row.startswith((f"{name}{{", f"{name} "))
    }


def test_models_stand_side_by_side(server: serving.Server) -> None:
    assert json.loads(server.ask("GET", "/v2/models")[2]) == {
        "models": ["fragile", "iris", "two", "types"]
    }
    state = json.loads(server.ask("GET", "/release")[2])
    assert state["models"]["two"]["model_version"] == "7"
    assert "bfloat16, which clients cannot send" in state["models"]["bf16"]["failure"]
    assert told(server.ask("GET", "/v2/health/ready"), 503) == "Not served: bf16."
    assert server.ask("GET", "/v2/models/two/ready")[0] == 200
    assert "cannot be served" in told(server.ask("GET", "/v2/models/bf16/ready"), 503)


def test_everything_that_the_server_imports_has_bytecode_on_a_device() -> None:
    """What is said to be rarely imported is not imported: nobody waits for it at each start."""
    tasks = yaml.safe_load((ROOT / "roles/model_serving/tasks/install.yml").read_text())
    rarely = next(
        task["mlops.onprem.host_python_app"]["rarely_imported"]
        for task in tasks
        if "mlops.onprem.host_python_app" in task
    )
    try:
        python = serving.environment()
    except serving.CannotServe as reason:
        pytest.skip(str(reason))
    words = [str(python), "-c", IMPORTED, "--root", "/nonexistent"]
    ran = subprocess.run(
        words,
        env={"PYTHONPATH": str(serving.FILES), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        check=True,
    )
    files = json.loads(ran.stdout.splitlines()[-1])
    assert any("/site-packages/kserve/" in one for one in files)
    assert any("/site-packages/onnxruntime/" in one for one in files)
    without = re.compile(app.without_bytecode(rarely))
    assert [one for one in files if without.search(one)] == []
    # And none of the folders is a name of something that is no longer there.
    packages = Path(next(one for one in files if "/site-packages/kserve/" in one)).parents[1]
    while packages.name != "site-packages":
        packages = packages.parent
    assert [one for one in rarely if not (packages / one).is_dir()] == []


def test_the_device_itself_asks_without_being_counted(server: serving.Server) -> None:
    """A device tries a release before clients count: the same answer, and no request of theirs."""
    question = serving.document(1)
    plain = json.loads(server.ask("POST", "/v2/models/iris/infer", question)[2])
    before = series(server, "mlops_model_requests_total")
    status, _headers, body = server.ask("POST", "/v2/repository/models/iris/infer", question)
    assert status == 200
    assert json.loads(body)["outputs"] == plain["outputs"]
    assert series(server, "mlops_model_requests_total") == before
    wrong = server.ask("POST", "/v2/repository/models/iris/infer", b'{"inputs": []}')
    assert "lacks the input" in told(wrong, 400)
    assert server.ask("POST", "/v2/repository/models/nobody/infer", question)[0] == 404


def test_what_the_device_asks_in_place_of_clients_is_counted(server: serving.Server) -> None:
    """A ring without clients is judged by what its devices ask themselves."""
    question = serving.document(1)

    def counted(outcome: str) -> float:
        found = series(server, "mlops_model_requests_total")
        rows = [value for row, value in found.items() if "iris" in row and f'"{outcome}"' in row]
        return float(rows[0]) if rows else 0.0

    before = counted("ok"), counted("invalid")
    assert server.ask("POST", "/v2/repository/models/iris/probe", question)[0] == 200
    wrong = server.ask("POST", "/v2/repository/models/iris/probe", b'{"inputs": []}')
    assert "lacks the input" in told(wrong, 400)
    assert (counted("ok"), counted("invalid")) == (before[0] + 1, before[1] + 1)


def test_the_metadata_name_what_works(server: serving.Server) -> None:
    about = json.loads(server.ask("GET", "/v2")[2])
    assert about["extensions"] == ["binary_tensor_data"]
    described = json.loads(server.ask("GET", "/v2/models/types/versions/1")[2])
    assert {t["name"]: t["datatype"] for t in described["inputs"]} == {
        name: datatype for name, (datatype, _data) in TYPES.items()
    }


def test_every_type_goes_in_and_comes_out_in_json(server: serving.Server) -> None:
    body = json.dumps({"id": "q", "inputs": EVERY}).encode()
    status, headers, data = server.ask("POST", "/v2/models/types/infer", body)
    assert (status, headers["content-type"]) == (200, "application/json")
    answer = json.loads(data)
    assert (answer["id"], answer["model_version"]) == ("q", "1")
    found = {output["name"].removesuffix("_out"): output["data"] for output in answer["outputs"]}
    assert found == {name: data for name, (_datatype, data) in TYPES.items()}


def test_every_type_goes_in_and_comes_out_in_binary(server: serving.Server) -> None:
    parts = {}
    for name, (datatype, data) in TYPES.items():
        if datatype == "BYTES":
            strings = [str(text).encode() for text in data]
            parts[name] = b"".join(struct.pack("<I", len(text)) + text for text in strings)
        else:
            parts[name] = np.array(data, engine.DTYPES[datatype]).tobytes()
    inputs = [
        {
            "name": name,
            "datatype": TYPES[name][0],
            "shape": [2],
            "parameters": {"binary_data_size": len(part)},
        }
        for name, part in parts.items()
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    status, headers, answer = server.ask(
        "POST",
        "/v2/models/types/versions/1/infer",
        head + b"".join(parts.values()),
        inference_header_content_length=str(len(head)),
    )
    assert (status, headers["content-type"]) == (200, "application/octet-stream")
    length = int(headers["inference-header-content-length"])
    sizes = {
        output["name"].removesuffix("_out"): output["parameters"]["binary_data_size"]
        for output in json.loads(answer[:length])["outputs"]
    }
    assert sizes == {name: len(part) for name, part in parts.items()}
    assert answer[length:] == b"".join(parts.values())


@pytest.mark.parametrize("packed", ["", "gzip", "deflate"])
@pytest.mark.parametrize("accepted", ["", "gzip", "deflate", "br"])
def test_bodies_and_answers_may_be_compressed(
    server: serving.Server, packed: str, accepted: str
) -> None:
    body = serving.document(500)
    pack: Any = {"": bytes, "gzip": gzip.compress, "deflate": zlib.compress}[packed]
    headers = {"content_encoding": packed} if packed else {}
    status, answered, data = server.ask(
        "POST", serving.PATH, pack(body), accept_encoding=accepted, **headers
    )
    assert status == 200
    used = answered.get("content-encoding", "")
    assert used == (accepted if accepted != "br" else "")
    unpack: Any = {"": bytes, "gzip": gzip.decompress, "deflate": zlib.decompress}[used]
    assert json.loads(unpack(data))["outputs"][0]["shape"] == [500]


def test_a_large_compressed_body_is_answered(server: serving.Server) -> None:
    """Too large for the lane of the small ones, which shows only while it is decompressed."""
    body = serving.document(20_000)
    packed = gzip.compress(body)
    assert len(packed) < 65536 < len(body)
    status, _headers, data = server.ask("POST", serving.PATH, packed, content_encoding="gzip")
    assert (status, json.loads(data)["outputs"][0]["shape"]) == (200, [20_000])


def test_json_needs_no_content_type(server: serving.Server) -> None:
    for kind in ({}, {"content_type": "text/plain"}, {"content_type": "application/json"}):
        assert server.ask("POST", serving.PATH, serving.document(1), **kind)[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "sentence"),
    [
        ("GET", "/v2/models/nobody", 404, "There is no model of this name here; there is fragile"),
        ("GET", "/v2/models/iris/versions/1", 404, "in version 2 alone"),
        ("POST", "/v2/models/iris/versions/1/infer", 404, "in version 2 alone"),
        ("GET", "/v2/models/iris/versions/1/ready", 404, "in version 2 alone"),
        ("GET", "/nothing", 404, "nothing at this path"),
        ("GET", "/v1/models", 404, "nothing at this path"),
        ("GET", "/docs", 404, "nothing at this path"),
        ("DELETE", "/v2/models", 405, "does not take this method"),
        ("GET", "/v2/models/iris/infer", 405, "does not take this method"),
        ("POST", "/v2/repository/models/iris/unload", 409, "Take the model from the device first"),
        ("POST", "/v2/repository/models/nobody/load", 404, "No release of a model nobody"),
    ],
)
def test_every_error_has_the_protocols_form(
    server: serving.Server, method: str, path: str, status: int, sentence: str
) -> None:
    assert sentence in told(server.ask(method, path, b"{}" if method == "POST" else b""), status)


def test_no_mistake_costs_anybody_else_anything(server: serving.Server) -> None:
    """On one connection, which stays, with not a line written."""
    before = server.log.read_text()
    asks = []
    for path, body, headers in serving.MALFORMED:
        asks += [
            serving.Ask(body, headers, False, path),
            serving.Ask(serving.document(1), {}, True),
        ]
    outcome = serving.Outcome()
    serving.drive(server, asks, outcome)
    assert outcome.wrong == []
    assert outcome.answers["good 200"] == len(serving.MALFORMED)
    assert server.log.read_text() == before
    assert series(server, "mlops_model_requests_total")[
        'mlops_model_requests_total{model_name="iris",model_version="2",outcome="error"}'
    ] == (0.0)


def test_a_model_that_fails_keeps_the_connection_and_the_journal(server: serving.Server) -> None:
    before = len(server.log.read_text().splitlines())
    body = json.dumps({"inputs": [tensor("x", "FP32", [3], [1, 2, 3])]}).encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.connect()
    socket_before = connection.sock
    started = time.monotonic()
    for _number in range(20):
        connection.request("POST", "/v2/models/fragile/infer", body)
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        assert "The model failed" in told((answer.status, headers, answer.read()), 500)
        assert connection.sock is socket_before
    connection.close()
    written = server.log.read_text().splitlines()[before:]
    assert 1 <= len(written) <= time.monotonic() - started + 2
    assert "fragile version 1: The model failed" in written[0]
    name = 'mlops_model_requests_total{model_name="fragile",model_version="1",outcome="error"}'
    assert series(server, "mlops_model_requests_total")[name] == 20


def test_nothing_that_a_client_makes_up_becomes_a_label(server: serving.Server) -> None:
    def count() -> int:
        rows = server.ask("GET", "/metrics")[2].decode().splitlines()
        return sum(not row.startswith("#") for row in rows)

    server.ask("POST", "/v2/models/nobody/infer", b"{}")
    server.ask("BREW", "/v2")
    before = count()
    for number in range(20):
        server.ask("POST", f"/v2/models/nobody{number}/versions/{number}/infer", b"{}")
        server.ask(f"BREW{number}", "/v2")
        server.ask("POST", f"/v2/repository/models/nobody{number}/load")
    assert count() == before


def test_what_nginx_answers_itself_is_counted(server: serving.Server) -> None:
    import socket

    def found() -> dict[str, float]:
        return series(server, "mlops_front_errors_total")

    before = found()['mlops_front_errors_total{code="502"}']
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nginx:
        for line in (b"<190>Nov 28 12:00:00 mlops_front: 502", b"<190>x: 999", b"\xff", b""):
            nginx.sendto(line, ("127.0.0.1", server.port))
    eventually(lambda: found()['mlops_front_errors_total{code="502"}'] != before, "it is counted")
    assert found()['mlops_front_errors_total{code="502"}'] == before + 1
    assert not [name for name in found() if "999" in name]


def test_the_description_is_complete_and_says_no_more(server: serving.Server) -> None:
    described = json.loads(server.ask("GET", "/openapi.json")[2])
    assert sorted(described["paths"]) == sorted(
        [
            "/release",
            "/v2",
            "/v2/health/live",
            "/v2/health/ready",
            "/v2/models",
            "/v2/models/{model_name}/truth",
            *(
                f"/v2/models/{{model_name}}{version}{rest}"
                for version in ("", "/versions/{model_version}")
                for rest in ("", "/ready", "/infer")
            ),
        ]
    )
    text = json.dumps(described)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names
    assert names <= set(described["components"]["schemas"])
    codes = described["paths"]["/v2/models/{model_name}/infer"]["post"]["responses"]
    assert sorted(codes) == ["200", "400", "401", "404", "413", "415", "429", "503"]
    truth = described["paths"]["/v2/models/{model_name}/truth"]["post"]
    assert list(truth["requestBody"]["content"]) == ["application/json", "text/csv"]
    sentence = told(server.ask("POST", "/v2/models/iris/truth", b"{}"), 404)
    assert "set model_serving_truth_requests" in sentence


def test_a_model_is_swapped_and_goes_while_others_answer(server: serving.Server) -> None:
    root = server.log.parent
    case = golden(TWO, {"sum": [6.0], "kind_out": ["k"]})
    release(root, "fresh", "1", "two_inputs", case)
    assert server.ask("POST", "/v2/repository/models/fresh/load")[0] == 200
    release(root, "fresh", "2", "two_inputs", golden(TWO, {"sum": [7.0]}))
    sentence = told(server.ask("POST", "/v2/repository/models/fresh/load"), 503)
    assert "differs by 0.143 from the one expected in sum" in sentence
    assert json.loads(server.ask("GET", "/v2/models/fresh")[2])["versions"] == ["1"]
    (root / "models/fresh/current").unlink()
    assert server.ask("POST", "/v2/repository/models/fresh/unload")[0] == 200
    told(server.ask("GET", "/v2/models/fresh"), 404)
    assert not [name for name in series(server, "mlops_model_requests_total") if "fresh" in name]
    assert server.ask("GET", "/v2/models/iris/ready")[0] == 200


def test_a_configuration_comes_and_goes_with_its_release(server: serving.Server) -> None:
    """The same model in three releases: what is staged counts, what is wrong is not served."""
    root, case = server.log.parent, golden(TWO, {"sum": [6.0], "kind_out": ["k"]})

    def serve(version: str, **serving_: Any) -> tuple[int, dict[str, str], bytes]:
        config = json.dumps({"tolerance": 1e-5, "serving": serving_}).encode()
        model = MODELS / "two_inputs.onnx"
        serving.put_release(root, "set", version, model, case, {"config.json": config})
        return server.ask("POST", "/v2/repository/models/set/load")

    def settings() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(server.ask("GET", "/release")[2])["models"]["set"]
        return dict(found["settings"])

    ask = json.dumps({"id": "a", "inputs": TWO}).encode()
    truth = b'{"truth": [{"id": "a", "value": 6.0}]}'
    large = json.dumps({"id": "x" * 2**20, "inputs": TWO}).encode()
    assert serve("1")[0] == 200
    before = settings()
    told(server.ask("POST", "/v2/models/set/truth", truth), 404)
    assert server.ask("POST", "/v2/models/set/infer", large)[0] == 200

    assert serve("1-config.1", threads=2, truth_requests=9, request_max_mib=1)[0] == 200
    assert settings() == {**before, "threads": 2, "truth_requests": 9, "request_max_mib": 1}
    assert json.loads(server.ask("GET", "/v2/models/set")[2])["versions"] == ["1-config.1", "1"]
    assert server.ask("POST", "/v2/models/set/versions/1/infer", ask)[0] == 200
    learnt = json.loads(server.ask("POST", "/v2/models/set/truth", truth)[2])
    assert learnt == {"known": 1, "unknown": 0}
    assert "1 MiB" in told(server.ask("POST", "/v2/models/set/infer", large), 413)
    # Other models keep theirs.
    assert json.loads(server.ask("GET", "/release")[2])["models"]["two"]["settings"] == before

    sentence = told(serve("1-config.2", threads=0), 503)
    assert "serving.threads is '0', wanted a whole number from 1 to 64" in sentence
    assert settings()["threads"] == 2
    assert serve("1")[0] == 200
    assert settings() == before
    (root / "models/set/current").unlink()
    assert server.ask("POST", "/v2/repository/models/set/unload")[0] == 200


def test_declared_clients_alone_are_answered_and_counted(tmp_path: Path) -> None:
    fixture = serving.FIXTURE
    serving.put_release(
        tmp_path, "iris", "2", fixture / "model.onnx", (fixture / "golden.json").read_bytes()
    )
    clients = tmp_path / "clients.json"
    entries = [{"name": "line-3", "token_hash": HASH}, {"name": "gateway", "subject": "CN=gateway"}]
    known = hashlib.sha256(b"of-nginx").hexdigest()
    clients.write_text(json.dumps({"clients": entries, "front": known}))
    body = serving.document(1)
    try:
        with serving.serving(tmp_path, 512, f"--clients={clients}") as server:
            refused = server.ask("POST", serving.PATH, body)
            assert "declared clients only" in told(refused, 401)
            assert refused[1]["www-authenticate"] == "Bearer"
            for path in ("/v2", "/v2/models", "/v2/models/iris", "/v2/models/iris/ready"):
                told(server.ask("GET", path, authorization="Bearer line-3.guess"), 401)
                assert server.ask("GET", path, authorization=f"Bearer {TOKEN}")[0] == 200
            for path in ("/v2/health/live", "/v2/health/ready", "/release"):
                assert server.ask("GET", path)[0] == 200
            lie = {"x_mlops_client_subject": "CN=gateway"}
            told(server.ask("POST", serving.PATH, body, **lie), 401)
            named = {"x_mlops_client_subject": "of-nginx CN=gateway"}
            assert server.ask("POST", serving.PATH, body, **named)[0] == 200
            token = {"authorization": f"Bearer {TOKEN}"}
            assert server.ask("POST", serving.PATH, body, **token)[0] == 200
            assert server.ask("POST", serving.PATH, b"{", **token)[0] == 400
            found = series(server, "mlops_client_requests_total")
            assert found == {
                f'mlops_client_requests_total{{client="{client}",outcome="{outcome}"}}': count
                for client, outcome, count in (
                    ("gateway", "ok", 1),
                    ("gateway", "invalid", 0),
                    ("gateway", "error", 0),
                    ("line-3", "ok", 1),
                    ("line-3", "invalid", 1),
                    ("line-3", "error", 0),
                )
            }
    except serving.CannotServe as reason:
        pytest.skip(str(reason))


def test_many_clients_with_some_wrong_within_the_memory_limit(tmp_path: Path) -> None:
    """A sample of the benchmark: every good request answered, the kernel's limit never reached."""
    try:
        found = serving.measure(
            tmp_path, Namespace(requests=300, clients=50, malformed=10, large=8, memory=512)
        )
    except serving.CannotServe as reason:
        pytest.skip(str(reason))
    assert found["wrong"] == []
    assert not found["ended by the kernel"]
    assert found["peak MiB"] < 512
    dice = random.Random(9)
    malformed = sum(
        not (serving.malformed(dice) if dice.random() < 0.1 else serving.good(dice)).good
        for _number in range(300)
    )
    assert found["answers"]["good 200"] == 300 - malformed
    assert found["lines in the journal"] == 0

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The model server compares what it is asked with its profile, as Prometheus sees it."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release import (
    oci,
    signature,
    statement,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.source import write_pairs

from tests import releases
from tests.benchmarks import serving

from .test_model_server import series

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "roles/model_serving/files"))
profiles = importlib.import_module("mlops_serving.profile")
sys.path.insert(0, str(ROOT / "roles/model_registry/files"))
drop = importlib.import_module("mlops_truth")
WINDOW = 120


def rows(count: int) -> np.ndarray:
    """Measures of flowers, about as the model knows them."""
    middle, spread = [5.8, 3.0, 3.8, 1.2], [0.8, 0.4, 1.7, 0.7]
    return np.random.default_rng(1).normal(middle, spread, (count, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[serving.Server]:
    root = tmp_path_factory.mktemp("drift")
    names = profiles.Wanted({"features": ["a", "b", "c", "d"]})
    made = json.dumps(profiles.build({"features": rows(1000)}, {}, names).to_json()).encode()
    model, golden = serving.FIXTURE / "model.onnx", (serving.FIXTURE / "golden.json").read_bytes()
    broken = made.replace(b'"kind": "number"', b'"kind": "colour"')
    for name, more in {
        "watched": {"profile.json": made},
        "plain": {},
        "foreign": {"profile.json": b'{"columns": {}}'},
        "broken": {"profile.json": broken},
    }.items():
        serving.put_release(root, name, "1", model, golden, more)
    for name, metrics in {"evaluated": {"accuracy": 0.95, "auc": 0.9}, "changed": {}}.items():
        put_evaluated(root, name, model, golden, metrics)
    options = (
        "--drift-window-seconds=0",
        f"--drift-window-requests={WINDOW}",
        "--drift-features=2",
        "--truth-requests=200",
    )
    try:
        with serving.serving(root, 512, *options) as running:
            yield running
    except serving.CannotServe as reason:
        pytest.skip(str(reason))


def put_evaluated(
    root: Path, name: str, model: Path, golden: bytes, metrics: dict[str, float]
) -> None:
    """A release with its evaluation, which its signature names; without metrics it was changed."""
    digest = serving.put_release(root, name, "1", model, golden)
    figures = dataclasses.replace(releases.EVALUATION, metrics=metrics or {"accuracy": 0.5})
    said = statement.build_statement("registry/models", digest, {}, figures)
    claims = signature.Claims("site", name, "1", "onnx", 1, "0" * 16, oci.digest_of(said))
    payload = signature.build_payload("registry/models", digest, claims)
    place = root / "releases" / digest.partition(":")[2]
    (place / "signature.json").write_bytes(write_pairs([(payload, b"mark")]))
    (place / "evaluation.json").write_bytes(said if metrics else said.replace(b"0.5", b"0.9"))


def ask(server: serving.Server, model: str, values: np.ndarray, kind: str = "") -> None:
    for row in values:
        tensor = {"name": "features", "shape": [1, 4], "datatype": "FP32", "data": row.tolist()}
        body = json.dumps({"inputs": [tensor]}).encode()
        path = f"/v2/repository/models/{model}/{kind}" if kind else f"/v2/models/{model}/infer"
        assert server.ask("POST", path, body)[0] == 200


def drifting(server: serving.Server) -> dict[str, float]:
    """The measures beyond their limits, by feature and measure."""
    found, limits = series(server, "mlops_model_drift"), series(server, "mlops_model_drift_limit")
    assert {name.replace("_limit", "", 1) for name in limits} == set(found)
    return {
        name: value
        for name, value in found.items()
        if value > limits[name.replace("mlops_model_drift{", "mlops_model_drift_limit{")]
    }


def test_a_window_is_judged_when_it_is_full_and_bounded_series_say_so(
    server: serving.Server,
) -> None:
    label = '{model_name="watched",model_version="1"}'
    features = series(server, "mlops_model_drift_features")
    assert {name.split('"')[1]: value for name, value in features.items()} == {
        "broken": 0.0,
        "changed": 0.0,
        "evaluated": 0.0,
        "foreign": 0.0,
        "plain": 0.0,
        "watched": 4.0,
    }
    assert series(server, "mlops_model_window_requests")[f"mlops_model_window_requests{label}"] == 0
    assert series(server, "mlops_model_drift") == {}
    ask(server, "watched", rows(WINDOW - 1))
    # What the device asks itself is no request of a client.
    ask(server, "watched", rows(5), "probe")
    ask(server, "watched", rows(5), "infer")
    assert series(server, "mlops_model_drift") == {}
    ask(server, "watched", rows(1))
    assert series(server, "mlops_model_window_requests")[f"mlops_model_window_requests{label}"] == (
        WINDOW
    )
    assert drifting(server) == {}
    quiet = set(series(server, "mlops_model_drift"))
    assert len(quiet) == 4 * 2
    moved = rows(WINDOW)
    moved[:, 3] += 2.5
    ask(server, "watched", moved)
    beyond = drifting(server)
    assert {name.split('feature="')[1].split('"')[0] for name in beyond} == {"d"}
    assert len(series(server, "mlops_model_drift")) == 4 * 2
    ask(server, "watched", rows(WINDOW))
    assert drifting(server) == {}
    assert set(series(server, "mlops_model_drift")) == quiet


def test_models_without_a_profile_of_ours_are_served_all_the_same(server: serving.Server) -> None:
    for model in ("plain", "foreign", "broken"):
        ask(server, model, rows(WINDOW + 1))
    named = {
        name.split('model_name="')[1].split('"')[0] for name in series(server, "mlops_model_drift")
    }
    assert named <= {"watched"}
    assert "The model is served and not watched" in server.log.read_text()


def test_the_truth_that_comes_late_gives_the_quality(server: serving.Server) -> None:
    told = []
    for number, row in enumerate(rows(80)):
        tensor = {"name": "features", "shape": [1, 4], "datatype": "FP32", "data": row.tolist()}
        body = json.dumps({"id": f"q{number}", "inputs": [tensor]}).encode()
        answer = json.loads(server.ask("POST", "/v2/models/plain/infer", body)[2])
        first = answer["outputs"][0]["data"]
        label = first[0] if answer["outputs"][0]["datatype"] != "FP32" else int(np.argmax(first))
        # Every fourth answer was wrong.
        told.append({"id": f"q{number}", "value": label if number % 4 else "never"})
    path = "/v2/models/plain/truth"
    assert server.ask("POST", path, b"{}")[0] == 400
    answer = server.ask(
        "POST", path, json.dumps({"truth": [*told, {"id": "?", "value": 1}]}).encode()
    )
    assert (answer[0], json.loads(answer[2])) == (200, {"known": 80, "unknown": 1})
    found = series(server, "mlops_model_quality")
    label = 'mlops_model_quality{model_name="plain",model_version="1",measure="%s",source="window"}'
    ordered = {name: value for name, value in found.items() if '"plain"' in name}
    assert ordered[_named(label % "accuracy", ordered)] == 0.75
    assert ordered[_named(label % "judged", ordered)] == 80


def test_the_truth_comes_as_a_table_and_stands_beside_the_signed_evaluation(
    server: serving.Server,
) -> None:
    row = rows(1)[0].tolist()
    table = ["id,value"]
    for number in range(60):
        tensor = {"name": "features", "shape": [1, 4], "datatype": "FP32", "data": row}
        body = json.dumps({"id": f"t{number}", "inputs": [tensor]}).encode()
        answer = json.loads(server.ask("POST", "/v2/models/evaluated/infer", body)[2])
        table.append(f"t{number},{label_of(answer) if number % 3 else 'never'}")
    path = "/v2/models/evaluated/truth"
    kind = "text/csv; charset=utf-8"
    status, _headers, said = server.ask("POST", path, b"id,truth\n", content_type=kind)
    assert (status, b"columns id and value" in said) == (400, True)
    answer = server.ask("POST", path, "\n".join(table).encode(), content_type=kind)
    assert (answer[0], json.loads(answer[2])) == (200, {"known": 60, "unknown": 0})
    label = re.compile(r'(measure|source)="([a-z_0-9]+)"')
    found = {
        tuple(value for _name, value in sorted(label.findall(name))): value
        for name, value in series(server, "mlops_model_quality").items()
        if 'model_name="evaluated"' in name
    }
    assert found[("accuracy", "window")] == pytest.approx(2 / 3)
    # What nobody measures here is not shown, and what no signature names does not count.
    assert {key: value for key, value in found.items() if key[1] == "evaluation"} == {
        ("accuracy", "evaluation"): 0.95
    }
    others = series(server, "mlops_model_quality")
    assert not [n for n in others if "changed" in n and "evaluation" in n]


def test_the_truth_comes_by_files_that_are_dropped(
    server: serving.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = rows(1)[0].tolist()
    told = []
    for number in range(60):
        tensor = {"name": "features", "shape": [1, 4], "datatype": "FP32", "data": row}
        body = json.dumps({"id": f"f{number}", "inputs": [tensor]}).encode()
        answer = json.loads(server.ask("POST", "/v2/models/foreign/infer", body)[2])
        told.append((f"f{number}", label_of(answer) if number % 6 else "never"))
    monkeypatch.setattr(drop, "SETTLED_SECONDS", 0.0)
    for name in ("told", "refused"):
        (tmp_path / name).mkdir()
    lines = [json.dumps({"id": name, "value": value}) for name, value in told[:20]]
    (tmp_path / "foreign@first.jsonl").write_text("\n".join(lines))
    table = "".join(f"{name},{value}\n" for name, value in told[20:])
    (tmp_path / "foreign@second.csv").write_text(f"id,value\n{table}never asked,1\n")
    (tmp_path / "nowhere@third.csv").write_text("id,value\nf1,1\n")
    config = tmp_path / "config"
    devices = [{"name": "edge", "url": f"http://127.0.0.1:{server.port}"}]
    config.write_text(
        json.dumps(
            {
                "directory": str(tmp_path),
                "devices": devices,
                "ca_file": "/nowhere",
                "token": "",
                "days": 1,
                "most_mib": 1,
            }
        )
    )
    config.rename(tmp_path / ".config")
    # The program's own; here it would be that of all later tests.
    monkeypatch.setattr(os, "umask", lambda _mode: 0o022)
    assert drop.main([str(tmp_path / ".config")]) == 0
    for name, known in (("foreign@first.jsonl", 20), ("foreign@second.csv", 40)):
        report = json.loads((tmp_path / "told" / f"{name}.json").read_text())
        assert report["known"] == {"edge": known}
    assert "No device takes" in (tmp_path / "refused/nowhere@third.csv.txt").read_text()
    found = {
        name: value
        for name, value in series(server, "mlops_model_quality").items()
        if 'model_name="foreign"' in name and 'measure="accuracy"' in name
    }
    assert list(found.values()) == [pytest.approx(5 / 6)]


def label_of(answer: dict[str, Any]) -> object:
    """What the model said, as the truth is told."""
    first = answer["outputs"][0]
    return first["data"][0] if first["datatype"] != "FP32" else int(np.argmax(first["data"]))


def _named(wanted: str, found: dict[str, float]) -> str:
    """The series with these labels, in whatever order they are written."""
    parts = sorted(wanted.partition("{")[2].rstrip("}").split(","))
    return next(
        name for name in found if sorted(name.partition("{")[2].rstrip("}").split(",")) == parts
    )

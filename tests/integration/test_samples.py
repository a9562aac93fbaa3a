# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests go from the running model server into a bucket behind TLS, and are deleted for good."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.benchmarks import serving

from .test_model_server import series

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "roles/model_registry/files"))
collector = importlib.import_module("mlops_samples")
sys.path.insert(0, str(ROOT / "roles/model_serving/files"))
access = importlib.import_module("mlops_serving.access")
BUCKET = "samples"
MIB = 2**20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[serving.Server]:
    root = tmp_path_factory.mktemp("samples")
    model, golden = serving.FIXTURE / "model.onnx", (serving.FIXTURE / "golden.json").read_bytes()
    config = {"tolerance": 1e-5, "input": "features", "feature_names": ["a", "b", "c", "d"]}
    more = {"config.json": json.dumps(config).encode()}
    for name in ("iris", "plain", "typo"):
        serving.put_release(root, name, "1", model, golden, more)
    rules = [
        {"name": "iris", "rate": 1.0, "redact": {"a": "drop", "b": "hash", "id": "hash"}},
        {"name": "typo", "rate": 1.0, "redact": {"A": "drop"}},
    ]
    file = root / "samples.json"
    told = access.hash_secret("secret", b"0" * 16)
    file.write_text(json.dumps({"models": rules, "token_hash": told, "key": "k"}))
    try:
        with serving.serving(root, 512, f"--samples={file}") as running:
            yield running
    except serving.CannotServe as reason:
        pytest.skip(str(reason))


def ask(server: serving.Server, model: str, identifier: str = "order-7", **headers: str) -> None:
    data = [5.25, 3.5, 1.5, 0.25]
    tensor = {"name": "features", "shape": [1, 4], "datatype": "FP32", "data": data}
    body = json.dumps({"id": identifier, "inputs": [tensor]}).encode()
    assert server.ask("POST", f"/v2/models/{model}/infer", body, **headers)[0] == 200


def settings(
    server: serving.Server, company: dict[str, Any], mib: float = 1.0, models: Any = ("iris",)
) -> Any:
    account = {name: company[name] for name in ("endpoint", "region", "access_key", "secret_key")}
    return collector.Settings(
        (collector.Device("edge1", f"http://127.0.0.1:{server.port}", "samples.secret", ""),),
        {name: collector.Rule(2, int(mib * MIB)) for name in models},
        {**account, "ca_file": company["ca_file"], "bucket": BUCKET},
    )


def objects(storage: Any) -> list[str]:
    """Every version of every object, and the marks of deleted ones."""
    found = storage.list_object_versions(Bucket=BUCKET)
    return sorted(
        one["Key"] for kind in ("Versions", "DeleteMarkers") for one in found.get(kind, ())
    )


@pytest.fixture(scope="module", name="bucket")
def _bucket(storage: Any) -> Any:
    storage.create_bucket(Bucket=BUCKET)
    on = {"Status": "Enabled"}
    storage.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration=on)
    return storage


def test_nobody_fetches_requests_but_who_has_the_token(server: serving.Server) -> None:
    for token in ("", "Bearer samples.wrong"):
        status, _headers, body = server.ask("POST", "/v2/samples", b"{}", authorization=token)
        assert status == 401
        assert b"Only the control host" in body
    right = "Bearer samples.secret"
    assert server.ask("POST", "/v2/samples", b"[1]", authorization=right)[0] == 400
    assert server.ask("GET", "/v2/samples", authorization=right)[0] == 405


def test_what_was_asked_lies_in_the_bucket_redacted_and_is_deleted_with_all_versions(
    server: serving.Server, company: dict[str, Any], bucket: Any
) -> None:
    now = time.time()
    today = datetime.fromtimestamp(now, UTC).date()
    ask(server, "iris")
    ask(server, "plain")
    ask(server, "typo")
    given = settings(server, company)
    assert collector.run(given, False, now) == 0
    (key,) = objects(bucket)
    assert key.startswith(f"iris/{today}/edge1-")
    assert key.endswith(".jsonl")
    stored = bucket.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    (line,) = map(json.loads, stored.splitlines())
    assert line["inputs"]["features"].keys() == {"b", "c", "d"}
    assert line["inputs"]["features"]["c"] == 1.5
    assert not [value for value in (b"order-7", b"5.25", b"3.5") if value in stored]
    counted = series(server, "mlops_model_samples_total")
    label = 'mlops_model_samples_total{{model_name="{}",outcome="{}"}}'
    assert counted[label.format("iris", "stored")] == 1.0
    assert not [name for name in counted if "plain" in name]

    # Nothing new: nothing is stored twice, and two days are not over yet.
    assert collector.run(given, False, now) == 0
    later = now + timedelta(days=2).total_seconds()
    assert collector.run(given, False, later) == 0
    assert objects(bucket) == [key]
    bucket.delete_object(Bucket=BUCKET, Key=key)
    assert objects(bucket) == [key, key]
    assert collector.run(given, False, later + 86400) == 0
    assert objects(bucket) == []


def test_a_day_has_a_bound_and_what_is_beyond_it_is_counted(
    server: serving.Server, company: dict[str, Any], bucket: Any
) -> None:
    before = series(server, "mlops_model_samples_total")
    ask(server, "iris")
    assert collector.run(settings(server, company, mib=0.00001), False, time.time()) == 0
    after = series(server, "mlops_model_samples_total")
    grown = {name.split('"')[3]: after[name] - before[name] for name in after if "iris" in name}
    assert grown == {"stored": 0.0, "dropped": 1.0}
    assert objects(bucket) == []


def test_a_model_that_is_no_longer_sampled_leaves_nothing(
    server: serving.Server, company: dict[str, Any], bucket: Any
) -> None:
    for model, forget in ((("other",), False), ((), True)):
        ask(server, "iris")
        assert collector.run(settings(server, company), False, time.time()) == 0
        assert len(objects(bucket)) == 1
        assert collector.run(settings(server, company, models=model), forget, time.time()) == 0
        assert objects(bucket) == []


def test_a_store_that_does_not_answer_loses_nothing(
    server: serving.Server, company: dict[str, Any], bucket: Any, tmp_path: Path
) -> None:
    ask(server, "iris", "kept")
    file = tmp_path / "config.json"
    away = {**settings(server, company).store, "endpoint": "https://127.0.0.1:9"}
    device = {"name": "edge1", "url": f"http://127.0.0.1:{server.port}", "token": "samples.secret"}
    model = {"name": "iris", "days": 2, "mib_per_day": 1}
    content = {"devices": [device], "models": [model], "ca_file": company["ca_file"], "store": away}
    file.write_text(json.dumps(content))
    assert collector.main([str(file)]) == 1
    assert objects(bucket) == []
    assert collector.run(settings(server, company), False, time.time()) == 0
    assert len(objects(bucket)) == 1


def test_the_releases_own_requests_are_no_sample_and_only_they_can_be_left_out(
    server: serving.Server, company: dict[str, Any], bucket: Any
) -> None:
    assert collector.run(settings(server, company), True, time.time()) == 0
    golden = json.loads((serving.FIXTURE / "golden.json").read_bytes())["cases"]
    for case in golden:
        body = json.dumps(case["request"]).encode()
        assert server.ask("POST", "/v2/models/iris/infer", body, x_mlops_golden="1")[0] == 200
    assert collector.run(settings(server, company), False, time.time()) == 0
    assert objects(bucket) == []
    # Sent by a client, or another request that says of itself that it is one: it is kept.
    server.ask("POST", "/v2/models/iris/infer", json.dumps(golden[0]["request"]).encode())
    ask(server, "iris", x_mlops_golden="1")
    assert collector.run(settings(server, company), False, time.time()) == 0
    (key,) = objects(bucket)
    stored = bucket.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    assert len(stored.splitlines()) == 2


class Kept:
    """A client of a store that, as Ceph, lists no object that was deleted, only its versions."""

    def __init__(self, versions: bool) -> None:
        self.versions, self.name = versions, ""
        self.there = {("iris/2026-11-01/a", "1"), ("iris/2026-11-29/a", "1")}
        self.marks = {("iris/2026-11-01/a", "2")} if versions else set()

    def get_paginator(self, name: str) -> Kept:
        asked = Kept(self.versions)
        asked.there, asked.marks, asked.name = self.there, self.marks, name
        return asked

    def paginate(self, Prefix: str, Delimiter: str = "", **_more: str) -> Iterator[Any]:  # noqa: N803
        if self.name == "list_object_versions" and not self.versions:
            raise ClientError({"Error": {"Code": "NotImplemented"}}, self.name)
        shown = self.there | self.marks
        if self.name == "list_objects_v2":
            shown = {one for one in self.there if one[0] not in dict(self.marks)}
        below = {one for one in shown if one[0].startswith(Prefix)}
        if Delimiter:
            names = {Prefix + key[len(Prefix) :].partition("/")[0] + "/" for key, _one in below}
            yield {"CommonPrefixes": [{"Prefix": name} for name in sorted(names)]}
        elif self.name == "list_objects_v2":
            yield {"Contents": [{"Key": key, "Size": 1} for key, _version in below]}
        else:
            for part, found in (("Versions", self.there), ("DeleteMarkers", self.marks)):
                yield {part: [{"Key": key, "VersionId": one} for key, one in below & found]}

    def delete_object(self, Bucket: str, Key: str, VersionId: str = "1") -> None:  # noqa: N803
        assert Bucket == BUCKET
        self.there -= {(Key, VersionId)}
        self.marks -= {(Key, VersionId)}


@pytest.mark.parametrize("versions", [True, False])
def test_versions_of_what_somebody_deleted_are_deleted_in_their_time(
    versions: bool, company: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(versions)
    monkeypatch.setattr(collector.boto3, "client", lambda *_words, **_more: kept)
    store = collector.Store({**company, "bucket": BUCKET})
    rules = {"iris": collector.Rule(2, MIB)}
    assert collector.tidy(store, rules, date(2026, 11, 29)) == (2 if versions else 1)
    assert (kept.there, kept.marks) == ({("iris/2026-11-29/a", "1")}, set())
    assert collector.tidy(store, {}, date(2026, 11, 29)) == 1
    assert kept.there == set()

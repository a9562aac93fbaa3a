# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is no S3, or only half of one, is told as that: in time, and without false alarms."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.s3 import read
from ansible_collections.mlops.onprem.plugins.modules import s3_probe

from tests.integration.s3_front import (
    Answer,
    Close,
    Front,
    Hang,
    Request,
    error,
    front,
    hand_on,
    page,
)
from tests.patience import PATIENCE

RunModule = Callable[..., dict[str, Any]]


def probed(run_module: RunModule, server: Front, *buckets: str, **more: Any) -> dict[str, Any]:
    keys = more.pop("keys", {"access_key": "AKIA0", "secret_key": "secret"})
    account = {"name": "a", **keys, "buckets": list(buckets or ("models",))}
    return run_module(
        s3_probe,
        endpoint=server.endpoint,
        ca_file=server.ca_file,
        accounts=[account],
        **more,
    )


def failures(result: dict[str, Any]) -> list[dict[str, str]]:
    return [row for row in result["findings"] if row["severity"] == "fail"]


def told(result: dict[str, Any]) -> set[str]:
    return {row["id"].removeprefix("object_store.") for row in result["findings"]}


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (page(200), "HTTP 200"),
        (page(404), "HTTP 404"),
        (page(403), "HTTP 403"),
        (page(400, "No required SSL certificate was sent"), "HTTP 400"),
        (page(502), "HTTP 502"),
        (page(301), "/elsewhere"),
        (page(307), "/elsewhere"),
        ((200, "application/json", b'{"console": "yes"}'), "application/json"),
        ((200, "text/xml", b"<?xml version='1.0'?><html><body/></html>"), "HTTP 200"),
        ((404, "text/plain", b""), "HTTP 404"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_s3_accepts_no_keys(
    run_module: RunModule, tmp_path: Path, answer: Answer, word: str
) -> None:
    with front(tmp_path, lambda _request: answer) as server:
        result = probed(run_module, server, "models", "artifacts")
    (failure,) = failures(result)
    assert failure["id"] == "object_store.answer"
    assert word in failure["found"]
    assert "object_store_endpoint" in failure["remedy"]
    assert not told(result) & {"credentials", "objects", "bucket", "leftovers"}
    assert set(server.methods()) <= {"GET", "HEAD"}


@pytest.mark.parametrize("how", [Hang, Close])
def test_who_does_not_answer_is_asked_once_and_left(
    run_module: RunModule, tmp_path: Path, how: type[Exception]
) -> None:
    def rule(_request: Request) -> Answer:
        raise how

    begin = time.monotonic()
    with front(tmp_path, rule) as server:
        result = probed(
            run_module, server, "one", "two", "three", timeout=5, deadline=int(PATIENCE)
        )
    assert time.monotonic() - begin < PATIENCE
    assert [row["id"] for row in failures(result)] == ["object_store.answer"]
    assert "leftovers" not in told(result)
    assert {request.path.split("?")[0] for request in server.asked} == {"/one"}


def test_the_span_holds_although_each_answer_is_awaited_longer(
    run_module: RunModule, tmp_path: Path
) -> None:
    def rule(_request: Request) -> Answer:
        raise Hang

    begin = time.monotonic()
    with front(tmp_path, rule) as server:
        result = probed(run_module, server, timeout=3600, deadline=2)
    assert time.monotonic() - begin < PATIENCE
    assert "the 2 s of the probe are over" in failures(result)[0]["found"]


@pytest.mark.parametrize(
    ("code", "check", "remedy"),
    [
        ("UserSuspended", "credentials", "have it enabled again"),
        ("SignatureDoesNotMatch", "credentials", "proxy_set_header Host $http_host"),
        ("InvalidAccessKeyId", "credentials", "correct object_store_access_key"),
        ("AccessDenied", "objects", "object_store_access_key"),
        ("PermanentRedirect", "region", "set object_store_region"),
        ("RequestTimeTooSkewed", "clock", "synchronise"),
    ],
)
@pytest.mark.parametrize("status", [301, 403])
def test_a_refusal_of_s3_is_told_by_its_cause(
    run_module: RunModule, tmp_path: Path, code: str, check: str, remedy: str, status: int
) -> None:
    with front(tmp_path, lambda _request: error(code, status)) as server:
        result = probed(run_module, server)
    (failure,) = failures(result)
    assert failure["id"] == f"object_store.{check}"
    assert remedy in failure["remedy"]


@pytest.mark.parametrize(
    ("variables", "files"),
    [
        ({"AWS_PROFILE": "nobody"}, {}),
        ({"AWS_ENDPOINT_URL_S3": "https://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "many"}, {}),
        ({}, {"config": "[default]\ns3 =\n  use_accelerate_endpoint = true\n"}),
        ({}, {"config": "this is no file of settings"}),
        ({"HTTPS_PROXY": "http://127.0.0.1:1", "AWS_CA_BUNDLE": "/none"}, {}),
        ({"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true"}, {}),
    ],
)
def test_what_the_user_set_for_other_programs_changes_nothing(
    run_module: RunModule,
    company: dict[str, Any],
    storage: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variables: dict[str, str],
    files: dict[str, str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    for name, text in files.items():
        (tmp_path / ".aws" / name).write_text(text)
    keys = {name: company[name] for name in ("access_key", "secret_key")}
    server = Front(company["endpoint"], company["ca_file"])
    result = probed(run_module, server, keys=keys)
    assert {row["severity"] for row in result["findings"]} == {"pass"}


@pytest.mark.parametrize(
    "endpoint",
    ["http://s3.example.com", "https://s3.example.com/prefix", "https://[::1", "s3", ""],
)
def test_an_address_that_is_none_is_a_finding(run_module: RunModule, endpoint: str) -> None:
    result = run_module(s3_probe, endpoint=endpoint, accounts=[])
    assert [row["id"] for row in result["findings"]] == ["object_store.endpoint"]
    assert result["findings"][0]["remedy"].startswith("set object_store_endpoint")
    assert result.get("failed", False) is False


def behind(company: dict[str, Any]) -> dict[str, Any]:
    return {name: company[name] for name in ("access_key", "secret_key")}


@pytest.mark.parametrize(
    ("denied", "written"),
    [
        (("versioning",), True),
        (("versions",), False),
        (("object-lock", "versioning"), False),
        (("object-lock", "versioning", "versions"), False),
        (("object-lock",), False),
        ((), True),
    ],
)
def test_where_versions_cannot_be_seen_nothing_is_written(
    run_module: RunModule,
    company: dict[str, Any],
    storage: Any,
    tmp_path: Path,
    denied: tuple[str, ...],
    written: bool,
) -> None:
    """A versioned bucket, and an account that may not look at everything."""

    def rule(request: Request) -> Answer | None:
        asked = request.path.partition("?")[2]
        return error("AccessDenied") if asked.startswith(denied) and denied else None

    with front(tmp_path, rule, company) as server:
        result = probed(run_module, server, "artifacts", keys=behind(company))
    versions = storage.list_object_versions(Bucket="artifacts")
    assert (versions.get("Versions", []), versions.get("DeleteMarkers", [])) == ([], [])
    assert ("PUT" in server.methods()) is written
    objects = next(row for row in result["findings"] if row["id"] == "object_store.objects")
    assert objects["severity"] == ("pass" if written else "warn")
    assert failures(result) == []


def test_an_answer_lost_on_the_way_leaves_nothing(
    run_module: RunModule, company: dict[str, Any], storage: Any, tmp_path: Path
) -> None:
    def rule(request: Request) -> Answer | None:
        if request.method == "PUT":
            hand_on(request, company)
            return page(502)
        return None

    with front(tmp_path, rule, company) as server:
        result = probed(run_module, server, keys=behind(company))
    assert storage.list_objects_v2(Bucket="models").get("KeyCount") == 0
    assert "look at the proxy" in failures(result)[0]["remedy"]
    assert "leftovers" not in told(result)


def test_what_a_killed_probe_left_is_taken_away(
    run_module: RunModule,
    company: dict[str, Any],
    storage: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(read, "STALE", timedelta(seconds=-60))
    key = ".mlops-probe/of-a-killed-run"
    for _time in range(2):
        storage.put_object(Bucket="artifacts", Key=key, Body=b"x")
    storage.delete_object(Bucket="artifacts", Key=key)
    storage.create_multipart_upload(Bucket="artifacts", Key=f"{key}.parts")
    storage.create_multipart_upload(Bucket="artifacts", Key="of-somebody-else")
    try:
        probed(
            run_module,
            Front(company["endpoint"], company["ca_file"]),
            "artifacts",
            keys=behind(company),
        )
        versions = storage.list_object_versions(Bucket="artifacts")
        assert (versions.get("Versions", []), versions.get("DeleteMarkers", [])) == ([], [])
        uploads = storage.list_multipart_uploads(Bucket="artifacts").get("Uploads", [])
        assert [row["Key"] for row in uploads] == ["of-somebody-else"]
    finally:
        for row in storage.list_multipart_uploads(Bucket="artifacts").get("Uploads", []):
            storage.abort_multipart_upload(
                Bucket="artifacts", Key=row["Key"], UploadId=row["UploadId"]
            )


@pytest.mark.parametrize(
    ("method", "answer", "word"),
    [
        ("PUT", page(413), "client_max_body_size"),
        ("PUT", error("QuotaExceeded"), "raise the quota"),
        ("PUT", page(405), "look at the proxy"),
        ("POST", page(405), "look at the proxy"),
    ],
)
def test_half_an_endpoint_leaves_nothing_and_is_told(
    run_module: RunModule,
    company: dict[str, Any],
    storage: Any,
    tmp_path: Path,
    method: str,
    answer: Answer,
    word: str,
) -> None:
    def rule(request: Request) -> Answer | None:
        return answer if request.method == method else None

    with front(tmp_path, rule, company) as server:
        result = probed(run_module, server, keys=behind(company))
    assert word in failures(result)[0]["remedy"]
    assert "leftovers" not in told(result)
    assert storage.list_objects_v2(Bucket="models").get("KeyCount") == 0

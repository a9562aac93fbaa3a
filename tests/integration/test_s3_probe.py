# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The probe of an S3 endpoint against moto behind TLS, with permissions enforced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.modules import s3_probe

RunModule = Callable[..., dict[str, Any]]


def arguments(company: dict[str, Any], *buckets: str, **changes: Any) -> dict[str, Any]:
    reader = changes.pop("reader", False)
    account = {
        "name": "pipeline",
        "access_key": company["reader_access_key" if reader else "access_key"],
        "secret_key": company["reader_secret_key" if reader else "secret_key"],
        "buckets": list(buckets),
    }
    account.update(changes.pop("account", {}))
    return {
        "endpoint": company["endpoint"],
        "region": company["region"],
        "ca_file": company["ca_file"],
        "accounts": [account],
        **changes,
    }


def severities(result: dict[str, Any]) -> dict[str, str]:
    return {finding["id"]: finding["severity"] for finding in result["findings"]}


def only_failure(result: dict[str, Any]) -> dict[str, str]:
    findings: list[dict[str, str]] = result["findings"]
    failures = [finding for finding in findings if finding["severity"] == "fail"]
    assert len(failures) == 1, result["findings"]
    return failures[0]


def test_a_good_endpoint_passes_every_check(
    run_module: RunModule, company: dict[str, Any], storage: Any
) -> None:
    result = run_module(s3_probe, **arguments(company, "models", "artifacts"))
    assert severities(result) == {
        "object_store.reachable": "pass",
        "object_store.tls": "pass",
        "object_store.credentials": "pass",
        "object_store.objects": "pass",
        "object_store.capabilities": "pass",
        "object_store.clock": "pass",
    }
    other = {"lifecycle": "none", "tagging": "none", "deletion of many": "supported"}
    assert [bucket["capabilities"] for bucket in result["buckets"]] == [
        {"versioning": "off", **other},
        {"versioning": "enabled", **other},
    ]
    assert result["changed"] is False


@pytest.mark.parametrize("bucket", ["models", "artifacts"])
def test_nothing_is_left_in_the_bucket(
    run_module: RunModule, company: dict[str, Any], storage: Any, bucket: str
) -> None:
    run_module(s3_probe, **arguments(company, bucket))
    versions = storage.list_object_versions(Bucket=bucket)
    assert versions.get("Versions", []) == []
    assert versions.get("DeleteMarkers", []) == []
    assert storage.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


def test_keys_without_write_permission(
    run_module: RunModule, company: dict[str, Any], storage: Any
) -> None:
    result = run_module(s3_probe, **arguments(company, "models", reader=True))
    failure = only_failure(result)
    assert failure == {
        "id": "object_store.objects",
        "host": company["endpoint"].removeprefix("https://"),
        "severity": "fail",
        "found": "account pipeline may not put objects or upload an object in parts "
        "in bucket models (AccessDenied)",
        "wanted": "list, put, get, range get, multipart upload and delete in bucket models "
        "for account pipeline",
        "remedy": "grant it the right, or set other keys: object_store_access_key and "
        "object_store_secret_key, or the keys of pipeline in object_store_accounts",
    }


def test_an_unknown_access_key(run_module: RunModule, company: dict[str, Any]) -> None:
    account = {"access_key": "AKIANOBODYKNOWSTHIS0", "secret_key": "unknown-secret-value"}
    result = run_module(s3_probe, **arguments(company, "models", account=account))
    failure = only_failure(result)
    assert failure["id"] == "object_store.credentials"
    assert failure["found"] == (
        "the endpoint does not know the access key of account pipeline (InvalidAccessKeyId)"
    )


def test_a_wrong_secret_key(run_module: RunModule, company: dict[str, Any]) -> None:
    account = {"secret_key": "this-is-not-the-secret-key"}
    result = run_module(s3_probe, **arguments(company, "models", account=account))
    failure = only_failure(result)
    assert failure["found"] == (
        "the secret key of account pipeline does not belong to its access key "
        "(SignatureDoesNotMatch)"
    )
    assert "this-is-not-the-secret-key" not in str(result)


def test_a_missing_bucket_is_not_created(
    run_module: RunModule, company: dict[str, Any], storage: Any
) -> None:
    result = run_module(s3_probe, **arguments(company, "not-there"))
    assert severities(result)["object_store.bucket"] == "warn"
    assert result["buckets"][0]["exists"] is False
    names = [bucket["Name"] for bucket in storage.list_buckets()["Buckets"]]
    assert "not-there" not in names


def test_a_closed_port(run_module: RunModule, company: dict[str, Any], closed_port: int) -> None:
    endpoint = f"https://127.0.0.1:{closed_port}"
    result = run_module(s3_probe, **arguments(company, "models", endpoint=endpoint))
    assert result["findings"] == [
        {
            "id": "object_store.reachable",
            "host": f"127.0.0.1:{closed_port}",
            "severity": "fail",
            "found": f"port {closed_port} of 127.0.0.1 is closed (connection refused)",
            "wanted": f"an open port at 127.0.0.1:{closed_port}",
            "remedy": "start the server, or correct object_store_endpoint",
        }
    ]


def test_an_authority_that_did_not_sign(run_module: RunModule, company: dict[str, Any]) -> None:
    result = run_module(s3_probe, **arguments(company, "models", ca_file=""))
    failure = only_failure(result)
    assert failure["id"] == "object_store.tls"
    assert failure["remedy"] == (
        "set object_store_ca_file to the PEM file of the authority that signed it"
    )


def test_a_name_that_the_certificate_lacks(run_module: RunModule, company: dict[str, Any]) -> None:
    endpoint = company["endpoint"].replace("127.0.0.1", "localhost")
    result = run_module(s3_probe, **arguments(company, "models", endpoint=endpoint))
    failure = only_failure(result)
    assert failure["found"] == "a certificate for another name than localhost"


def test_strict_fails_with_the_sentence(
    run_module: RunModule, company: dict[str, Any], storage: Any
) -> None:
    result = run_module(s3_probe, strict=True, **arguments(company, "models", reader=True))
    assert result["failed"] is True
    assert result["msg"].startswith(
        f"{company['endpoint'].removeprefix('https://')}: account pipeline may not put"
    )

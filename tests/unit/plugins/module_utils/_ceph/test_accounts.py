"""Accounts are corrected where they differ, without showing a secret."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._ceph.accounts import (
    Account,
    differences,
    document,
    parse_accounts,
)
from ansible_collections.mlops.onprem.plugins.module_utils._ceph.errors import CephError
from ansible_collections.mlops.onprem.plugins.module_utils._ceph.s3 import (
    Key,
    bucket_names,
    error_code,
    headers,
)

ACCOUNT = Account("models", "AK", "SK", ("a",))


def row(**changes: Any) -> dict[str, Any]:
    return {"name": "models", "access_key": "AK", "secret_key": "SK", "buckets": ["a"], **changes}


def test_a_new_account_has_exactly_our_key_and_all_rights() -> None:
    made = document(ACCOUNT, None)
    assert made["keys"] == [{"user": "models", "access_key": "AK", "secret_key": "SK"}]
    assert made["op_mask"] == "read, write, delete"
    assert made["user_quota"]["enabled"] is False


def test_a_quota_of_bytes_is_none_of_objects() -> None:
    quota = document(Account("m", "AK", "SK", quota_gib=3), None)["user_quota"]
    assert (quota["enabled"], quota["max_size"], quota["max_objects"]) == (True, 3 * 1024**3, -1)


def test_what_others_set_stays() -> None:
    made = document(ACCOUNT, {"max_buckets": 7, "caps": ["x"], "keys": [{"access_key": "old"}]})
    assert made["max_buckets"] == 7
    assert made["caps"] == ["x"]
    assert len(made["keys"]) == 1


def test_an_account_as_wanted_has_no_differences() -> None:
    assert differences(ACCOUNT, document(ACCOUNT, None)) == ()


@pytest.mark.parametrize(
    ("account", "change", "wanted"),
    [
        (Account("models", "AK", "new"), {}, ("set the key of account models",)),
        (ACCOUNT, {"suspended": 1}, ("restore the rights of account models",)),
        (ACCOUNT, {"op_mask": "read"}, ("restore the rights of account models",)),
        (
            Account("models", "AK", "SK", quota_gib=3),
            {},
            ("set the quota of account models to 3 GiB",),
        ),
    ],
)
def test_each_difference_is_said_in_words(
    account: Account, change: dict[str, Any], wanted: tuple[str, ...]
) -> None:
    assert differences(account, {**document(ACCOUNT, None), **change}) == wanted


def test_a_missing_account_is_created() -> None:
    assert differences(ACCOUNT, None) == ("create account models",)


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (row(), "names the account models twice"),
        (row(name="b"), "names the same access key of two accounts"),
        (row(name="b", access_key="BK"), "names the bucket a twice"),
    ],
)
def test_what_belongs_to_one_account_only(second: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CephError) as caught:
        parse_accounts([row(), second])
    assert sentence in str(caught.value)
    assert "AK" not in str(caught.value)


def test_accounts_are_parsed() -> None:
    assert parse_accounts([row(quota_gib=2)]) == (Account("models", "AK", "SK", ("a",), 2),)


def test_a_request_is_signed_as_aws_documents_it() -> None:
    # The example of the service's reference, GET Bucket (without query) with its own arithmetic.
    key = Key("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
    made = headers(key, "GET", "examplebucket.s3.amazonaws.com", "/", b"", "20130524T000000Z")
    assert made["x-amz-content-sha256"].startswith("e3b0c44298fc1c14")
    assert made["Authorization"].startswith(
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature="
    )


def test_the_signature_is_the_one_of_botocore() -> None:
    auth = pytest.importorskip("botocore.auth")
    awsrequest = pytest.importorskip("botocore.awsrequest")
    credentials = pytest.importorskip("botocore.credentials")
    made = headers(Key("AK", "SK", "us-east-1"), "PUT", "h:7480", "/b", b"", "20260131T235959Z")
    request = awsrequest.AWSRequest("PUT", "http://h:7480/b")
    request.headers["X-Amz-Content-SHA256"] = made["x-amz-content-sha256"]
    request.headers["X-Amz-Date"] = "20260131T235959Z"
    request.context["timestamp"] = "20260131T235959Z"
    signer = auth.S3SigV4Auth(credentials.Credentials("AK", "SK"), "s3", "us-east-1")
    text = signer.string_to_sign(request, signer.canonical_request(request))
    assert made["Authorization"].endswith("Signature=" + signer.signature(text, request))


def test_names_and_codes_are_read_from_answers() -> None:
    listing = (
        b'<?xml version="1.0"?><ListAllMyBucketsResult xmlns="x"><Owner><ID>o</ID></Owner><Buckets>'
        b"<Bucket><Name>a-1</Name><CreationDate>d</CreationDate></Bucket>"
        b"<Bucket><Name>b.2</Name></Bucket></Buckets></ListAllMyBucketsResult>"
    )
    assert bucket_names(listing) == {"a-1", "b.2"}
    assert bucket_names(b"<Buckets/>") == frozenset()
    assert error_code(b"<Error><Code>NoSuchBucket</Code></Error>") == "NoSuchBucket"
    assert error_code(b"connection refused") == ""

# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an S3 endpoint answers becomes one precise finding."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.contract import Contract
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.s3.judge import (
    EXPIRED,
    FOREIGN,
    SILENT,
    Account,
    BucketSeen,
    EndpointError,
    Location,
    Refusal,
    capability,
    is_bucket_name,
    judge_account,
    judge_answer,
    judge_bucket,
    locate,
    refuses_malformed_creation,
    vendor_of,
)

S3 = Contract("object_store", "s3:443", ("endpoint",))
ACCOUNT = Account("pipeline", "AKIA0", "secret", ("data",))
DENIED = Refusal("AccessDenied", "Access Denied")
WORKS: dict[str, Refusal | None] = dict.fromkeys(
    ["list", "put", "get", "range", "multipart", "delete"]
)


def seen(**changes: Any) -> BucketSeen:
    return BucketSeen("pipeline", "data", **{"outcomes": WORKS, **changes})


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("https://s3.example.com", Location("s3.example.com", 443)),
        ("https://10.0.0.5:7443/", Location("10.0.0.5", 7443)),
        ("https://[fd00::1]:9000", Location("fd00::1", 9000)),
    ],
)
def test_an_endpoint_is_a_host_and_a_port(url: str, location: Location) -> None:
    assert locate(url) == location


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (
            "http://s3.example.com",
            "object_store_endpoint: 'http://s3.example.com' is not of the form https://host "
            "or https://host:port.",
        ),
        (
            "",
            "object_store_endpoint: '' is not of the form https://host or https://host:port.",
        ),
        (
            "https://s3.example.com/bucket",
            "object_store_endpoint: 'https://s3.example.com/bucket' holds more than "
            "https://host:port; leave out bucket, path and credentials.",
        ),
        (
            "https://s3.example.com:high",
            "object_store_endpoint: 'https://s3.example.com:high' has no valid port.",
        ),
    ],
)
def test_other_urls_are_refused(url: str, sentence: str) -> None:
    with pytest.raises(EndpointError) as refusal:
        locate(url)
    assert str(refusal.value) == sentence


@pytest.mark.parametrize(
    ("headers", "vendor", "asked"),
    [
        ({"x-amz-request-id": "tx00000a1b2c3d4e5f60718-0065a1b2c3-1037-default"}, "ceph", True),
        ({"server": "AmazonS3", "x-amz-request-id": "Z6XW7R0B0J1K"}, "aws", True),
        ({"server": "MinIO"}, "unknown", False),
        ({}, "unknown", False),
    ],
)
def test_only_endpoints_that_are_known_to_refuse_get_a_malformed_request(
    headers: dict[str, str], vendor: str, asked: bool
) -> None:
    assert vendor_of(headers) == vendor
    assert refuses_malformed_creation(vendor) is asked


@pytest.mark.parametrize(
    ("refusal", "check", "found"),
    [
        (
            Refusal("InvalidAccessKeyId"),
            "credentials",
            "the endpoint does not know the access key of account pipeline (InvalidAccessKeyId)",
        ),
        (
            Refusal("SignatureDoesNotMatch"),
            "credentials",
            "the secret key of account pipeline does not belong to its access key "
            "(SignatureDoesNotMatch)",
        ),
        (
            Refusal("AuthorizationHeaderMalformed", "expecting 'eu-central-1'"),
            "region",
            "the endpoint does not accept region us-east-1 "
            "(AuthorizationHeaderMalformed: expecting 'eu-central-1')",
        ),
        (
            Refusal("RequestTimeTooSkewed"),
            "clock",
            "the endpoint refuses requests of this controller for their time "
            "(RequestTimeTooSkewed)",
        ),
    ],
)
def test_what_is_wrong_with_an_account(refusal: Refusal, check: str, found: str) -> None:
    finding = judge_account(S3, ACCOUNT, "us-east-1", refusal)
    assert finding is not None
    assert (finding.id, finding.severity, finding.found) == (
        f"object_store.{check}",
        "fail",
        found,
    )
    assert finding.remedy


@pytest.mark.parametrize("refusal", [None, DENIED, Refusal("NoSuchBucket")])
def test_what_is_not_about_the_account(refusal: Refusal | None) -> None:
    assert judge_account(S3, ACCOUNT, "us-east-1", refusal) is None


def test_a_bucket_where_everything_works() -> None:
    finding = judge_bucket(S3, seen())[0]
    assert finding.severity == "pass"
    assert finding.found == "account pipeline can do all of this in bucket data"


@pytest.mark.parametrize(
    ("outcomes", "found"),
    [
        (
            {**WORKS, "put": DENIED, "multipart": DENIED},
            "account pipeline may not put objects or upload an object in parts in bucket data "
            "(AccessDenied)",
        ),
        (
            {**WORKS, "delete": DENIED},
            "account pipeline may not delete objects in bucket data (AccessDenied)",
        ),
        (
            {**WORKS, "multipart": Refusal("413", "Request Entity Too Large")},
            "a part of 5 MiB is too large for bucket data (413: Request Entity Too Large)",
        ),
        (
            {**WORKS, "put": Refusal("QuotaExceeded")},
            "account pipeline cannot put objects in bucket data (QuotaExceeded)",
        ),
    ],
)
def test_what_an_account_cannot_do(outcomes: dict[str, Refusal | None], found: str) -> None:
    finding = judge_bucket(S3, seen(outcomes=outcomes))[0]
    assert (finding.id, finding.severity, finding.found) == ("object_store.objects", "fail", found)
    assert finding.wanted == (
        "list, put, get, range get, multipart upload and delete in bucket data for account pipeline"
    )


def test_altered_content_is_a_failure() -> None:
    finding = judge_bucket(S3, seen(wrong_content=("range get",)))[0]
    assert finding.found == "bucket data returned other bytes than were stored (range get)"


def test_a_bucket_that_locks_objects_is_not_written_to() -> None:
    finding = judge_bucket(S3, seen(retention="compliance for 30 days"))[0]
    assert finding.found == (
        "bucket data locks new objects (compliance for 30 days), so nothing can be deleted"
    )


def test_what_could_not_be_removed_is_told() -> None:
    findings = judge_bucket(S3, seen(left_behind=(".mlops-probe/1",)))
    assert [(f.id, f.severity) for f in findings] == [
        ("object_store.objects", "pass"),
        ("object_store.leftovers", "warn"),
    ]
    assert findings[1].remedy == "delete .mlops-probe/1 from bucket data"


@pytest.mark.parametrize(
    ("creation", "tried", "severity", "found"),
    [
        (
            Refusal("MalformedXML"),
            True,
            "pass",
            "there is no bucket data yet, and account pipeline may create it",
        ),
        (
            DENIED,
            True,
            "fail",
            "there is no bucket data, and account pipeline may not create it (AccessDenied)",
        ),
        (
            Refusal("TooManyBuckets"),
            True,
            "fail",
            "there is no bucket data, and account pipeline already has all buckets it may have",
        ),
        (
            None,
            False,
            "warn",
            "there is no bucket data, and whether account pipeline may create it cannot be told "
            "without creating it",
        ),
        (
            Refusal("503", "Slow Down"),
            True,
            "warn",
            "there is no bucket data, and whether account pipeline may create it is unclear "
            "(503: Slow Down)",
        ),
        (
            None,
            True,
            "warn",
            "bucket data was created by a request that should have been refused, and was "
            "removed at once",
        ),
    ],
)
def test_a_missing_bucket(creation: Refusal | None, tried: bool, severity: str, found: str) -> None:
    missing = seen(
        outcomes={"list": Refusal("NoSuchBucket")}, creation=creation, creation_was_tried=tried
    )
    findings = judge_bucket(S3, missing)
    assert [(f.id, f.severity, f.found) for f in findings] == [
        ("object_store.bucket", severity, found)
    ]


@pytest.mark.parametrize(
    ("refusal", "word"),
    [
        (None, "enabled"),
        (Refusal("NoSuchLifecycleConfiguration"), "none"),
        (Refusal("NotImplemented"), "unsupported"),
        (DENIED, "forbidden"),
        (Refusal("500"), "unknown (500)"),
    ],
)
def test_capabilities_are_told_in_words(refusal: Refusal | None, word: str) -> None:
    assert capability(refusal, "enabled") == word


def test_a_capability_that_is_lacking_is_a_warning() -> None:
    findings = judge_bucket(S3, seen(capabilities={"versioning": "unsupported"}))
    assert (findings[1].severity, findings[1].remedy) == (
        "warn",
        "nothing to do: what needs versioning is left out",
    )


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(ACCOUNT)


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("mlops-models", True),
        ("a.b-c.9", True),
        ("abc", True),
        ("a" * 63, True),
        ("a" * 64, False),
        ("ab", False),
        ("Bad_Bucket", False),
        ("bad_bucket", False),
        ("a..b", False),
        ("a.-b", False),
        ("-ab", False),
        ("ab-", False),
        ("192.168.0.1", False),
        ("", False),
        ("ümlaut", False),
        ("a\n", False),
    ],
)
def test_names_of_buckets_are_checked(name: str, good: bool) -> None:
    assert is_bucket_name(name) is good


@pytest.mark.parametrize(
    ("refusal", "found"),
    [
        (Refusal("404", "HTTP 404, text/html", source=FOREIGN), "an answer that is not S3's"),
        (Refusal("AccessDenied", source=FOREIGN), "an answer that is not S3's"),
        (Refusal("ReadTimeoutError", source=SILENT), "no answer to a request"),
        (Refusal("SSLError", source=SILENT), "no answer to a request"),
    ],
)
def test_only_s3_can_accept_keys(refusal: Refusal, found: str) -> None:
    finding = judge_answer(S3, refusal)
    assert finding is not None
    assert (finding.id, finding.severity) == ("object_store.answer", "fail")
    assert finding.found.startswith(found)
    assert judge_account(S3, ACCOUNT, "us-east-1", refusal) is None


@pytest.mark.parametrize(
    "refusal", [None, DENIED, Refusal("NoSuchBucket"), Refusal("UserSuspended")]
)
def test_s3_s_own_word_is_an_answer(refusal: Refusal | None) -> None:
    assert judge_answer(S3, refusal) is None


@pytest.mark.parametrize(
    ("refusal", "remedy"),
    [
        (Refusal("QuotaExceeded"), "raise the quota of account pipeline"),
        (Refusal("XMinioStorageFull"), "raise the quota of account pipeline"),
        (Refusal("InvalidRange"), "update the endpoint"),
        (Refusal("TooManyBuckets"), "raise the number of buckets"),
        (Refusal("502", source=FOREIGN), "look at the proxy"),
        (Refusal(EXPIRED, source=SILENT), "raise object_store_probe_seconds"),
    ],
)
def test_a_refusal_has_a_remedy_of_its_own(refusal: Refusal, remedy: str) -> None:
    finding = judge_bucket(S3, seen(outcomes={**WORKS, "put": refusal}))[0]
    assert remedy in finding.remedy


def test_a_name_by_which_no_bucket_can_be_created_is_told() -> None:
    missing = BucketSeen("pipeline", "Bad_Bucket", {"list": Refusal("NoSuchBucket")})
    finding = judge_bucket(S3, missing)[0]
    assert finding.severity == "fail"
    assert "object_store_bucket_prefix" in finding.remedy


def test_a_page_that_is_not_found_is_no_missing_bucket() -> None:
    assert seen(outcomes={"list": Refusal("404", source=FOREIGN)}).missing is False

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at an S3 endpoint through the accounts that will use it, over clients that are handed in.

In a bucket that exists two objects are written for a moment; whatever fails, what was written is
taken away again with all its versions.
"""

from __future__ import annotations

import datetime
import os
import time
import uuid
from collections.abc import Iterable
from typing import Any, Callable, Protocol

from ..._findings.finding import Finding
from ..contract import Contract
from ..endpoint import judge_clock
from .judge import (
    Account,
    BucketSeen,
    Refusal,
    capability,
    judge_account,
    judge_bucket,
    refuses_malformed_creation,
    vendor_of,
)

SMALL = b"mlops.onprem probe: this object may be deleted at any time\n"
PART = 5 * 1024 * 1024
STALE = datetime.timedelta(minutes=10)
NOTHING: dict[str, Any] = {"vendor": "", "buckets": []}


class Client(Protocol):
    """One account's requests, with what the last answer told of the endpoint."""

    account: Account
    headers: dict[str, str]
    skew: float | None

    def call(self, operation: str, **arguments: Any) -> tuple[Any, Refusal | None]:
        """The answer of one request, or why there is none."""

    def create_with_malformed_body(self, bucket: str) -> Refusal | None:
        """Ask for a bucket in a way that is refused, also by an endpoint that would grant it."""


def look(
    contract: Contract,
    accounts: Iterable[Account],
    region: str,
    prefix: str,
    client_of: Callable[[Account], Client],
) -> tuple[list[Finding], dict[str, Any]]:
    """Findings about every account and its buckets, and what is known of the endpoint."""
    findings: list[Finding] = []
    buckets: list[dict[str, Any]] = []
    vendor, skew = "", None
    for account in accounts:
        client = client_of(account)
        more, seen = look_through(contract, client, region, prefix)
        findings += [finding for finding in more if finding not in findings]
        buckets += seen
        vendor = vendor_of(client.headers) if client.headers else vendor
        skew = client.skew if client.skew is not None else skew
    if skew is not None and not any(finding.id.endswith(".clock") for finding in findings):
        findings.append(judge_clock(contract, skew, 60, 840))
    return findings, {"vendor": vendor, "buckets": buckets}


def look_through(
    contract: Contract, client: Client, region: str, prefix: str
) -> tuple[list[Finding], list[dict[str, Any]]]:
    """Findings of one account; they end with the first that speaks of the account itself."""
    account = client.account
    findings: list[Finding] = []
    buckets: list[dict[str, Any]] = []
    if not account.buckets:
        refusal = client.call("list_buckets")[1]
        about = judge_account(contract, account, region, refusal)
        if about:
            return [about], []
    for bucket in account.buckets:
        begin = time.monotonic()
        seen = look_at_bucket(client, bucket, prefix)
        about = judge_account(contract, account, region, seen.first_refusal)
        if about:
            return [*findings, about], buckets
        findings += judge_bucket(contract, seen)
        buckets.append(
            {
                "name": bucket,
                "account": account.name,
                "exists": not seen.missing,
                "capabilities": seen.capabilities,
                "seconds": round(time.monotonic() - begin, 2),
            }
        )
    text = f"keys that the endpoint accepts for account {account.name}"
    found = f"the keys of account {account.name} accepted"
    return [contract.passed("credentials", found, text), *findings], buckets


def look_at_bucket(client: Client, bucket: str, prefix: str) -> BucketSeen:
    """Try everything that the account has to be able to do, if the bucket is there."""
    name = client.account.name
    answer, refusal = client.call("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=100)
    seen = BucketSeen(name, bucket, {"list": refusal})
    if refusal and seen.missing:
        return look_at_missing(client, seen, refusal)
    if refusal and judge_account(Contract("x", "x", ("x",)), client.account, "", refusal):
        return seen
    retention = retention_of(client, bucket)
    if retention:
        return BucketSeen(name, bucket, {"list": refusal}, retention=retention)
    for old in (answer or {}).get("Contents", []):
        if datetime.datetime.now(datetime.timezone.utc) - old["LastModified"] > STALE:
            remove(client, bucket, old["Key"])
    outcomes: dict[str, Refusal | None] = {"list": refusal}
    wrong: list[str] = []
    left: list[str] = []
    key = f"{prefix}{uuid.uuid4()}"
    try:
        try_objects(client, bucket, key, outcomes, wrong)
    finally:
        left = clean_up(client, bucket, key, outcomes)
    return BucketSeen(
        name,
        bucket,
        outcomes,
        tuple(wrong),
        tuple(left),
        capabilities=capabilities(client, bucket),
    )


def look_at_missing(client: Client, seen: BucketSeen, refusal: Refusal) -> BucketSeen:
    """Ask whether the account may create the bucket, where asking is known to create nothing."""
    if not refuses_malformed_creation(vendor_of(client.headers)):
        return seen
    creation = client.create_with_malformed_body(seen.bucket)
    if creation is None:
        client.call("delete_bucket", Bucket=seen.bucket)
    return BucketSeen(
        seen.account, seen.bucket, {"list": refusal}, creation=creation, creation_was_tried=True
    )


def retention_of(client: Client, bucket: str) -> str:
    """How long the bucket locks each new object, in words; empty if it does not."""
    locked = client.call("get_object_lock_configuration", Bucket=bucket)[0] or {}
    retention = (
        locked.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention", {})
    )
    if not retention:
        return ""
    span = next(f"{retention[u]} {u.lower()}" for u in ("Days", "Years") if u in retention)
    return f"{retention.get('Mode', 'retention').lower()} for {span}"


def clean_up(
    client: Client, bucket: str, key: str, outcomes: dict[str, Refusal | None]
) -> list[str]:
    """Remove what was written or may have been; return what stays, and note how deleting went."""
    put = [
        written
        for written, step in ((key, "put"), (f"{key}.parts", "multipart"))
        if step in outcomes and (outcomes[step] is None or _may_have_arrived(outcomes[step]))
    ]
    left = []
    for written in put:
        outcomes["delete"], kept = remove(client, bucket, written)
        if outcomes["delete"] or kept:
            left.append(written)
    return left


def _may_have_arrived(refusal: Refusal | None) -> bool:
    """No answer is no proof that nothing was written."""
    return bool(refusal and refusal.code.endswith(("TimeoutError", "ClosedError", "Error")))


def try_objects(
    client: Client,
    bucket: str,
    key: str,
    outcomes: dict[str, Refusal | None],
    wrong: list[str],
) -> None:
    outcomes["put"] = client.call("put_object", Bucket=bucket, Key=key, Body=SMALL)[1]
    if outcomes["put"] is None:
        answer, outcomes["get"] = client.call("get_object", Bucket=bucket, Key=key)
        if answer and answer["Body"] != SMALL:
            wrong.append("get")
        answer, outcomes["range"] = client.call(
            "get_object", Bucket=bucket, Key=key, Range="bytes=6-11"
        )
        if answer and answer["Body"] != SMALL[6:12]:
            wrong.append("range get")
    outcomes["multipart"] = upload_in_parts(client, bucket, f"{key}.parts", wrong)


def upload_in_parts(client: Client, bucket: str, key: str, wrong: list[str]) -> Refusal | None:
    place: dict[str, Any] = {"Bucket": bucket, "Key": key}
    begun, refusal = client.call("create_multipart_upload", **place)
    if refusal:
        return refusal
    place["UploadId"] = begun["UploadId"]
    first = os.urandom(1024) * (PART // 1024)
    parts = []
    for number, body in enumerate((first, SMALL), start=1):
        part, refusal = client.call("upload_part", PartNumber=number, Body=body, **place)
        if refusal:
            break
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    if not refusal:
        refusal = client.call(
            "complete_multipart_upload", MultipartUpload={"Parts": parts}, **place
        )[1]
    if refusal:
        client.call("abort_multipart_upload", **place)
        return refusal
    answer = client.call(
        "get_object", Bucket=bucket, Key=key, Range=f"bytes={PART - 4}-{PART + 4}"
    )[0]
    if answer and answer["Body"] != first[-4:] + SMALL[:5]:
        wrong.append("multipart upload")
    return None


def remove(client: Client, bucket: str, key: str) -> tuple[Refusal | None, Refusal | None]:
    """Delete an object with all its versions, so that a versioned bucket keeps nothing of it."""
    refusal = client.call("delete_object", Bucket=bucket, Key=key)[1]
    if refusal:
        return refusal, None
    kept = None
    answer = client.call("list_object_versions", Bucket=bucket, Prefix=key)[0] or {}
    for kind in ("Versions", "DeleteMarkers"):
        for version in answer.get(kind, []):
            if version["Key"] == key:
                kept = (
                    kept
                    or client.call(
                        "delete_object", Bucket=bucket, Key=key, VersionId=version["VersionId"]
                    )[1]
                )
    return None, kept


def capabilities(client: Client, bucket: str) -> dict[str, str]:
    def ask(operation: str, word: Callable[[Any], str]) -> str:
        answer, refusal = client.call(operation, Bucket=bucket)
        return capability(refusal, word(answer) if answer else "")

    return {
        "versioning": ask(
            "get_bucket_versioning", lambda answer: str(answer.get("Status", "off")).lower()
        ),
        "lifecycle": ask(
            "get_bucket_lifecycle_configuration",
            lambda answer: f"with {len(answer.get('Rules', []))} rules",
        ),
        "tagging": ask("get_bucket_tagging", lambda _answer: "in use"),
    }

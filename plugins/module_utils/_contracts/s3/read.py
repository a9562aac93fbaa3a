# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at an S3 endpoint through the accounts that will use it, over clients that are handed in.

In a bucket that exists two objects are written for a moment; whatever fails, what was written is
taken away again with all its versions.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Callable, Protocol

from ..._findings.finding import Finding
from ..contract import Contract
from ..endpoint import judge_clock
from .judge import (
    SILENT,
    UNSUPPORTED,
    Account,
    BucketSeen,
    Refusal,
    capability,
    judge_account,
    judge_answer,
    judge_bucket,
    judge_foreign,
    refuses_malformed_creation,
    vendor_of,
)
from .owner import read_owner

SMALL = b"mlops.onprem probe: this object may be deleted at any time\n"
PART = 5 * 1024 * 1024
_NO_LOCK = ("ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration", "404")
_NOT_TRIED = Refusal("not tried")
_BEGUN = Refusal("Interrupted", source=SILENT)
STALE = datetime.timedelta(minutes=10)
NOTHING: dict[str, Any] = {"vendor": "", "buckets": []}


class Client(Protocol):
    """One account's requests, with what the last answer told of the endpoint."""

    account: Account
    headers: dict[str, str]
    skew: float | None
    silent: Refusal | None

    def call(self, operation: str, **arguments: Any) -> tuple[Any, Refusal | None]:
        """The answer of one request, or why there is none."""

    def cleaning(self) -> contextlib.AbstractContextManager[None]:
        """Ask once more although nobody answered."""

    def create_with_malformed_body(self, bucket: str) -> Refusal | None:
        """Ask for a bucket in a way that is refused, also by an endpoint that would grant it."""


def look(
    contract: Contract,
    accounts: Iterable[Account],
    region: str,
    prefix: str,
    client_of: Callable[[Account], Client],
    site_id: str = "",
) -> tuple[list[Finding], dict[str, Any]]:
    """Findings about every account and its buckets, and what is known of the endpoint."""
    findings: list[Finding] = []
    buckets: list[dict[str, Any]] = []
    vendor, skew = "", None
    for account in accounts:
        client = client_of(account)
        more, seen = look_through(contract, client, region, prefix, site_id)
        findings += [finding for finding in more if finding not in findings]
        buckets += seen
        vendor = vendor_of(client.headers) if client.headers else vendor
        skew = client.skew if client.skew is not None else skew
        if client.silent:
            break
    if skew is not None and not any(finding.id.endswith(".clock") for finding in findings):
        findings.append(judge_clock(contract, skew, 60, 840))
    return findings, {"vendor": vendor, "buckets": buckets}


def look_through(
    contract: Contract, client: Client, region: str, prefix: str, site_id: str = ""
) -> tuple[list[Finding], list[dict[str, Any]]]:
    """Findings of one account; they end with the first that speaks of the account itself."""
    account = client.account
    findings: list[Finding] = []
    buckets: list[dict[str, Any]] = []
    if not account.buckets:
        refusal = client.call("list_buckets")[1]
        about = judge_answer(contract, refusal) or judge_account(contract, account, region, refusal)
        if about:
            return [about], []
    for bucket in account.buckets:
        begin = time.monotonic()
        owner = read_owner(client, bucket).site if site_id else ""
        foreign = judge_foreign(contract, bucket, owner, site_id)
        if foreign:
            findings.append(foreign)
            continue
        seen = look_at_bucket(client, bucket, prefix)
        about = judge_answer(contract, seen.outcomes["list"]) or judge_account(
            contract, account, region, seen.first_refusal
        )
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
    refusal = client.call("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=100)[1]
    seen = BucketSeen(name, bucket, {"list": refusal})
    if refusal and seen.missing:
        return look_at_missing(client, seen, refusal)
    nobody = Contract("x", "x", ("x",))
    if judge_answer(nobody, refusal) or judge_account(nobody, client.account, "", refusal):
        return seen
    keeps = what_keeps(client, bucket, prefix)
    if client.silent:
        return BucketSeen(name, bucket, {"list": client.silent})
    if keeps.retention:
        return BucketSeen(name, bucket, {"list": refusal}, retention=keeps.retention)
    if keeps.unknown:
        known = capabilities(client, bucket)
        return BucketSeen(
            name, bucket, {"list": refusal}, not_written=keeps.unknown, capabilities=known
        )
    sweep(client, bucket, prefix, keeps.versions)
    return write(client, bucket, prefix, refusal, keeps.versions)


def write(
    client: Client, bucket: str, prefix: str, listed: Refusal | None, versions: bool
) -> BucketSeen:
    """Write two objects, read them, and take them away again, whatever fails."""
    trial = Trial(client, bucket, f"{prefix}{uuid.uuid4()}", {"list": listed})
    try:
        trial.run()
    finally:
        with client.cleaning():
            trial.clean_up(versions)
    known = {} if client.silent else capabilities(client, bucket)
    if trial.many is not _NOT_TRIED and known:
        known["deletion of many"] = f"one by one ({trial.many.code})" if trial.many else "supported"
    return BucketSeen(
        client.account.name,
        bucket,
        trial.outcomes,
        tuple(trial.wrong),
        tuple(trial.left),
        capabilities=known,
    )


@dataclass(frozen=True)
class Keeps:
    """What a bucket does with objects that are deleted."""

    retention: str = ""
    unknown: str = ""
    versions: bool = False


def what_keeps(client: Client, bucket: str, prefix: str) -> Keeps:
    """Look, before anything is written, whether all of it can be taken away again.

    Not being allowed to look is not the same as nothing being there.
    """
    answer, unseen = client.call("get_bucket_versioning", Bucket=bucket)
    if unseen and not hidden(unseen):
        answer = {}
    # A lock needs versioning, so a bucket that never had it locks nothing.
    if answer is not None and not answer.get("Status"):
        return Keeps(retention_of(client, bucket)[0])
    retention, unseen_lock = retention_of(client, bucket)
    if retention:
        return Keeps(retention)
    account = client.account.name
    if unseen_lock and hidden(unseen_lock):
        return Keeps(unknown=_may_not_see(account, "whether it locks objects", unseen_lock))
    refused = client.call("list_object_versions", Bucket=bucket, Prefix=prefix, MaxKeys=100)[1]
    if refused and (hidden(refused) or answer is not None):
        return Keeps(unknown=_may_not_see(account, "its versions", refused))
    return Keeps(versions=refused is None)


def _may_not_see(account: str, what: str, refusal: Refusal) -> str:
    return f"account {account} cannot see {what} ({refusal.code}), and what is written might stay"


def hidden(refusal: Refusal) -> bool:
    """Whether there may be something that a refusal hides. What S3 does not know is not there."""
    return not refusal.is_one_of((*UNSUPPORTED, *_NO_LOCK))


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


def retention_of(client: Client, bucket: str) -> tuple[str, Refusal | None]:
    """How long the bucket locks each new object, in words; empty if it does not."""
    locked, refusal = client.call("get_object_lock_configuration", Bucket=bucket)
    if refusal:
        return "", refusal
    retention = (
        locked.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention", {})
    )
    if not retention:
        return "", None
    span = next(
        (f"{retention[u]} {u.lower()}" for u in ("Days", "Years") if u in retention), "some time"
    )
    return f"{retention.get('Mode', 'retention').lower()} for {span}", None


def sweep(client: Client, bucket: str, prefix: str, versions: bool) -> None:
    """Take away what an earlier probe left that was killed: objects, versions, parts."""
    latest = datetime.datetime.now(datetime.timezone.utc) - STALE
    place = {"Bucket": bucket, "Prefix": prefix}
    answer = client.call("list_objects_v2", MaxKeys=100, **place)[0] or {}
    for row in answer.get("Contents", []):
        if row["LastModified"] < latest:
            client.call("delete_object", Bucket=bucket, Key=row["Key"])
    answer = client.call("list_multipart_uploads", **place)[0] or {}
    for row in answer.get("Uploads", []):
        if row["Initiated"] < latest and row["Key"].startswith(prefix):
            upload = {"Key": row["Key"], "UploadId": row["UploadId"]}
            client.call("abort_multipart_upload", Bucket=bucket, **upload)
    answer = (client.call("list_object_versions", **place)[0] or {}) if versions else {}
    for row in _versions(answer):
        if row["LastModified"] < latest:
            version = {"Key": row["Key"], "VersionId": row["VersionId"]}
            client.call("delete_object", Bucket=bucket, **version)


def _versions(answer: Any) -> list[Any]:
    return [*answer.get("Versions", []), *answer.get("DeleteMarkers", [])]


@dataclass
class Trial:
    """Two objects that exist for a moment: one put at once, one uploaded in parts."""

    client: Client
    bucket: str
    key: str
    outcomes: dict[str, Refusal | None]
    wrong: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    many: Refusal | None = _NOT_TRIED
    upload: str = ""

    def run(self) -> None:
        """Write and read; what goes wrong is noted."""
        self._put()
        self._upload()
        if not any(self.outcomes.values()):
            self.many = self._delete_many()

    def clean_up(self, versions: bool) -> None:
        """Remove what was written or may have been; note what stays, and how deleting went."""
        self._abort()
        for key, step in ((self.key, "put"), (self._parts, "multipart")):
            refused = self.outcomes.get(step, _NOT_TRIED)
            if refused and not refused.may_have_worked:
                continue
            refusal, kept = remove(self.client, self.bucket, key, versions)
            self.outcomes["delete"] = self.outcomes.get("delete") or refusal
            if refusal or kept:
                self.left.append(key)

    @property
    def _parts(self) -> str:
        return f"{self.key}.parts"

    def _ask(self, operation: str, **arguments: Any) -> tuple[Any, Refusal | None]:
        return self.client.call(operation, Bucket=self.bucket, **arguments)

    def _put(self) -> None:
        self.outcomes["put"] = _BEGUN
        self.outcomes["put"] = self._ask("put_object", Key=self.key, Body=SMALL)[1]
        if self.outcomes["put"]:
            return
        answer, self.outcomes["get"] = self._ask("get_object", Key=self.key)
        if answer and answer["Body"] != SMALL:
            self.wrong.append("get")
        answer, self.outcomes["range"] = self._ask("get_object", Key=self.key, Range="bytes=6-11")
        if answer and answer["Body"] != SMALL[6:12]:
            self.wrong.append("range get")

    def _upload(self) -> None:
        self.outcomes["multipart"] = _BEGUN
        begun, refusal = self._ask("create_multipart_upload", Key=self._parts)
        if refusal is None:
            self.upload = begun["UploadId"]
            refusal = self._send_parts()
        self.outcomes["multipart"] = refusal

    def _send_parts(self) -> Refusal | None:
        place = {"Key": self._parts, "UploadId": self.upload}
        first = os.urandom(1024) * (PART // 1024)
        parts = []
        for number, body in enumerate((first, SMALL), start=1):
            part, refusal = self._ask("upload_part", PartNumber=number, Body=body, **place)
            if refusal:
                return refusal
            parts.append({"PartNumber": number, "ETag": part["ETag"]})
        refusal = self._ask("complete_multipart_upload", MultipartUpload={"Parts": parts}, **place)[
            1
        ]
        if refusal:
            return refusal
        self.upload = ""
        where = f"bytes={PART - 4}-{PART + 4}"
        answer, refusal = self._ask("get_object", Key=self._parts, Range=where)
        if refusal and not self.outcomes.get("range"):
            self.outcomes["range"] = refusal
        if answer and answer["Body"] != first[-4:] + SMALL[:5]:
            self.wrong.append("multipart upload")
        return None

    def _delete_many(self) -> Refusal | None:
        """Delete as MLflow and a removal do, with one request."""
        names = [{"Key": self.key}, {"Key": self._parts}]
        answer, refusal = self._ask("delete_objects", Delete={"Objects": names, "Quiet": True})
        errors = [] if refusal else answer.get("Errors", [])
        if errors:
            return Refusal(str(errors[0].get("Code", "unknown")), str(errors[0].get("Message", "")))
        return refusal

    def _abort(self) -> None:
        """End an upload that was begun, or that may have been."""
        begun = self.outcomes.get("multipart", _NOT_TRIED)
        uploads = [self.upload] if self.upload else []
        if not uploads and begun and begun.may_have_worked:
            answer = self._ask("list_multipart_uploads", Prefix=self._parts)[0] or {}
            uploads = [row["UploadId"] for row in answer.get("Uploads", [])]
        for upload in uploads:
            if self._ask("abort_multipart_upload", Key=self._parts, UploadId=upload)[1]:
                self.left.append(f"the parts of {self._parts}")


def remove(
    client: Client, bucket: str, key: str, versions: bool = False
) -> tuple[Refusal | None, Refusal | None]:
    """Delete an object with all its versions, so that a versioned bucket keeps nothing of it."""
    refusal = client.call("delete_object", Bucket=bucket, Key=key)[1]
    if refusal or not versions:
        return refusal, None
    answer, kept = client.call("list_object_versions", Bucket=bucket, Prefix=key)
    for version in _versions(answer or {}):
        if version["Key"] == key:
            place = {"Key": key, "VersionId": version["VersionId"]}
            kept = client.call("delete_object", Bucket=bucket, **place)[1] or kept
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

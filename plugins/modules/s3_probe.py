#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at an S3 endpoint through the accounts that will be used."""

from __future__ import annotations

DOCUMENTATION = r"""
module: s3_probe
author: The mlops.onprem developers (@mlops-onprem)
version_added: 0.1.0
short_description: What an S3 endpoint offers to the accounts that will be used
description:
  - Connects to an S3 endpoint and reports findings about reachability, TLS, clock, credentials,
    and for each bucket of each account about list, put, get, range get, multipart upload and
    delete, as well as versioning, lifecycle and tagging.
  - In a bucket that exists it writes two objects of its own below O(prefix) and removes them with
    all their versions, also when a step fails. Objects that an earlier, killed probe left there
    more than ten minutes ago are removed as well. Nothing else is touched.
  - It never creates a bucket. Where one is missing, the right to create it is found out by a
    request whose body is no XML. Ceph and AWS check the right first and the body second, and
    refuse it either way. Other endpoints get no such request; then the finding is a warning.
  - A negative result is a finding, never a failure of the module.
options:
  endpoint:
    description: URL of the endpoint, as C(https://host) or C(https://host:port).
    type: str
    required: true
  region:
    description: Region that requests are signed for.
    type: str
    default: us-east-1
  ca_file:
    description:
      - PEM file on the controller with the authority that signed the endpoint's certificate.
      - If empty, the authorities that the controller trusts.
    type: path
    default: ""
  addressing:
    description: Whether a bucket is named in the path of a URL or in its host name.
    type: str
    choices: [path, virtual]
    default: path
  accounts:
    description: Accounts with the buckets that each of them uses.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the account in findings.
        type: str
        required: true
      access_key:
        description: Access key of the account.
        type: str
        required: true
      secret_key:
        description: Secret key of the account.
        type: str
        required: true
      buckets:
        description: Buckets that the account uses.
        type: list
        elements: str
        default: []
  prefix:
    description: Where the probe's own objects are put for a moment.
    type: str
    default: .mlops-probe/
  contract:
    description: First part of the findings' ids and of the variables that they name.
    type: str
    default: object_store
  timeout:
    description: Seconds to wait for a connection and for each answer.
    type: int
    default: 10
  strict:
    description:
      - Fail with the sentences of all findings of severity V(fail), instead of only returning them.
      - In check mode they are only returned, because what is to be looked at may not exist yet.
    type: bool
    default: false
requirements:
  - boto3
attributes:
  check_mode:
    description: Probes as it does otherwise; what it writes, it removes.
    support: full
  diff_mode:
    description: Leaves nothing changed.
    support: none
"""

EXAMPLES = r"""
- name: Look at the company's object store
  mlops.onprem.s3_probe:
    endpoint: https://s3.example.com
    ca_file: /etc/ssl/company-ca.pem
    accounts:
      - name: model_registry
        access_key: "{{ object_store_access_key }}"
        secret_key: "{{ object_store_secret_key }}"
        buckets: [mlops-models]
  delegate_to: localhost
  register: probe
"""

RETURN = r"""
findings:
  description: One entry for each check.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: Name of the check.
      type: str
      sample: object_store.objects
    host:
      description: Address of the endpoint.
      type: str
      sample: s3.example.com:443
    severity:
      description: One of pass, warn and fail.
      type: str
      sample: fail
    found:
      description: What was found.
      type: str
      sample: account pipeline may not put objects in bucket mlops-pipeline (AccessDenied)
    wanted:
      description: What is wanted.
      type: str
      sample: list, put, get, range get, multipart upload and delete in bucket mlops-pipeline
    remedy:
      description: Variable or command that helps, empty if nothing is wrong.
      type: str
      sample: grant it the right, or give pipeline other keys in object_store_accounts
vendor:
  description: V(ceph), V(aws) or V(unknown), empty if no request was answered.
  returned: always
  type: str
  sample: ceph
buckets:
  description: What is known of each bucket.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the bucket.
      type: str
      sample: mlops-models
    account:
      description: Account that it was looked at with.
      type: str
      sample: model_registry
    exists:
      description: Whether it exists.
      type: bool
      sample: true
    capabilities:
      description: Words for versioning, lifecycle and tagging.
      type: dict
      sample: {"versioning": "off", "lifecycle": "none", "tagging": "supported"}
    seconds:
      description: How long the probe of this bucket took.
      type: float
      sample: 0.31
"""

import datetime
import email.utils
import os
import socket
import time
import traceback
import uuid
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.contract import (
    Contract,
    sentences_of_failures,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.endpoint import (
    Endpoint,
    dial,
    judge_certificate,
    judge_clock,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.finding import one_line
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.s3.judge import (
    Account,
    BucketSeen,
    EndpointError,
    Refusal,
    capability,
    judge_account,
    judge_bucket,
    locate,
    refuses_malformed_creation,
    vendor_of,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import Finding

BOTO_ERROR: str | None = None
try:
    import boto3
    import botocore.config
    import botocore.exceptions
except ImportError:
    BOTO_ERROR = traceback.format_exc()

SMALL = b"mlops.onprem probe: this object may be deleted at any time\n"
PART = 5 * 1024 * 1024
STALE = datetime.timedelta(minutes=10)


class Client:
    """One account's requests; every refusal becomes a value."""

    def __init__(self, account: Account, wanted: dict[str, Any]) -> None:
        self.account = account
        self.headers: dict[str, str] = {}
        self.skew: float | None = None
        self.s3 = boto3.client(
            "s3",
            endpoint_url=wanted["endpoint"],
            region_name=wanted["region"],
            aws_access_key_id=account.access_key,
            aws_secret_access_key=account.secret_key,
            verify=wanted["ca_file"] or True,
            config=botocore.config.Config(
                signature_version="s3v4",
                connect_timeout=wanted["timeout"],
                read_timeout=wanted["timeout"],
                retries={"mode": "standard", "total_max_attempts": 2},
                s3={"addressing_style": wanted["addressing"]},
                # Checksums in trailers are not understood by every vendor.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                proxies={},
            ),
        )

    def call(self, operation: str, **arguments: Any) -> tuple[Any, Refusal | None]:
        try:
            answer = getattr(self.s3, operation)(**arguments)
            if "Body" in answer:
                answer["Body"] = answer["Body"].read()
        except botocore.exceptions.ClientError as error:
            told = error.response.get("Error", {})
            self._note(error.response)
            return None, Refusal(
                str(told.get("Code", "unknown")), self._clean(told.get("Message", ""))
            )
        except botocore.exceptions.BotoCoreError as error:
            return None, Refusal(type(error).__name__, self._clean(error))
        self._note(answer)
        return answer, None

    def create_with_malformed_body(self, bucket: str) -> Refusal | None:
        def spoil(params: dict[str, Any], **_more: Any) -> None:
            params["body"] = b"this is no XML"

        event = "before-call.s3.CreateBucket"
        self.s3.meta.events.register(event, spoil)
        try:
            return self.call("create_bucket", Bucket=bucket)[1]
        finally:
            self.s3.meta.events.unregister(event, spoil)

    def _clean(self, text: object) -> str:
        return one_line(text, [self.account.secret_key, self.account.access_key])

    def _note(self, answer: Any) -> None:
        self.headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}) or self.headers
        date = (
            email.utils.parsedate_to_datetime(self.headers["date"])
            if ("date" in self.headers)
            else None
        )
        if date:
            self.skew = date.timestamp() - time.time()


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            endpoint=dict(type="str", required=True),
            region=dict(type="str", default="us-east-1"),
            ca_file=dict(type="path", default=""),
            addressing=dict(type="str", choices=["path", "virtual"], default="path"),
            accounts=dict(
                type="list",
                elements="dict",
                default=[],
                options=dict(
                    name=dict(type="str", required=True),
                    access_key=dict(type="str", required=True, no_log=True),
                    secret_key=dict(type="str", required=True, no_log=True),
                    buckets=dict(type="list", elements="str", default=[]),
                ),
            ),
            prefix=dict(type="str", default=".mlops-probe/"),
            contract=dict(type="str", default="object_store"),
            timeout=dict(type="int", default=10),
            strict=dict(type="bool", default=False),
        ),
        supports_check_mode=True,
    )
    if BOTO_ERROR:
        module.fail_json(msg=missing_required_lib("boto3"), exception=BOTO_ERROR)
    wanted = module.params
    try:
        place = locate(wanted["endpoint"])
    except EndpointError as error:
        module.fail_json(msg=str(error))
    endpoint = Endpoint(place.host, place.port, wanted["ca_file"])
    contract = Contract(wanted["contract"], endpoint.address, ("endpoint",))
    accounts = [
        Account(entry["name"], entry["access_key"], entry["secret_key"], tuple(entry["buckets"]))
        for entry in wanted["accounts"]
    ]

    findings, reachable = look_at_tls(contract, endpoint, wanted["timeout"])
    buckets: list[dict[str, Any]] = []
    vendor, skew = "", None
    for account in accounts if reachable else ():
        client = Client(account, wanted)
        more, seen = look_through(contract, client, account, wanted)
        findings += [finding for finding in more if finding not in findings]
        buckets += seen
        vendor = vendor_of(client.headers) if client.headers else vendor
        skew = client.skew if client.skew is not None else skew
    if skew is not None and not any(f.id.endswith(".clock") for f in findings):
        findings.append(judge_clock(contract, skew, 60, 840))

    failures = sentences_of_failures(findings)
    result = dict(
        changed=False,
        findings=[finding.as_dict() for finding in findings],
        vendor=vendor,
        buckets=buckets,
    )
    if failures and wanted["strict"] and not module.check_mode:
        module.fail_json(msg=" ".join(failures), **result)
    module.exit_json(**result)


def look_at_tls(contract: Contract, endpoint: Endpoint, timeout: int) -> tuple[list[Finding], bool]:
    def connect(to: Endpoint) -> socket.socket:
        return socket.create_connection((to.host, to.port), timeout=timeout)

    dialled = dial(contract, endpoint, connect, postgresql=False)
    if dialled.finding or not dialled.certificate:
        return [dialled.finding] if dialled.finding else [], False
    return [
        contract.passed("reachable", "an open port", f"an open port at {endpoint.address}"),
        judge_certificate(contract, endpoint, dialled.certificate, time.time()),
    ], True


def look_through(
    contract: Contract, client: Client, account: Account, wanted: dict[str, Any]
) -> tuple[list[Finding], list[dict[str, Any]]]:
    """Findings of one account; they end with the first that speaks of the account itself."""
    findings: list[Finding] = []
    buckets: list[dict[str, Any]] = []
    accepted = False
    if not account.buckets:
        refusal = client.call("list_buckets")[1]
        about = judge_account(contract, account, wanted["region"], refusal)
        if about:
            return [about], []
        accepted = True
    for bucket in account.buckets:
        begin = time.monotonic()
        seen = look_at_bucket(client, bucket, wanted["prefix"])
        about = judge_account(contract, account, wanted["region"], seen.first_refusal)
        if about:
            return [*findings, about], buckets
        accepted = True
        findings += judge_bucket(contract, seen)
        buckets.append(
            dict(
                name=bucket,
                account=account.name,
                exists=not seen.missing,
                capabilities=seen.capabilities,
                seconds=round(time.monotonic() - begin, 2),
            )
        )
    if accepted:
        text = f"keys that the endpoint accepts for account {account.name}"
        found = f"the keys of account {account.name} accepted"
        findings.insert(0, contract.passed("credentials", found, text))
    return findings, buckets


def look_at_bucket(client: Client, bucket: str, prefix: str) -> BucketSeen:
    name = client.account.name
    answer, refusal = client.call("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=100)
    seen = BucketSeen(name, bucket, {"list": refusal})
    if refusal and seen.missing:
        if not refuses_malformed_creation(vendor_of(client.headers)):
            return seen
        creation = client.create_with_malformed_body(bucket)
        if creation is None:
            client.call("delete_bucket", Bucket=bucket)
        return BucketSeen(
            name, bucket, {"list": refusal}, creation=creation, creation_was_tried=True
        )
    if refusal and judge_account(Contract("x", "x", ("x",)), client.account, "", refusal):
        return seen
    locked = client.call("get_object_lock_configuration", Bucket=bucket)[0] or {}
    retention = (
        locked.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention", {})
    )
    if retention:
        span = next(f"{retention[u]} {u.lower()}" for u in ("Days", "Years") if u in retention)
        text = f"{retention.get('Mode', 'retention').lower()} for {span}"
        return BucketSeen(name, bucket, {"list": refusal}, retention=text)

    for old in (answer or {}).get("Contents", []):
        if datetime.datetime.now(datetime.timezone.utc) - old["LastModified"] > STALE:
            remove(client, bucket, old["Key"])
    key = f"{prefix}{uuid.uuid4()}"
    outcomes: dict[str, Refusal | None] = {"list": refusal}
    wrong: list[str] = []
    try:
        try_objects(client, bucket, key, outcomes, wrong)
    finally:
        left = []
        deleted: Refusal | None = None
        put = [
            k
            for k, step in ((key, "put"), (f"{key}.parts", "multipart"))
            if outcomes.get(step, Refusal("not tried")) is None
            or _may_have_arrived(outcomes.get(step))
        ]
        for written in put:
            deleted, kept = remove(client, bucket, written)
            if deleted or kept:
                left.append(written)
    if put:
        outcomes["delete"] = deleted
    return BucketSeen(
        name,
        bucket,
        outcomes,
        tuple(wrong),
        tuple(left),
        capabilities=capabilities(client, bucket),
    )


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
    place: dict[str, Any] = dict(Bucket=bucket, Key=key)
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


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The buckets of a site at an S3 endpoint that is not ours."""

from __future__ import annotations

DOCUMENTATION = r"""
module: s3_buckets
author: The mlops.onprem developers (@mlops-onprem)
version_added: 0.1.0
short_description: The buckets of a site at an S3 endpoint that is not ours
description:
  - Creates the buckets that are missing, with the account that will use them, and writes down on
    the controller which ones it made. Or deletes exactly those, with everything in them.
  - A bucket that was there before is used as it is and never deleted.
  - The note is written before a bucket is made, so a run that is killed can be run again.
options:
  endpoint:
    description: URL of the endpoint, as C(https://host) or C(https://host:port).
    type: str
    required: true
  region:
    description: Region that requests are signed for and buckets are made in.
    type: str
    default: us-east-1
  ca_file:
    description:
      - PEM file on the controller with the authority that signed the endpoint's certificate.
      - If empty, the authorities that the controller trusts.
    type: path
    default: ""
  accounts:
    description: Accounts with the buckets that each of them uses.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the account in messages.
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
  record:
    description: File on the controller that says which buckets were made. Keep it with the site.
    type: path
    required: true
  state:
    description:
      - V(present) creates what is missing.
      - V(absent) deletes the buckets that the record names, with all objects and versions.
    type: str
    choices: [present, absent]
    default: present
requirements:
  - boto3
attributes:
  check_mode:
    description: Reports what would change. An endpoint that does not answer is taken as empty.
    support: full
  diff_mode:
    description: Shows the steps in words.
    support: full
"""

EXAMPLES = r"""
- name: Create the missing buckets at the existing endpoint
  mlops.onprem.s3_buckets:
    endpoint: https://s3.example.com
    ca_file: /etc/ssl/company-ca.pem
    accounts:
      - name: model_registry
        access_key: "{{ object_store_access_key }}"
        secret_key: "{{ object_store_secret_key }}"
        buckets: [mlops-models]
    record: "{{ inventory_dir }}/.state/object_store/buckets.json"
  delegate_to: localhost
"""

RETURN = r"""
steps:
  description: What was done, or would be done in check mode.
  returned: success
  type: list
  elements: str
  sample: ["create bucket mlops-models with account model_registry"]
"""

import json
import os
import tempfile
import traceback
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.s3.buckets import (
    BucketError,
    Found,
    Record,
    Step,
    parse_record,
    plan_absent,
    plan_present,
    said,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.s3.judge import (
    Account,
    EndpointError,
    locate,
)

BOTO_ERROR: str | None = None
try:
    import boto3
    import botocore.config
    import botocore.exceptions
except ImportError:
    BOTO_ERROR = traceback.format_exc()


class Endpoint:
    """Requests of each account; a refusal becomes a sentence."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        self.url: str = wanted["endpoint"]
        self.region: str = wanted["region"]
        self.ca_file: str = wanted["ca_file"]

    def client(self, account: Account) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=self.region,
            aws_access_key_id=account.access_key,
            aws_secret_access_key=account.secret_key,
            verify=self.ca_file or True,
            config=botocore.config.Config(
                signature_version="s3v4",
                connect_timeout=10,
                read_timeout=60,
                retries={"mode": "standard", "total_max_attempts": 3},
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                proxies={},
            ),
        )

    def look(self, accounts: list[Account]) -> dict[str, Found]:
        found = {}
        for account in accounts:
            client = self.client(account)
            for bucket in account.buckets:
                try:
                    client.head_bucket(Bucket=bucket)
                    found[bucket] = Found.OURS
                except botocore.exceptions.ClientError as error:
                    code = str(error.response.get("Error", {}).get("Code", ""))
                    if code not in ("404", "NoSuchBucket", "NotFound"):
                        raise BucketError(
                            said(self.url, account, f"look at bucket {bucket}", str(error))
                        ) from None
                    found[bucket] = Found.MISSING
                except botocore.exceptions.BotoCoreError as error:
                    raise BucketError(
                        said(self.url, account, f"look at bucket {bucket}", str(error))
                    ) from None
        return found

    def apply(self, step: Step) -> None:
        try:
            if step.create:
                self.create(step)
            else:
                self.delete(step)
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
            raise BucketError(said(self.url, step.account, step.text, str(error))) from None

    def create(self, step: Step) -> None:
        client = self.client(step.account)
        place = {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
        try:
            client.create_bucket(Bucket=step.bucket)
        except botocore.exceptions.ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code == "BucketAlreadyOwnedByYou":
                return
            # AWS wants the region said for every region but its first; others refuse it.
            if code not in ("IllegalLocationConstraintException", "InvalidLocationConstraint"):
                raise
            client.create_bucket(Bucket=step.bucket, **place)

    def delete(self, step: Step) -> None:
        client = self.client(step.account)
        try:
            self.empty(client, step.bucket)
            client.delete_bucket(Bucket=step.bucket)
        except botocore.exceptions.ClientError as error:
            if error.response.get("Error", {}).get("Code", "") != "NoSuchBucket":
                raise

    def empty(self, client: Any, bucket: str) -> None:
        for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
            for upload in page.get("Uploads", ()):
                client.abort_multipart_upload(
                    Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )
        for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
            rows = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            names = [{"Key": row["Key"], "VersionId": row["VersionId"]} for row in rows]
            if names:
                client.delete_objects(Bucket=bucket, Delete={"Objects": names, "Quiet": True})


def read_record(path: str) -> Record:
    try:
        with open(path, encoding="utf-8") as stream:
            return parse_record(stream.read(), path)
    except FileNotFoundError:
        return {}


def write_record(path: str, record: Record) -> None:
    if not record:
        if os.path.exists(path):
            os.unlink(path)
        return
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    descriptor, fresh = tempfile.mkstemp(dir=folder)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(record, indent=1, sort_keys=True) + "\n")
        stream.flush()
        os.fsync(descriptor)
    os.replace(fresh, path)


def run(module: AnsibleModule) -> tuple[Step, ...]:
    wanted = module.params
    locate(wanted["endpoint"])
    accounts = [
        Account(row["name"], row["access_key"], row["secret_key"], tuple(row["buckets"]))
        for row in wanted["accounts"]
    ]
    endpoint = Endpoint(wanted)
    record = read_record(wanted["record"])
    made = record.get(endpoint.url, [])
    if wanted["state"] == "present":
        try:
            found = endpoint.look(accounts)
        except BucketError:
            if not module.check_mode:
                raise
            found = {}
        steps = plan_present(accounts, found)
    else:
        steps = plan_absent(endpoint.url, accounts, made)
    if module.check_mode:
        return steps
    for step in steps:
        if step.create:
            # First the note: if it is not made after all, there is nothing to delete.
            made = [*made, step.bucket] if step.bucket not in made else made
            write_record(wanted["record"], {**record, endpoint.url: made})
            try:
                endpoint.apply(step)
            except BucketError:
                made = [name for name in made if name != step.bucket]
                rest = {url: names for url, names in record.items() if url != endpoint.url}
                write_record(wanted["record"], {**rest, endpoint.url: made} if made else rest)
                raise
        else:
            endpoint.apply(step)
            made = [name for name in made if name != step.bucket]
            rest = {url: names for url, names in record.items() if url != endpoint.url}
            write_record(wanted["record"], {**rest, endpoint.url: made} if made else rest)
    return steps


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            endpoint=dict(type="str", required=True),
            region=dict(type="str", default="us-east-1"),
            ca_file=dict(type="path", default=""),
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
            record=dict(type="path", required=True),
            state=dict(type="str", choices=["present", "absent"], default="present"),
        ),
        supports_check_mode=True,
    )
    if BOTO_ERROR:
        module.fail_json(msg=missing_required_lib("boto3"), exception=BOTO_ERROR)
    try:
        steps = run(module)
    except (BucketError, EndpointError) as error:
        module.fail_json(msg=str(error))
    texts = [step.text for step in steps]
    endpoint = module.params["endpoint"]
    module.exit_json(
        changed=bool(texts),
        steps=texts,
        diff=dict(
            before_header=endpoint,
            after_header=endpoint,
            before="",
            after="".join(f"{text}\n" for text in texts),
        ),
    )


if __name__ == "__main__":
    main()

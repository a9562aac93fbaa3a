#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""S3 accounts and buckets of a RADOS gateway on this host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ceph_accounts
author: The mlops.onprem developers (@mlops-onprem)
version_added: 0.1.0
short_description: S3 accounts and buckets of a RADOS gateway on this host
description:
  - Creates S3 accounts with given keys, and their buckets, or corrects what differs.
  - Keys travel on standard input and inside signed requests, never in a command line.
  - Accounts and buckets that are not named are left alone.
options:
  config:
    description: Configuration file of the cluster.
    type: path
    required: true
  data_dir:
    description: Directory with C(admin.keyring).
    type: path
    required: true
  endpoint:
    description: Address of the gateway on this host.
    type: str
    default: "http://127.0.0.1:7480"
  region:
    description: Region that requests are signed for.
    type: str
    default: us-east-1
  accounts:
    description: The accounts.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the account.
        type: str
        required: true
      access_key:
        description: Access key, used by no other account.
        type: str
        required: true
      secret_key:
        description: Secret key.
        type: str
        required: true
      buckets:
        description: Buckets that belong to the account.
        type: list
        elements: str
        default: []
      quota_gib:
        description: Most GiB that the account may store; 0 sets no limit.
        type: int
        default: 0
  timeout:
    description: Seconds to wait for the gateway to take up a new key or a new bucket.
    type: int
    default: 60
attributes:
  check_mode:
    description: Reports what would change. A gateway that does not answer is taken as empty.
    support: full
  diff_mode:
    description: Shows the steps in words, without keys.
    support: full
"""

EXAMPLES = r"""
- name: Create the S3 accounts of the platform
  mlops.onprem.ceph_accounts:
    config: /etc/mlops/object_store/ceph.conf
    data_dir: /var/lib/mlops/object_store
    accounts:
      - name: model_registry
        access_key: "{{ model_registry_s3_access_key }}"
        secret_key: "{{ model_registry_s3_secret_key }}"
        buckets: [mlops-models]
"""

RETURN = r"""
steps:
  description: What was done, or would be done in check mode.
  returned: success
  type: list
  elements: str
  sample: ["create account model_registry", "create bucket mlops-models of model_registry"]
"""

import json
import os
import subprocess
import time
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
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
from ansible_collections.mlops.onprem.plugins.module_utils._findings.sentence import diff_in_words

ABSENT = 2
ADMIN_SECONDS = 120


class Gateway:
    """The gateway's two sides: account documents in RADOS, and S3."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.argv = ["radosgw-admin", "--conf", params["config"]]
        self.argv += ["--keyring", os.path.join(params["data_dir"], "admin.keyring")]
        self.host = urlsplit(params["endpoint"]).netloc
        self.region: str = params["region"]
        self.timeout: int = params["timeout"]

    def admin(self, *words: str, data: str = "") -> tuple[int, str]:
        try:
            done = subprocess.run(
                [*self.argv, *words],
                input=data.encode(),
                capture_output=True,
                timeout=ADMIN_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            raise CephError("radosgw-admin is not installed; install radosgw first.") from None
        except subprocess.TimeoutExpired:
            raise CephError(
                f"The cluster did not answer radosgw-admin within {ADMIN_SECONDS} seconds; "
                "look at 'journalctl -u mlops-ceph-mon -u mlops-ceph-osd-*'."
            ) from None
        return done.returncode, done.stdout.decode("utf-8", "replace")

    def account(self, name: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The whole entry of an account and its document."""
        code, text = self.admin("metadata", "get", f"user:{name}")
        if code == ABSENT:
            return None
        if code != 0:
            raise CephError(f"Could not read account {name}: radosgw-admin ended with {code}.")
        entry = json.loads(text)
        return entry, entry["data"]

    def store(self, account: Account, entry: dict[str, Any] | None) -> None:
        data = document(account, entry["data"] if entry else None)
        text = json.dumps({**(entry or {"key": f"user:{account.name}"}), "data": data})
        # What it prints holds the secret key: not shown.
        code, _printed = self.admin("metadata", "put", f"user:{account.name}", data=text)
        if code != 0:
            raise CephError(
                f"Could not write account {account.name}: radosgw-admin ended with {code}."
            )

    def ask(self, account: Account, method: str, path: str) -> tuple[int, bytes]:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        key = Key(account.access_key, account.secret_key, self.region)
        connection = HTTPConnection(self.host, timeout=30)
        try:
            connection.request(
                method, path, headers=headers(key, method, self.host, path, b"", stamp)
            )
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, HTTPException) as error:
            return 0, str(error).encode()
        finally:
            connection.close()

    def insist(self, account: Account, method: str, path: str, doing: str) -> bytes:
        """Ask until the gateway has taken up the key, and the pool of the buckets is ready."""
        give_up = time.monotonic() + self.timeout
        while True:
            status, answer = self.ask(account, method, path)
            if status == 200:
                return answer
            code = error_code(answer)
            if code in ("BucketAlreadyExists", "InvalidBucketName", "TooManyBuckets"):
                raise CephError(f"Could not {doing}: the gateway answered {code}.")
            if time.monotonic() > give_up:
                said = code or (answer.decode("utf-8", "replace") if not status else str(status))
                raise CephError(
                    f"Could not {doing} within {self.timeout} seconds: {said}; "
                    "look at 'journalctl -u mlops-ceph-rgw'."
                )
            time.sleep(0.3)

    def buckets(self, account: Account) -> frozenset[str]:
        doing = f"list the buckets of {account.name}"
        return bucket_names(self.insist(account, "GET", "/", doing))


def run(gateway: Gateway, accounts: tuple[Account, ...], check: bool) -> list[str]:
    texts: list[str] = []
    for account in accounts:
        try:
            held = gateway.account(account.name)
        except CephError:
            if not check:
                raise
            held = None
        entry = held[0] if held else None
        changes = differences(account, held[1] if held else None)
        texts.extend(changes)
        if changes and not check:
            gateway.store(account, entry)
        # In check mode a key that is not yet set cannot list.
        known = frozenset() if check and changes else gateway.buckets(account)
        for bucket in account.buckets:
            if bucket not in known:
                text = f"create bucket {bucket} of {account.name}"
                texts.append(text)
                if not check:
                    gateway.insist(account, "PUT", f"/{bucket}", text)
    return texts


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "path", "required": True},
            "data_dir": {"type": "path", "required": True},
            "endpoint": {"type": "str", "default": "http://127.0.0.1:7480"},
            "region": {"type": "str", "default": "us-east-1"},
            "accounts": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "no_log": False,
                "options": {
                    "name": {"type": "str", "required": True},
                    "access_key": {"type": "str", "required": True, "no_log": True},
                    "secret_key": {"type": "str", "required": True, "no_log": True},
                    "buckets": {"type": "list", "elements": "str", "default": []},
                    "quota_gib": {"type": "int", "default": 0},
                },
            },
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    try:
        accounts = parse_accounts(module.params["accounts"])
        texts = run(Gateway(module.params), accounts, module.check_mode)
    except CephError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(texts),
        steps=texts,
        diff=diff_in_words("S3 accounts", texts),
    )


if __name__ == "__main__":
    main()

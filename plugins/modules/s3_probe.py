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
  addressing:
    description: Whether a bucket is named in the path of a URL or in its host name.
    type: str
    choices: [path, virtual]
    default: path
  prefix:
    description: Where the probe's own objects are put for a moment.
    type: str
    default: .mlops-probe/
  contract:
    description: First part of the findings' ids and of the variables that they name.
    type: str
    default: object_store
  site_id:
    description:
      - Identity of the site. A bucket that bears the mark of another is a finding, and nothing is
        written to it.
    type: str
    default: ""
  timeout:
    description: Seconds to wait for a connection and for each answer.
    type: int
    default: 10
  deadline:
    description:
      - Seconds for the whole probe, of which the last fifth is kept for taking away what was
        written. Nobody who did not answer once is asked again.
    type: int
    default: 30
extends_documentation_fragment: [mlops.onprem.s3_endpoint, mlops.onprem.probe]
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

from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlops.onprem.plugins.module_utils._contracts import probe
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.contract import Contract
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.deadline import Deadline
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.endpoint import Endpoint
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.s3 import client, read
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.s3.judge import (
    Account,
    EndpointError,
    locate,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import Finding


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            **client.OPTIONS,
            addressing={"type": "str", "choices": ["path", "virtual"], "default": "path"},
            prefix={"type": "str", "default": ".mlops-probe/"},
            contract={"type": "str", "default": "object_store"},
            site_id={"type": "str", "default": ""},
            timeout={"type": "int", "default": 10},
            **probe.SPAN,
            **probe.OPTIONS,
        ),
        supports_check_mode=True,
    )
    if client.BOTO_ERROR:
        module.fail_json(msg=missing_required_lib("boto3"), exception=client.BOTO_ERROR)
    wanted = module.params
    try:
        place = locate(wanted["endpoint"])
    except EndpointError as error:
        probe.report(module, [no_endpoint(wanted, str(error))], read.NOTHING)
    deadline = Deadline(wanted["deadline"])
    endpoint = Endpoint(place.host, place.port, wanted["ca_file"])
    contract = Contract(wanted["contract"], endpoint.address, ("endpoint",))

    def client_of(account: Account) -> client.Client:
        return client.Client(
            account,
            client.open_s3(
                wanted["endpoint"],
                wanted["region"],
                account.access_key,
                account.secret_key,
                wanted["ca_file"],
                wanted["addressing"],
                wanted["timeout"],
                attempts=2,
            ),
            deadline,
        )

    probe.run(
        module,
        contract,
        endpoint,
        lambda _certificate: read.look(
            contract,
            client.accounts_of(wanted),
            wanted["region"],
            wanted["prefix"],
            client_of,
            wanted["site_id"],
        ),
        read.NOTHING,
        deadline=deadline,
    )


def no_endpoint(wanted: dict[str, Any], sentence: str) -> Finding:
    """The finding about an address that is none."""
    contract = Contract(wanted["contract"], wanted["endpoint"], ("endpoint",))
    return contract.failed(
        "endpoint",
        sentence.rstrip("."),
        "the URL of an S3 endpoint",
        f"set {contract.name_variable}, or {contract.variable('mode')} to managed",
    )


if __name__ == "__main__":
    main()

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
  record:
    description: File on the controller that says which buckets were made. Keep it with the site.
    type: path
    required: true
  site_id:
    description:
      - Random identity of the site, which marks the buckets that it makes. A bucket that bears
        another mark, or that was made anew by somebody else, is never deleted.
      - If empty, nothing is marked, and only the record tells what was made.
    type: str
    default: ""
  state:
    description:
      - V(present) creates what is missing.
      - V(absent) deletes the buckets that the record names, with all objects and versions.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment: [mlops.onprem.s3_endpoint]
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

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.s3 import client
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.s3.buckets import (
    BucketError,
    Buckets,
    Notes,
    Step,
    plan_absent,
    plan_present,
    work_off,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.s3.judge import (
    Account,
    EndpointError,
    locate,
)


def run(module: AnsibleModule) -> tuple[Step, ...]:
    wanted = module.params
    url = wanted["endpoint"]
    locate(url)
    accounts = client.accounts_of(wanted)

    def client_of(account: Account) -> client.Client:
        keys = account.access_key, account.secret_key
        return client.Client(
            account, client.open_s3(url, wanted["region"], *keys, wanted["ca_file"])
        )

    buckets = Buckets(url, wanted["region"], client_of)
    notes = Notes(wanted["record"])
    made = notes.read().get(url, [])
    if wanted["state"] == "absent":
        steps = plan_absent(url, accounts, made)
    else:
        try:
            found = buckets.look(accounts)
        except BucketError:
            if not module.check_mode:
                raise
            found = {}
        steps = plan_present(accounts, found)
    if not module.check_mode:
        work_off(steps, buckets, notes)
    return steps


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            **client.OPTIONS,
            record={"type": "path", "required": True},
            site_id={"type": "str", "default": ""},
            state={"type": "str", "choices": ["present", "absent"], "default": "present"},
        ),
        supports_check_mode=True,
    )
    if client.BOTO_ERROR:
        module.fail_json(msg=missing_required_lib("boto3"), exception=client.BOTO_ERROR)
    try:
        steps = run(module)
    except (BucketError, EndpointError) as error:
        module.fail_json(msg=str(error))
    texts = [step.text for step in steps]
    endpoint = module.params["endpoint"]
    module.exit_json(
        changed=bool(texts),
        steps=texts,
        diff={
            "before_header": endpoint,
            "after_header": endpoint,
            "before": "",
            "after": "".join(f"{text}\n" for text in texts),
        },
    )


if __name__ == "__main__":
    main()

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
  - A bucket that was there before is used as it is and never deleted. With O(site_id), one that
    another site made is refused.
  - Before a bucket is deleted, it is looked at again. One that was dropped and made anew, or that
    bears another mark or none any more, is left, with a warning.
  - The note is written before a bucket is made, so a run that is killed can be run again.
options:
  addressing:
    description: Whether a bucket is named in the path of a URL or in its host name.
    type: str
    choices: [path, virtual]
    default: path
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
kept:
  description: Buckets that were left, not being proven to be the site's any more, and why.
  returned: success
  type: list
  elements: str
  sample: ["the bucket mlops-models bears no mark of this site any more"]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.deadline import Deadline
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.s3 import client
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.s3.buckets import (
    Buckets,
    Step,
    forgotten,
    plan_absent,
    plan_present,
    still_ours,
    to_mark,
    work_off,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.s3.judge import (
    Account,
    EndpointError,
    locate,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.s3.notes import (
    BucketError,
    Made,
    Notes,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.sentence import diff_in_words

LOOK_SECONDS = 30
"""For the questions before anything is done; how long a full bucket takes, nobody knows."""


def opened(wanted: dict[str, Any], deadline: Deadline | None = None) -> Buckets:
    """The buckets at the endpoint, with one client for each account."""
    clients: dict[Account, client.Client] = {}

    def client_of(account: Account) -> client.Client:
        if account not in clients:
            s3 = client.open_s3(
                wanted["endpoint"],
                wanted["region"],
                account.access_key,
                account.secret_key,
                wanted["ca_file"],
                wanted["addressing"],
                attempts=2 if deadline else client.ATTEMPTS,
            )
            clients[account] = client.Client(account, s3, deadline)
        return clients[account]

    return Buckets(wanted["endpoint"], wanted["region"], client_of, wanted["site_id"])


def run(module: AnsibleModule) -> tuple[tuple[Step, ...], list[str]]:
    """The steps, and why buckets are left that were made once."""
    wanted = module.params
    locate(wanted["endpoint"])
    accounts = client.accounts_of(wanted)
    notes = Notes(wanted["record"])
    made = notes.of(wanted["endpoint"])
    looking = opened(wanted, Deadline(LOOK_SECONDS))
    plan = absent if wanted["state"] == "absent" else present
    try:
        steps, left = plan(looking, accounts, made)
    except BucketError as error:
        if not module.check_mode or not error.unreachable:
            raise
        # What does not answer yet is taken as empty, or as it was noted.
        wants = wanted["state"] == "present"
        left = []
        steps = (
            plan_present(accounts, {}) if wants else plan_absent(wanted["endpoint"], accounts, made)
        )
    if not module.check_mode:
        left += work_off(steps, opened(wanted), notes)
    return steps, left


def present(
    buckets: Buckets, accounts: tuple[Account, ...], made: dict[str, Made]
) -> tuple[tuple[Step, ...], list[str]]:
    """Create what is missing, and mark what is ours and does not say so."""
    found = buckets.look(accounts)
    owners = buckets.owners(accounts, found)
    buckets.refuse_foreign(owners)
    steps = plan_present(accounts, found) + to_mark(buckets, accounts, found, owners, made)
    return steps, []


def absent(
    buckets: Buckets, accounts: tuple[Account, ...], made: dict[str, Made]
) -> tuple[tuple[Step, ...], list[str]]:
    """Delete what was made and still is what was made."""
    ours = {**made, **forgotten(buckets, accounts, made)}
    return still_ours(buckets, plan_absent(buckets.url, accounts, ours), ours)


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            **client.OPTIONS,
            record={"type": "path", "required": True},
            addressing={"type": "str", "choices": ["path", "virtual"], "default": "path"},
            site_id={"type": "str", "default": ""},
            state={"type": "str", "choices": ["present", "absent"], "default": "present"},
        ),
        supports_check_mode=True,
    )
    if client.BOTO_ERROR:
        module.fail_json(msg=missing_required_lib("boto3"), exception=client.BOTO_ERROR)
    try:
        steps, left = run(module)
    except (BucketError, EndpointError) as error:
        module.fail_json(msg=str(error))
    for why in left:
        module.warn(
            f"{module.params['endpoint']}: {why}, so it was left with everything in it; delete it "
            "by hand if nobody needs it."
        )
    texts = [step.text for step in steps]
    endpoint = module.params["endpoint"]
    module.exit_json(
        changed=bool(texts),
        steps=texts,
        kept=left,
        diff=diff_in_words(endpoint, texts),
    )


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The databases and accounts of a site inside a MariaDB or MySQL server."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mysql_databases
author: The mlops.onprem developers (@mlops-onprem)
version_added: 0.3.0
short_description: The databases and accounts of a site inside a MariaDB or MySQL server
description:
  - Creates databases, each with an account that has every right it needs there and none elsewhere,
    that logs in over TLS only; or drops them.
  - The account O(user) needs C(CREATE USER), C(SELECT) on C(mysql.*), and every right with
    C(GRANT OPTION) on these databases. What it lacks is said as the C(GRANT) that gives it.
  - Whatever was not made by this site is never altered. Each database has a table
    C(mlops_onprem) whose comment bears the identity of the site, and whose rows tell what the
    server keeps as the passwords of the accounts; on MariaDB the database itself has that comment
    from its first moment. A run that is killed can be run again.
  - A database into which others have put something, or which others may read, and an account that
    has got rights elsewhere, are not dropped; then nothing is.
  - MariaDB is told passwords hashed, so that its log never sees them, unless a plugin checks new
    passwords there.
options:
  state:
    description:
      - V(present) creates what is missing and corrects what differs.
      - V(absent) drops every database and account that was made by the site.
    type: str
    choices: [present, absent]
    default: present
  contract:
    description: First part of the variables that sentences name.
    type: str
    default: accounting_db
  to_be_installed:
    description:
      - In check mode, take a server that cannot be reached as one that is still to be installed,
        and is empty. For a server that the same play installs.
    type: bool
    default: false
extends_documentation_fragment: [mlops.onprem.database_server, mlops.onprem.mysql_account]
attributes:
  check_mode:
    description: Reports what would change.
    support: full
  diff_mode:
    description: Shows the steps in words, without passwords.
    support: full
"""

EXAMPLES = r"""
- name: Create the database of the accounts
  mlops.onprem.mysql_databases:
    host: sql1.example.com
    ca_file: /etc/ssl/company-ca.pem
    user: mlops_dba
    password: "{{ accounting_db_admin_password }}"
    site: example
    site_id: 7d0c1f5e88a94b21
    databases:
      - name: slurm_acct_db
        owner: slurm
        password: "{{ slurm_password }}"
        connection_limit: 100
        tables: ["*_table"]
  delegate_to: localhost
"""

RETURN = r"""
steps:
  description: What was done, or would be done in check mode.
  returned: success
  type: list
  elements: str
  sample: ["create database slurm_acct_db"]
told:
  description:
    - Sentences, also given as warnings. What has a name of ours, or speaks of this site, and was
      left as it is, and what could not be found out.
  returned: success
  type: list
  elements: str
  sample: ["sql1:3306: database slurm_acct_db is left as it is: it belongs to site other."]
"""

import time

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlops.onprem.plugins.module_utils._contracts import probe
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.contract import Contract
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.endpoint import endpoint_of
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.mysql import client
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.mysql.databases import (
    Databases,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.mysql.greeting import (
    ask_for_tls,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.mysql.judge import (
    wrong_address,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.mysql.login import Login
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.mysql.server import (
    DatabaseError,
    consumers_of,
    site_of,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.sentence import diff_in_words


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            state={"type": "str", "choices": ["present", "absent"], "default": "present"},
            contract={"type": "str", "default": "accounting_db"},
            to_be_installed={"type": "bool", "default": False},
            **client.OPTIONS,
        ),
        supports_check_mode=True,
    )
    if client.PYMYSQL_ERROR:
        module.fail_json(msg=missing_required_lib("PyMySQL"), exception=client.PYMYSQL_ERROR)
    wanted = module.params
    endpoint = endpoint_of(wanted)
    contract = Contract(wanted["contract"], endpoint.address, ("host", "port"))
    wrong = wrong_address(contract, wanted["host"])
    if wrong:
        module.fail_json(msg=wrong.sentence)
    try:
        databases = Databases(
            contract,
            Login(wanted["user"], wanted["password"]),
            site_of(wanted["site"], wanted["site_id"]),
            consumers_of(wanted["databases"]),
            lambda login: client.Session(endpoint, login, wanted["timeout"]),
            time.time,
            lambda: probe.in_the_way(contract, endpoint, wanted["timeout"], ask_for_tls),
            wanted["state"] == "present",
            wanted["to_be_installed"],
        )
        steps = databases.converge(module.check_mode)
    except DatabaseError as error:
        module.fail_json(msg=str(error))
    for warning in databases.warnings:
        module.warn(warning)
    shown = [step.text for step in steps]
    module.exit_json(
        changed=bool(shown),
        steps=shown,
        told=databases.warnings,
        diff=diff_in_words(endpoint.address, shown),
    )


if __name__ == "__main__":
    main()

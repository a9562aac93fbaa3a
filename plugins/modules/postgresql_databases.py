#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The databases and roles of a site inside a PostgreSQL server."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_databases
author: The mlops.onprem developers (@mlops-onprem)
version_added: 0.1.0
short_description: The databases and roles of a site inside a PostgreSQL server
description:
  - Creates the roles and databases of a site in one session, or drops them.
  - An account with C(CREATEDB) and C(CREATEROLE) is enough. On PostgreSQL 16 and newer it lends
    itself the roles that it created while it works on their databases, and gives them back.
  - Whatever was not made by this site is never altered. Roles and databases carry a comment with
    the name of the site; a role gets it in the transaction that creates it, and a database belongs
    to such a role from its first moment. A run that is killed can therefore be run again.
  - Passwords leave the controller as SCRAM verifiers only, so that the server's log never sees
    them. Whether a password holds is found out by logging in with it.
options:
  state:
    description:
      - V(present) creates what is missing and corrects what differs.
      - V(absent) drops every database and role that was made by the site, ending their sessions.
    type: str
    choices: [present, absent]
    default: present
  to_be_installed:
    description:
      - In check mode, take a server that cannot be reached as one that is still to be installed,
        and is empty. For a server that the same play installs.
    type: bool
    default: false
extends_documentation_fragment: [mlops.onprem.database_server, mlops.onprem.postgresql_account]
attributes:
  check_mode:
    description: Reports what would change.
    support: full
  diff_mode:
    description: Shows the steps in words, without passwords.
    support: full
"""

EXAMPLES = r"""
- name: Create the databases of the platform
  mlops.onprem.postgresql_databases:
    host: db1.example.com
    ca_file: /etc/ssl/company-ca.pem
    user: dba_mlops
    password: "{{ metadata_db_admin_password }}"
    site: example
    databases:
      - name: mlflow
        owner: mlflow
        password: "{{ model_registry_db_password }}"
        connection_limit: 20
        extra_databases: [mlflow_auth]
  delegate_to: localhost
"""

RETURN = r"""
steps:
  description: What was done, or would be done in check mode.
  returned: success
  type: list
  elements: str
  sample: ["create role mlflow (at most 20 connections)"]
told:
  description:
    - Sentences, also given as warnings. What speaks of this site and was left as it is, as somebody
      else may have made it, and what could not be found out.
  returned: success
  type: list
  elements: str
  sample: ["db1.example.com:5432: role copy is left as it is: it belongs to site other."]
"""

import os
import time
from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlops.onprem.plugins.module_utils._contracts import probe
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.client_certificate import (
    CRYPTOGRAPHY_ERROR,
    judge_client_certificates,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.contract import (
    Contract,
    sentences_of_failures,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.endpoint import endpoint_of
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql import client
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.databases import (
    Databases,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.greeting import (
    ask_for_tls,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.judge import (
    DatabaseError,
    consumers_of,
    wrong_address,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.login import Login
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.scram import (
    verifier,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.sentence import diff_in_words


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            state={"type": "str", "choices": ["present", "absent"], "default": "present"},
            to_be_installed={"type": "bool", "default": False},
            **client.OPTIONS,
        ),
        supports_check_mode=True,
    )
    if client.PSYCOPG_ERROR:
        module.fail_json(msg=missing_required_lib("psycopg"), exception=client.PSYCOPG_ERROR)
    wanted = module.params
    if wanted["client_certificates"] and CRYPTOGRAPHY_ERROR:
        module.fail_json(msg=missing_required_lib("cryptography"), exception=CRYPTOGRAPHY_ERROR)
    shown = client.certificates_named(wanted)
    endpoint = endpoint_of(wanted, shown)
    contract = Contract("metadata_db", endpoint.address, ("host", "port"))
    wrong = wrong_address(contract, wanted["host"])
    if wrong:
        module.fail_json(msg=wrong.sentence)
    judged = judge_client_certificates(contract, shown, datetime.now(timezone.utc))
    if sentences_of_failures(judged):
        module.fail_json(msg=" ".join(sentences_of_failures(judged)))
    try:
        databases = Databases(
            contract,
            Login(wanted["user"], wanted["password"], wanted["database"]),
            client.site_named(wanted),
            consumers_of(wanted["databases"]),
            lambda login: client.Session(endpoint, login, wanted["timeout"]),
            lambda password: verifier(password, os.urandom(16)),
            time.time,
            lambda: probe.in_the_way(contract, endpoint, wanted["timeout"], ask_for_tls),
            wanted["state"] == "present",
            wanted["to_be_installed"],
            bool(shown),
        )
        steps = databases.converge(module.check_mode)
    except DatabaseError as error:
        module.fail_json(msg=str(error))
    for warning in databases.warnings:
        module.warn(warning)
    done = [step.text for step in steps if not step.quiet]
    module.exit_json(
        changed=bool(done),
        steps=done,
        told=databases.warnings,
        diff=diff_in_words(f"PostgreSQL at {endpoint.address}", done),
    )


if __name__ == "__main__":
    main()

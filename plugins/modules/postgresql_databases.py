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
extends_documentation_fragment: [mlops.onprem.postgresql_account]
attributes:
  check_mode:
    description: Reports what would change. A server that does not answer is taken as empty.
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
"""

import os
import time
import traceback
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.contract import Contract
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.endpoint import Endpoint
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.finding import one_line
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.client import (
    POSTGRESQL_ACCOUNT,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.judge import (
    Account,
    Connections,
    Consumer,
    DatabaseError,
    Login,
    Server,
    Step,
    consumers_of,
    judge_login,
    login_could_not_be_tried,
    password_was_refused,
    plan_absent,
    plan_present,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.read import (
    connection_arguments,
    read_server,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.scram import (
    verifier,
)

PSYCOPG_ERROR: str | None = None
try:
    import psycopg
except ImportError:
    PSYCOPG_ERROR = traceback.format_exc()

# One run at a time on one server; the backend of a killed run ends with its statement.
LOCK = "SELECT pg_advisory_lock(hashtext('mlops.onprem'))"
NOT_THERE_YET = Server(170000, "17", Account("nobody", superuser=True), Connections(0, 0, 0))


class Databases:
    """Reads, plans and applies over one connection."""

    def __init__(self, endpoint: Endpoint, login: Login, wanted: dict[str, Any]) -> None:
        self.endpoint = endpoint
        self.login = login
        self.timeout = wanted["timeout"]
        self.site = wanted["site"]
        self.present = wanted["state"] == "present"
        self.consumers = consumers_of(wanted["databases"])
        self.contract = Contract("metadata_db", endpoint.address, ("host", "port"))
        self.warnings: list[str] = []

    def connect(self, login: Login) -> psycopg.Connection[Any]:
        return psycopg.connect(
            **connection_arguments(self.endpoint, login, self.timeout), autocommit=True
        )

    def steps(self, connection: psycopg.Connection[Any]) -> tuple[Step, ...]:
        server = read_server(
            lambda sql, values: connection.execute(sql, values or None).fetchall(),
            self.consumers,
            time.time,
        )
        return self.plan(server)

    def plan(self, server: Server) -> tuple[Step, ...]:
        if not self.present:
            names = tuple(name for consumer in self.consumers for name in consumer.databases)
            return plan_absent(server, self.site, names)
        return plan_present(
            self.contract,
            server,
            self.consumers,
            self.site,
            self.password_holds,
            lambda password: verifier(password, os.urandom(16)),
        )

    def password_holds(self, consumer: Consumer) -> bool:
        login = Login(consumer.owner, consumer.password, consumer.databases[0])
        try:
            self.connect(login).close()
        except psycopg.Error as error:
            text = str(error)
            if "too many" in text or "pg_hba.conf" in text:
                self.warnings.append(
                    f"{self.endpoint.address}: cannot tell whether the password of "
                    f"{consumer.owner} holds: {one_line(text, [consumer.password])}"
                )
            return login_could_not_be_tried(text)
        return True

    def apply(self, connection: psycopg.Connection[Any], steps: tuple[Step, ...]) -> None:
        for step in steps:
            try:
                if step.atomic:
                    with connection.transaction():
                        for statement in step.statements:
                            connection.execute(statement)
                else:
                    for statement in step.statements:
                        connection.execute(statement)
            except psycopg.Error as error:
                raise DatabaseError(
                    f"{self.endpoint.address}: cannot {step.text}: {said(error)}"
                ) from None


def said(error: psycopg.Error) -> str:
    """The server's words without the statement, which may hold a verifier."""
    parts = [error.diag.message_primary, error.diag.message_detail, error.diag.message_hint]
    return one_line(" ".join(part for part in parts if part)) or type(error).__name__


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            state=dict(type="str", choices=["present", "absent"], default="present"),
            **POSTGRESQL_ACCOUNT,
        ),
        supports_check_mode=True,
    )
    if PSYCOPG_ERROR:
        module.fail_json(msg=missing_required_lib("psycopg"), exception=PSYCOPG_ERROR)
    wanted = module.params
    endpoint = Endpoint(
        wanted["host"], wanted["port"], wanted["ca_file"], wanted["sslmode"] == "verify-full"
    )
    login = Login(wanted["user"], wanted["password"], wanted["database"])
    try:
        databases = Databases(endpoint, login, wanted)
        steps = run(module, databases)
    except DatabaseError as error:
        module.fail_json(msg=str(error))
    for warning in databases.warnings:
        module.warn(warning)
    shown = [step.text for step in steps if not step.quiet]
    module.exit_json(
        changed=bool(shown),
        steps=shown,
        diff=dict(
            before_header=f"PostgreSQL at {endpoint.address}",
            after_header=f"PostgreSQL at {endpoint.address}",
            before="",
            after="".join(f"{text}\n" for text in shown),
        ),
    )


def run(module: AnsibleModule, databases: Databases) -> tuple[Step, ...]:
    try:
        connection = databases.connect(databases.login)
    except psycopg.Error as error:
        if module.check_mode and not password_was_refused(str(error)):
            return databases.plan(NOT_THERE_YET)
        raise DatabaseError(
            judge_login(
                databases.contract,
                databases.login,
                str(error),
                "metadata_db_admin_password",
                "metadata_db_admin_user",
            ).sentence
        ) from None
    with connection:
        try:
            if not module.check_mode:
                connection.execute(LOCK)
                connection.execute(
                    "SELECT set_config('createrole_self_grant', '', false) "
                    "WHERE current_setting('server_version_num')::int >= 160000"
                )
            steps = databases.steps(connection)
        except psycopg.Error as error:
            raise DatabaseError(f"{databases.endpoint.address}: {said(error)}") from None
        if not module.check_mode:
            databases.apply(connection, steps)
    return steps


if __name__ == "__main__":
    main()

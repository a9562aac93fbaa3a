#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at a PostgreSQL server through the account that will be used."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_probe
author: The mlops.onprem developers (@mlops-onprem)
version_added: 0.1.0
short_description: What a PostgreSQL server offers to the account that will be used
description:
  - Connects to a PostgreSQL server and reports findings about reachability, TLS, login, version,
    rights of the account, names that are taken, free connections, encoding and clock.
  - Only reads. A negative result is a finding, never a failure of the module.
  - A step that fails hides the steps that need it, so one cause gives one finding.
options:
  through:
    description:
      - V(account) logs in as O(user) and judges whether O(databases) can be made or kept.
      - V(consumers) logs in as each owner to each of its databases and makes a round trip.
    type: str
    choices: [account, consumers]
    default: account
  contract:
    description: First part of the findings' ids and of the variables that they name.
    type: str
    default: metadata_db
  min_version:
    description: Oldest major version that is accepted.
    type: int
    default: 14
  max_clock_skew:
    description: Seconds that the server's clock may differ from the controller's.
    type: int
    default: 60
  strict:
    description:
      - Fail with the sentences of all findings of severity V(fail), instead of only returning them.
      - In check mode they are only returned, because what is to be looked at may not exist yet.
    type: bool
    default: false
extends_documentation_fragment: [mlops.onprem.postgresql_account, mlops.onprem.read_only]
"""

EXAMPLES = r"""
- name: Look at the company's database server
  mlops.onprem.postgresql_probe:
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
      sample: metadata_db.version
    host:
      description: Address of the server.
      type: str
      sample: db1.example.com:5432
    severity:
      description: One of pass, warn and fail.
      type: str
      sample: fail
    found:
      description: What was found.
      type: str
      sample: PostgreSQL 12.4
    wanted:
      description: What is wanted.
      type: str
      sample: PostgreSQL 14 or newer
    remedy:
      description: Variable or command that helps, empty if nothing is wrong.
      type: str
      sample: "set metadata_db_host to a newer server, or metadata_db_mode: managed"
server:
  description: Facts about the server, empty if it could not be logged in to as O(user).
  returned: always
  type: dict
  contains:
    version:
      description: Version of the server.
      type: str
      sample: "17.6"
    tls:
      description: Version of the TLS protocol.
      type: str
      sample: TLSv1.3
    max_connections:
      description: Connections that the server accepts.
      type: int
      sample: 100
    free_connections:
      description: Connections that are neither reserved nor in use by others.
      type: int
      sample: 85
    encoding:
      description: Encoding of the server's template.
      type: str
      sample: UTF8
    locale:
      description: Collation of the server's template.
      type: str
      sample: C.UTF-8
"""

import socket
import time
import traceback
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.contract import (
    Contract,
    sentences_of_failures,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.endpoint import (
    Certificate,
    Endpoint,
    dial,
    judge_certificate,
    judge_clock,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.finding import one_line
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.client import (
    POSTGRESQL_ACCOUNT,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.judge import (
    Consumer,
    DatabaseError,
    Login,
    Server,
    consumers_of,
    judge,
    judge_login,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.read import (
    connection_arguments,
    read_server,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import Finding

PSYCOPG_ERROR: str | None = None
try:
    import psycopg
except ImportError:
    PSYCOPG_ERROR = traceback.format_exc()

ROUND_TRIP = """
SELECT current_user, has_database_privilege(current_database(), 'CREATE'),
       has_schema_privilege('public', 'CREATE')
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            through=dict(type="str", choices=["account", "consumers"], default="account"),
            contract=dict(type="str", default="metadata_db"),
            min_version=dict(type="int", default=14),
            max_clock_skew=dict(type="int", default=60),
            strict=dict(type="bool", default=False),
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
    contract = Contract(wanted["contract"], endpoint.address, ("host", "port"))
    try:
        consumers = consumers_of(wanted["databases"])
    except DatabaseError as error:
        module.fail_json(msg=str(error))

    if not wanted["host"]:
        contract = Contract(wanted["contract"], "", ("host", "port"))
        missing = contract.failed(
            "settings",
            f"{contract.name_variable} is empty",
            "the name or address of the server",
            f"set {contract.name_variable}, or {contract.variable('mode')}: managed",
        )
        # Without an address it is a finding about the host that asks.
        finding = {key: text for key, text in missing.as_dict().items() if key != "host"}
        module.exit_json(changed=False, findings=[finding], server={})
    findings, certificate = look_at_tls(contract, endpoint, wanted["timeout"])
    server = None
    if certificate and wanted["through"] == "account":
        server, more = look_as_account(contract, endpoint, consumers, wanted)
        findings += more
    elif certificate:
        findings += look_as_consumers(contract, endpoint, consumers, wanted["timeout"])

    failures = sentences_of_failures(findings)
    result = dict(
        changed=False,
        findings=[finding.as_dict() for finding in findings],
        server=facts(server, certificate) if server and certificate else {},
    )
    if failures and wanted["strict"] and not module.check_mode:
        module.fail_json(msg=" ".join(failures), **result)
    module.exit_json(**result)


def look_at_tls(
    contract: Contract, endpoint: Endpoint, timeout: int
) -> tuple[list[Finding], Certificate | None]:
    def connect(to: Endpoint) -> socket.socket:
        return socket.create_connection((to.host, to.port), timeout=timeout)

    dialled = dial(contract, endpoint, connect, postgresql=True)
    if dialled.finding or not dialled.certificate:
        return [dialled.finding] if dialled.finding else [], None
    return [
        contract.passed("reachable", "an open port", f"an open port at {endpoint.address}"),
        judge_certificate(contract, endpoint, dialled.certificate, time.time()),
    ], dialled.certificate


def look_as_account(
    contract: Contract,
    endpoint: Endpoint,
    consumers: tuple[Consumer, ...],
    wanted: dict[str, Any],
) -> tuple[Server | None, list[Finding]]:
    login = Login(wanted["user"], wanted["password"], wanted["database"])
    try:
        with psycopg.connect(
            **connection_arguments(endpoint, login, wanted["timeout"])
        ) as connection:
            connection.read_only = True
            server = read_server(
                lambda sql, values: connection.execute(sql, values or None).fetchall(),
                consumers,
                time.time,
            )
    except psycopg.Error as error:
        return None, [
            judge_login(
                contract,
                login,
                str(error),
                contract.variable("admin_password"),
                contract.variable("admin_user"),
            )
        ]
    return server, [
        contract.passed("login", f"logged in as {login.user}", f"a login as {login.user}"),
        *judge(contract, server, consumers, wanted["site"], wanted["min_version"]),
        judge_clock(
            contract, server.clock_skew, min(5, wanted["max_clock_skew"]), wanted["max_clock_skew"]
        ),
    ]


def look_as_consumers(
    contract: Contract, endpoint: Endpoint, consumers: tuple[Consumer, ...], timeout: int
) -> list[Finding]:
    findings = []
    for consumer in consumers:
        for database in consumer.databases:
            login = Login(consumer.owner, consumer.password, database)
            try:
                with psycopg.connect(
                    **connection_arguments(endpoint, login, timeout)
                ) as connection:
                    connection.read_only = True
                    row = connection.execute(ROUND_TRIP).fetchone()
            except psycopg.Error as error:
                findings.append(
                    judge_login(
                        contract,
                        login,
                        one_line(error, [consumer.password]),
                        "its password in metadata_db_databases",
                        "the owner in metadata_db_databases,",
                    )
                )
                continue
            text = f"a login as {consumer.owner} to database {database} that may create tables"
            if row and row[1] and row[2]:
                findings.append(contract.passed("login", f"logged in as {consumer.owner}", text))
            else:
                findings.append(
                    contract.failed(
                        "login",
                        f"{consumer.owner} may not create tables in {database}",
                        text,
                        f"make {consumer.owner} the owner of {database} again",
                    )
                )
    return findings


def facts(server: Server, certificate: Certificate) -> dict[str, Any]:
    return dict(
        version=server.version,
        tls=certificate.protocol,
        max_connections=server.connections.maximum,
        free_connections=server.connections.free,
        encoding=server.encoding,
        locale=server.locale,
    )


if __name__ == "__main__":
    main()

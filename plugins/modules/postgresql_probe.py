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
extends_documentation_fragment:
  - mlops.onprem.database_server
  - mlops.onprem.postgresql_account
  - mlops.onprem.probe
  - mlops.onprem.read_only
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

import time
from datetime import datetime, timezone
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlops.onprem.plugins.module_utils._contracts import probe
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.client_certificate import (
    CRYPTOGRAPHY_ERROR,
    ClientCertificate,
    judge_client_certificates,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.contract import (
    Contract,
    sentences_of_failures,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.deadline import (
    Deadline,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.endpoint import (
    Certificate,
    endpoint_of,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql import client, read
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.dialogue import ask
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.greeting import (
    ask_for_tls,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.judge import (
    DatabaseError,
    Server,
    consumers_of,
    wrong_address,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.login import (
    Login,
    Refusal,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import Finding

SECONDS = 30
"""For the whole probe, however slowly a server answers."""


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            through={"type": "str", "choices": ["account", "consumers"], "default": "account"},
            contract={"type": "str", "default": "metadata_db"},
            min_version={"type": "int", "default": 14},
            max_clock_skew={"type": "int", "default": 60},
            **probe.OPTIONS,
            **client.OPTIONS,
        ),
        supports_check_mode=True,
    )
    if client.PSYCOPG_ERROR:
        module.fail_json(msg=missing_required_lib("psycopg"), exception=client.PSYCOPG_ERROR)
    wanted = module.params
    shown = client.certificates_named(wanted)
    endpoint = endpoint_of(wanted, shown)
    contract = Contract(wanted["contract"], endpoint.address, ("host", "port"))
    try:
        consumers, site = consumers_of(wanted["databases"]), client.site_named(wanted)
    except DatabaseError as error:
        module.fail_json(msg=str(error))
    judged = settled(module, contract, shown)
    deadline = Deadline(SECONDS)

    def connect(login: Login) -> Any:
        return client.reading(endpoint, login, wanted["timeout"])

    def knock(login: Login) -> Refusal:
        return ask(endpoint, login, wanted["timeout"])

    def look(certificate: Certificate) -> tuple[list[Finding], dict[str, Any]]:
        if wanted["through"] == "consumers":
            return judged + read.look_as_consumers(contract, consumers, connect), {}
        login = Login(wanted["user"], wanted["password"], wanted["database"])
        server, findings = read.look_as_account(
            contract, login, consumers, site, wanted, connect, time.time
        )
        if server:
            findings += read.look_at_the_rules(contract, consumers, server, knock)
        return judged + findings, {"server": facts(server, certificate)} if server else {}

    limited = probe.in_time(look, contract, deadline, wanted["user"])
    probe.run(module, contract, endpoint, limited, {"server": {}}, ask_for_tls, deadline)


def settled(
    module: AnsibleModule, contract: Contract, shown: tuple[ClientCertificate, ...]
) -> list[Finding]:
    """Findings about the client certificates; wrong settings end the module."""
    if shown and CRYPTOGRAPHY_ERROR:
        module.fail_json(msg=missing_required_lib("cryptography"), exception=CRYPTOGRAPHY_ERROR)
    wrong = wrong_address(contract, module.params["host"])
    if wrong:
        # A finding about the host that asks.
        finding = {key: text for key, text in wrong.as_dict().items() if key != "host"}
        module.exit_json(changed=False, findings=[finding], server={})
    judged = judge_client_certificates(contract, shown, datetime.now(timezone.utc))
    if sentences_of_failures(judged):
        probe.report(module, judged, {"server": {}})
    return judged


def facts(server: Server, certificate: Certificate) -> dict[str, Any]:
    return {
        "version": server.version,
        "tls": certificate.protocol,
        "max_connections": server.connections.maximum,
        "free_connections": server.connections.free,
        "encoding": server.encoding,
        "locale": server.locale,
    }


if __name__ == "__main__":
    main()

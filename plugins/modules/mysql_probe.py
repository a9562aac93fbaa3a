#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at a MariaDB or MySQL server through the account that will be used."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mysql_probe
author: The mlops.onprem developers (@mlops-onprem)
version_added: 0.3.0
short_description: What a MariaDB or MySQL server offers to the account that will be used
description:
  - Connects to a MariaDB or MySQL server and reports findings about reachability, TLS, login,
    version, rights of the account, names that are taken, free connections, the settings that
    Slurm's accounting wants, Galera, proxies and the clock.
  - Only reads. A negative result is a finding, never a failure of the module.
  - A step that fails hides the steps that need it, so one cause gives one finding.
options:
  through:
    description:
      - V(account) logs in as O(user) and judges whether O(databases) can be made or kept.
      - V(consumers) logs in as each owner to its database and looks at its rights there.
    type: str
    choices: [account, consumers]
    default: account
  contract:
    description: First part of the findings' ids and of the variables that they name.
    type: str
    default: accounting_db
  max_clock_skew:
    description: Seconds that the server's clock may differ from the controller's.
    type: int
    default: 60
extends_documentation_fragment:
  - mlops.onprem.database_server
  - mlops.onprem.mysql_account
  - mlops.onprem.probe
  - mlops.onprem.read_only
"""

EXAMPLES = r"""
- name: Look at the company's database server
  mlops.onprem.mysql_probe:
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
      sample: accounting_db.version
    host:
      description: Address of the server.
      type: str
      sample: sql1.example.com:3306
    severity:
      description: One of pass, warn and fail.
      type: str
      sample: fail
    found:
      description: What was found.
      type: str
      sample: MariaDB 10.3.39-MariaDB
    wanted:
      description: What is wanted.
      type: str
      sample: MariaDB 10.5 or newer, or MySQL 8.0 or newer
    remedy:
      description: Variable or command that helps, empty if nothing is wrong.
      type: str
      sample: "set accounting_db_host to another server, or put a host into the group accounting_db"
server:
  description: Facts about the server, empty if it could not be logged in to as O(user).
  returned: always
  type: dict
  contains:
    version:
      description: Version of the server as it says it.
      type: str
      sample: 11.8.9-MariaDB-0+deb13u1
    kind:
      description: MariaDB or MySQL.
      type: str
      sample: MariaDB
    tls:
      description: Version of the TLS protocol.
      type: str
      sample: TLSv1.3
    max_connections:
      description: Connections that the server accepts.
      type: int
      sample: 151
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlops.onprem.plugins.module_utils._contracts import probe
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.contract import Contract
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.deadline import (
    Deadline,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.endpoint import (
    Certificate,
    endpoint_of,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.mysql import client, read
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
    Server,
    consumers_of,
    site_of,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import Finding

SECONDS = 30
"""For the whole probe, however slowly a server answers."""


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            through={"type": "str", "choices": ["account", "consumers"], "default": "account"},
            contract={"type": "str", "default": "accounting_db"},
            max_clock_skew={"type": "int", "default": 60},
            **probe.OPTIONS,
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
        # A finding about the host that asks.
        finding = {key: text for key, text in wrong.as_dict().items() if key != "host"}
        module.exit_json(changed=False, findings=[finding], server={})
    try:
        consumers = consumers_of(wanted["databases"])
        site = site_of(wanted["site"], wanted["site_id"])
    except DatabaseError as error:
        module.fail_json(msg=str(error))
    deadline = Deadline(SECONDS)
    login = Login(wanted["user"], wanted["password"])
    # What the creation would find out about passwords is found out the same way.
    asking = Databases(
        contract,
        login,
        site,
        consumers,
        lambda one: client.Session(endpoint, one, wanted["timeout"]),
        time.time,
    )

    def connect(one: Login) -> Any:
        return client.reading(endpoint, one, wanted["timeout"])

    def look(certificate: Certificate) -> tuple[list[Finding], dict[str, Any]]:
        if wanted["through"] == "consumers":
            return read.look_as_consumers(contract, consumers, connect), {}
        server, findings = read.look_as_account(
            contract,
            login,
            consumers,
            site,
            wanted["max_clock_skew"],
            connect,
            asking.holds,
            time.time,
        )
        return findings, {"server": facts(server, certificate)} if server else {}

    limited = probe.in_time(look, contract, deadline, wanted["user"])
    probe.run(module, contract, endpoint, limited, {"server": {}}, ask_for_tls, deadline)


def facts(server: Server, certificate: Certificate) -> dict[str, Any]:
    return {
        "version": server.version,
        "kind": server.kind,
        "tls": certificate.protocol,
        "max_connections": server.whole("max_connections") or 0,
    }


if __name__ == "__main__":
    main()

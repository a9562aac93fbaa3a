#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_check
short_description: Ask a host whether its services work
version_added: 0.1.0
description:
  - Asks all O(checks) in one round trip and repeats those that fail until they pass or O(timeout)
    is over.
  - Changes nothing. Fails if a check failed, naming every one that did.
  - In check mode the services may not exist yet. Then each check is asked once, and the findings
    are returned without failing.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  checks:
    description: What to ask. Each check asks one of unit, url, tcp, file and command.
    type: list
    elements: dict
    required: true
    suboptions:
      title:
        description: Name of the check in the findings.
        type: str
      otherwise:
        description: What is said if the answer or output lacks the text of C(contains).
        type: str
      because:
        description:
          - Where a JSON document says why the check fails, asked only then. Its reason is added to
            what was found.
        type: dict
        suboptions:
          url:
            description: Address of the document.
            type: str
            required: true
          say:
            description: Name of the value that is the reason.
            type: str
            required: true
          where:
            description: What the mapping that holds the value, or its C(labels), has to say too.
            type: dict
            default: {}
      remedy:
        description:
          - What mends it. Default is the command that tells more about a unit, a port, a file or a
            command.
        type: str
      unit:
        description: systemd unit that shall be active.
        type: str
      state:
        description: State that the unit shall be in.
        type: str
        default: active
      url:
        description: Address that shall answer.
        type: str
      socket:
        description: Unix socket to ask instead of the host and port in O(checks[].url).
        type: path
      status:
        description: Accepted HTTP statuses. Default is 200.
        type: list
        elements: int
      contains:
        description: Text that the answer, file or output shall contain.
        type: str
      method:
        description: HTTP method. Default is GET.
        type: str
      headers:
        description: HTTP headers.
        type: dict
      user:
        description: Account to show, with the password in C(password_file).
        type: str
      password_file:
        description: File on the host with the password of C(user), read when it is asked.
        type: path
      ca:
        description:
          - Certificates to trust. Default is C(/etc/mlops/tls/ca.crt) if it exists, else those of
            the host.
        type: path
      client_cert:
        description: Certificate to show.
        type: path
      client_key:
        description: Key of the certificate.
        type: path
      server_name:
        description: Name to expect in the server's certificate. Default is the one in the address.
        type: str
      tcp:
        description: Address and port that shall accept a connection.
        type: str
      file:
        description: File or directory that shall exist.
        type: path
      mode:
        description: Octal mode it shall have.
        type: str
      owner:
        description: User it shall belong to.
        type: str
      group:
        description: Group it shall belong to.
        type: str
      command:
        description: Command that shall end with 0. It must not change anything.
        type: list
        elements: str
  timeout:
    description: Seconds for all checks together.
    type: int
    default: 30
extends_documentation_fragment: [mlops.onprem.read_only]
"""

EXAMPLES = r"""
- name: Check the monitoring services
  mlops.onprem.host_check:
    checks:
      - {unit: mlops-prometheus.service}
      - {url: "http://127.0.0.1:9090/-/ready"}
      - {tcp: "127.0.0.1:9093"}
      - title: measurements of line1-cam1 (port 9443)
        url: "http://127.0.0.1:9090/api/v1/query?query=up%7Bhost%3D%22line1-cam1%22%7D==1"
        contains: '"__name__":"up"'
        otherwise: Prometheus does not get them
        because:
          url: http://127.0.0.1:9090/api/v1/targets
          say: lastError
          where: {host: line1-cam1}
        remedy: open port 9443 of line1-cam1 for this host
      - {file: /etc/mlops/monitoring/prometheus.yml, mode: "0640"}
    timeout: 30
"""

RETURN = r"""
findings:
  description: One answer for each check.
  returned: always
  type: list
  elements: dict
  contains:
    check:
      description: What was asked.
      type: str
      sample: unit mlops-prometheus.service
    severity:
      description: V(pass) or V(fail).
      type: str
    found:
      description: What is wrong, as a sentence. Empty if nothing is.
      type: str
    remedy:
      description: What mends it. Empty if nothing is wrong.
      type: str
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import finish
from ansible_collections.mlops.onprem.plugins.module_utils._host import probe
from ansible_collections.mlops.onprem.plugins.module_utils._host.args import HEALTH


def work(module: AnsibleModule) -> dict[str, Any]:
    checks = module.params["checks"]
    titles = [probe.title_of(check) for check in checks]
    deadline = time.monotonic() + module.params["timeout"]
    wrong = dict.fromkeys(range(len(checks)), "")
    open_ones = list(wrong)
    pause = 0.2
    while open_ones:
        for number in open_ones:
            left = max(0.5, min(10.0, deadline - time.monotonic()))
            wrong[number] = probe.ask(checks[number], left)
        open_ones = [number for number in open_ones if wrong[number]]
        if not open_ones or module.check_mode or time.monotonic() + pause >= deadline:
            break
        time.sleep(pause)
        pause = min(2.0, pause * 1.5)
    asked: dict[str, str] = {}
    for number, said in wrong.items():
        if said:
            wrong[number] = probe.explained(checks[number], said, asked)
    findings = [
        {
            "check": titles[number],
            "severity": "fail" if said else "pass",
            "found": said,
            "remedy": probe.remedy_of(checks[number]) if said else "",
        }
        for number, said in wrong.items()
    ]
    failed = [probe.sentence(checks[number], said) for number, said in wrong.items() if said]
    if failed and not module.check_mode:
        module.fail_json(
            msg="\n".join([f"{len(failed)} of {len(checks)} checks failed:", *failed]),
            findings=findings,
        )
    return {"changed": False, "findings": findings}


def main() -> None:
    options: dict[str, Any] = {
        **HEALTH,
        "title": {"type": "str"},
        "otherwise": {"type": "str"},
        "because": {
            "type": "dict",
            "options": {
                "url": {"type": "str", "required": True},
                "say": {"type": "str", "required": True},
                "where": {"type": "dict", "default": {}},
            },
        },
        "remedy": {"type": "str"},
        "unit": {"type": "str"},
        "state": {"type": "str", "default": "active"},
        "file": {"type": "path"},
        "mode": {"type": "str"},
        "owner": {"type": "str"},
        "group": {"type": "str"},
    }
    finish(
        AnsibleModule(
            argument_spec={
                "checks": {
                    "type": "list",
                    "elements": "dict",
                    "required": True,
                    "options": options,
                },
                "timeout": {"type": "int", "default": 30},
            },
            supports_check_mode=True,
        ),
        work,
    )


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prometheus_attached
short_description: See that a Prometheus of the company measures the site
version_added: 0.3.0
description:
  - Asks a Prometheus that is not ours for the series and the rules of the site, again and again
    until all are there or O(timeout) is over.
  - Fails with a sentence for each that is missing, with the error of the scrape. In check mode it
    is asked once, and the findings are returned without failing.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  url:
    description: Address of Prometheus, with its path.
    type: str
    required: true
  user:
    description: Account, if it asks for one.
    type: str
    default: ""
  password:
    description: Password of the account.
    type: str
    default: ""
  token:
    description: Token to show instead of an account.
    type: str
    default: ""
  ca_file:
    description: Certificates to trust. Empty for those of the host.
    type: str
    default: ""
  targets:
    description: What is to be measured, each with C(job) and C(host).
    type: list
    elements: dict
    required: true
  rules:
    description: Names of the rules that are to be loaded.
    type: list
    elements: str
    required: true
  reload:
    description: Have it read its configuration first. It has to run with C(--web.enable-lifecycle).
    type: bool
    default: false
  timeout:
    description: Seconds to wait, longer than its scrape interval.
    type: int
    default: 90
extends_documentation_fragment: [mlops.onprem.read_only]
"""

EXAMPLES = r"""
- name: See that the company's Prometheus measures the site
  mlops.onprem.prometheus_attached:
    url: https://prometheus.example.com
    targets:
      - {job: node, host: ctl1}
    rules: [HostUnreachable]
"""

RETURN = r"""
findings:
  description: What is missing, each with C(check), C(found) and C(remedy).
  returned: success
  type: list
  elements: dict
series:
  description: How many targets of the site were found, measured.
  returned: success
  type: int
  sample: 38
rules:
  description: How many rules of the site were found, loaded.
  returned: success
  type: int
  sample: 81
"""

import base64
import json
import ssl
import time
import urllib.error
import urllib.request
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._monitoring import attached

PAUSE_SECONDS = 1.0
MAX_ANSWER_BYTES = 64 * 1024 * 1024


class Refused(Exception):
    """It does not answer as a Prometheus does; reads as a part of a sentence."""


class Prometheus:
    """The parts of its API that tell what it does."""

    def __init__(self, params: dict[str, Any]) -> None:
        self._url = params["url"].rstrip("/")
        self._headers = {"Accept": "application/json"}
        if params["token"]:
            self._headers["Authorization"] = f"Bearer {params['token']}"
        elif params["user"]:
            account = base64.b64encode(f"{params['user']}:{params['password']}".encode()).decode()
            self._headers["Authorization"] = f"Basic {account}"
        context = ssl.create_default_context(cafile=params["ca_file"] or None)
        self._open = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        ).open

    def _ask(self, path: str, method: str = "GET") -> bytes:
        request = urllib.request.Request(
            f"{self._url}/{path}", headers=self._headers, method=method
        )
        try:
            with self._open(request, timeout=20) as answer:
                return bytes(answer.read(MAX_ANSWER_BYTES))
        except urllib.error.HTTPError as error:
            said = error.read(300).decode("utf-8", "replace").strip()
            raise Refused(
                f"{path.partition('?')[0]} is answered with {error.code}: {said}"
            ) from None
        except OSError as error:
            raise Refused(f"it does not answer: {error}") from None

    def _data(self, path: str) -> dict[str, Any]:
        try:
            page = json.loads(self._ask(path))
            data = page["data"]
        except (ValueError, TypeError, KeyError):
            raise Refused("what answers there is no Prometheus") from None
        return data if isinstance(data, dict) else {}

    def reload(self) -> None:
        self._ask("-/reload", "POST")

    def answer(self) -> attached.Answer:
        return attached.read(
            self._data("api/v1/query?query=up"),
            self._data("api/v1/targets?state=active"),
            self._data("api/v1/rules"),
        )


def look(params: dict[str, Any], patient: bool) -> list[attached.Lack]:
    """What is missing after the time is over, or after one look."""
    prometheus = Prometheus(params)
    places = [(str(row["job"]), str(row["host"])) for row in params["targets"]]
    if params["reload"] and patient:
        prometheus.reload()
    deadline = time.monotonic() + params["timeout"]
    while True:
        lacks = attached.lacking(prometheus.answer(), places, params["rules"])
        if not lacks or not patient or time.monotonic() >= deadline:
            return lacks
        time.sleep(PAUSE_SECONDS)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "user": {"type": "str", "default": ""},
            "password": {"type": "str", "default": "", "no_log": True},
            "token": {"type": "str", "default": "", "no_log": True},
            "ca_file": {"type": "str", "default": ""},
            "targets": {"type": "list", "elements": "dict", "required": True},
            "rules": {"type": "list", "elements": "str", "required": True},
            "reload": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 90},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        lacks = look(params, not module.check_mode)
    except Refused as error:
        lacks = [
            attached.Lack(
                "the existing Prometheus",
                f"{params['url']}: {error}",
                "correct monitoring_existing_url",
            )
        ]
    findings = [{"check": one.what, "found": one.found, "remedy": one.remedy} for one in lacks]
    if findings and not module.check_mode:
        lines = [f"{one.what}: {one.found}. Remedy: {one.remedy}." for one in lacks]
        module.fail_json(
            msg="\n".join([f"The Prometheus at {params['url']} lacks:", *lines]), findings=findings
        )
    module.exit_json(
        changed=False,
        findings=findings,
        series=0 if findings else len(params["targets"]),
        rules=0 if findings else len(params["rules"]),
    )


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: alert_test
short_description: Send a test alert and see that it is taken
version_added: 0.3.0
description:
  - Gives Alertmanager an alert C(NotificationTest), which ends by itself after five minutes, and
    waits until each of its servers (mail, webhook and others) has taken a delivery.
  - What is seen is that a server took it. Whether a person reads it, only a person can say.
  - Fails if one has not within O(timeout). Sends nothing in check mode.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  url:
    description: Address of Alertmanager, with its path.
    type: str
    required: true
  user:
    description: Account at Alertmanager. Empty for none.
    type: str
    default: ""
  password_file:
    description: File on the host with the password of that account.
    type: path
  deliveries:
    description: How many deliveries are wanted by integration of Alertmanager, such as C(email).
    type: dict
    required: true
  site:
    description: Name of the site, for whoever reads it.
    type: str
    default: the platform
  sender:
    description: Who tests, for whoever reads it.
    type: str
    default: playbooks/selfcheck.yml
  runbook:
    description: Address of the page about the test.
    type: str
    required: true
  timeout:
    description: Seconds to wait.
    type: int
    default: 60
attributes:
  check_mode:
    support: full
    description: Sends nothing in check mode.
  diff_mode:
    support: none
    description: There is nothing to compare.
"""

EXAMPLES = r"""
- name: Send a test alert
  mlops.onprem.alert_test:
    url: http://127.0.0.1:9093/alertmanager
    deliveries: {email: 1, webhook: 2}
    runbook: https://ctl1/runbooks/NotificationTest.html
"""

RETURN = r"""
test:
  description: The label C(test) of the alert that was sent.
  returned: success
  type: str
  sample: 5f0c9a52
taken:
  description: How many deliveries were taken, by integration.
  returned: success
  type: dict
  sample: {email: 1}
"""

import base64
import json
import secrets
import time
import urllib.request
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._monitoring import delivery

ALERT_SECONDS = 300
PAUSE_SECONDS = 0.5


class Alertmanager:
    """Its metrics, and its API for alerts."""

    def __init__(self, url: str, user: str = "", password_file: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json"}
        if user and password_file:
            with open(password_file, encoding="utf-8") as stream:
                words = f"{user}:{stream.read().rstrip()}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(words).decode()}"
        # It is asked on the host itself; a proxy of the environment has no part in that.
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def counted(self) -> dict[str, delivery.Attempts]:
        request = urllib.request.Request(f"{self._url}/metrics", headers=self._headers)
        with self._open(request, timeout=10) as answer:
            return delivery.counted(answer.read().decode("utf-8"))

    def send(self, alert: dict[str, object]) -> None:
        request = urllib.request.Request(
            f"{self._url}/api/v2/alerts",
            data=json.dumps([alert]).encode(),
            headers=self._headers,
        )
        with self._open(request, timeout=10):
            pass


def send(params: dict[str, Any]) -> tuple[str, dict[str, int], list[str]]:
    """Send it and wait: its name, what was taken, and what is missing."""
    manager = Alertmanager(params["url"], params["user"], params["password_file"])
    wanted = {name: int(count) for name, count in params["deliveries"].items()}
    before = manager.counted()
    test = secrets.token_hex(4)
    ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + ALERT_SECONDS))
    manager.send(delivery.alert(test, params["sender"], params["site"], params["runbook"], ends))
    deadline = time.monotonic() + params["timeout"]
    while True:
        after = manager.counted()
        lacking = delivery.missing(before, after, wanted)
        if not lacking or time.monotonic() >= deadline:
            break
        time.sleep(PAUSE_SECONDS)
    none = delivery.Attempts()
    taken = {
        name: int(after.get(name, none).taken - before.get(name, none).taken) for name in wanted
    }
    return test, taken, lacking


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "user": {"type": "str", "default": ""},
            "password_file": {"type": "path", "no_log": False},
            "deliveries": {"type": "dict", "required": True},
            "site": {"type": "str", "default": "the platform"},
            "sender": {"type": "str", "default": "playbooks/selfcheck.yml"},
            "runbook": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False, test="", taken={})
    try:
        test, taken, lacking = send(module.params)
    except (OSError, ValueError) as error:
        module.fail_json(
            msg=f"Alertmanager at {module.params['url']} cannot be asked: {error}."
            " Read journalctl -u mlops-alertmanager -n 50."
        )
    if lacking:
        module.fail_json(
            msg="The test alert was not taken everywhere: " + ". ".join(lacking) + "."
            " Read journalctl -u mlops-alertmanager -n 50; correct monitoring_alert_mail,"
            " monitoring_alert_webhooks or monitoring_alert_receiver."
        )
    module.exit_json(changed=False, test=test, taken=taken)


if __name__ == "__main__":
    main()

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
  - Without O(deliveries), as for an Alertmanager of somebody else, it waits until Alertmanager
    itself shows the alert, names the receivers that its routes choose, ends the alert and sees that
    it is gone.
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
  secret_file:
    description:
      - File on the host with the token to show, or with O(user) its password, in place of
        O(password_file).
    type: path
  ca_file:
    description:
      - File on the host with the authorities of Alertmanager. Default is those of the host.
    type: path
  deliveries:
    description: How many deliveries are wanted by integration of Alertmanager, such as C(email).
    type: dict
    default: {}
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
receivers:
  description: The receivers that the routes of Alertmanager choose for the test alert.
  returned: without deliveries
  type: list
  elements: str
  sample: [platform-team]
taken:
  description: How many deliveries were taken, by integration.
  returned: success
  type: dict
  sample: {email: 1}
"""

import base64
import json
import secrets
import ssl
import time
import urllib.parse
import urllib.request
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._monitoring import delivery

ALERT_SECONDS = 300
PAUSE_SECONDS = 0.5


def _read(path: str | None) -> str:
    if not path:
        return ""
    with open(path, encoding="utf-8") as stream:
        return stream.read().rstrip()


def _stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class Alertmanager:
    """Its metrics, and its API for alerts."""

    def __init__(
        self,
        url: str,
        user: str = "",
        password_file: str | None = None,
        secret_file: str | None = None,
        ca_file: str | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json"}
        secret = _read(password_file or secret_file)
        if user and secret:
            words = f"{user}:{secret}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(words).decode()}"
        elif secret and secret_file:
            self._headers["Authorization"] = f"Bearer {secret}"
        trusted = ssl.create_default_context(cafile=ca_file or None)
        # It is asked as Prometheus asks it; a proxy of the environment has no part in that.
        self._open = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted)
        ).open

    def counted(self) -> dict[str, delivery.Attempts]:
        request = urllib.request.Request(f"{self._url}/metrics", headers=self._headers)
        with self._open(request, timeout=10) as answer:
            return delivery.counted(answer.read().decode("utf-8"))

    def seen(self, test: str) -> list[dict[str, Any]]:
        """The test alerts of that name that have not ended, as its API shows them."""
        query = urllib.parse.urlencode({"filter": f'test="{test}"'})
        request = urllib.request.Request(
            f"{self._url}/api/v2/alerts?{query}", headers=self._headers
        )
        with self._open(request, timeout=10) as answer:
            found: list[dict[str, Any]] = json.loads(answer.read())
        return found

    def send(self, alert: dict[str, object]) -> None:
        request = urllib.request.Request(
            f"{self._url}/api/v2/alerts",
            data=json.dumps([alert]).encode(),
            headers=self._headers,
        )
        with self._open(request, timeout=10):
            pass


def manager_of(params: dict[str, Any]) -> Alertmanager:
    """Alertmanager as the options say it is asked."""
    names = ("url", "user", "password_file", "secret_file", "ca_file")
    return Alertmanager(*(params[name] for name in names))


def arrive(params: dict[str, Any]) -> tuple[str, list[str], list[str]]:
    """Send it, see it there, end it: its name, who is told of it, and what is missing."""
    manager, test = manager_of(params), secrets.token_hex(4)
    said = (test, params["sender"], params["site"], params["runbook"])
    deadline = time.monotonic() + params["timeout"]

    def waited(there: bool) -> list[dict[str, Any]] | None:
        while bool(found := manager.seen(test)) != there:
            if time.monotonic() >= deadline:
                return None
            time.sleep(PAUSE_SECONDS)
        return found

    manager.send(delivery.alert(*said, _stamp(time.time() + ALERT_SECONDS)))
    try:
        found = waited(True)
    finally:
        # A second ago: what ends now has not ended yet.
        manager.send(delivery.alert(*said, _stamp(time.time() - 1)))
    if found is None:
        return test, [], ["it was taken, and Alertmanager does not show it"]
    told = sorted({one["name"] for alert in found for one in alert["receivers"]})
    gone = waited(False) is not None
    return test, told, [] if gone else ["it was ended, and Alertmanager still shows it"]


def send(params: dict[str, Any]) -> tuple[str, dict[str, int], list[str]]:
    """Send it and wait: its name, what was taken, and what is missing."""
    manager = manager_of(params)
    wanted = {name: int(count) for name, count in params["deliveries"].items()}
    before = manager.counted()
    test = secrets.token_hex(4)
    ends = _stamp(time.time() + ALERT_SECONDS)
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
            "secret_file": {"type": "path", "no_log": False},
            "ca_file": {"type": "path"},
            "deliveries": {"type": "dict", "default": {}},
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
        if not module.params["deliveries"]:
            test, told, lacking = arrive(module.params)
            if lacking:
                module.fail_json(
                    msg=f"The test alert did not come to {module.params['url']}: {lacking[0]}."
                )
            module.exit_json(changed=False, test=test, taken={}, receivers=told)
        test, taken, lacking = send(module.params)
    except (OSError, ValueError) as error:
        module.fail_json(
            msg=f"Alertmanager at {module.params['url']} cannot be asked: {error}."
            " Read its journal; is it the company's, correct monitoring_existing_alertmanagers."
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

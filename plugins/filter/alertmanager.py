# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: alertmanager
short_description: What Alertmanager is told, from a mail server and webhooks
version_added: 0.3.0
author:
  - The mlops.onprem developers (@mlops-onprem)
description:
  - Answers Alertmanager's configuration, the secrets that it names and the mistakes in what people
    wrote, each without a secret.
options:
  _input:
    description: A receiver as Alertmanager has it, as C(monitoring_alert_receiver).
    type: dict
    required: true
  mail:
    description: A mail server and who is told, as C(monitoring_alert_mail).
    type: dict
    required: true
  password:
    description: Password of the account at the mail server, empty for none.
    type: str
    required: true
  webhooks:
    description: Addresses that take alerts, as C(monitoring_alert_webhooks).
    type: list
    elements: dict
    required: true
  heartbeat:
    description: URL that is called every minute, empty for none.
    type: str
    required: true
  directory:
    description: Directory of the configuration on the monitoring host.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Show what Alertmanager is told
  ansible.builtin.debug:
    msg: >-
      {{ ({} | mlops.onprem.alertmanager(
            mail={'to': ['ops@example.com'], 'from': 'mlops@example.com', 'server': 'mail.lan'},
            password='', webhooks=[], heartbeat='',
            directory='/etc/mlops/monitoring')).configuration }}
"""

RETURN = r"""
_value:
  description:
    - C(problems), parts of sentences; where there are none also C(configuration), C(secrets) (the
      contents of files by their name) and C(deliveries) (how many servers take an alert, by kind).
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._monitoring import receivers


def alertmanager(
    given: Mapping[str, Any],
    mail: object,
    password: str,
    webhooks: object,
    heartbeat: str,
    directory: str,
) -> dict[str, Any]:
    wrong = receivers.problems(mail, password, webhooks, heartbeat)
    if wrong:
        return {"problems": wrong, "configuration": {}, "deliveries": {}, "secrets": {}}
    configured = receivers.configuration(given, mail, webhooks, heartbeat, directory)
    return {
        "problems": [],
        "configuration": configured,
        "deliveries": receivers.deliveries(configured),
        "secrets": receivers.secrets(password, webhooks),
    }


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., dict[str, Any]]]:
        return {"alertmanager": alertmanager}

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: existing_alertmanagers
short_description: What Prometheus is told of Alertmanagers of the company
version_added: 0.3.0
author:
  - The mlops.onprem developers (@mlops-onprem)
description:
  - Answers the entries of C(alerting.alertmanagers), the secrets that they name and the mistakes in
    what people wrote, each without a secret.
options:
  _input:
    description: Alertmanagers, as C(monitoring_existing_alertmanagers).
    type: list
    elements: dict
    required: true
  directory:
    description: Directory of the configuration on the monitoring host.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Show what Prometheus is told
  ansible.builtin.debug:
    msg: >-
      {{ ([{'url': 'https://alarms.example.com/alertmanager'}]
          | mlops.onprem.existing_alertmanagers('/etc/mlops/monitoring')).configuration }}
"""

RETURN = r"""
_value:
  description:
    - C(problems), parts of sentences; where there are none also C(configuration) and C(secrets),
      the contents of files by their name, and C(asked), options of M(mlops.onprem.alert_test).
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._monitoring import company


def existing_alertmanagers(given: object, directory: str) -> dict[str, Any]:
    return company.told(given, directory)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., dict[str, Any]]]:
        return {"existing_alertmanagers": existing_alertmanagers}

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: alert_receiver
short_description: What Alertmanager would refuse of a receiver of alerts
version_added: 0.3.0
author:
  - The mlops.onprem developers (@mlops-onprem)
description:
  - Answers the mistakes in C(monitoring_alert_receiver), each with its place and without a value,
    which may be a secret. An empty list if there is none.
options:
  _input:
    description: A receiver as Alertmanager has it, without its name.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what is wrong with the receiver
  ansible.builtin.debug:
    msg: "{{ {'webhook_configs': [{}]} | mlops.onprem.alert_receiver }}"
"""

RETURN = r"""
_value:
  description: Parts of sentences.
  type: list
  elements: str
"""

from collections.abc import Callable

from ansible_collections.mlops.onprem.plugins.module_utils._site.receiver import mistakes


def alert_receiver(receiver: object) -> list[str]:
    return mistakes(receiver)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        return {"alert_receiver": alert_receiver}

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: monitoring_checks
short_description: The questions that show whether every target is measured
version_added: 0.3.0
author:
  - The mlops.onprem developers (@mlops-onprem)
description:
  - Gives one check of M(mlops.onprem.host_check) for each target, so that an answer that lacks it
    names it.
options:
  _input:
    description: What is scraped, as C(monitoring_targets) has it.
    type: list
    elements: dict
    required: true
  query:
    description: URL of an instant query to Prometheus, up to the expression.
    type: str
    required: true
  loopback:
    description: What the server scrapes of itself, each with C(job).
    type: list
    elements: dict
    required: true
  probes:
    description: What is asked as a client does, as C(monitoring_probes) has it.
    type: list
    elements: dict
    required: true
  database:
    description: The database server that is measured, empty for none.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Check that every target is measured
  mlops.onprem.host_check:
    checks: >-
      {{ monitoring_targets | mlops.onprem.monitoring_checks(
           query='http://127.0.0.1:9090/prometheus/api/v1/query?query=', loopback=[], probes=[],
           database={}) }}
"""

RETURN = r"""
_value:
  description: Checks, each with C(title), C(url) and C(contains).
  type: list
  elements: dict
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._site.measured import checks


def monitoring_checks(
    targets: Sequence[Mapping[str, Any]],
    query: str,
    loopback: Sequence[Mapping[str, Any]],
    probes: Sequence[Mapping[str, Any]],
    database: Mapping[str, Any],
) -> list[dict[str, Any]]:
    return checks(query, loopback, targets, probes, database)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., list[dict[str, Any]]]]:
        return {"monitoring_checks": monitoring_checks}

#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: metrics_check
short_description: Find the metrics of devices that have just answered in Prometheus
version_added: 0.1.0
description:
  - Asks Prometheus for the model and request metrics of each device, again and again until they
    were measured after this module began, or the time is over. Waits for the next measurement and
    no longer.
  - Metrics that are not found are a result, not an error; judge RV(models).
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  label:
    description: Label that names the host.
    type: str
    default: host
  models:
    description: The models, each with the devices that have just answered for it.
    type: list
    elements: dict
    required: true
    suboptions:
      model_name:
        description: Name of the model.
        type: str
        required: true
      model_version:
        description: Version of the model.
        type: str
        required: true
      digest:
        description: Digest of the release.
        type: str
        required: true
      devices:
        description: Names of the devices, as they stand in the label.
        type: list
        elements: str
        required: true
      requests:
        description: Requests that each device has answered at least.
        type: int
        required: true
  max_age:
    description:
      - Seconds before this module began since which a measurement counts as new. Spares the wait
        for the next measurement where nothing was changed.
    type: int
    default: 0
  timeout:
    description: Seconds to wait for the next measurement, longer than the scrape interval.
    type: int
    default: 90
extends_documentation_fragment: [mlops.onprem.prometheus, mlops.onprem.read_only]
"""

EXAMPLES = r"""
- name: Find the metrics of the devices
  mlops.onprem.metrics_check:
    url: https://ctl1/prometheus
    user: admin
    password: "{{ gateway_admin_password }}"
    ca_file: /srv/site/.state/ca-bundle.crt
    models:
      - model_name: breast-cancer
        model_version: "3"
        digest: "{{ published.digest }}"
        devices: [edge1, edge2]
        requests: 76
  delegate_to: localhost
"""

RETURN = r"""
models:
  description: What was found of each model, by its name.
  returned: success
  type: dict
  contains:
    problems:
      description: A sentence for each device whose metrics were not found.
      type: dict
      sample: {"edge3": "Prometheus has no model metric of edge3"}
    seen:
      description: Requests that Prometheus counts, by device.
      type: dict
      sample: {"edge1": 76}
error:
  description: Why Prometheus could not be asked, empty if it could.
  returned: success
  type: str
  sample: ""
seconds:
  description: How long it took.
  returned: success
  type: float
  sample: 9.2
"""

import base64
import json
import time
import urllib.parse
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._release.client import Interrupted
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.module_utils._release.web import WebTransport
from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks.bounded import (
    read_answer,
)
from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks.errors import CheckError
from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks.metrics import (
    expectations,
    missing,
    parse_vector,
)

POLL_SECONDS = 2.0
MAX_ANSWER_BYTES = 8 * 1024 * 1024
ANSWER_SECONDS = 30.0


class Prometheus:
    """Instant queries."""

    def __init__(self, params: dict[str, Any]) -> None:
        self._url = params["url"].rstrip("/")
        self._label = params["label"]
        self._transport = WebTransport(params["ca_file"], timeout=15.0)
        self._headers = {"accept": "application/json"}
        if params["user"]:
            token = base64.b64encode(f"{params['user']}:{params['password']}".encode()).decode()
            self._headers["authorization"] = f"Basic {token}"

    def query(self, text: str) -> dict[str, float]:
        """Return the value by label."""
        url = f"{self._url}/api/v1/query?{urllib.parse.urlencode({'query': text})}"
        answer = self._transport("GET", url, self._headers)
        data = read_answer(answer, f"Prometheus at {self._url}", MAX_ANSWER_BYTES, ANSWER_SECONDS)
        if answer.status in (401, 403):
            raise CheckError(f"Prometheus at {self._url} does not accept the user we come as.")
        try:
            value = json.loads(data)
        except ValueError:
            raise CheckError(
                f"Prometheus at {self._url} answers with HTTP {answer.status} and no JSON."
            ) from None
        return parse_vector(value, self._label)


def look(
    prometheus: Prometheus, model: dict[str, Any], since: float
) -> tuple[dict[str, str], dict[str, float]]:
    """Ask for everything of a model once: problems and counted requests by device."""
    problems: dict[str, str] = {}
    seen: dict[str, float] = {}
    for wanted in expectations(
        model["model_name"], model["model_version"], model["digest"], model["requests"]
    ):
        values = prometheus.query(wanted.query)
        measured = prometheus.query(f"timestamp({wanted.query})")
        found = missing(model["devices"], wanted, values, measured, since)
        problems = {**found, **problems}
        if wanted.title == "requests":
            seen = {name: values[name] for name in model["devices"] if name in values}
    return problems, seen


def look_at_all(
    prometheus: Prometheus, params: dict[str, Any], since: float
) -> dict[str, dict[str, Any]]:
    """Ask for everything of every model once."""
    found = {}
    for model in params["models"]:
        problems, seen = look(prometheus, model, since)
        found[model["model_name"]] = {"problems": problems, "seen": seen}
    return found


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "user": {"type": "str", "default": ""},
            "password": {"type": "str", "default": "", "no_log": True},
            "ca_file": {"type": "path", "required": True},
            "label": {"type": "str", "default": "host"},
            "models": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "model_name": {"type": "str", "required": True},
                    "model_version": {"type": "str", "required": True},
                    "digest": {"type": "str", "required": True},
                    "devices": {"type": "list", "elements": "str", "required": True},
                    "requests": {"type": "int", "required": True},
                },
            },
            "max_age": {"type": "int", "default": 0},
            "timeout": {"type": "int", "default": 90},
        },
        supports_check_mode=True,
    )
    params = module.params
    started = time.monotonic()
    models: dict[str, dict[str, Any]] = {}
    error = ""
    since: float | None = None
    try:
        prometheus = Prometheus(params)
        while True:
            try:
                if since is None:
                    # Its own clock: the controller's may differ.
                    since = prometheus.query("time()")[""] - params["max_age"]
                models = look_at_all(prometheus, params, since)
                error = ""
            except Interrupted as problem:
                error = f"Prometheus at {params['url']} does not answer: {problem}."
            if not error and not any(one["problems"] for one in models.values()):
                break
            if time.monotonic() - started + POLL_SECONDS > params["timeout"]:
                break
            time.sleep(POLL_SECONDS)
    except (CheckError, RegistryError) as problem:
        error = str(problem)
    module.exit_json(
        changed=False,
        models=models,
        error=error,
        seconds=round(time.monotonic() - started, 3),
    )


if __name__ == "__main__":
    main()

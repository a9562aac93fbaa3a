#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pipeline_report
short_description: Judge a run of the pipeline check and draw its closing table
version_added: 0.1.0
description:
  - Puts together what the steps, the devices and Prometheus have answered, finds errors and
    inefficiencies, and writes the result as JSON.
  - Does not fail by itself; judge RV(verdict).
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  models:
    description: What was found of each model.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the model.
        type: str
        required: true
      steps:
        description: By step, what its task with M(mlops.onprem.pipeline_step) returned.
        type: dict
        required: true
      releases:
        description: By device, what its task with M(mlops.onprem.model_release) returned.
        type: dict
        default: {}
      release_bytes:
        description: Size of the release.
        type: int
        default: 0
      devices:
        description: What M(mlops.onprem.inference_check) returned.
        type: list
        elements: dict
        default: []
      metrics:
        description: What M(mlops.onprem.metrics_check) returned of the model.
        type: dict
        default: {}
  rings:
    description: Ring of each device.
    type: dict
    default: {}
  path:
    description:
      - Directory for the report. C(latest.json) is the last one; the ten before it are kept.
    type: path
    required: true
attributes:
  check_mode:
    description: Nothing is written.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: Judge the check
  mlops.onprem.pipeline_report:
    models:
      - name: breast-cancer
        steps:
          prepare: "{{ prepared }}"
          train: "{{ trained }}"
        devices: "{{ checked.devices }}"
    path: /srv/site/.state/pipeline
  delegate_to: localhost
"""

RETURN = r"""
verdict:
  description: pass, warn or fail.
  returned: success
  type: str
  sample: pass
table:
  description: The table for people.
  returned: success
  type: str
  sample: "step  verdict  seconds  finding"
failures:
  description: A sentence for each failure.
  returned: success
  type: list
  elements: str
  sample: ["predict edge3: edge3 does not answer at https://10.203.0.23: connection refused."]
report:
  description: Path of the report.
  returned: success
  type: str
  sample: /srv/site/.state/pipeline/latest.json
"""

import json
import os
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks.report import (
    FAIL,
    model_found,
    model_rows,
    render,
    to_json,
    verdict,
)

KEPT = 10


def write(folder: Path, text: str, now: float) -> Path:
    """Store the report whole, keep the last ones."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    for name in (f"{stamp}.json", "latest.json"):
        fresh = folder / f".{name}.new"
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, folder / name)
    older = sorted(path for path in folder.glob("*.json") if path.name[:1].isdigit())
    for path in older[: -KEPT - 1]:
        path.unlink()
    return folder / "latest.json"


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "models": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "steps": {"type": "dict", "required": True},
                    "releases": {"type": "dict", "default": {}},
                    "release_bytes": {"type": "int", "default": 0},
                    "devices": {"type": "list", "elements": "dict", "default": []},
                    "metrics": {"type": "dict", "default": {}},
                },
            },
            "rings": {"type": "dict", "default": {}},
            "path": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    found = [model_found(model) for model in params["models"]]
    rows = [
        row
        for one in found
        for row in model_rows(one, params["rings"], one["name"] if len(found) > 1 else "")
    ]
    judged = verdict(rows).lower()
    path = Path(params["path"]) / "latest.json"
    if not module.check_mode:
        now = time.time()
        text = json.dumps(
            {
                "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
                "verdict": judged,
                "rows": to_json(rows),
                "models": found,
                # Of the first model, where readers of a site with one model look.
                **{key: found[0][key] for key in ("steps", "devices", "releases") if found},
            },
            indent=2,
            sort_keys=True,
        )
        try:
            path = write(Path(params["path"]), text + "\n", now)
        except OSError as error:
            module.fail_json(msg=f"The report cannot be written to {params['path']}: {error}.")
    module.exit_json(
        # A report of what was found is not a change of the site.
        changed=False,
        verdict=judged,
        table=render(rows),
        failures=[f"{row.step}: {row.finding}" for row in rows if row.verdict == FAIL],
        report=str(path),
    )


if __name__ == "__main__":
    main()

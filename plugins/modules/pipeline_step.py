#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pipeline_step
short_description: Run one step of the pipeline on the controller
version_added: 0.1.0
description:
  - Runs C(python -m mlops_pipeline STEP) in the pipeline's own Python environment and returns the
    line of JSON that it prints. The step is the same command that a person, a timer or Airflow
    runs.
  - The configuration is passed in a file that is removed afterwards, secrets in the environment of
    the process. Neither is ever an argument.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  step:
    description: The step.
    type: str
    choices: [prepare, train, evaluate, publish, current]
    required: true
  python:
    description: Python of the pipeline's environment.
    type: path
    required: true
  folder:
    description: Directory that holds the package C(mlops_pipeline).
    type: path
    required: true
  config:
    description: Configuration of the pipeline.
    type: dict
    required: true
  secrets:
    description: Secrets by name, such as C(PIPELINE_MLFLOW_PASSWORD).
    type: dict
    default: {}
  data_version:
    description: What the step prepare returned; for the step train.
    type: str
  run_id:
    description: What the step train returned; for the steps evaluate and publish.
    type: str
  golden:
    description: File for the golden answers of the release; for the steps publish and current.
    type: path
  timeout:
    description: Seconds after which the step is ended and has failed.
    type: int
    default: 600
attributes:
  check_mode:
    description: Only the step C(current) is run, as the others change data and registries.
    support: partial
    details: The other steps are skipped in check mode.
  diff_mode:
    description: There is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: Prepare the data
  mlops.onprem.pipeline_step:
    step: prepare
    python: /opt/pipeline/bin/python
    folder: /srv/ansible_collections/mlops/onprem/pipeline
    config:
      model_name: breast-cancer
      dataset: breast_cancer
      data_uri: /srv/data/breast-cancer
"""

RETURN = r"""
result:
  description: What the step printed.
  returned: always
  type: dict
  sample: {"ok": true, "step": "prepare", "changed": false, "data_version": "7bf31de8507d"}
"""

import json
import os
import subprocess
import tempfile
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule


def last_line(text: str) -> dict[str, Any]:
    """Return the line of JSON that a step ends with."""
    for line in reversed(text.splitlines()):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    return {}


def run(params: dict[str, Any]) -> dict[str, Any]:
    """Run a step; return what it printed, or why it printed nothing."""
    started = time.monotonic()
    step = params["step"]
    environment = {
        name: os.environ[name]
        for name in ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")
        if name in os.environ
    }
    environment.update({name: str(value) for name, value in params["secrets"].items()})
    environment["PYTHONPATH"] = params["folder"]
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as config:
        json.dump(params["config"], config)
        config.flush()
        command = [params["python"], "-m", "mlops_pipeline", step, "--config", config.name]
        for option in ("data_version", "run_id", "golden"):
            if params[option]:
                command += [f"--{option.replace('_', '-')}", params[option]]
        try:
            done = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=params["timeout"],
                check=False,
            )
            result = last_line(done.stdout)
            tail = " ".join(done.stderr.strip().splitlines()[-1:])
            error = f"It ended with {done.returncode} and printed no result. {tail}".strip()
        except subprocess.TimeoutExpired:
            result, error = {}, f"It did not end within {params['timeout']} seconds."
        except OSError as problem:
            result, error = {}, f"It cannot be run: {problem}."
    if not result:
        spent = round(time.monotonic() - started, 3)
        result = {"step": step, "ok": False, "changed": False, "seconds": spent, "error": error}
    return result


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "step": {
                "type": "str",
                "choices": ["prepare", "train", "evaluate", "publish", "current"],
                "required": True,
            },
            "python": {"type": "path", "required": True},
            "folder": {"type": "path", "required": True},
            "config": {"type": "dict", "required": True},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "data_version": {"type": "str"},
            "run_id": {"type": "str"},
            "golden": {"type": "path"},
            "timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    step = module.params["step"]
    if module.check_mode and step != "current":
        module.exit_json(changed=True, result={"step": step, "skipped": True, "why": "check mode"})
    result = run(module.params)
    if not result.get("ok"):
        module.fail_json(
            msg=f"The step {step} failed: {result.get('error')}", changed=False, result=result
        )
    module.exit_json(changed=bool(result.get("changed")), result=result)


if __name__ == "__main__":
    main()

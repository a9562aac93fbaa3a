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
  - Configuration and secrets are passed in memory, by descriptors that the step inherits. Neither
    is ever an argument or a file, so a run that is killed leaves nothing behind. Of O(secrets), a
    step is given those that it needs; only V(publish) and V(configure) are given the key that
    signs, and V(evaluate) reads the registry only where the configuration has a C(margin).
  - The step runs in an empty directory on the controller, whatever host the task is for.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  step:
    description: The step.
    type: str
    choices: [prepare, train, evaluate, publish, current, package, configure]
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
    description: What the step prepare returned; for the steps train and evaluate.
    type: str
  run_id:
    description: What the step train returned; for the steps evaluate and publish.
    type: str
  candidate:
    description:
      - Digest of the candidate that the step train returned; for the steps evaluate and publish,
        which refuse other bytes.
    type: str
  judgement:
    description:
      - File in which the step evaluate keeps what it has found of the candidate; publish reads it.
    type: path
  artifact:
    description: The model that exists, a file, a folder, C(models:/) or C(runs:/); for package.
    type: str
  model_name:
    description: Name of the model; for the step package.
    type: str
  package:
    description: Folder that the step package writes, and from which publish takes the candidate.
    type: path
  cases:
    description: File of requests, with answers or without; for the step package.
    type: path
  accept_answers:
    description: Take what the model answers to its cases as right; for the step package.
    type: bool
    default: false
  golden:
    description: File for the golden answers of the release; for the steps publish and current.
    type: path
  timeout:
    description: Seconds after which the step is ended and has failed.
    type: int
    default: 600
attributes:
  check_mode:
    description:
      - Only the steps C(current) and C(configure) are run, the latter to say what it would make;
        the others change data and registries.
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
      project: breast_cancer
      data_uri: /srv/data/breast-cancer
"""

RETURN = r"""
result:
  description: What the step printed.
  returned: always
  type: dict
  sample: {"ok": true, "step": "prepare", "changed": false, "data_version": "7bf31de8507d"}
"""

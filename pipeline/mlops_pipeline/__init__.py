# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From data to a signed release in four steps, each a plain command.

``python -m mlops_pipeline prepare|train|evaluate|publish --config FILE`` prints one line of JSON
and ends with 0, or prints a sentence and ends with 1. No step needs Ansible; the playbook, Airflow
and a shell call the same commands.
"""

from __future__ import annotations

import os

from .shared import make_importable

# ONNX Runtime and MLflow report what they run to their makers unless told not to.
os.environ.update(ORT_DISABLE_TELEMETRY="1", MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
make_importable()

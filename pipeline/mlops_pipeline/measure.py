# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the project's own entry point ``evaluate`` measures of a candidate.

The data version is the one that the operator's step names, never one that came with the model.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from . import project
from .config import Config
from .data import fetch_dataset
from .storage import open_storage


def measure(config: Config, candidate: Path, data_version: str) -> dict[str, Any]:
    """Return C(metrics) by name, C(rows) judged, and what code and data it was done with."""
    options = config.options
    code = project.load_project(options.text("project"), config.project_lock)
    with TemporaryDirectory(prefix="mlops-evaluate-") as place:
        data = Path(place, "data")
        data.mkdir()
        storage = open_storage(options.text("data_uri"), config)
        fetch_dataset(storage, data_version, data)
        python = project.python_of(code, config.environments, config.project_python)
        parameters = {**config.parameters("evaluate"), "candidate": candidate, "data": data}
        said = project.run(code, "evaluate", parameters, python, config.limit, config.disk_mib)
    return {
        "metrics": project.metrics_of(said, "evaluate"),
        "rows": int(said.get("rows") or 0),
        "data_version": data_version,
        "project_digest": code.digest,
        "project_commit": code.commit,
        "lock_digest": code.lock_digest,
    }

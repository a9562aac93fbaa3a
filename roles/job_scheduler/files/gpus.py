# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell a task the names of its GPUs, by which CUDA finds them whatever order it counts them in.

Slurm runs this before each task; what it prints as ``export NAME=value`` is set for the task.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PLAN = Path("/etc/mlops/job_scheduler/node.json")


def named(numbers: str, gpus: Sequence[Mapping[str, Any]]) -> str:
    """``0,2`` as UUIDs: Slurm counts the GPUs of the node in the order of gres.conf.

    Empty where that cannot be said: with MIG instances, which the driver alone names, and with
    GPUs of several types, each of which has a line of its own. Slurm's own word stands then.
    """
    if len({gpu.get("type") for gpu in gpus}) > 1:
        return ""
    found = []
    for part in numbers.split(","):
        position = int(part) if part.strip().isdecimal() else len(gpus)
        name = gpus[position]["uuid"] if position < len(gpus) else ""
        if not name.startswith("GPU-") or "/" in name:
            return ""
        found.append(name)
    return ",".join(found)


def main() -> int:
    numbers = os.environ.get("SLURM_STEP_GPUS") or os.environ.get("SLURM_JOB_GPUS") or ""
    if not numbers:
        return 0
    try:
        names = named(numbers, json.loads(PLAN.read_text(encoding="utf-8"))["gpus"])
    except (OSError, ValueError, KeyError):
        return 0  # what Slurm says itself holds
    if names:
        sys.stdout.write(f"export CUDA_VISIBLE_DEVICES={names}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

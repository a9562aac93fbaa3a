# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare this node with the plan; drain it where it differs, and give it back when it is mended.

Slurm's daemon runs this now and then as root. A node that a person drained stays as it is.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PLAN = Path("/etc/mlops/job_scheduler/node.json")
REASON = "mlops: "
# What is written down is a little less than what there is, so that less than that is really gone.
SECONDS = 20
UUID = re.compile(r"GPU-[0-9a-fA-F-]{36}|GPU-[0-9a-fA-F-]+")


def differences(
    plan: Mapping[str, Any], memory_mib: float, files: set[str], uuids: set[str] | None
) -> list[str]:
    """What is not as planned, a short phrase each. ``uuids`` is None where no driver was asked."""
    found = []
    if memory_mib < plan["memory_mib"]:
        found.append(f"{memory_mib:.0f} MiB of memory, {plan['memory_mib']} planned")
    for gpu in plan["gpus"]:
        missing = [path for path in gpu["files"] if path not in files]
        if missing:
            found.append(f"no {missing[0]} for {gpu['uuid']}")
        elif uuids is not None and gpu["uuid"].partition("/")[0] not in uuids:
            found.append(f"GPU {gpu['uuid']} does not answer")
    return found


def step(state: str, reason: str, wrong: list[str]) -> list[str]:
    """What scontrol has to be told about the node, nothing if it may stay as it is."""
    drained = "DRAIN" in state
    ours = reason.startswith(REASON + "differs")
    if wrong and not drained:
        return ["State=DRAIN", f"Reason={REASON}differs: {'; '.join(wrong)}"[:900]]
    if not wrong and drained and ours:
        return ["State=RESUME"]
    return []


def memory() -> float:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) / 1024
    return 0.0


def devices(plan: Mapping[str, Any]) -> set[str]:
    """Those of the planned files that are character devices."""
    found = set()
    for gpu in plan["gpus"]:
        for path in gpu["files"]:
            try:
                if Path(path).is_char_device():
                    found.add(path)
            except OSError:
                continue
    return found


def answering() -> set[str] | None:
    """UUIDs of the GPUs that the driver answers for; None where there is no nvidia-smi."""
    try:
        done = run(["nvidia-smi", "-L"])
    except FileNotFoundError:
        return None
    except subprocess.TimeoutExpired:
        return set()
    return set(UUID.findall(done.stdout))


def run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def field(text: str, name: str) -> str:
    found = re.search(rf"\b{name}=(.*?)(?= \w+=|$)", text, re.MULTILINE)
    return found.group(1).strip() if found else ""


def main() -> int:
    plan = json.loads(PLAN.read_text(encoding="utf-8"))
    wrong = differences(plan, memory(), devices(plan), answering() if plan["gpus"] else None)
    shown = run(["scontrol", "show", "node", "-o", plan["name"]])
    if shown.returncode != 0:
        return 0  # the controller does not answer; the next time will tell
    words = step(field(shown.stdout, "State"), field(shown.stdout, "Reason"), wrong)
    if words:
        done = run(["scontrol", "update", f"NodeName={plan['name']}", *words])
        sys.stderr.write(done.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

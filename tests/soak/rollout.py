# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All rollouts of the scenario `rollout`, also those that CI leaves out.

    python -m tests.soak.rollout

Eight devices in three rings, made for it and taken away. One JSON line a case; exits 1 when one
failed. The output of the scenario is kept in ``build/soak``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.lanes import MODEL, environment_of

ROOT = Path(__file__).resolve().parents[2]
NAME = "rollout"


def cases(text: str) -> Iterator[dict[str, Any]]:
    """What a report of pytest says of each case."""
    for case in ElementTree.fromstring(text).iter("testcase"):
        wrong = case.find("failure") if case.find("failure") is not None else case.find("error")
        yield {
            "case": case.get("name", ""),
            "seconds": round(float(case.get("time", 0)), 1),
            "passed": wrong is None and case.find("skipped") is None,
            "said": "" if wrong is None else str(wrong.get("message", "")),
        }


def main(name: str = NAME) -> int:
    """Run the scenario; say what each case came to."""
    report = ROOT / "build" / "molecule" / f"{name}.xml"
    log = ROOT / "build" / "soak" / f"{name}.log"
    report.unlink(missing_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | environment_of(MODEL / name / "inventory", name)
    environment |= {f"MLOPS_{name.upper()}_ALL": "1", "MLOPS_LAB_FOR_TESTS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    command = [str(Path(sys.executable).with_name("molecule")), "test", "-s", name]
    with log.open("wb") as stream:
        done = subprocess.run(
            [*command, "--no-command-borders"],
            cwd=ROOT,
            env=environment,
            stdout=stream,
            stderr=stream,
            check=False,
        )
    found = list(cases(report.read_text("utf-8"))) if report.exists() else []
    for one in found:
        print(json.dumps(one))
    passed = sum(one["passed"] for one in found)
    failed = len(found) - passed
    if done.returncode and not failed:
        failed = 1  # before the first case, or after the last
    print(json.dumps({"passed": passed, "failed": failed, "log": str(log.relative_to(ROOT))}))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

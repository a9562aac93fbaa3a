# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Some rules of a rollout are broken on purpose: the tests have to notice. All are, in soak."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

from tests.soak.mutants import PARTS, RULES, SOURCES, broken, mutants

ROOT = Path(__file__).resolve().parents[3]


def test_a_rule_that_is_broken_is_noticed() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.soak.mutants", "--rules", "--quick"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / ".collections")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{len(RULES)} of {len(RULES)} mutants noticed" in run.stdout


def test_every_mutant_is_another_program() -> None:
    for part in PARTS:
        whole = ast.dump(ast.parse((SOURCES / part).read_text()))
        found = mutants(part)
        assert found
        for mutant in found:
            assert ast.dump(broken(mutant)) != whole

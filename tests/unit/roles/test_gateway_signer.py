# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command that signs channels anew runs from the files that the gateway's role places."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

from .test_model_serving import PACKAGE, closure

ROLE = Path(__file__).resolve().parents[3] / "roles" / "gateway"
VARS = yaml.safe_load((ROLE / "vars" / "main.yml").read_text(encoding="utf-8"))
SOURCE, TARGET = "{{ __gateway_shared }}/", "{{ __gateway_signer_app }}/mlops_release/"


def test_what_is_placed_is_what_the_command_imports_and_nothing_more() -> None:
    rows = VARS["__gateway_signer_code"]
    placed = [row["source"].removeprefix(SOURCE) for row in rows]
    assert sorted(placed) == sorted(closure("channel/renewal.py"))
    for row in rows:
        assert row["path"] == TARGET + row["source"].removeprefix(SOURCE)


def test_the_other_command_brings_what_it_imports_beyond_that_and_nothing_more() -> None:
    placed = [row["source"].removeprefix(SOURCE) for row in VARS["__gateway_tidy_code"]]
    assert sorted(placed) == sorted(closure("enrolment.py") - closure("channel/renewal.py"))
    for row in VARS["__gateway_tidy_code"]:
        assert row["path"] == TARGET + row["source"].removeprefix(SOURCE)


def test_the_command_runs_from_these_files(tmp_path: Path) -> None:
    for row in VARS["__gateway_signer_code"]:
        file = row["source"].removeprefix(SOURCE)
        target = tmp_path / "mlops_release" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((PACKAGE / file).read_bytes())
    program = (ROLE / "templates" / "mlops-fleet-renew.j2").read_text(encoding="utf-8")
    program = program.replace("{{ __gateway_signer_app }}", str(tmp_path))
    program = program.replace("{{ '#!' }}", "#!")
    given = ["--fleet=/nonexistent", "--keys=/nonexistent", "--metrics=/nonexistent/m"]
    done = subprocess.run(
        [sys.executable, "-IB", "-c", program, *given],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "/nonexistent" in done.stderr

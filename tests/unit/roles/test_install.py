# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command of a bundle: nothing of it is used before all of it was compared."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.action.host_kit import (
    CODE,
    PACKAGES,
    manifest,
    row_of,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import PlatformError

PROGRAM = Path(__file__).resolve().parents[3] / "roles/model_serving/files/install.py"
RELEASE = CODE / "_release"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with the code that it needs, and a kit that no device can use."""
    place = tmp_path / "enrol-edge7"
    shutil.copytree(RELEASE, place / "mlops_release", ignore=shutil.ignore_patterns("__pycache__"))
    for package, pattern in PACKAGES.items():
        target = place / "mlops_kit" / package
        target.mkdir(parents=True)
        (target / "__init__.py").touch()
        for path in (CODE / package).glob(pattern):
            shutil.copy(path, target)
    (place / "mlops_kit" / "__init__.py").touch()
    (place / "kit.json").write_text(json.dumps({"format": 0}))
    shutil.copy(PROGRAM, place / "install.py")
    (place / "manifest.json").write_bytes(manifest(place))
    return place


def run(bundle: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-IB", str(bundle / "install.py"), *words],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_whole_bundle_runs_from_its_own_files(bundle: Path) -> None:
    code, said = run(bundle)
    assert (code, said) == (
        1,
        f"{bundle}/kit.json has the format 0, wanted 1; make the bundle anew.\n",
    )
    # Nothing was left in it that would not belong there the next time.
    assert run(bundle) == (code, said)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("changed", "mlops_kit/_host/kit_apply.py is not what the bundle was made with."),
        ("missing", "kit.json cannot be read (No such file or directory)."),
        ("more", "mlops_kit/_host/also.py does not belong to the bundle."),
        ("manifest", "manifest.json cannot be read"),
    ],
)
def test_a_damaged_bundle_is_refused_before_any_of_it_is_run(
    bundle: Path, what: str, said: str
) -> None:
    code = bundle / "mlops_kit/_host"
    if what == "changed":
        with (code / "kit_apply.py").open("a") as stream:
            stream.write("raise SystemExit(77)\n")
    if what == "missing":
        (bundle / "kit.json").unlink()
    if what == "more":
        (code / "also.py").touch()
    if what == "manifest":
        (bundle / "manifest.json").write_text("{")
    result, told = run(bundle)
    assert result == 1
    assert said in told
    assert told.endswith("The bundle is damaged: unpack it again. Nothing was changed.\n")


def test_the_program_needs_nothing_but_python() -> None:
    spec = importlib.util.spec_from_file_location("install", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert made.LEAST_PYTHON == (3, 9)


def test_systems_are_named_as_people_write_them() -> None:
    assert row_of("Debian 13", "aarch64").python == "3.13"
    assert row_of("ubuntu-22.04", "x86_64").libc == "glibc 2.35"
    with pytest.raises(PlatformError, match="debian 13 on x86_64, debian 13 on aarch64"):
        row_of("debian 13", "riscv64")
    with pytest.raises(PlatformError, match="Found enrol_system '' and enrol_machine 'x86_64'"):
        row_of("", "x86_64")

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every locked environment can be had for every machine and every Python that hosts may have."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.mlops.onprem.plugins.action.host_python_app import resolve
from ansible_collections.mlops.onprem.plugins.module_utils._host import app
from ansible_collections.mlops.onprem.plugins.module_utils._host.errors import HostError

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "roles").glob("*/files/requirements.txt"))
# Python and C library of the systems that an assessment lets pass.
SYSTEMS = {"debian 13": ("3.13", "glibc 2.41")}


def systems() -> set[str]:
    page = (ROOT / "roles" / "assess" / "vars" / "main.yml").read_text(encoding="utf-8")
    profiles = yaml.safe_load(page)["__assess_profiles"].values()
    return {system for profile in profiles for system in profile["rules"]["systems"]}


def test_every_system_that_passes_has_its_python_here() -> None:
    assert systems() == set(SYSTEMS)


@pytest.mark.parametrize(
    ("lock", "machine", "system"), list(itertools.product(LOCKS, app.MACHINES, SYSTEMS)), ids=str
)
def test_a_lock_holds_for_every_machine(lock: Path, machine: str, system: str) -> None:
    version, libc = SYSTEMS[system]
    resolve(lock.read_text(encoding="utf-8"), app.Target(version, machine, libc))


def test_a_lock_that_does_not_hold_is_told_with_the_package() -> None:
    text = (ROOT / "roles" / "model_serving" / "files" / "requirements.txt").read_text()
    older = re.sub(
        r"^psutil==6\.1\.1.*?(?=^[a-z])",
        "psutil==5.9.8 --hash=sha256:"
        "bd1184ceb3f87651a67b2708d4c3338e9b10c5df903f2e3776b62303b26cb631\n",
        text,
        flags=re.M | re.S,
    )
    assert "psutil==5.9.8" in older
    with pytest.raises(HostError, match=r"aarch64-manylinux_2_40.*\n?.*psutil==5\.9\.8"):
        resolve(older, app.Target("3.13", "aarch64", "glibc 2.41"))
    with pytest.raises(HostError, match=r"Python 3\.10 on x86_64"):
        resolve(text, app.Target("3.10", "x86_64", "glibc 2.41"))

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every locked environment can be had for every machine and every Python that hosts may have."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.action.host_python_app import locks_beside, resolve
from ansible_collections.mlops.onprem.plugins.module_utils._assess import systems
from ansible_collections.mlops.onprem.plugins.module_utils._host import app
from ansible_collections.mlops.onprem.plugins.module_utils._host.errors import HostError

ROOT = Path(__file__).resolve().parents[2]
LOCKS = {path.parents[1].name: path for path in ROOT.glob("roles/*/files/requirements.txt")}


def wanted() -> list[tuple[str, str, app.Target]]:
    """Each role with an environment on each system that the matrix lets it be on."""
    found = []
    for row in systems.MATRIX:
        for role in sorted(LOCKS):
            if row.takes(role):
                target = app.Target(row.python, row.machine, row.libc)
                found.append((role, row.label, target))
    return found


@pytest.fixture(scope="module")
def said() -> dict[tuple[str, app.Target], str]:
    """What is wrong with each lock on each system; they wait for the index beside one another."""

    def one(row: tuple[str, str, app.Target]) -> str:
        role, _system, target = row
        locks = locks_beside(LOCKS[role])
        try:
            resolve(locks.get(target.version) or locks[app.ANY_PYTHON], target)
        except HostError as error:
            return str(error)
        return ""

    rows = wanted()
    with ThreadPoolExecutor(4) as pool:
        return {(row[0], row[2]): answer for row, answer in zip(rows, pool.map(one, rows))}


@pytest.mark.parametrize(
    ("role", "system", "target"),
    wanted(),
    ids=[f"{role}-{system}-{target.machine}" for role, system, target in wanted()],
)
def test_a_lock_holds_for_every_system(
    role: str, system: str, target: app.Target, said: dict[tuple[str, app.Target], str]
) -> None:
    assert said[role, target] == ""


def test_the_matrix_asks_for_each_python_on_each_machine() -> None:
    asked = {(target.version, target.machine) for role, _s, target in wanted() if "serv" in role}
    assert asked >= {
        (version, machine) for version in ("3.11", "3.12", "3.13") for machine in app.MACHINES
    }


def test_a_lock_that_does_not_hold_is_told_with_the_package() -> None:
    text = LOCKS["model_serving"].read_text()
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

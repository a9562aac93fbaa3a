# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""At the end: what the company had is as it was, and its hosts have nothing of ours."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from extensions.molecule.compute.hosts import GPU_HOSTS, HERE, ROOT, STATE, on, play
from extensions.molecule.compute.test_jobs import LOGS

TAGS = "workloads,job_scheduler,accounting_db,gpu_driver,gateway,trust"


@pytest.fixture(scope="module", autouse=True)
def removed() -> None:
    play(ROOT / "playbooks" / "remove.yml", f"--tags={TAGS}")


@pytest.mark.parametrize("host", ["cctl", *GPU_HOSTS])
def test_a_host_has_nothing_of_ours(host: str) -> None:
    # It fails where it finds none.
    units = "systemctl list-unit-files --no-legend 'mlops*' 'slurm*' 'munge*'"
    assert on(host, units, check=False) == ""
    assert on(host, "getent passwd | grep ^mlops; getent group | grep ^mlops", check=False) == ""
    places = "/etc/mlops /opt/mlops /var/lib/mlops /etc/slurm /etc/munge"
    what = r"\( ! -type d -o -empty \) -printf '%u %g %p\n'"
    left = on(host, f"find {places} {what} 2> /dev/null", check=False)
    others = [line for line in left.splitlines() if not line.endswith("/var/lib/mlops/ledger.json")]
    # What people's jobs said and made is theirs alone, and so is the note of where it lies.
    assert [line for line in others if not re.match(rf"(anna|ben) \1 {LOGS}/", line)] == []
    assert bool(others) == bool(left)
    assert "slurm" not in on(host, "ps -eo comm")


def test_the_company_s_database_is_as_it_was() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "extensions/lab/lab.py",
            "company-fingerprint",
            f"--topology={HERE / 'topology.toml'}",
            "--kind=mariadb",
            f"--against={STATE / 'company.json'}",
            "--strict",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""After every host has been restarted the platform comes back by itself, and predicts."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.infra.site.conftest import ROOT, Site
from tests.patience import PATIENCE

PLAYBOOK = str(Path(sys.executable).with_name("ansible-playbook"))
LAB = [sys.executable, "extensions/lab/lab.py"]
BACK_WITHIN_SECONDS = 5 * PATIENCE
# Orders to try; one in CI, more in a campaign (tests/soak).
SEEDS = range(1, 1 + int(os.environ.get("MLOPS_RESTART_ORDERS", "1")))


@pytest.fixture
def lab_hosts(site: Site) -> list[str]:
    """All hosts of the lab, the company's own database server among them."""
    if site.inventory != ROOT / "inventories" / "lab":
        pytest.skip("only the hosts of the lab are restarted, not those of a company")
    return [*site.hosts, "db1"]


def restart(*arguments: str) -> None:
    subprocess.run([*LAB, "restart", *arguments], check=True, cwd=ROOT, capture_output=True)


def play(site: Site, playbook: str, **variables: bool) -> subprocess.CompletedProcess[str]:
    command = [PLAYBOOK, "-i", str(site.inventory), playbook, "-e", json.dumps(variables)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def assert_back(site: Site, **variables: bool) -> None:
    """Nothing is applied: services are only looked at until they are well, then used."""
    started = time.monotonic()
    while (looked := play(site, "playbooks/selfcheck.yml")).returncode != 0:
        assert time.monotonic() - started < BACK_WITHIN_SECONDS, looked.stdout[-3000:]
    assert not re.search(r"changed=[1-9]", looked.stdout)
    checked = play(site, "playbooks/pipeline_check.yml", **variables)
    assert checked.returncode == 0, checked.stdout[-3000:]


@pytest.mark.destructive
@pytest.mark.parametrize("seed", SEEDS)
def test_the_site_is_back_after_restarts_in_any_order(
    site: Site, lab_hosts: list[str], seed: int
) -> None:
    order = random.Random(seed).sample(lab_hosts, len(lab_hosts))
    for name in order:
        restart(name)
    assert_back(site, pipeline_reuse_release=True)


@pytest.mark.destructive
def test_the_site_is_back_after_a_power_cut_and_releases_a_new_model(
    site: Site, lab_hosts: list[str]
) -> None:
    restart("--power-cut", *lab_hosts)
    assert_back(site)

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole assessments of sites of which no host answers: what is told, and what is not repeated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[4]
# Nobody listens on this port of the loopback network.
NOBODY = {"ansible_host": "127.0.0.9", "ansible_port": 9}
EXISTING = {
    "metadata_db_mode": "existing",
    "metadata_db_host": "db.company.invalid",
    "metadata_db_admin_password": "of-the-administrator",
    "object_store_mode": "existing",
    "object_store_endpoint": "https://s3.company.invalid",
    "object_store_access_key": "AKIACOMPANY",
    "object_store_secret_key": "0123456789abcdef",
    "trust_extra_ca_files": ["/nowhere/company.crt"],
    "mlops_profile": "lab",
}
WORK = [{"name": "chat", "kind": "serving", "requests": {"cpu_cores": 4}}]
OFFERS = [{"name": "server", "cpu_cores": 64, "memory": "512GiB", "price": 9000}]


def assess(folder: Path, variables: dict[str, Any], **groups: Any) -> tuple[int, str, Any]:
    """Exit code, words and findings of an assessment of a control host and a device."""
    edge = {
        "children": {"ring_canary": {"hosts": {"edge1": {**NOBODY, "ansible_host": "127.0.0.8"}}}}
    }
    children = {"control": {"hosts": {"ctl1": NOBODY}}, "edge": edge, **groups}
    page = {"all": {"vars": variables, "children": children}}
    (folder / "a site").mkdir()
    (folder / "a site" / "hosts.yml").write_text(yaml.safe_dump(page))
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-playbook"),
            f"-i{folder / 'a site' / 'hosts.yml'}",
            "mlops.onprem.assess",
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
        timeout=5 * PATIENCE,
    )
    # Before that, Ansible says in its own words what it thinks of the inventory.
    said = done.stdout + done.stderr.rpartition("[ERROR]")[2]
    report = folder / "a site" / ".state" / "assessment.json"
    assert report.exists(), said
    return done.returncode, said, json.loads(report.read_text())["findings"]


def assert_clean(said: str) -> None:
    for noise in ("Origin:", "Traceback", "The lookup plugin", "has no attribute", "-vvv"):
        assert noise not in said


def test_endpoints_are_asked_although_no_host_answers(tmp_path: Path) -> None:
    code, said, findings = assess(
        tmp_path, {**EXISTING, "mlops_workloads": WORK, "mlops_host_offers": OFFERS}
    )
    assert code == 1
    failed = [row for row in findings if row["severity"] in ("fail", "error")]
    told = " ".join(row["found"] for row in failed)
    assert {row["host"] for row in failed if row["id"] == "assess.unreachable"} == {"ctl1", "edge1"}
    for endpoint in ("db.company.invalid", "s3.company.invalid", "/nowhere/company.crt"):
        assert endpoint in told
    assert "the workloads were not planned: no host could be measured" in told
    assert "buy" not in said
    assert "9000" not in said
    assert_clean(said)


def test_a_secret_that_is_not_set_is_named_once(tmp_path: Path) -> None:
    variables = {name: value for name, value in EXISTING.items() if "secret_key" not in name}
    _code, said, findings = assess(tmp_path, variables)
    told = [row for row in findings if "object_store_secret_key" in row["found"]]
    assert [row["severity"] for row in told] == ["fail"]
    assert_clean(said)


@pytest.mark.parametrize(
    ("groups", "cause"),
    [
        ({"control": {"hosts": {}}}, "the group control has no host"),
        ({"control": None, "controll": {"hosts": {"ctl1": NOBODY}}}, "did you mean control?"),
        ({"edge": {"hosts": ["edge1"]}}, "hosts of the group edge is a list"),
    ],
)
def test_a_site_without_control_host_is_one_cause_and_no_consequences(
    groups: Any, cause: str, tmp_path: Path
) -> None:
    code, said, findings = assess(tmp_path, {"mlops_profile": "lab"}, **groups)
    assert code == 1
    assert any(cause in row["found"] for row in findings)
    errors = [row["id"] for row in findings if row["severity"] == "error"]
    assert errors == ["assess.roles"]
    assert_clean(said)


def test_a_host_that_is_declared_lost_is_not_even_looked_at(tmp_path: Path) -> None:
    gpu = {"hosts": {"gpu1": {**NOBODY, "ansible_host": "127.0.0.7"}}}
    _code, said, findings = assess(
        tmp_path, {**EXISTING, "mlops_lost_hosts": ["gpu1", "gpu7"]}, gpu=gpu
    )
    told: dict[str, list[str]] = {row["host"]: [] for row in findings}
    for row in findings:
        told[row["host"]].append(row["id"])
    assert told["gpu1"] == ["assess.lost"]
    assert "assess.unreachable" in told["edge1"]
    assert "mlops_lost_hosts names 'gpu7', which is no host of the inventory" in said
    assert "unknown_group" not in said

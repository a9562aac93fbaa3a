# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables of the role gpu_driver that cannot be meant are findings of the assessment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLE = Path(__file__).resolve().parents[3] / "roles" / "gpu_driver"


def trusted(value: Any) -> Any:
    """The same with its texts as templates."""
    if isinstance(value, dict):
        return {key: trusted(one) for key, one in value.items()}
    if isinstance(value, list):
        return [trusted(one) for one in value]
    return trust_as_template(value) if isinstance(value, str) else value


def finding(name: str, **values: Any) -> dict[str, Any]:
    page = trusted(yaml.safe_load((ROLE / "vars" / "main.yml").read_text()))
    [found] = Templar(loader=DataLoader(), variables={**page, **values}).template(page[name])
    return dict(found)


@pytest.mark.parametrize(
    ("limits", "severity", "said"),
    [
        ({"all": 300}, "pass", "watts for all"),
        ({"GPU-1": "250.5", "0": 200}, "pass", "watts for GPU-1, 0"),
        ({"all": "300W"}, "fail", "has 300W for all"),
        ({"all": 300, "GPU-1": -5}, "fail", "has -5 for GPU-1"),
        ({"all": True}, "fail", "has True for all"),
        ({"all": 0}, "fail", "has 0 for all"),
    ],
)
def test_power_limits_are_watts(limits: dict[str, Any], severity: str, said: str) -> None:
    found = finding("__gpu_driver_findings_power", gpu_driver_power_limits=limits)
    assert found["severity"] == severity
    assert said in found["found"]


@pytest.mark.parametrize(
    ("repository", "severity"),
    [
        ({"url": "https://mirror.example.com/debian"}, "pass"),
        ({"url": "file:/srv/company-drivers/"}, "pass"),
        ({"suite": "trixie"}, "fail"),
        ({"url": "not a url"}, "fail"),
    ],
)
def test_a_repository_has_an_address(repository: dict[str, str], severity: str) -> None:
    found = finding("__gpu_driver_findings_repository", gpu_driver_repository=repository)
    assert found["severity"] == severity


def test_tasks_that_drain_a_host_are_a_file(tmp_path: Path) -> None:
    there, away = tmp_path / "drain.yml", tmp_path / "nowhere.yml"
    there.write_text("---\n")
    for path, severity in ((there, "pass"), (away, "fail")):
        found = finding("__gpu_driver_findings_drain", gpu_driver_drain_tasks=str(path))
        assert found["severity"] == severity

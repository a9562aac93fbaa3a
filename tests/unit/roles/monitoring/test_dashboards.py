# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dashboards are those that the SDK builds, and ask what Prometheus can read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.prometheus_programs import program

ROOT = Path(__file__).resolve().parents[4]
FILES = sorted((ROOT / "roles/monitoring/files/dashboards").glob("*.json"))
CHOICES = re.compile(r"\$(\w+)")


def page(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_the_files_are_what_the_sdk_builds() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "extensions/dashboards/build.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dashboard_has_a_place_of_its_own_and_says_what_it_shows(path: Path) -> None:
    found = page(path)
    assert found["uid"] == f"mlops-{path.stem}"
    assert found["panels"]
    for panel in found["panels"]:
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    places = [(one["gridPos"]["x"], one["gridPos"]["y"]) for one in found["panels"]]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_expression_is_one_that_prometheus_reads(path: Path, tmp_path: Path) -> None:
    found = page(path)
    known = {one["name"] for one in found["templating"]["list"]}
    expressions = [each["expr"] for panel in found["panels"] for each in panel["targets"]]
    used = {name for text in expressions for name in CHOICES.findall(text)}
    assert used <= known
    rules = [
        {"record": f"panel:{at}", "expr": CHOICES.sub(".*", text)}
        for at, text in enumerate(expressions)
    ]
    tried = tmp_path / "rules.yml"
    tried.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(
        [program("promtool"), "check", "rules", str(tried)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

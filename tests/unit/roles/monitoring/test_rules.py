"""Every alert fires when it should, and only then, judged by promtool."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.prometheus_programs import program

ROOT = Path(__file__).resolve().parents[4]
ALERTS = sorted(ROOT.glob("roles/*/files/alerts.yml"))
RULES = [*ALERTS, ROOT / "roles" / "monitoring" / "files" / "recording.yml"]


@pytest.fixture(scope="session")
def promtool() -> str:
    return program("promtool")


@pytest.mark.parametrize("path", RULES, ids=lambda path: f"{path.parts[-3]} {path.name}")
def test_rules_are_valid(promtool: str, path: Path) -> None:
    done = subprocess.run(
        [promtool, "check", "rules", path], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_alerts_fire_when_they_should(promtool: str) -> None:
    cases = Path(__file__).with_name("rules_test.yml")
    done = subprocess.run(
        [promtool, "test", "rules", cases], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def alerts() -> list[dict[str, Any]]:
    """The alerts of every role that has some."""
    pages = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in ALERTS]
    return [rule for page in pages for group in page["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_an_alert_says_what_why_and_what_to_do(alert: dict[str, Any]) -> None:
    silent = alert["alert"] == "Watchdog"  # which always fires
    assert alert["labels"]["severity"] in ({"none"} if silent else {"critical", "warning"})
    for part in ("summary", "description", "runbook"):
        assert len(alert["annotations"][part]) > 20, part


def test_every_file_of_alerts_is_tried() -> None:
    cases = yaml.safe_load(Path(__file__).with_name("rules_test.yml").read_text(encoding="utf-8"))
    folder = Path(__file__).parent
    assert {(folder / name).resolve() for name in cases["rule_files"]} == set(RULES)


def test_every_alert_is_tried() -> None:
    tried = Path(__file__).with_name("rules_test.yml").read_text(encoding="utf-8")
    assert [a["alert"] for a in alerts() if f"alertname: {a['alert']}\n" not in tried] == []

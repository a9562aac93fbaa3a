"""Every alert fires when it should, and only then, judged by promtool."""

from __future__ import annotations

import subprocess
from functools import cache
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


CASES = Path(__file__).with_name("rules_test.yml")


def name_of(rule: dict[str, Any]) -> str:
    """The alert, or the series that is recorded."""
    return str(rule.get("alert") or rule["record"])


def concerned(case: dict[str, Any], rules: dict[str, str]) -> frozenset[str]:
    """The rules that a case is about, by their names, and those that they read."""
    found: set[str] = set()
    text = yaml.safe_dump(case)
    while more := {name for name in set(rules) - found if name in text}:
        found |= more
        text = "\n".join(rules[name] for name in more)
    return frozenset(found)


@cache
def page() -> dict[str, Any]:
    """The file of cases."""
    found: dict[str, Any] = yaml.safe_load(CASES.read_text(encoding="utf-8"))
    return found


@cache
def groups() -> list[dict[str, Any]]:
    """The groups of all files of rules."""
    pages = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in RULES]
    return [group for page in pages for group in page["groups"]]


def cases() -> dict[frozenset[str], list[dict[str, Any]]]:
    """The cases by the rules that they are about.

    promtool evaluates every rule that it has read, at every minute of a case, and some take days.
    """
    rules = {name_of(rule): yaml.safe_dump(rule) for group in groups() for rule in group["rules"]}
    found: dict[frozenset[str], list[dict[str, Any]]] = {}
    for case in page()["tests"]:
        found.setdefault(concerned(case, rules), []).append(case)
    return found


def only(names: frozenset[str]) -> list[dict[str, Any]]:
    """The groups of all files with these rules alone."""
    kept = [
        {**group, "rules": [rule for rule in group["rules"] if name_of(rule) in names]}
        for group in groups()
    ]
    return [group for group in kept if group["rules"]]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [pytest.param(names, chosen, id=" ".join(sorted(names))) for names, chosen in cases().items()],
)
def test_alerts_fire_when_they_should(
    promtool: str, names: frozenset[str], chosen: list[dict[str, Any]], tmp_path: Path
) -> None:
    rules, tried = tmp_path / "rules.yml", tmp_path / "rules_test.yml"
    rules.write_text(yaml.safe_dump({"groups": only(names)}), encoding="utf-8")
    tried.write_text(
        yaml.safe_dump({**page(), "rule_files": [str(rules)], "tests": chosen}), encoding="utf-8"
    )
    done = subprocess.run(
        [promtool, "test", "rules", tried], check=False, capture_output=True, text=True
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
    assert {(CASES.parent / name).resolve() for name in page()["rule_files"]} == set(RULES)


def test_every_alert_is_tried() -> None:
    tried = CASES.read_text(encoding="utf-8")
    assert [a["alert"] for a in alerts() if f"alertname: {a['alert']}\n" not in tried] == []

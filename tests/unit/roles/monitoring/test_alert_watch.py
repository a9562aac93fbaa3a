# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alertmanager is told of a silent Prometheus, and of no other."""

from __future__ import annotations

import importlib.util
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[4]
FILE = ROOT / "roles" / "monitoring" / "files" / "mlops_alert_watch.py"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


@pytest.fixture(name="watch", scope="module")
def _watch() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mlops_alert_watch", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Manager:
    """An Alertmanager that was started some minutes ago and has some alerts."""

    def __init__(self, minutes: float, *names: str) -> None:
        started = NOW - timedelta(minutes=minutes)
        self.status = {"uptime": started.strftime("%Y-%m-%dT%H:%M:%S.123Z")}
        self.alerts = [{"labels": {"alertname": name}} for name in names]
        self.posted: list[Any] = []

    def __call__(self, path: str, told: Any = None) -> object:
        if told is not None:
            assert path == "alerts"
            self.posted += told
            return None
        if path == "status":
            return self.status
        assert path == "alerts?filter=alertname%3D%22Watchdog%22"
        return [one for one in self.alerts if one["labels"]["alertname"] == "Watchdog"]


@pytest.mark.parametrize(
    ("manager", "told"),
    [
        (Manager(60, "Watchdog", "DiskAlmostFull"), False),
        (Manager(2), False),  # it was started anew and may not have been told again yet
        (Manager(3), True),
        (Manager(60, "DiskAlmostFull"), True),
    ],
)
def test_silence_is_told_and_nothing_else(watch: ModuleType, manager: Manager, told: bool) -> None:
    assert watch.look(manager, "ctl1", "https://gw", NOW) is told
    assert bool(manager.posted) is told


def test_the_alert_says_what_to_do_and_ends_by_itself(watch: ModuleType) -> None:
    manager = Manager(60)
    watch.look(manager, "ctl1", "https://gw", NOW)
    (posted,) = manager.posted
    assert posted["labels"] == {
        "alertname": "PrometheusDown",
        "severity": "critical",
        "host": "ctl1",
    }
    assert posted["endsAt"] == "2026-01-02T03:06:05Z"
    assert "ctl1" in posted["annotations"]["runbook"]
    assert posted["annotations"]["runbook_url"] == "https://gw/runbooks/PrometheusDown.html"


def test_what_answers_nonsense_is_refused(watch: ModuleType) -> None:
    with pytest.raises(ValueError, match="no Alertmanager"):
        watch.look(lambda *_words: "hello", "ctl1", "https://gw", NOW)


def test_an_alertmanager_that_is_not_there_is_said(
    watch: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "password").write_text("x\n")
    words = ("http://127.0.0.1:1/alertmanager", "ctl1", "https://gw", "mlops")
    assert watch.main(*words, str(tmp_path / "password")) == 1
    assert "http://127.0.0.1:1/alertmanager cannot be asked" in capsys.readouterr().err


def test_a_password_that_cannot_be_read_is_said(
    watch: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("http://127.0.0.1:1/alertmanager", "ctl1", "https://gw", "mlops")
    assert watch.main(*words, str(tmp_path / "none")) == 1
    assert "No such file" in capsys.readouterr().err

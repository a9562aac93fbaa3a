"""What a run has changed, and word of one that failed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.callback import runs
from ansible_collections.mlops.onprem.plugins.module_utils._audit import names
from ansible_collections.mlops.onprem.plugins.module_utils._audit.sources.runs import events
from ansible_collections.mlops.onprem.plugins.modules.audit_run import leave
from ansible_collections.mlops.onprem.plugins.plugin_utils import run_so_far
from ansible_collections.mlops.onprem.plugins.plugin_utils.run_so_far import Run, kept

WHO = names.names([], [], [], "", "s")


@pytest.fixture
def this(monkeypatch: pytest.MonkeyPatch) -> Run:
    made = Run()
    monkeypatch.setattr(runs, "THIS", made)
    monkeypatch.setattr(run_so_far, "THIS", made)
    return made


def result(host: str, action: str = "copy", **told: Any) -> SimpleNamespace:
    return SimpleNamespace(
        host=SimpleNamespace(get_name=lambda: host),
        task=SimpleNamespace(action=action),
        result=told,
    )


def stats(**failures: int) -> SimpleNamespace:
    return SimpleNamespace(
        processed=dict.fromkeys(failures, 1),
        summarize=lambda host: {"failures": failures[host], "unreachable": 0},
    )


def told(callback: runs.CallbackModule, directory: Path, phase: str) -> None:
    callback.v2_runner_on_ok(
        result("ctl1", "mlops.onprem.audit_run", directory=str(directory), phase=phase)
    )


def test_changes_are_counted_by_host_and_told_as_an_event(this: Run, tmp_path: Path) -> None:
    callback = runs.CallbackModule()
    callback.v2_playbook_on_start(SimpleNamespace(_file_name="/x/playbooks/site.yml"))
    for host, changed in (("edge1", True), ("edge1", True), ("edge2", False)):
        callback.v2_runner_on_ok(result(host, changed=changed))
    record = this.record("ended", 1_795_867_200.0)
    leave(tmp_path, [record])
    (path,) = tmp_path.glob("*.json")
    (event,) = events(path.read_bytes(), WHO)
    assert (event.time, event.outcome, event.details["changed"]) == (
        "2026-11-28T12:00:00.000Z",
        "success",
        {"edge1": 2},
    )
    assert (event.actor.kind, event.details["playbook"]) == ("controller", "site.yml")
    assert "@" in event.actor.name


def test_a_run_that_fails_leaves_word_for_the_next(this: Run, tmp_path: Path) -> None:
    callback = runs.CallbackModule()
    told(callback, tmp_path / "runs", "begun")
    callback.v2_playbook_on_stats(stats(edge1=1, edge2=0))
    ((path, record),) = kept(tmp_path / "runs")
    assert (record["id"], record["failed"], record["complete"]) == (this.id, ["edge1"], False)
    assert path.stat().st_mode & 0o077 == 0
    (event,) = events(json.dumps(record).encode(), WHO)
    assert (event.outcome, event.details["phase"]) == ("failure", "ended")


def test_a_run_that_said_that_it_ended_leaves_nothing(this: Run, tmp_path: Path) -> None:
    callback = runs.CallbackModule()
    told(callback, tmp_path / "runs", "begun")
    told(callback, tmp_path / "runs", "ended")
    callback.v2_playbook_on_stats(stats(edge1=0))
    assert kept(tmp_path / "runs") == []


def test_a_run_that_never_began_for_the_stream_leaves_nothing(this: Run, tmp_path: Path) -> None:
    callback = runs.CallbackModule()
    callback.v2_playbook_on_stats(stats(edge1=1))
    assert list(tmp_path.iterdir()) == []


def test_without_the_callback_nobody_says_that_nothing_changed(this: Run) -> None:
    assert "changed" not in this.record("ended", 0.0)

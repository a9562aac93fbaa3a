"""The runner of the tests: what it starts, and that it ends all of it."""

from __future__ import annotations

import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import lanes, run, with_ansible
from tests.lanes import Lane


def test_lanes_share_one_queue_and_take_each_scenario_once() -> None:
    queue = deque(["a", "b", "c"])
    one = run.molecule(Lane(1), queue, destroy=True)
    other = run.molecule(Lane(1), queue, destroy=True)
    assert [next(one).name, next(other).name] == ["hosts 1", "hosts 1"]
    taken = [next(one).name, next(other).name, next(one).name]
    assert taken == ["a", "b", "c"]
    assert [next(one).name, next(other).name] == ["destroy 1", "destroy 1"]


def test_each_lane_runs_molecule_on_its_own_hosts() -> None:
    steps = list(run.molecule(Lane(1), deque(["trust"]), destroy=True))
    assert all(step.environment == Lane(1).environment for step in steps[1:])


def test_a_scenario_with_hosts_of_its_own_uses_and_destroys_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "extensions" / "molecule" / "fleet"
    folder.mkdir(parents=True)
    (folder / "topology.toml").touch()
    monkeypatch.setattr(lanes, "ROOT", tmp_path)
    monkeypatch.setattr(lanes, "MODEL", folder.parent)
    steps = run.molecule(Lane(1), deque(["fleet"]), destroy=False)
    _hosts, step = steps
    assert "--destroy=never" not in step.command
    assert step.environment["MLOPS_TEST_SITE"] == "extensions/molecule/fleet/inventory"
    memory = step.environment["MOLECULE_EPHEMERAL_DIRECTORY"]
    assert memory == str(tmp_path / ".cache" / "molecule-fleet" / "ephemeral")
    assert memory != Lane(1).environment["MOLECULE_EPHEMERAL_DIRECTORY"]


def test_what_was_started_is_stopped() -> None:
    with run.started(["sleep", "3600"]) as process:
        stopper = threading.Thread(target=run.stop_all)
        stopper.start()
        status = process.wait(300)
    stopper.join()
    assert status < 0


REPORT = """<testsuites><testsuite tests="3" failures="1" errors="1" skipped="0">
<testcase classname="tests.infra.test_trust" name="test_key[mol1]">
<failure message="AssertionError: the key is readable&#10;assert 420 == 384">long story</failure>
</testcase>
<testcase classname="tests.infra.test_trust" name="test_ca"><error>no host
at all</error></testcase>
<testcase classname="tests.infra.test_trust" name="test_fine"/>
</testsuite></testsuites>"""


def test_what_failed_is_named_with_its_first_line(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    counts = run.junit(report)(False, "")
    assert (counts.passed, counts.failed) == (1, 2)
    assert counts.failures == (
        "tests.infra.test_trust::test_key[mol1]: AssertionError: the key is readable",
        "tests.infra.test_trust::test_ca: no host",
    )
    assert (counts + run.Counts(passed=1)).failures == counts.failures


@pytest.mark.parametrize(
    ("log", "named"),
    [
        ("one\n  FAILED  Open the gate\nmany\nlines\nfollow\nuntil\nthe end", "Open the gate"),
        ("INFO begin\nERROR    [trust > idempotence] Executed: Failed\nWARNING ok", "idempotence"),
        ("one\ntwo\n\nplugins/x.py:3: error: no type\n\n", "plugins/x.py:3: error: no type"),
    ],
)
def test_a_failure_without_a_report_is_told_from_the_log(log: str, named: str) -> None:
    said = run.telling(log)
    assert any(named in line for line in said)
    assert len(said) <= 5


def test_the_last_lines_tell_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The middle of a long output may be cut where somebody reads it."""

    def lint() -> Iterator[run.Step]:
        yield run.Step("lint", "good", ["true"])
        yield run.Step("lint", "bad", ["sh", "-c", f"echo {'word ' * 80}; exit 1"])

    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(run, "BUILD", tmp_path)
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "lint", lint)
    monkeypatch.setattr(sys, "argv", ["run", "lint"])
    assert run.main() == 1
    *_before, name, said, counts = capsys.readouterr().out.splitlines()
    assert name == "Failed: lint: bad"
    assert said.startswith("  word word")
    assert len(said) <= run.WIDTH + 2
    assert counts == "1 passed, 1 failed, 0 skipped"


PLUGINS = "tests/unit/plugins"


def test_what_all_children_computed_is_counted() -> None:
    """Also what a child of the child did; a second of it, however long that takes."""
    spin = "import time\nwhile time.process_time() < 1: pass"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {spin!r}])"
    with run.started([sys.executable, "-c", program]) as process:
        status, computed = run.ended(process)
    assert status == 0
    assert computed >= 1
    with run.started([sys.executable, "-c", "raise SystemExit(3)"]) as process:
        assert run.ended(process)[0] == 3


@pytest.fixture(scope="module")
def chosen() -> set[Path]:
    """What runs with every ansible-core; to look through all tests takes a second."""
    return set(with_ansible.chosen())


@pytest.mark.parametrize(
    ("test", "knows"),
    [
        (f"{PLUGINS}/lookup/test_verdict.py", True),  # imports it
        (f"{PLUGINS}/lookup/test_controller.py", True),  # starts a program of it
        (f"{PLUGINS}/filter/test_htpasswd.py", True),  # tests what imports it
        (f"{PLUGINS}/module_utils/_planner/test_solver.py", False),
        (f"{PLUGINS}/module_utils/_supply/test_gather.py", False),
    ],
)
def test_only_what_knows_ansible_runs_with_its_other_versions(
    test: str, knows: bool, chosen: set[Path]
) -> None:
    path = run.ROOT / test
    assert path.exists()
    assert (path in chosen) is knows


def test_tests_of_plugins_always_run_with_every_version(chosen: set[Path]) -> None:
    for kind in ("action", "callback", "filter", "lookup"):
        files = set((run.ROOT / PLUGINS / kind).rglob("test_*.py"))
        assert files
        assert files <= chosen


def test_what_is_imported_far_away_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {
        "tests/unit/test_far.py": "from tests import helper\n",
        "tests/unit/test_near.py": "import json\n",
        "tests/unit/test_named.py": "PROGRAM = 'ansible-playbook'\n",
        "tests/helper.py": "from ansible_collections.mlops.onprem.plugins.modules import thin\n",
        "plugins/modules/thin.py": "from ..module_utils._x import core\n",
        "plugins/module_utils/_x/core.py": "def f():\n    from ansible.module_utils import basic\n",
        "plugins/module_utils/_x/__init__.py": "",
    }
    for name, text in pages.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(with_ansible, "ROOT", tmp_path)
    monkeypatch.setattr(with_ansible, "UNIT", tmp_path / "tests/unit")
    monkeypatch.setattr(with_ansible, "PLACES", (tmp_path,))
    assert [path.stem for path in with_ansible.chosen()] == ["test_far", "test_named"]

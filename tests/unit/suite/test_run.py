"""The runner of the tests: what it starts, and that it ends all of it."""

from __future__ import annotations

import re
import threading
import time
from collections import deque

from tests import run
from tests.lanes import Lane
from tests.unit.test_imports import PURE


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


def test_what_was_started_is_stopped() -> None:
    begun = time.monotonic()
    with run.started(["sleep", "60"]) as process:
        stopper = threading.Thread(target=run.stop_all)
        stopper.start()
        status = process.wait()
    stopper.join()
    assert status < 0
    assert time.monotonic() - begun < 15


def test_only_what_knows_nothing_of_ansible_is_left_out_of_its_other_versions() -> None:
    ansible = re.compile(r"^\s*(from|import) ansible[. ]", re.MULTILINE)
    for name in run.WITHOUT_ANSIBLE:
        directory = run.ROOT / "tests" / "unit" / name
        files = list(directory.rglob("*.py"))
        assert files, f"{name} has no tests"
        assert not [str(path) for path in files if ansible.search(path.read_text())]
        if name.startswith("plugins/"):
            assert directory.name in PURE

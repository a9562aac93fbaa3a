# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module for nodes of Slurm, against a controller that answers as scontrol does."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._host.system import Ran
from ansible_collections.mlops.onprem.plugins.module_utils._slurm import draining
from ansible_collections.mlops.onprem.plugins.module_utils._slurm.errors import SlurmError
from ansible_collections.mlops.onprem.plugins.modules import slurm_nodes

GPU1 = {"cpus": 2, "memory_mib": 8000, "gres": "gpu:t4:1"}


@dataclass
class Controller:
    """Two nodes; a job on gpu2 ends when it was looked at so often."""

    looks: int = 3
    states: dict[str, str] = field(default_factory=lambda: {"gpu1": "IDLE", "gpu2": "MIXED"})
    reasons: dict[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)  # the state after each refusal to resume
    silent: list[bool] = field(default_factory=list)  # which of the next looks are in vain

    def run(self, argv: list[str], **_options: Any) -> Ran:
        if argv[1] == "show" and self.silent and self.silent.pop(0):
            return Ran(1, "", "Unable to contact slurm controller")
        if argv[1] == "show":
            self.looks -= 1
            if self.looks <= 0 and "DRAIN" in self.states["gpu2"]:
                self.states["gpu2"] = "IDLE+DRAIN"
            return Ran(0, "".join(self._line(name) for name in self.states), "")
        name, state = argv[2].partition("=")[2], argv[3].partition("=")[2]
        if state == "RESUME" and self.refusals:
            self.states[name] = self.refusals.pop(0)
            return Ran(1, "", "slurm_update error: Invalid node state specified")
        self.told.append(" ".join([name, state, *argv[4:]]))
        if state == "DRAIN":
            self.states[name] += "+DRAIN"
            self.reasons[name] = argv[4].partition("=")[2]
        elif state == "RESUME":
            self.states[name] = "IDLE"
        return Ran(0, "", "")

    def _line(self, name: str) -> str:
        busy = int("MIXED" in self.states[name])
        reason = f" Reason={self.reasons[name]} [root@now]" if name in self.reasons else ""
        return (
            f"NodeName={name} CPUAlloc={busy} CPUTot=2 RealMemory=8000 Gres=gpu:t4:1"
            f" State={self.states[name]} Partitions=main{reason}\n"
        )


@pytest.fixture
def controller(monkeypatch: pytest.MonkeyPatch) -> Controller:
    made = Controller()
    monkeypatch.setattr(slurm_nodes, "run", made.run)
    monkeypatch.setattr(slurm_nodes, "PROGRAM", "/nowhere/slurmctld")
    monkeypatch.setattr(slurm_nodes, "CONFIGURATION", __file__)  # one that is there
    monkeypatch.setattr(slurm_nodes, "POLL_SECONDS", 0)
    return made


def work(state: str, check: bool = False, **more: Any) -> list[str]:
    usual = {"nodes": {}, "names": [], "lost": [], "timeout": 60, "controller_timeout": 0}
    given = {**usual, **more, "state": state}
    module = type("Module", (), {"params": given, "check_mode": check})()
    steps: list[str] = slurm_nodes.work(module)["steps"]  # type: ignore[assignment]
    return steps


def test_a_host_that_left_is_drained_and_its_jobs_end_before_anything_else(
    controller: Controller,
) -> None:
    assert work("empty", nodes={"gpu1": GPU1}) == ["drain gpu2: it leaves the cluster"]
    assert controller.told == [f"gpu2 DRAIN Reason={draining.LEAVING}"]
    assert controller.looks == 0  # until the job had ended, and not longer
    assert work("empty", nodes={"gpu1": GPU1}) == []
    assert work("serve", nodes={"gpu1": GPU1}) == []  # what leaves is not given back


def test_who_removes_the_scheduler_empties_its_nodes(controller: Controller) -> None:
    assert work("leave", names=["gpu1", "gone"]) == ["drain gpu1: it leaves the cluster"]
    assert controller.told == [f"gpu1 DRAIN Reason={draining.LEAVING}"]


def test_a_host_that_is_restarted_is_emptied_and_given_back(controller: Controller) -> None:
    assert work("rest", names=["gpu2"]) == ["drain gpu2: its host is restarted"]
    assert work("serve", nodes={"gpu2": {}}) == ["give gpu2 back to jobs"]
    assert controller.told[1:] == ["gpu2 RESUME"]
    assert controller.states["gpu2"] == "IDLE"


def test_a_host_that_somebody_else_drained_is_waited_for_and_not_given_back(
    controller: Controller,
) -> None:
    controller.states["gpu2"] = "MIXED+DRAIN"
    controller.reasons["gpu2"] = "fan is broken"
    assert work("rest", names=["gpu2"]) == []
    assert controller.states["gpu2"] == "IDLE+DRAIN"
    assert work("serve", nodes={"gpu2": {}}) == []
    assert controller.told == []


def test_a_job_that_does_not_end_is_a_sentence_and_the_node_stays_drained(
    controller: Controller,
) -> None:
    controller.looks = 1000
    with pytest.raises(SlurmError, match=r"jobs still run on gpu2 after 0 s .*scancel"):
        work("empty", nodes={"gpu1": GPU1}, timeout=0)
    assert controller.states["gpu2"] == "MIXED+DRAIN"


def test_a_lost_host_is_given_up_and_not_waited_for(controller: Controller) -> None:
    said = work("empty", nodes={"gpu1": GPU1}, lost=["gpu2"])
    assert said == ["give up gpu2: it is declared lost"]
    assert controller.told == [f"gpu2 DOWN Reason={draining.LOST}"]


@pytest.mark.parametrize(
    ("state", "more"),
    [
        ("empty", {"nodes": {"gpu1": GPU1}}),
        ("empty", {"nodes": {"gpu1": GPU1}, "lost": ["gpu2"]}),
        ("leave", {"names": ["gpu2"]}),
        ("rest", {"names": ["gpu2"]}),
    ],
)
def test_a_check_says_what_it_would_do_and_tells_slurm_nothing(
    controller: Controller, state: str, more: dict[str, Any]
) -> None:
    assert len(work(state, check=True, **more)) == 1
    assert controller.told == []


def test_where_no_controller_answers_there_is_nothing_to_wait_for(
    monkeypatch: pytest.MonkeyPatch, controller: Controller
) -> None:
    gone = Ran(1, "", "Unable to contact slurm controller")
    monkeypatch.setattr(slurm_nodes, "run", lambda _argv, **_options: gone)
    assert work("leave", names=["gpu2"]) == []
    assert controller.told == []


def test_a_controller_that_starts_with_its_host_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, controller: Controller
) -> None:
    work("rest", names=["gpu1"])
    controller.silent = [True] * 3
    assert work("serve", nodes={"gpu1": {}}) == []  # nobody said that it has to answer
    assert work("serve", nodes={"gpu1": {}}, controller_timeout=900) == ["give gpu1 back to jobs"]
    assert controller.states["gpu1"] == "IDLE"
    states = iter(["inactive", "activating", "active"])
    monkeypatch.setattr(slurm_nodes, "PROGRAM", __file__)
    monkeypatch.setattr(slurm_nodes, "properties", lambda *_: {"ActiveState": next(states)})
    assert work("rest", check=True, names=["gpu1"]) == []  # a preview waits for nothing
    said = work("rest", check=False, names=[], controller_timeout=900)
    assert (said, next(states, "asked until then")) == ([], "asked until then")


@pytest.mark.parametrize(
    ("state", "more", "sentence"),
    [
        (
            "serve",
            {"nodes": {"gpu1": {}}},
            "gpu1 is not given back to jobs; see journalctl -u slurmctld -n 50, and when scontrol"
            " ping says UP, run again, or scontrol update NodeName=gpu1 State=RESUME",
        ),
        (
            "rest",
            {"names": ["gpu1"]},
            "gpu1 is not emptied, as its jobs are not known; see journalctl -u slurmctld -n 50, and"
            " when scontrol ping says UP, run again",
        ),
    ],
)
def test_a_controller_that_does_not_answer_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
    controller: Controller,
    state: str,
    more: dict[str, Any],
    sentence: str,
) -> None:
    controller.silent = [True] * 1000
    clock = itertools.count(0, 4)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with pytest.raises(SlurmError) as refusal:
        work(state, controller_timeout=10, **more)
    assert str(refusal.value) == f"slurmctld does not answer within 10 s, so {sentence}"
    assert controller.told == []


def test_where_no_controller_is_installed_none_has_to_answer(
    monkeypatch: pytest.MonkeyPatch, controller: Controller
) -> None:
    controller.silent = [True]
    monkeypatch.setattr(slurm_nodes, "CONFIGURATION", "/nowhere/slurm.conf")
    assert work("rest", names=["gpu1"], controller_timeout=60) == []
    assert controller.told == []


def test_a_controller_that_goes_away_does_not_make_a_node_empty(controller: Controller) -> None:
    controller.silent = [False, True, True]
    assert work("rest", names=["gpu2"]) == ["drain gpu2: its host is restarted"]
    assert controller.states["gpu2"] == "IDLE+DRAIN"  # it was asked again until the job had ended
    controller.silent = [False, *[True] * 1000]
    with pytest.raises(
        SlurmError, match=r"slurmctld went away .* gpu1 is not known after 0 s; see"
    ):
        work("rest", names=["gpu1"], timeout=0)
    assert controller.states["gpu1"] == "IDLE+DRAIN"


@pytest.mark.parametrize(("controllers", "asked"), [(1, False), (2, True)])
def test_a_backup_may_answer_where_the_controller_of_the_host_is_down(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    controller: Controller,
    controllers: int,
    asked: bool,
) -> None:
    configuration = tmp_path / "slurm.conf"
    rows = [f"SlurmctldHost=ctl{number}(192.0.2.{number})\n" for number in range(controllers)]
    configuration.write_text("ClusterName=a\n" + "".join(rows))
    monkeypatch.setattr(slurm_nodes, "CONFIGURATION", str(configuration))
    monkeypatch.setattr(slurm_nodes, "PROGRAM", __file__)
    monkeypatch.setattr(slurm_nodes, "properties", lambda *_: {"ActiveState": "inactive"})
    assert bool(work("leave", names=["gpu1"])) is asked


@pytest.mark.parametrize("states", [["UNKNOWN+DRAIN"] * 3, ["UNKNOWN+DRAIN", "UNKNOWN"]])
def test_a_node_that_has_not_reported_yet_is_given_back_when_it_has(
    controller: Controller, states: list[str]
) -> None:
    work("rest", names=["gpu1"])
    controller.refusals = list(states)
    assert work("serve", nodes={"gpu1": {}}, controller_timeout=900) == ["give gpu1 back to jobs"]
    assert "DRAIN" not in controller.states["gpu1"]
    work("rest", names=["gpu1"])
    controller.refusals = ["UNKNOWN+DRAIN"] * 1000
    with pytest.raises(SlurmError, match=r"scontrol update gpu1 State=RESUME: .*Invalid"):
        work("serve", nodes={"gpu1": {}})

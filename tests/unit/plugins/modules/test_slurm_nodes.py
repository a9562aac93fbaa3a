# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module for nodes of Slurm, against a controller that answers as scontrol does."""

from __future__ import annotations

from dataclasses import dataclass, field
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

    def run(self, argv: list[str], **_options: Any) -> Ran:
        if argv[1] == "show":
            self.looks -= 1
            if self.looks <= 0 and "DRAIN" in self.states["gpu2"]:
                self.states["gpu2"] = "IDLE+DRAIN"
            return Ran(0, "".join(self._line(name) for name in self.states), "")
        name, state = argv[2].partition("=")[2], argv[3].partition("=")[2]
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
    monkeypatch.setattr(slurm_nodes, "POLL_SECONDS", 0)
    return made


def work(state: str, check: bool = False, **more: Any) -> list[str]:
    given = {"nodes": {}, "names": [], "lost": [], "timeout": 60, **more, "state": state}
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

# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a staged rollout on a device: what each does, refuses, repeats and undoes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release.client import Interrupted
from ansible_collections.mlops.onprem.plugins.module_utils._release.device import orders
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.orders import Order
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.record import Record
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.rollout import Rollouts
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.module_utils._rollout import shapes
from ansible_collections.mlops.onprem.plugins.modules import rollout_device

from .conftest import MODEL, OTHER_KEY, Bench

GOLDEN = json.dumps(
    {"cases": [{"request": {"echo": [0.5, 2.0]}, "expected": {"y": [0.5, 2.0]}}]}
).encode()
MIB = 2**20


@dataclass
class FakeClock:
    """Times that tests set."""

    wall: float = 1_800_000_000.0
    up: float = 100.0
    start: str = "first"

    def now(self) -> float:
        return self.wall

    def uptime(self) -> float:
        return self.up

    def boot(self) -> str:
        return self.start

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.up += seconds


@dataclass
class FakeGauge:
    """A model server that grows by what tests say."""

    growth: int | None = 10 * MIB
    started: int = 0

    def start(self) -> None:
        self.started += 1

    def stop(self) -> int | None:
        return self.growth


@dataclass
class Stage:
    """A device in a rollout, with everything that tests turn."""

    bench: Bench
    lock_file: Path
    clock: FakeClock = field(default_factory=FakeClock)
    gauge: FakeGauge = field(default_factory=FakeGauge)
    rollouts: Rollouts = field(init=False)

    def __post_init__(self) -> None:
        self.rollouts = Rollouts(
            self.bench.device, "edge1", self.clock, self.gauge, self.lock_file, patience=0.4
        )

    def publish(self, version: str, model_onnx: bytes = b"onnx" * 100) -> str:
        return self.bench.publish(version, golden_json=GOLDEN, model_onnx=model_onnx)

    def order(self, step: str, digest: str, **changed: Any) -> Order:
        given = {"rollout": "r1", "generation": 1, "model": MODEL, "deadline": 600.0}
        return Order(step=step, digest=digest, **{**given, **changed})

    def do(self, step: str, digest: str, **changed: Any) -> orders.Answer:
        return self.rollouts.do(self.order(step, digest, **changed))

    def bring(self, digest: str, **changed: Any) -> orders.Answer:
        staged = self.do("stage", digest, **changed)
        assert (staged.failure, staged.refused) == ("", "")
        return self.do("activate", digest, **changed)

    @property
    def served(self) -> str | None:
        return self.bench.serving.digest

    def links(self) -> tuple[str | None, str | None]:
        store = self.bench.store
        return store.linked(MODEL, "current"), store.linked(MODEL, "previous")

    def record(self) -> Record:
        return self.bench.store.record(MODEL)


@pytest.fixture
def stage(bench: Bench, tmp_path: Path) -> Stage:
    return Stage(bench, tmp_path / "rollout.lock")


@pytest.fixture
def two(stage: Stage) -> tuple[str, str]:
    """A device that serves a release, and the next one in the registry."""
    first, second = stage.publish("1"), stage.publish("2")
    stage.bench.release(first)
    return first, second


def verdicts(answer: orders.Answer) -> dict[str, str]:
    return {gate.name: gate.verdict for gate in answer.gates}


@pytest.mark.parametrize("name", ["Order", "Gate", "Answer"])
def test_the_words_are_those_of_the_controller(name: str) -> None:
    ours, theirs = getattr(orders, name), getattr(shapes, name)
    more = ["counter", "size"] if name == "Order" else []  # said by channel documents alone
    assert [one.name for one in dataclasses.fields(ours)] == [
        *(one.name for one in dataclasses.fields(theirs)),
        *more,
    ]
    assert orders.STEPS == shapes.STEPS
    assert orders.PHASES == shapes.PHASES
    assert {orders.PASS, orders.FAIL, orders.MISSING, orders.LEFT_OUT} < set(shapes.VERDICTS)


def test_a_release_goes_the_whole_way(stage: Stage, two: tuple[str, str]) -> None:
    first, second = two
    staged = stage.do("stage", second)
    assert (staged.phase, staged.served, verdicts(staged)) == (
        "staged",
        first,
        {"signature": "PASS"},
    )
    assert staged.moved > 0
    assert stage.links() == (first, None)
    answer = stage.do("activate", second, limits={"memory_mib": 20, "p95_ms": 60000})
    assert (answer.phase, answer.served, answer.failure) == ("activated", second, "")
    assert verdicts(answer) == {
        "signature": "PASS",
        "load": "PASS",
        "golden": "PASS",
        "speed": "PASS",
    }
    assert [gate.name for gate in answer.gates] == list(shapes.ON_DEVICE)
    assert stage.bench.store.armed(MODEL)
    assert stage.do("look", "").phase == "activated"
    answer = stage.do("commit", second)
    assert (answer.phase, answer.served, answer.failure) == ("committed", second, "")
    assert not stage.bench.store.armed(MODEL)
    stage.clock.pass_(10_000)
    assert stage.rollouts.revert_expired() == {}
    assert (stage.served, stage.links()) == (second, (second, first))


@pytest.mark.parametrize("step", ["stage", "activate", "commit", "revert"])
def test_every_step_may_be_repeated(stage: Stage, two: tuple[str, str], step: str) -> None:
    first, second = two
    way = {"stage": ["stage"], "activate": ["stage", "activate"]}
    for one in way.get(step, ["stage", "activate", step]):
        stage.do(one, second)
    before = (stage.record(), stage.links(), stage.served)
    stage.clock.pass_(5)
    answer = stage.do(step, second)
    assert (answer.failure, answer.refused, answer.moved) == ("", "", 0)
    assert (stage.record(), stage.links(), stage.served) == before
    assert first in stage.bench.store.releases()


def test_without_a_commit_the_device_goes_back_by_itself(
    stage: Stage, two: tuple[str, str]
) -> None:
    first, second = two
    stage.bring(second)
    stage.bench.registry.manifests.clear()  # no network either
    stage.clock.pass_(599)
    assert stage.rollouts.revert_expired() == {}
    stage.clock.pass_(2)
    said = stage.rollouts.revert_expired()
    assert said[MODEL] == (
        f"This device has reverted the release {second} in the rollout r1: It was not committed "
        f"by its deadline. The device went back to {first}."
    )
    assert (stage.served, stage.links()) == (first, (first, None))
    assert not stage.bench.store.armed(MODEL)
    late = stage.do("commit", second)
    assert (late.phase, late.served) == ("reverted", first)
    assert "It was not committed by its deadline" in late.failure


def test_a_commit_after_the_deadline_is_none(stage: Stage, two: tuple[str, str]) -> None:
    first, second = two
    stage.bring(second)
    stage.clock.pass_(601)
    answer = stage.do("commit", second)
    assert (answer.phase, answer.served) == ("reverted", first)
    assert "It was not committed by its deadline" in answer.failure


@pytest.mark.parametrize(
    ("wall", "up", "start", "expired"),
    [
        (+10_000_000, 10, "first", False),  # somebody set the time: nothing happens
        (-10_000_000, 601, "first", True),
        (+10, 5, "second", False),  # restarted
        (+601, 5, "second", True),  # was off until after the deadline
        (-10_000_000, 5, "second", False),  # forgot the time while it was off
        (-10_000_000, 600, "second", True),  # but not for ever
    ],
)
def test_what_moves_a_deadline(
    stage: Stage, two: tuple[str, str], wall: float, up: float, start: str, expired: bool
) -> None:
    first, second = two
    stage.bring(second)
    stage.clock.wall += wall
    stage.clock.up = up if start == "second" else stage.clock.up + up
    stage.clock.start = start
    stage.rollouts.revert_expired()
    assert stage.served == (first if expired else second)


def test_a_repeated_activation_moves_no_deadline(stage: Stage, two: tuple[str, str]) -> None:
    _first, second = two
    stage.bring(second)
    before = stage.record().until
    stage.clock.pass_(300)
    assert stage.do("activate", second, generation=2).failure == ""
    assert (stage.record().until, stage.record().generation) == (before, 2)


def test_a_first_release_that_is_not_committed_leaves_nothing(stage: Stage) -> None:
    only = stage.publish("1")
    assert stage.bring(only).phase == "activated"
    stage.clock.pass_(601)
    assert "had no release before and serves nothing now" in stage.rollouts.revert_expired()[MODEL]
    assert (stage.served, stage.links()) == (None, (None, None))


BAD = {
    "load": "The model cannot be loaded.",
    "golden": "Release x: Golden case 2: the answer differs by 0.7",
}


@pytest.mark.parametrize("gate", ["load", "golden"])
def test_what_the_server_refuses_is_undone_at_once(
    stage: Stage, two: tuple[str, str], gate: str
) -> None:
    first, second = two
    stage.bench.serving.refuses[second] = BAD[gate]
    answer = stage.bring(second)
    assert (answer.phase, answer.served, verdicts(answer)[gate]) == ("reverted", first, "FAIL")
    assert BAD[gate].rstrip(".") in answer.failure
    assert answer.failure.endswith(f"The device went back to {first}.")
    assert stage.links() == (first, None)
    assert stage.bench.store.memory(MODEL).failed == (second,)


def test_more_memory_than_declared_is_undone(stage: Stage, two: tuple[str, str]) -> None:
    first, second = two
    stage.gauge.growth = 31 * MIB
    answer = stage.bring(second, limits={"memory_mib": 30.0})
    (load,) = [gate for gate in answer.gates if gate.name == "load"]
    assert (load.verdict, load.found, load.wanted) == (
        "FAIL",
        {"memory_mib": 31.0},
        {"memory_mib": 30.0},
    )
    assert (answer.served, answer.phase) == (first, "reverted")


def test_memory_that_could_not_be_measured_is_missing(stage: Stage, two: tuple[str, str]) -> None:
    stage.gauge.growth = None
    answer = stage.bring(two[1], limits={"memory_mib": 30.0})
    assert (verdicts(answer)["load"], answer.phase) == ("MISSING", "activated")


def test_memory_is_known_after_a_repeated_activation(stage: Stage, two: tuple[str, str]) -> None:
    stage.bring(two[1], limits={"memory_mib": 30.0})
    stage.gauge.growth = 0
    answer = stage.do("activate", two[1], limits={"memory_mib": 5.0})
    assert verdicts(answer)["load"] == "FAIL"


def test_other_answers_than_the_trainers_are_undone(stage: Stage, two: tuple[str, str]) -> None:
    first, second = two
    stage.bench.serving.answers[second] = [0.5, 2.2]
    answer = stage.bring(second)
    golden = answer.gates[-1]
    assert (golden.name, golden.verdict) == ("golden", "FAIL")
    assert golden.found["gap"] == pytest.approx(0.1)
    assert (answer.served, answer.phase) == (first, "reverted")


def test_answers_that_are_too_slow_are_undone(stage: Stage, two: tuple[str, str]) -> None:
    answer = stage.bring(two[1], limits={"p95_ms": 1e-9})
    speed = answer.gates[-1]
    assert (speed.name, speed.verdict, speed.found["tries"]) == ("speed", "FAIL", 2.0)
    assert (answer.served, answer.phase) == (two[0], "reverted")


def test_a_server_that_a_release_brings_down_is_brought_back(
    stage: Stage, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts, loads what is current and dies, until what is current is another one."""
    first, second = two
    serving = stage.bench.serving
    real = serving.look

    def look() -> Any:
        current, _previous = stage.links()
        serving.silent = int(current == second)
        if current != second:
            serving.loaded[MODEL] = str(current)
        return real()

    def load(model: str) -> str:
        look()
        return "" if stage.links()[0] != second else "unreachable"

    monkeypatch.setattr(serving, "look", look)
    monkeypatch.setattr(serving, "load", load)
    answer = stage.bring(second)
    assert verdicts(answer)["load"] == "FAIL"
    assert (stage.served, answer.phase, stage.links()) == (first, "reverted", (first, None))


@pytest.mark.parametrize("step", ["stage", "activate", "commit", "revert"])
def test_an_older_controller_is_refused(stage: Stage, two: tuple[str, str], step: str) -> None:
    _first, second = two
    stage.bring(second, generation=5)
    before = (stage.record(), stage.links())
    answer = stage.do(step, second, generation=4, rollout="r0")
    assert "is of generation 4 (rollout r0), and this device has seen 5 (rollout r1)" in (
        answer.refused
    )
    assert (stage.record(), stage.links()) == before


def test_what_waits_to_be_committed_is_not_replaced(stage: Stage, two: tuple[str, str]) -> None:
    _first, second = two
    third = stage.publish("3")
    stage.bring(second)
    answer = stage.do("stage", third, rollout="r2", generation=2)
    assert "is neither committed nor reverted" in answer.refused
    assert stage.record().rollout == "r1"


@pytest.mark.parametrize("step", ["stage", "activate"])
def test_a_locked_device_says_why(stage: Stage, two: tuple[str, str], step: str) -> None:
    first, second = two
    if step == "activate":
        stage.do("stage", second)
    stage.lock_file.write_text("The press is being\nserviced.\n")
    answer = stage.do(step, second)
    assert answer.refused == (
        f"The device is locked by {stage.lock_file}: The press is being serviced."
    )
    assert (stage.served, answer.failure) == (first, "")


def test_a_locked_device_still_commits_reverts_and_looks(
    stage: Stage, two: tuple[str, str]
) -> None:
    first, second = two
    stage.bring(second)
    stage.lock_file.write_text("")
    assert stage.do("look", second).refused == ""
    assert stage.do("commit", second).phase == "committed"
    assert stage.do("revert", second).phase == "reverted"
    assert stage.served == first


def test_a_committed_release_can_be_reverted(stage: Stage, two: tuple[str, str]) -> None:
    first, second = two
    stage.bring(second)
    stage.do("commit", second)
    stage.bench.registry.manifests.clear()
    answer = stage.do("revert", second)
    assert (answer.phase, answer.served, answer.failure) == ("reverted", first, "")
    # Its counter stays: the older release is no licence for a third one between the two.
    assert stage.bench.store.memory(MODEL).highest == 2


def test_a_device_that_took_no_part_is_left_alone(stage: Stage, two: tuple[str, str]) -> None:
    first, second = two
    stage.bring(second)
    stage.do("commit", second)
    answer = stage.do("revert", second, rollout="r2", generation=2)
    assert (answer.phase, answer.served, answer.failure) == ("none", second, "")
    assert stage.links() == (second, first)


def test_a_staged_release_of_a_reverted_ring_is_not_activated(
    stage: Stage, two: tuple[str, str]
) -> None:
    first, second = two
    stage.do("stage", second)
    assert stage.do("revert", second).phase == "reverted"
    answer = stage.do("activate", second)
    assert "it was told to" in answer.failure
    assert stage.served == first
    # The rollout that is resumed stages it anew.
    assert stage.bring(second, generation=2).phase == "activated"


def test_nothing_is_activated_that_was_not_staged(stage: Stage, two: tuple[str, str]) -> None:
    first, second = two
    answer = stage.do("activate", second)
    assert "is not staged here in the rollout r1; order the step stage first" in answer.failure
    assert stage.served == first


@pytest.mark.parametrize("when", ["stage", "activate"])
def test_a_signature_that_does_not_count_stops_the_release(
    stage: Stage, two: tuple[str, str], when: str
) -> None:
    first, second = two
    if when == "activate":
        stage.do("stage", second)
    stage.bench.ring.trusted = [OTHER_KEY]
    answer = stage.do(when, second)
    assert verdicts(answer) == {"signature": "FAIL"}
    assert "was not made with a key that is trusted here" in answer.failure
    assert stage.served == first
    assert not stage.bench.store.armed(MODEL)


def test_bytes_that_were_changed_after_signing_stop_the_release(
    stage: Stage, two: tuple[str, str]
) -> None:
    third = stage.publish("3", model_onnx=b"better")
    for digest, data in stage.bench.registry.blobs.items():
        if data == b"better":
            stage.bench.registry.blobs[digest] = b"evil!!"
    answer = stage.do("stage", third)
    assert verdicts(answer) == {"signature": "FAIL"}
    assert "The file model.onnx was tampered with" in answer.failure


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"counter": 7}, "is signed with the counter 2, the order says 7"),
        ({"counter": 2, "size": 10}, "bytes, the order allows 10"),
    ],
)
def test_a_release_is_what_the_channel_said(
    stage: Stage, two: tuple[str, str], said: dict[str, int], sentence: str
) -> None:
    first, second = two
    answer = stage.do("stage", second, **said)
    assert verdicts(answer) == {"signature": "FAIL"}
    assert sentence in answer.failure
    assert answer.moved == 0, "it is refused before anything is fetched"
    assert stage.do("stage", second, counter=2, size=10**6, generation=2).failure == ""
    answer = stage.do("activate", second, generation=2, **said)
    assert sentence in answer.failure
    assert stage.served == first


def test_an_older_release_wants_a_rollback(stage: Stage, two: tuple[str, str]) -> None:
    first, second = two
    stage.bench.release(second)
    answer = stage.do("stage", first)
    assert verdicts(answer) == {"signature": "FAIL"}
    assert "has the counter 1, and this device has had one with 2" in answer.failure
    assert stage.bring(first, rollback=True, generation=2).served == first


def test_a_release_to_go_back_to_that_is_damaged_is_mended(
    stage: Stage, two: tuple[str, str]
) -> None:
    first, second = two
    stage.bring(second)
    (stage.bench.store.path(first) / "model.onnx").write_bytes(b"evil")
    stage.clock.pass_(601)
    stage.rollouts.revert_expired()
    assert stage.served == first
    assert stage.bench.device.verify(first).digest == first


def test_a_release_whose_key_was_revoked_is_not_gone_back_to(
    stage: Stage, two: tuple[str, str]
) -> None:
    _first, second = two
    stage.bring(second)
    stage.bench.ring.revoked, stage.bench.ring.trusted = [stage.bench.key], []
    stage.clock.pass_(601)
    assert "serves nothing now" in stage.rollouts.revert_expired()[MODEL]
    assert (stage.served, stage.links()) == (None, (None, None))


def test_a_way_back_without_a_server_is_ended_by_the_timer(
    stage: Stage, two: tuple[str, str]
) -> None:
    first, second = two
    stage.bring(second)
    stage.clock.pass_(601)
    stage.bench.serving.silent = 1000
    assert "is asked again by the timer" in stage.rollouts.revert_expired()[MODEL]
    assert stage.links()[0] == first
    assert stage.bench.store.armed(MODEL)
    stage.bench.serving.silent = 0
    assert "It was not committed by its deadline" in stage.rollouts.revert_expired()[MODEL]
    assert (stage.served, stage.record().phase) == (first, "reverted")
    assert not stage.bench.store.armed(MODEL)


def test_before_the_server_starts_what_is_due_is_out_of_its_sight(
    stage: Stage, two: tuple[str, str]
) -> None:
    first, second = two
    stage.bring(second)
    stage.rollouts.point_back()
    assert stage.links()[0] == second
    stage.clock.pass_(601)
    stage.rollouts.point_back()
    assert (stage.links()[0], stage.record().phase) == (first, "activated")
    stage.rollouts.revert_expired()
    assert (stage.served, stage.record().phase) == (first, "reverted")


def test_what_somebody_else_released_meanwhile_stays(stage: Stage, two: tuple[str, str]) -> None:
    _first, second = two
    third = stage.publish("3")
    stage.bring(second)
    stage.bench.release(third)
    stage.clock.pass_(601)
    assert "was activated here meanwhile and stays" in stage.rollouts.revert_expired()[MODEL]
    assert (stage.served, stage.record().phase) == (third, "reverted")


def test_a_device_with_room_for_two_keeps_what_a_rollout_needs(
    stage: Stage, two: tuple[str, str]
) -> None:
    first, second = two
    stage.bench.release(second)
    stage.bench.device._keep = 2
    third = stage.publish("3")
    stage.do("stage", third)
    assert set(stage.bench.store.releases()) == {first, second, third}
    stage.do("activate", third)
    stage.clock.pass_(601)
    stage.rollouts.revert_expired()
    assert (stage.served, stage.links()) == (second, (second, first))


def test_a_device_of_the_last_release_knows_of_no_rollout(
    stage: Stage, two: tuple[str, str]
) -> None:
    answer = stage.do("look", "")
    assert (answer.phase, answer.served, answer.failure) == ("none", two[0], "")
    assert stage.rollouts.status()[MODEL]["phase"] == "none"


def test_a_record_that_cannot_be_read_is_said(stage: Stage, two: tuple[str, str]) -> None:
    _first, second = two
    stage.bring(second)
    (stage.bench.store.root / "models" / MODEL / "rollout.json").write_text("{")
    for step in ("stage", "activate", "commit", "revert", "look"):
        assert "rollout.json cannot be read" in stage.do(step, second).failure
    assert "cannot be read" in stage.rollouts.revert_expired()[MODEL]
    assert stage.served == second


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"digest": "x"}, "wanted a digest such as"),
        ({"deadline": 0.0}, "Found the deadline 0"),
        ({"rate": 100}, "Found the rate 100"),
        ({"limits": {"p50_ms": 1}}, "The limit p50_ms is not one of"),
        ({"model": "../x"}, "wanted the name of a model"),
        ({"rollout": "a/b"}, "wanted the name of a rollout"),
        ({"generation": -1}, "Found the generation -1"),
    ],
)
def test_what_cannot_be_an_order_is_refused(
    stage: Stage, changed: dict[str, Any], sentence: str
) -> None:
    order = replace(stage.order("activate", "sha256:" + "0" * 64), **changed)
    with pytest.raises(RegistryError, match=sentence):
        order.check()


def test_two_models_have_a_rollout_each(stage: Stage, two: tuple[str, str]) -> None:
    first, second = two
    other = stage.bench.publish("1", model="other", golden_json=GOLDEN)
    stage.bring(second)
    assert stage.bring(other, model="other", rollout="r9").served == other
    stage.do("commit", other, model="other", rollout="r9")
    stage.clock.pass_(601)
    assert list(stage.rollouts.revert_expired()) == [MODEL]
    assert stage.bench.serving.loaded == {MODEL: first, "other": other}


# -- the module --------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["stage", "activate", "commit", "revert", "look"])
def test_check_mode_foretells_the_change(stage: Stage, two: tuple[str, str], step: str) -> None:
    _first, second = two
    way = {"stage": [], "activate": ["stage"]}.get(step, ["stage", "activate"])
    for one in way:
        stage.do(one, second)
    order = stage.order(step, second)
    before = (stage.record(), stage.links(), stage.bench.store.releases())
    foretold = rollout_device.run(stage.rollouts, order, check_mode=True)
    assert (stage.record(), stage.links(), stage.bench.store.releases()) == before
    done = rollout_device.run(stage.rollouts, order, check_mode=False)
    assert foretold["changed"] == done["changed"] == (step != "look")
    assert not rollout_device.run(stage.rollouts, order, check_mode=False)["changed"]
    names = {one.name for one in dataclasses.fields(shapes.Answer)}
    more = {"machine"} if step == "look" else set()
    assert set(done) == {*names, *more, "changed", "diff"}


def test_check_mode_judges_what_would_be_fetched(stage: Stage, two: tuple[str, str]) -> None:
    stage.bench.ring.trusted = [OTHER_KEY]
    foretold = rollout_device.run(stage.rollouts, stage.order("stage", two[1]), check_mode=True)
    assert not foretold["changed"]
    assert foretold["gates"][0]["verdict"] == "FAIL"


def test_an_answer_is_plain_data(stage: Stage, two: tuple[str, str]) -> None:
    done = rollout_device.run(stage.rollouts, stage.order("stage", two[1]), check_mode=False)
    assert json.loads(json.dumps(done)) == done


def test_limits_that_are_no_numbers_are_named() -> None:
    params = {
        "step": "look",
        "rollout": "r",
        "generation": 0,
        "model": MODEL,
        "digest": "",
        "deadline": 0.0,
        "limits": {"p95_ms": "fast"},
        "rate": 0,
        "rollback": False,
    }
    with pytest.raises(RegistryError, match=r"limits.p95_ms is 'fast', wanted a number"):
        rollout_device.order_of(params)
    order = rollout_device.order_of({**params, "limits": {"p95_ms": "5"}})
    assert order.limits == {"p95_ms": 5.0}


def test_a_device_without_the_role_says_so(tmp_path: Path) -> None:
    order = Order("look", "r", 0, MODEL, "")
    said = rollout_device.uninstalled(order, "edge1", tmp_path / "release.json")
    assert "apply the role model_serving to this device first" in said["failure"]
    assert (said["host"], said["changed"]) == ("edge1", False)


# -- what others do at the same time --------------------------------------------------------------


def test_a_download_does_not_keep_the_device_from_going_back(
    stage: Stage, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two
    other = stage.bench.publish("1", model="other", model_onnx=b"slow" * 1000)
    stage.bring(second)
    stage.clock.pass_(601)
    said: list[dict[str, str]] = []
    real = type(stage.bench.registry).__call__

    def meanwhile(*arguments: Any, **options: Any) -> Any:
        if "/blobs/" in arguments[2] and not said:
            said.append({})
            said[0] = stage.rollouts.revert_expired()
        return real(*arguments, **options)

    monkeypatch.setattr(type(stage.bench.registry), "__call__", meanwhile)
    answer = stage.do("stage", other, model="other")
    assert (answer.failure, answer.phase) == ("", "staged")
    assert MODEL in said[0]
    assert stage.served == first


def test_a_release_that_was_begun_is_not_tidied_away(
    stage: Stage, two: tuple[str, str], bench: Bench
) -> None:
    third = stage.publish("3", model_onnx=b"large" * 1000)
    # The large file breaks off after 1,000 bytes, for good.
    real = bench.registry

    def breaks(method: str, url: str, headers: Any, body: Any = None) -> Any:
        answer = real(method, url, headers, body)
        if (
            "/blobs/" in url
            and len(getattr(answer, "_body", b"")) == 5000
            and not headers.get("range")
        ):
            answer._left = 1000
        elif "/blobs/" in url and headers.get("range"):
            raise Interrupted("the network is gone")
        return answer

    bench.device._source._client = lambda repository: type(bench.client())(
        "https://registry", repository, breaks, "pull", "secret"
    )
    answer = stage.do("stage", third)
    assert (answer.phase, answer.moved > 1000) == ("none", True)
    assert "did not let us read model.onnx" in answer.failure
    bench.release(two[0])  # somebody tidies meanwhile
    bench.device._source._client = bench.client
    again = stage.do("stage", third)
    assert (again.phase, again.failure) == ("staged", "")
    assert again.moved == 4000


def test_what_a_release_here_has_is_not_fetched_again(stage: Stage, bench: Bench) -> None:
    first = stage.publish("1", model_onnx=b"large" * 10_000)
    bench.release(first)
    second = stage.publish("2", model_onnx=b"large" * 10_000)
    answer = stage.do("stage", second)
    assert (answer.phase, answer.failure) == ("staged", "")
    assert 0 < answer.moved < 1000
    ours, theirs = (bench.store.path(one) / "model.onnx" for one in (first, second))
    assert ours.samefile(theirs)
    # What mends one of them leaves the other as it is.
    theirs.unlink()
    theirs.write_bytes(b"evil")
    stage.do("stage", second)
    with contextlib.suppress(RegistryError):
        bench.release(second)
    assert bench.device.verify(first).digest == first


def test_a_damaged_file_is_not_shared(stage: Stage, bench: Bench) -> None:
    first = stage.publish("1", model_onnx=b"large" * 10_000)
    bench.release(first)
    (bench.store.path(first) / "model.onnx").write_bytes(b"lArge" * 10_000)
    second = stage.publish("2", model_onnx=b"large" * 10_000)
    answer = stage.do("stage", second)
    assert answer.moved > 50_000
    assert bench.device.verify(second).digest == second


def test_golden_requests_in_place_of_clients_go_to_the_release_that_is_served(
    stage: Stage, two: tuple[str, str]
) -> None:
    first, second = two
    assert stage.rollouts.probe(MODEL, first, 7) == 7
    assert stage.bench.serving.probes == 7
    # Another one is served, or there is none: nothing is asked, and nothing fails.
    assert stage.rollouts.probe(MODEL, second, 7) == 0
    assert stage.rollouts.probe("nobody", first, 7) == 0
    stage.bench.serving.digest = None
    assert stage.rollouts.probe(MODEL, first, 7) == 0
    assert stage.bench.serving.probes == 7


def test_a_slow_release_keeps_the_gateway_waiting_no_longer_than_its_time(
    stage: Stage, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    serving, clock = stage.bench.serving, stage.clock
    ask = serving.ask

    def slow(model: str, question: Any) -> tuple[int, Any]:
        clock.pass_(6.0)
        return ask(model, question)

    monkeypatch.setattr(serving, "ask", slow)
    assert stage.rollouts.probe(MODEL, two[0], 1000) == 4


def test_golden_requests_end_where_their_bytes_do(
    stage: Stage, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = stage.bench.serving
    ask = serving.ask

    def large(model: str, question: Any) -> tuple[int, Any]:
        code, answer = ask(model, question)
        return code, {**answer, "image": "x" * 8 * 1024 * 1024}

    monkeypatch.setattr(serving, "ask", large)
    assert stage.rollouts.probe(MODEL, two[0], 1000) == 4


def test_a_generation_that_a_stolen_key_drove_to_its_end_is_forgotten(stage: Stage) -> None:
    digest = stage.publish("1")
    stage.bring(digest, generation=2**53)
    assert "another controller" in stage.do("commit", digest, generation=2).refused
    stage.rollouts.forget()
    assert stage.record().phase == "activated"
    assert stage.do("commit", digest, generation=2).refused == ""
    assert (stage.record().phase, stage.record().generation) == ("committed", 2)


def test_who_went_back_to_what_the_fleet_went_back_to_has_nothing_to_do(
    stage: Stage, two: tuple[str, str]
) -> None:
    first, second = two
    stage.bring(second, rollout="r2")
    stage.do("revert", second, rollout="r2", rollback=True)
    assert stage.do("look", first, rollout="r1", rollback=True).phase == "committed"
    # Only that release, only where the fleet was taken back, and only while it is there.
    assert stage.do("look", second, rollout="r1", rollback=True).phase == "none"
    assert stage.do("look", first, rollout="r1").phase == "none"
    stage.bench.store.switch(MODEL, "current", None)
    assert stage.do("look", first, rollout="r1", rollback=True).phase == "none"


def test_what_a_device_has_gone_back_from_is_not_what_it_is_on(
    stage: Stage, two: tuple[str, str]
) -> None:
    first, _second = two
    stage.bring(first, rollout="r2")
    stage.do("revert", first, rollout="r2", rollback=True)
    assert stage.links()[0] == first
    assert stage.do("look", first, rollout="r1", rollback=True).phase == "none"

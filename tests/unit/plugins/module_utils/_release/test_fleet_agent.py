# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent of a device that fetches its orders: what it does with a document, what it tells."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.documents import (
    Target,
    parse_channel,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.rules import Clock, Own
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.state import (
    Folder,
    Keeper,
    Trust,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.client import Interrupted
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.agent import (
    CATCH_UP_SECONDS,
    IDLE_SECONDS,
    Agent,
    Local,
    encoded,
    next_step,
    shorten,
    wait,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.fleet import (
    MAX_STATE_BYTES,
    FleetSettings,
    Page,
    strong_tag,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.orders import (
    ACTIVATE,
    ACTIVATED,
    COMMIT,
    COMMITTED,
    NONE,
    PHASES,
    REVERT,
    REVERTED,
    STAGE,
    STAGED,
    Answer,
    Gate,
    Order,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.polling import (
    follow,
    main,
    sleep,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import (
    BusyError,
    RegistryError,
)

from tests.benchmarks import channel_world as world

ROOT_KEY, ONLINE = world.Key.make(), world.Key.make()
BEGIN = world.signed(world.root(1, [ROOT_KEY], [ONLINE]).to_bytes(), [ROOT_KEY])
ENDS = {STAGE: STAGED, ACTIVATE: ACTIVATED, COMMIT: COMMITTED, REVERT: REVERTED}
METRICS = """\
# HELP mlops_model_requests_total Requests.
mlops_model_requests_total{model_name="defects",model_version="7",outcome="ok"} 12.0
mlops_model_requests_total{model_name="another",model_version="1",outcome="ok"} 3.0
process_cpu_seconds_total 4.0
"""


@dataclass
class Gateway:
    """What nginx hands out, and what was left there."""

    pages: dict[str, bytes] = field(default_factory=dict)
    left: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    contacts: int = 0
    status: int = 201

    def get(self, path: str, limit: int, tag: str = "") -> Page:
        self.asked.append(path)
        body = self.pages.get(path)
        if body is None:
            return Page(404)
        assert len(body) <= limit
        own = str(hash(body))
        return Page(304) if tag == own else Page(200, body, own)

    def put(self, path: str, body: bytes) -> Page:
        assert path == "/fleet/state/edge1"
        self.left.append(json.loads(body))
        return Page(self.status)

    @contextmanager
    def contact(self) -> Iterator[Gateway]:
        self.contacts += 1
        yield self

    def publish(self, sequence: int, *targets: Target, **changed: Any) -> None:
        channel = world.channel(sequence, *targets, **changed)
        signed = world.signed(channel.to_bytes(), [ONLINE])
        self.pages[f"/fleet/channel/{world.RING}.json"] = signed.data
        self.pages[f"/fleet/channel/{world.RING}.json.sig"] = signed.signatures


@dataclass
class Device:
    """Rollouts of a device, as far as the agent sees them."""

    phases: dict[str, str] = field(default_factory=dict)
    done: list[Order] = field(default_factory=list)
    failing: str = ""
    gives_up: str = ""
    lock: str = ""
    serves: str = "sha256:served"
    probed: list[tuple[str, str, int]] = field(default_factory=list)
    away: bool = False
    forgotten: int = 0
    busy: bool = False

    def forget(self) -> None:
        if self.busy:
            raise BusyError("A step is under way.")
        self.forgotten += 1

    def do(self, order: Order) -> Answer:
        phase = self.phases.get(order.rollout, NONE)
        if order.step == "look":
            return Answer("edge1", order.step, True, phase, self.serves)
        order.check()
        self.done.append(order)
        if self.lock and order.step in (STAGE, ACTIVATE):
            return Answer("edge1", order.step, True, phase, refused=self.lock)
        if order.step == self.failing:
            return Answer("edge1", order.step, True, phase, failure="The registry is not there.")
        if order.step == self.gives_up:
            self.phases[order.rollout] = REVERTED
            gate = Gate("golden", "FAIL", "Answers differ.", {"far": 2.0}, {"far": 1.0})
            return Answer(
                "edge1", order.step, True, REVERTED, gates=(gate,), failure="It went back."
            )
        self.phases[order.rollout] = ENDS[order.step]
        gates = (Gate("signature", "PASS", "Signed."),) if order.step == STAGE else ()
        return Answer("edge1", order.step, True, ENDS[order.step], "x", gates, moved=10)

    def locked(self) -> str:
        return self.lock

    def probe(self, model: str, digest: str, number: int) -> int:
        if self.away:
            raise Interrupted("the model server is away")
        self.probed.append((model, digest, number))
        return number

    @property
    def steps(self) -> list[str]:
        return [order.step for order in self.done]


def agent(place: Path, gateway: Gateway, device: Device, clock: Clock | None = None) -> Agent:
    own = Own(world.SITE, world.RING, world.CLASS)
    trust = Trust(Keeper(Folder(place)), own, world.verify)
    trust.enrol(BEGIN)
    local = Local(lambda: clock or Clock(world.NOW, True), lambda: METRICS, lambda: 5.0)
    return Agent("edge1", world.RING, gateway.contact, trust, device, local, place)


def test_an_order_is_done_step_by_step_and_told(tmp_path: Path) -> None:
    gateway, device = Gateway(), Device()
    gateway.publish(1, world.target(step=ACTIVATE, deadline=60.0, rate=65536), next_poll=15)
    one = agent(tmp_path, gateway, device)
    one.poll()
    assert device.steps == [STAGE, ACTIVATE]
    assert {(o.rollout, o.generation, o.deadline, o.rate) for o in device.done} == {
        ("defects-7", 1, 60.0, 65536)
    }
    assert one.next_poll == 15
    told = gateway.left[-1]
    assert (told["name"], told["ring"], told["sequence"], told["root"]) == (
        "edge1",
        world.RING,
        1,
        1,
    )
    row = told["models"]["defects"]
    assert (row["rollout"], row["generation"], row["step"]) == ("defects-7", 1, ACTIVATE)
    answer = row["answer"]
    assert (answer["phase"], answer["served"], answer["moved"]) == (ACTIVATED, "sha256:served", 20)
    assert [gate["name"] for gate in answer["gates"]] == ["signature"]
    assert told["metrics"].splitlines() == [METRICS.splitlines()[1]]
    assert (told["certificate_expires"], told["stale"], told["refusal"]) == (5.0, False, "")


def test_a_rotated_key_resets_what_the_rollouts_remember_of_the_one_before(
    tmp_path: Path,
) -> None:
    gateway, device, fresh = Gateway(), Device(), world.Key.make()
    gateway.publish(1, world.target(step=STAGE))
    one = agent(tmp_path, gateway, device)
    one.poll()
    assert device.forgotten == 0
    root = world.signed(world.root(2, [ROOT_KEY], [fresh]).to_bytes(), [ROOT_KEY])
    gateway.pages["/fleet/root/2.json"] = root.data
    gateway.pages["/fleet/root/2.json.sig"] = root.signatures
    channel = world.channel(1, world.target(step=ACTIVATE, deadline=60.0), root_version=2)
    signed = world.signed(channel.to_bytes(), [fresh])
    gateway.pages[f"/fleet/channel/{world.RING}.json"] = signed.data
    gateway.pages[f"/fleet/channel/{world.RING}.json.sig"] = signed.signatures
    device.busy = True
    with pytest.raises(BusyError):
        one.poll()
    assert device.steps == [STAGE]  # nothing is ordered by the new key before
    device.busy = False
    one.poll()
    assert (device.forgotten, device.steps) == (1, [STAGE, ACTIVATE])
    agent(tmp_path, gateway, device).poll()
    assert device.forgotten == 1


def test_golden_requests_are_sent_as_ordered_and_counted(tmp_path: Path) -> None:
    gateway, device = Gateway(), Device(serves=world.target().digest)
    until = int(world.NOW) + 60
    target = world.target(step=ACTIVATE, deadline=60.0, probes=40, probe_until=until)
    gateway.publish(1, target, next_poll=15)
    one = agent(tmp_path, gateway, device)
    one.poll()
    one.poll()
    assert device.probed == [("defects", target.digest, 40)] * 2
    assert gateway.left[-1]["models"]["defects"]["probes"] == 80
    # Not while nothing answers, not from another release, and not beyond the time that was signed.
    device.away = True
    one.poll()
    device.away, device.serves = False, "sha256:other"
    one.poll()
    device.serves = target.digest
    late = agent(tmp_path, gateway, device, Clock(until, True))
    late.poll()
    assert len(device.probed) == 2
    assert gateway.left[-1]["models"]["defects"]["probes"] == 80
    # One that is compared with the ring asks itself as well; another rollout counts anew.
    gateway.publish(2, replace(target, step=COMMIT, rollout="defects-8", generation=2))
    one.poll()
    assert gateway.left[-1]["models"]["defects"]["probes"] == 40


@pytest.mark.parametrize("changed", [{}, {"probes": 5, "probe_until": 9}])
def test_golden_requests_stand_in_the_document_where_there_are_any(
    changed: dict[str, int],
) -> None:
    channel = world.channel(1, world.target(**changed))
    data = channel.to_bytes()
    assert (b"probe" in data) is bool(changed)
    assert parse_channel(data) == channel
    with pytest.raises(RegistryError, match="probes"):
        world.channel(1, world.target(probes=1001, probe_until=9)).to_bytes()


def test_the_connection_is_not_held_while_there_is_work(tmp_path: Path) -> None:
    gateway, device = Gateway(), Device()
    gateway.publish(1, world.target(step=STAGE))
    one = agent(tmp_path, gateway, device)
    one.poll()
    assert gateway.contacts == 2
    one.poll()
    assert gateway.contacts == 3
    device.phases["defects-7"] = ACTIVATED
    gateway.publish(2, world.target(step=COMMIT))
    one.poll()
    assert (gateway.contacts, device.phases["defects-7"]) == (4, COMMITTED)
    assert gateway.left[-1]["models"]["defects"]["answer"]["phase"] == COMMITTED


def test_what_is_done_is_not_done_again_and_told_again(tmp_path: Path) -> None:
    gateway, device = Gateway(), Device()
    gateway.publish(1, world.target(step=ACTIVATE, deadline=60.0))
    agent(tmp_path, gateway, device).poll()
    agent(tmp_path, gateway, device).poll()
    assert device.steps == [STAGE, ACTIVATE]
    assert gateway.left[0] == gateway.left[1]
    gateway.publish(2, world.target(step=COMMIT))
    agent(tmp_path, gateway, device).poll()
    assert device.steps == [STAGE, ACTIVATE, COMMIT]
    answer = gateway.left[-1]["models"]["defects"]["answer"]
    assert (answer["step"], answer["phase"]) == (COMMIT, COMMITTED)
    assert [gate["name"] for gate in answer["gates"]] == ["signature"]


def test_an_unchanged_document_is_not_fetched_again_and_still_judged(tmp_path: Path) -> None:
    gateway, device = Gateway(), Device()
    gateway.publish(1, world.target(step=STAGE), expires=world.NOW + 100)
    own = Own(world.SITE, world.RING, world.CLASS)
    trust = Trust(Keeper(Folder(tmp_path)), own, world.verify)
    trust.enrol(BEGIN)
    now = [world.NOW]
    local = Local(lambda: Clock(now[0], True), lambda: "", lambda: 0.0)
    one = Agent("edge1", world.RING, gateway.contact, trust, device, local, tmp_path)
    one.poll()
    gateway.asked.clear()
    one.poll()
    assert gateway.asked == ["/fleet/root/2.json", f"/fleet/channel/{world.RING}.json"]
    now[0] += 101
    one.poll()
    assert gateway.left[-1]["stale"] is True
    assert "expired" in gateway.left[-1]["refusal"]


def test_nothing_is_done_of_what_is_not_believed(tmp_path: Path) -> None:
    gateway, device = Gateway(), Device()
    channel = world.channel(1, world.target(step=STAGE))
    thief = world.signed(channel.to_bytes(), [world.Key.make()])
    gateway.pages[f"/fleet/channel/{world.RING}.json"] = thief.data
    gateway.pages[f"/fleet/channel/{world.RING}.json.sig"] = thief.signatures
    one = agent(tmp_path, gateway, device)
    one.poll()
    assert device.done == []
    assert gateway.left[-1]["models"] == {}
    assert "signed by 0" in gateway.left[-1]["refusal"]
    assert gateway.left[-1]["stale"] is False
    assert one.next_poll == IDLE_SECONDS


def test_a_document_and_the_signature_of_the_one_before_are_fetched_once_more(
    tmp_path: Path,
) -> None:
    gateway, device = Gateway(), Device()
    gateway.publish(1, world.target(step=STAGE))
    old = gateway.pages[f"/fleet/channel/{world.RING}.json"]
    gateway.publish(2, world.target(step=STAGE))
    new = gateway.pages[f"/fleet/channel/{world.RING}.json"]
    answers = [old, new]
    plain = gateway.get

    def between(path: str, limit: int, tag: str = "") -> Page:
        if path.endswith(f"{world.RING}.json"):
            return Page(200, answers.pop(0))
        return plain(path, limit, tag)

    gateway.get = between  # type: ignore[method-assign]
    agent(tmp_path, gateway, device).poll()
    assert answers == []
    assert device.steps == [STAGE]
    assert gateway.left[-1]["sequence"] == 2


def test_roots_are_followed_before_the_channel(tmp_path: Path) -> None:
    gateway, device = Gateway(), Device()
    fresh, last = world.Key.make(), world.Key.make()
    for version, keys in ((2, fresh), (3, last)):
        root = world.root(version, [ROOT_KEY], [keys])
        signed = world.signed(root.to_bytes(), [ROOT_KEY])
        gateway.pages[f"/fleet/root/{version}.json"] = signed.data
        gateway.pages[f"/fleet/root/{version}.json.sig"] = signed.signatures
    channel = world.channel(1, world.target(step=STAGE), root_version=3)
    signed = world.signed(channel.to_bytes(), [last])
    gateway.pages[f"/fleet/channel/{world.RING}.json"] = signed.data
    gateway.pages[f"/fleet/channel/{world.RING}.json.sig"] = signed.signatures
    agent(tmp_path, gateway, device).poll()
    assert gateway.left[-1]["root"] == 3
    assert device.steps == [STAGE]


def test_a_step_that_failed_is_tried_again_and_one_that_was_undone_is_not(tmp_path: Path) -> None:
    gateway, device = Gateway(), Device(failing=STAGE)
    gateway.publish(1, world.target(step=ACTIVATE, deadline=60.0))
    one = agent(tmp_path, gateway, device)
    one.poll()
    assert gateway.left[-1]["models"]["defects"]["answer"]["failure"]
    device.failing, device.gives_up = "", ACTIVATE
    one.poll()
    assert device.steps == [STAGE, STAGE, ACTIVATE]
    one.poll()
    assert device.steps == [STAGE, STAGE, ACTIVATE]
    answer = gateway.left[-1]["models"]["defects"]["answer"]
    assert (answer["phase"], answer["failure"]) == (REVERTED, "It went back.")
    assert {gate["name"]: gate["verdict"] for gate in answer["gates"]} == {
        "signature": "PASS",
        "golden": "FAIL",
    }


def test_a_failure_that_is_over_is_not_told(tmp_path: Path) -> None:
    gateway, device = Gateway(), Device(failing=STAGE)
    gateway.publish(1, world.target(step=STAGE))
    one = agent(tmp_path, gateway, device)
    one.poll()
    device.failing = ""
    one.poll()
    assert gateway.left[-1]["models"]["defects"]["answer"]["failure"] == ""


def test_two_polls_of_one_device_do_not_meet(tmp_path: Path) -> None:
    gateway, device = Gateway(), Device()
    other = agent(tmp_path, Gateway(), Device())

    def meanwhile(order: Order) -> Answer:
        with pytest.raises(BusyError, match="under way"):
            other.poll()
        return Device.do(device, order)

    device.do = meanwhile  # type: ignore[method-assign]
    gateway.publish(1, world.target(step=STAGE))
    agent(tmp_path, gateway, device).poll()
    assert device.steps == [STAGE]
    other.poll()


def test_a_locked_device_says_so_and_is_asked_again(tmp_path: Path) -> None:
    gateway, device = Gateway(), Device(lock="The line is running.")
    gateway.publish(1, world.target(step=STAGE))
    one = agent(tmp_path, gateway, device)
    one.poll()
    told = gateway.left[-1]
    assert told["lock"] == told["models"]["defects"]["answer"]["refused"] == "The line is running."
    device.lock = ""
    one.poll()
    assert device.phases == {"defects-7": STAGED}


def test_a_device_that_comes_late_takes_what_has_passed_through_its_own_gates(
    tmp_path: Path,
) -> None:
    gateway, device = Gateway(), Device()
    gateway.publish(9, world.target(step=COMMIT))
    agent(tmp_path, gateway, device).poll()
    assert device.steps == [STAGE, ACTIVATE, COMMIT]
    assert device.done[1].deadline == CATCH_UP_SECONDS


@pytest.mark.parametrize("phase", PHASES)
def test_going_back_concerns_who_has_begun(phase: str) -> None:
    wanted = REVERT if phase in (STAGED, ACTIVATED, COMMITTED) else ""
    assert next_step(REVERT, phase) == wanted


def test_without_a_document_for_its_ring_a_device_tells_where_it_is(tmp_path: Path) -> None:
    gateway, device = Gateway(), Device()
    agent(tmp_path, gateway, device).poll()
    assert gateway.left[-1]["models"] == {}
    assert (gateway.left[-1]["sequence"], gateway.left[-1]["refusal"]) == (0, "")


@pytest.mark.parametrize(
    ("status", "error"), [(403, RegistryError), (400, RegistryError), (503, Interrupted)]
)
def test_a_gateway_that_refuses_is_said_and_a_broken_one_asked_again(
    tmp_path: Path, status: int, error: type[Exception]
) -> None:
    gateway, device = Gateway(), Device()
    gateway.get = lambda *_all: Page(status)  # type: ignore[method-assign]
    with pytest.raises(error):
        agent(tmp_path, gateway, device).poll()
    gateway = Gateway(status=status)
    with pytest.raises(error):
        agent(tmp_path, gateway, device).poll()


def test_the_waits_of_two_devices_differ_and_grow_while_the_gateway_is_gone() -> None:
    assert (wait(300, 0, lambda: 0.0), wait(300, 0, lambda: 0.5)) == (240, 300)
    spans = [wait(300, failures, lambda: 0.75) for failures in range(1, 8)]
    assert spans == [20, 40, 80, 160, 300, 300, 300]
    assert wait(15, 1, lambda: 0.0) == 5


def test_the_metrics_that_are_sent_are_those_of_the_model_and_fit() -> None:
    assert shorten(METRICS, ["defects"]).count("\n") == 1
    assert shorten(METRICS, []) == ""
    many = "".join(
        f'mlops_model_predictions_total{{model_name="defects",bucket="{number}"}} 1\n'
        for number in range(1000)
    )
    assert shorten(many, ["defects"]) == ""


def test_a_state_fits_whatever_stands_in_it() -> None:
    answer = {"gates": [{"said": "x" * 9000}], "failure": ""}
    document = {"metrics": "m" * 9000, "models": {"defects": {"answer": answer}}}
    found = json.loads(encoded(document))
    assert (found["metrics"], found["left_out"]) == ("", ["metrics"])
    assert found["models"] == document["models"]
    answer["gates"] = [{"said": "x" * 20000}]
    found = json.loads(encoded(document))
    assert found["models"]["defects"]["answer"]["gates"] == []
    document["metrics"], document["name"] = "", "x" * MAX_STATE_BYTES
    with pytest.raises(RegistryError, match="has 1"):
        encoded(document)


def test_a_page_that_may_change_within_its_second_has_no_tag() -> None:
    headers = {
        "etag": '"1"',
        "last-modified": "Sat, 28 Nov 2026 12:00:00 GMT",
        "date": "Sat, 28 Nov 2026 12:00:02 GMT",
    }
    assert strong_tag(headers) == '"1"'
    assert strong_tag({**headers, "date": headers["last-modified"]}) == ""
    assert strong_tag({"etag": '"1"'}) == ""
    assert strong_tag({**headers, "date": "yesterday"}) == ""


SETTINGS = FleetSettings(
    "https://ctl1:8444", "edge1", "s", "ring_early", "/ca", "/crt", "/key", "/root", "/agent"
)


def test_settings_read_back() -> None:
    data = json.dumps(vars(SETTINGS)).encode()
    assert FleetSettings.parse(data, "fleet.json") == SETTINGS


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ring": ""}, "ring is missing"),
        ({"name": "../edge1"}, "found the name '../edge1'"),
        ({"gateway": "http://ctl1"}, "wanted https"),
        ({"idle_seconds": 1}, "found the idle_seconds 1"),
    ],
)
def test_settings_say_what_is_wrong(changed: dict[str, Any], said: str) -> None:
    data = json.dumps(vars(replace(SETTINGS, **changed))).encode()
    with pytest.raises(RegistryError, match=said):
        FleetSettings.parse(data, "fleet.json")


class Polls:
    """An agent whose polls come out as they are told to."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self.outcomes = list(outcomes)
        self.next_poll = 10.0

    def poll(self) -> None:
        outcome = self.outcomes.pop(0)
        if outcome is not None:
            raise outcome


def test_the_service_goes_on_whatever_happens_and_says_a_thing_once() -> None:
    gone = Interrupted("nobody is there")
    polls = Polls(None, gone, gone, RegistryError("403"), None, OSError("full"))
    said: list[str] = []
    waits: list[float] = []
    follow(polls, said.append, waits.append, lambda: bool(polls.outcomes))  # type: ignore[arg-type]
    assert said == ["nobody is there\n", "403\n", "The gateway is reached again.\n", "full\n"]
    assert 8 <= waits[0] <= 12
    assert 5 <= waits[1] <= 25
    assert len(waits) == 6


def test_a_device_that_slept_polls_when_it_wakes() -> None:
    now = [0.0]
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        now[0] += seconds if len(naps) < 3 else 5000

    sleep(300.0, nap, lambda: now[0])
    assert naps == [30.0, 30.0, 30.0]


def test_the_command_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "fleet.json"
    assert main([f"--fleet={file}", "poll"]) == 1
    values = {**vars(SETTINGS), "directory": str(tmp_path), "root_file": str(tmp_path / "root")}
    file.write_text(json.dumps(values))
    assert main([f"--fleet={file}", "poll"]) == 1
    said = capsys.readouterr().err
    assert "It is the root document that this device begins with" in said

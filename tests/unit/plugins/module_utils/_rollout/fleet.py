# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small simulated fleet: devices that obey orders, and a controller that can be killed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._rollout import words
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.journal import Entry
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.machine import (
    Decision,
    Judged,
    decide,
)
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.plan import Plan, make
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.shapes import (
    FAIL,
    PASS,
    Answer,
    Gate,
    Order,
)
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.state import (
    State,
    apply,
)

OLD, NEW = "sha256:" + "0" * 64, "sha256:" + "1" * 64
MODEL = "demo"
START = 1_000_000.0
RINGS = {"ring_canary": ["a1"], "ring_early": ["b1", "b2"], "ring_fleet": ["c1", "c2", "c3"]}
HOSTS = [host for hosts in RINGS.values() for host in hosts]
BASE: dict[str, Any] = {
    "digest": NEW,
    "version": "7",
    "bake_seconds": 60,
    "bake_limit_seconds": 300,
    "poll_seconds": 30,
    "deferred_share": 0.5,
}


class Killed(Exception):
    """The controller is gone."""


@dataclass
class Device:
    """A device that obeys, reverts by its own deadline, and can be made to misbehave."""

    name: str
    previous: str = OLD
    online: bool = True
    bad: str = ""  # its own gates refuse the release
    wrong_gate: str = FAIL
    ill: bool = False  # the release serves here, but badly: seen by the gates over the ring
    silent_after: bool = False  # it is gone as soon as it was activated
    locked: str = ""
    fetch_fails: int = 0
    stuck: bool = False  # it cannot go back
    served: str = ""
    phase: str = "none"
    generation: int = 0
    deadline: float = 0.0
    seen: list[str] = field(default_factory=list)  # what it ever served of the release
    steps: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.served = self.previous

    def tick(self, now: float) -> None:
        """Go back where nobody committed."""
        if self.phase == "activated" and now >= self.deadline:
            self._back()

    def _back(self) -> None:
        self.phase, self.served = "reverted", self.previous

    def obey(self, order: Order, now: float) -> Answer:
        """Do a step as a device does."""
        self.tick(now)
        if not self.online:
            return Answer(self.name, order.step, False)
        if order.generation < self.generation:
            return self._say(order, refused="another controller has taken over")
        self.generation = order.generation
        self.steps.append(order.step)
        answer: Answer = getattr(self, f"_{order.step}")(order, now)
        return answer

    def _say(self, order: Order, **more: Any) -> Answer:
        return Answer(self.name, order.step, True, self.phase, self.served, **more)

    def _stage(self, order: Order, _now: float) -> Answer:
        if self.locked:
            return self._say(order, refused=self.locked)
        if self.fetch_fails:
            self.fetch_fails -= 1
            return self._say(order, failure="The registry does not answer.")
        if self.phase in ("none", "reverted"):
            self.phase = "staged"
        return self._say(order, moved=100)

    def _activate(self, order: Order, now: float) -> Answer:
        if self.locked:
            return self._say(order, refused=self.locked)
        if self.phase == "reverted":
            return self._say(order, failure="It has gone back already.")
        if self.phase == "staged":
            self.phase, self.deadline = "activated", now + order.deadline
            self.served = order.digest
            self.seen.append(order.digest)
        if self.bad:
            if self.wrong_gate == FAIL:
                self._back()
            return self._say(
                order,
                gates=(Gate("golden", self.wrong_gate, self.bad),),
                failure=self.bad if self.wrong_gate == FAIL else "",
            )
        if self.silent_after:
            self.online = False
            return Answer(self.name, order.step, False)
        return self._say(order)

    def _commit(self, order: Order, _now: float) -> Answer:
        if self.phase == "reverted":
            return self._say(order, failure="It has gone back already.")
        self.phase = "committed"
        return self._say(order)

    def _revert(self, order: Order, _now: float) -> Answer:
        if not self.stuck:
            self._back()
        return self._say(order)


class Fleet:
    """Devices, a journal and a clock."""

    def __init__(
        self,
        rings: Mapping[str, list[str]] | None = None,
        previous: str = OLD,
        **request: Any,
    ) -> None:
        rings = rings or RINGS
        names = [host for hosts in rings.values() for host in hosts]
        self.devices = {name: Device(name, previous) for name in names}
        self.journal: list[Entry] = []
        self._state = State()
        self.now = START
        self.request = {
            **BASE,
            "groups": rings,
            "devices": {name: {"previous": previous} for name in names},
            **request,
        }
        self.kill_at = 0  # before this line is written
        self.kill_after = 0  # when this line was written, before anybody is told
        self.verdict: Callable[[Fleet, list[str]], str] = healthy
        self.blind = False
        self.trace: list[tuple[float, str, str]] = []
        self.on_step: Callable[[Fleet], None] = lambda _fleet: None
        self.approved_by = ""
        self.generation = 0

    def plan(self) -> Plan:
        return make(MODEL, self.request, self.now)

    def write(self, entries: tuple[Entry, ...] | list[Entry]) -> None:
        for entry in entries:
            if entry.seq == self.kill_at:
                self.kill_at = 0
                raise Killed
            self.journal.append(entry)
            apply(self._state, entry)
            if entry.seq == self.kill_after:
                self.kill_after = 0
                raise Killed

    def state(self) -> State:
        """What a controller that reads the journal knows; a test holds it to ``fold``."""
        return self._state.copy()

    def begin(self) -> None:
        self.generation = self.state().generation + 1
        self.write(
            words.begin(
                self.state(), self.plan(), self.generation, "anna", self.approved_by, self.now
            )
        )

    def resume(self, approved: str = "", devices: Mapping[str, Any] | None = None) -> None:
        self.generation = self.state().generation + 1
        self.write(
            words.resume(self.state(), self.generation, "ben", approved, devices or {}, self.now)
        )

    def judged(self, decision: Decision) -> Judged | None:
        watch = decision.watch
        if watch is None or self.blind:
            return None
        for host in watch.ring:
            self.devices[host].tick(self.now)
        gone = [
            host
            for host in watch.ring
            if not self.devices[host].online
            or self.devices[host].served != decision.state.planned().digest
        ]
        new = {host: {"host": host} for host in watch.ring if host not in decision.state.baseline}
        if not decision.state.baseline:
            return Judged((), {}, tuple(gone), new)
        verdict = self.verdict(self, [host for host in watch.ring if host not in gone])
        return Judged((Gate("errors", verdict, f"{verdict} it is."),), {"e": 1.0}, tuple(gone), new)

    def drive(self, most: int = 400) -> str:
        """Run a controller until it has nothing more to do."""
        answers: list[Answer] = []
        judged: Judged | None = None
        for _turn in range(most):
            decision = decide(self.state(), answers, judged, self.now)
            self.write(decision.entries)
            if decision.outcome:
                return decision.outcome
            self.on_step(self)
            for host, order in decision.orders.items():
                self.trace.append((self.now, host, order.step))
            answers = [
                self.devices[host].obey(order, self.now) for host, order in decision.orders.items()
            ]
            self.now += decision.wait + 1
            for device in self.devices.values():
                device.tick(self.now)
            judged = self.judged(decision)
        raise AssertionError(f"the rollout never ends: {self.state().mode}")

    def run(self) -> str:
        self.begin()
        return self.drive()

    def end(self, seconds: float = 10_000) -> None:
        """Let every deadline pass."""
        self.now += seconds
        for device in self.devices.values():
            device.tick(self.now)

    def served(self) -> dict[str, str]:
        return {name: device.served for name, device in self.devices.items()}

    def on(self, digest: str) -> list[str]:
        return [name for name, device in self.devices.items() if device.served == digest]

    def events(self, *names: str) -> list[Entry]:
        return [entry for entry in self.journal if entry.event in names]

    def ever_served(self) -> list[str]:
        return [name for name, device in self.devices.items() if device.seen]


def healthy(fleet: Fleet, ring: list[str]) -> str:
    """What the gates over a ring say: that devices are ill."""
    if any(fleet.devices[host].ill for host in ring):
        return FAIL
    return PASS


def always(verdict: str) -> Callable[[Fleet, list[str]], str]:
    return lambda _fleet, _ring: verdict

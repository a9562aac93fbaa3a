# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power is lost at every step of a rollout: what a device then is, and that it gets on."""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.device import Device
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.orders import (
    Answer,
    Order,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.rollout import Rollouts
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.store import ReleaseStore

from .conftest import MODEL, Bench, FakeServing
from .disk import Disk, PowerCut, watched
from .test_rollout import GOLDEN, FakeClock, FakeGauge

FIRST, SECOND = 1, 2
WAY = ("stage", "activate", "commit", "revert")
SHORT = ("stage", "activate", "expire")
AFTER = {
    "stage": "staged",
    "activate": "activated",
    "commit": "committed",
    "revert": "reverted",
    "expire": "reverted",
}
SEED = 20


@dataclass
class Site:
    """A device over several starts; the registry and the clock go on beside it."""

    bench: Bench
    folder: Path
    chance: random.Random
    first: str
    second: str
    clock: FakeClock = field(default_factory=FakeClock)
    starts: int = 0
    disk: Disk = field(init=False)
    rollouts: Rollouts = field(init=False)

    def __post_init__(self) -> None:
        self.disk = Disk(self.bench.store.root)
        self._open()

    def _open(self) -> None:
        self.rollouts = Rollouts(
            self.bench.device, "edge1", self.clock, FakeGauge(), self.folder / "no.lock"
        )

    def order(self, step: str, generation: int = 1) -> Order:
        return Order(step, "r1", generation, MODEL, self.second, 600.0)

    def do(self, step: str, generation: int = 1) -> Answer | None:
        """One step, or what the timer does; None where the power was lost in it."""
        try:
            with watched(self.disk):
                if step == "expire":
                    self.clock.pass_(601)
                    self.rollouts.revert_expired()
                    return self.rollouts.do(self.order("look", generation))
                return self.rollouts.do(self.order(step, generation))
        except PowerCut:
            return None

    def start_again(self) -> None:
        """The device starts from what is left on its disk."""
        self.starts += 1
        root = self.disk.cut(self.folder / f"start{self.starts}", self.chance)
        store = ReleaseStore(root)
        serving = FakeServing(store)
        device = Device(store, self.bench.device._source, serving, keep=3, patience=2.0)
        self.bench = replace(self.bench, store=store, serving=serving, device=device)
        self.clock.start, self.clock.up = f"boot{self.starts}", 5.0
        self._open()
        self.judge()
        # As the unit of the model server does: first the guard, then the server.
        assert device.guard() == []
        self.rollouts.point_back()
        for model in store.models():
            if store.linked(model, "current"):
                assert serving.load(model) == ""
        self.judge()
        self.disk = Disk(root)

    def judge(self) -> None:
        """One complete release, and never a new one without a deadline that is armed."""
        store = self.bench.store
        current = store.linked(MODEL, "current", present=False)
        if self.first:
            assert current in (self.first, self.second)
        if current is not None:
            assert self.bench.device.verify(current).digest == current
            assert store.memory(MODEL).highest >= (
                FIRST if current == self.first or not self.first else SECOND
            )
        if current == self.second:
            record = store.record(MODEL)
            assert record.digest == self.second
            assert record.phase in ("activated", "committed", "reverted")
            assert record.phase != "activated" or store.armed(MODEL)
            # Reverted is written down only when the link leads elsewhere for good.
            assert record.phase != "reverted"


@pytest.fixture
def site(bench: Bench, tmp_path: Path) -> Site:
    """A device with a release, with everything on its disk for good."""
    (tmp_path / "disk").mkdir()
    store = ReleaseStore(tmp_path / "disk")
    serving = FakeServing(store)
    device = Device(store, bench.device._source, serving, keep=3, patience=2.0)
    ours = replace(bench, store=store, serving=serving, device=device)
    first = ours.publish("1", golden_json=GOLDEN)
    second = ours.publish("2", golden_json=GOLDEN, model_onnx=b"better" * 50)
    ours.release(first)
    return Site(ours, tmp_path, random.Random(SEED), first, second)


def calls_of(site: Site, way: tuple[str, ...]) -> list[int]:
    """How many calls each step makes that can be the last one."""
    counts = []
    for step in way:
        before = site.disk.calls
        answer = site.do(step)
        assert answer is not None
        assert (answer.failure, answer.refused) == ("", "")
        counts.append(site.disk.calls - before)
    return counts


def clone(site: Site, number: int) -> Site:
    """The device once more, as it was at the beginning."""
    folder = site.folder / f"try{number}"
    folder.mkdir()
    root = site.disk.cut(folder / "disk", random.Random(0))
    store = ReleaseStore(root)
    serving = FakeServing(store)
    device = Device(store, site.bench.device._source, serving, keep=3, patience=2.0)
    ours = replace(site.bench, store=store, serving=serving, device=device)
    if store.linked(MODEL, "current"):
        serving.load(MODEL)
    chance = random.Random(SEED + number)
    return Site(ours, folder, chance, site.first, site.second)


def cut_everywhere(site: Site, way: tuple[str, ...], every: int = 1) -> int:
    """Lose power at each call of each step; return how often."""
    counts = calls_of(clone(site, 0), way)
    assert min(counts) > 0, "every step has to come by the disk"
    number = 0
    for place, step in enumerate(way):
        for fuse in range(1, counts[place] + 1, every):
            number += 1
            one = clone(site, number)
            for earlier in way[:place]:
                assert one.do(earlier) is not None
            told = one.bench.store.record(MODEL)
            one.disk.fuse = one.disk.calls + fuse
            assert one.do(step) is None
            one.start_again()
            stands = one.bench.store.record(MODEL)
            # What was answered is not forgotten: it is as told, or as the step would have it.
            assert stands.generation >= told.generation
            assert stands.phase in (
                told.phase,
                AFTER[step],
                "activated" if step == "revert" else "",
            )
            finish(one, stands.phase)
    return number


def finish(site: Site, phase: str) -> None:
    """Whatever is left, the device goes back by itself, and the rollout can be taken up again."""
    store = site.bench.store
    site.clock.pass_(10_000)
    site.rollouts.revert_expired()
    back = store.linked(MODEL, "current")
    assert back == (site.second if phase == "committed" else site.first or None)
    assert site.bench.serving.digest == back
    assert not store.armed(MODEL)
    if phase != "committed":
        for step in ("stage", "activate", "commit"):
            answer = site.rollouts.do(site.order(step, 9))
            assert (answer.failure, answer.refused) == ("", "")
    assert site.bench.serving.digest == store.linked(MODEL, "current") == site.second
    assert store.record(MODEL).phase == "committed"


def test_power_lost_anywhere_on_the_way_to_a_commit_and_back(site: Site) -> None:
    assert cut_everywhere(site, WAY) > 100


def test_power_lost_anywhere_while_the_device_goes_back_by_itself(site: Site) -> None:
    assert cut_everywhere(site, SHORT, every=2) > 40


def test_power_lost_again_and_again(site: Site) -> None:
    """Steps at random, each start of the device a short one."""
    for number in range(40):
        one = clone(site, 1000 + number)
        for generation in range(1, 9):
            step = one.chance.choice((*WAY, "activate", "stage", "expire"))
            one.disk.fuse = one.disk.calls + one.chance.randint(1, 60)
            if one.do(step, generation) is None:
                one.start_again()
        one.disk.fuse = -1
        finish(one, one.bench.store.record(MODEL).phase)


def test_the_disk_loses_what_was_not_synchronised(tmp_path: Path) -> None:
    """The simulation itself: each of these is lost at one start or another."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/old").write_bytes(b"old")
    disk = Disk(tmp_path / "disk")

    with watched(disk):
        (tmp_path / "disk/new").write_bytes(b"content")
        (tmp_path / "disk/new").replace(tmp_path / "disk/old")
    found = set()
    for number in range(60):
        root = disk.cut(tmp_path / f"after{number}", random.Random(number))
        found.add(json.dumps({path.name: path.read_text() for path in root.iterdir()}))
    assert json.dumps({"old": "old"}) in found
    assert json.dumps({"old": "content"}) in found
    assert json.dumps({"old": ""}) in found, "renamed, but never written"
    with watched(disk):
        handle = os.open(tmp_path / "disk/old", os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
        handle = os.open(tmp_path / "disk", os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    for number in range(60, 90):
        root = disk.cut(tmp_path / f"after{number}", random.Random(number))
        assert {path.name: path.read_text() for path in root.iterdir()} == {"old": "content"}
